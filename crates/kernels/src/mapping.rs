//! A file as memory: read only, never copied, shared by all processes that map it.
//!
//! Pages are those of the system's page cache. Where the file system keeps files in large pieces (ext4 since Linux 6.16, XFS,
//! tmpfs), a mapping is made of 2 MiB pages like [`AlignedBuf`](crate::aligned::AlignedBuf), since maps of files begin at an
//! address that allows it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// A whole file, mapped for reading.
///
/// There is no way to a pointer that writes. The file must not be changed in place while it is mapped: numbers would
/// change under a running product, and a file cut short ends the process (`SIGBUS`). Replacing it by another file of the
/// same name is fine, since the map keeps the old one.
#[derive(Debug)]
pub struct FileMapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the map is read only, and lives until it is dropped.
unsafe impl Send for FileMapping {}
// SAFETY: as above.
unsafe impl Sync for FileMapping {}

// === impl FileMapping ===

impl FileMapping {
    /// Map the first `len` bytes of `file`. Nothing is read yet: see [`FileMapping::populate`].
    ///
    /// # Errors
    /// An empty or shorter file, or what the system says.
    pub fn new(file: &File, len: u64) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        if len == 0 || file.metadata()?.len() < len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was"));
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: a map for reading at an address of the system's choice has no precondition; the descriptor is open.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        #[cfg(target_os = "linux")]
        // SAFETY: the range is the map made above. It is advice: what is read from now on comes in pieces of 2 MiB.
        unsafe {
            libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
        }
        Ok(Self { start, len })
    }

    /// Bring a range of the file into memory, and into the page tables of this process, so that no product waits for it.
    ///
    /// # Errors
    /// The range is beyond the end, or the file can not be read: a bad disk, a file that was cut short.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        let piece = self.as_slice().get(range.clone()).ok_or(io::ErrorKind::UnexpectedEof)?;
        #[cfg(target_os = "linux")]
        {
            let page = page_bytes();
            let begin = range.start / page * page;
            // SAFETY: `begin` is a page of the map, and the range ends inside of it.
            let at = unsafe { self.start.as_ptr().add(begin) };
            // SAFETY: the range lies in the map; the call reads the file into the page cache and changes nothing.
            let done = unsafe { libc::madvise(at.cast(), range.end - begin, libc::MADV_POPULATE_READ) };
            if done == 0 {
                return Ok(());
            }
            match io::Error::last_os_error() {
                // Linux before 5.14 does not know the call.
                error if error.raw_os_error() == Some(libc::EINVAL) => {}
                // What a touch would answer with SIGBUS.
                error if error.raw_os_error() == Some(libc::EFAULT) => {
                    return Err(io::Error::other("it was cut short, or its disk can not be read"));
                }
                error => return Err(error),
            }
        }
        touch(piece);
        Ok(())
    }

    /// All bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped for reading as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of the map, and nothing borrows from it any more.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.len);
        }
    }
}

/// Read a byte of each page.
fn touch(bytes: &[u8]) {
    bytes.iter().step_by(4096).chain(bytes.last()).for_each(|byte| {
        std::hint::black_box(*byte);
    });
}

#[cfg(target_os = "linux")]
fn page_bytes() -> usize {
    // SAFETY: the call has no precondition.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::temporary_file as file;

    #[test]
    fn bytes_are_those_of_the_file_even_when_it_is_closed_and_gone() {
        let bytes: Vec<u8> = (0..100_003u32).map(|i| (i * 7 + i / 256) as u8).collect();
        let file = file(&bytes);
        let mapping = FileMapping::new(&file, bytes.len() as u64).unwrap();
        drop(file);
        for range in [0..1, 4095..4097, 5000..90_000, 100_002..100_003, 0..100_003] {
            mapping.populate(range).unwrap();
        }
        touch(mapping.as_slice());
        assert_eq!(mapping.as_slice(), bytes);
        assert!(mapping.populate(100_000..100_004).is_err());
    }

    #[test]
    fn a_file_shorter_than_was_said_is_not_mapped() {
        let file = file(&[1; 5000]);
        assert!(FileMapping::new(&file, 5001).is_err() && FileMapping::new(&file, 0).is_err());
        assert_eq!(FileMapping::new(&file, 4999).unwrap().as_slice().len(), 4999);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_was_cut_short_is_an_error_while_it_is_brought_in() {
        let file = file(&[1; 50_000]);
        let mapping = FileMapping::new(&file, 50_000).unwrap();
        file.set_len(10).unwrap();
        // Old systems can not tell without being killed.
        let told = mapping.populate(0..50_000);
        assert!(told.unwrap_err().to_string().contains("cut short"));
    }
}
