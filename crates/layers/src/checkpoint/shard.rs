//! One file of weights: on disk, or embedded in the binary.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use vlinders_kernels::FileMapping;

use crate::LayerError;

/// A file of weights, read by position from any thread.
#[derive(Debug)]
pub(super) struct Shard {
    /// As errors name it.
    pub(super) name: String,
    /// Length in bytes.
    pub(super) len: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    File(File),
    Static(&'static [u8]),
}

// === impl Shard ===

impl Shard {
    pub(super) fn open(path: &Path) -> Result<Self, LayerError> {
        let name = path.display().to_string();
        let fail = |source| LayerError::Io { file: name.clone(), source };
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(fail(io::Error::other("it is not a regular file")));
        }
        Ok(Self { len: metadata.len(), name, data: Data::File(file) })
    }

    pub(super) fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self { name: name.to_owned(), len: bytes.len() as u64, data: Data::Static(bytes) }
    }

    /// The bytes from `offset` on, in `buffer` or where they already are.
    pub(super) fn read<'a>(
        &self,
        offset: u64,
        len: usize,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Cow<'a, [u8]>, LayerError> {
        match &self.data {
            Data::Static(bytes) => self.part_of(bytes, offset, len).map(Cow::Borrowed),
            Data::File(file) => {
                buffer.resize(len, 0);
                self.read_exact(file, offset, buffer)?;
                Ok(Cow::Borrowed(&buffer[..]))
            }
        }
    }

    /// The bytes from `offset` on, as many as `to` has.
    pub(super) fn read_to(&self, offset: u64, to: &mut [u8]) -> Result<(), LayerError> {
        match &self.data {
            Data::Static(bytes) => to.copy_from_slice(self.part_of(bytes, offset, to.len())?),
            Data::File(file) => self.read_exact(file, offset, to)?,
        }
        Ok(())
    }

    /// `len` bytes from `offset` on, and further ones, each `stride` bytes behind the last, one behind the other, until `to` is
    /// full.
    pub(super) fn read_strided(
        &self,
        offset: u64,
        len: usize,
        stride: u64,
        to: &mut [u8],
    ) -> Result<(), LayerError> {
        let mut rows = to.chunks_exact_mut(len.max(1)).enumerate();
        rows.try_for_each(|(row, to)| self.read_to(offset + row as u64 * stride, to))
    }

    fn part_of<'a>(&self, bytes: &'a [u8], offset: u64, len: usize) -> Result<&'a [u8], LayerError> {
        let range = usize::try_from(offset).ok().and_then(|o| Some(o..o.checked_add(len)?));
        range.and_then(|r| bytes.get(r)).ok_or_else(|| self.truncated(offset, len))
    }

    fn read_exact(&self, file: &File, offset: u64, to: &mut [u8]) -> Result<(), LayerError> {
        file.read_exact_at(to, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(offset, to.len()),
            _ => LayerError::Io { file: self.name.clone(), source },
        })
    }

    /// All of it as memory. What is part of the binary can not be mapped again.
    pub(super) fn map(&self) -> Result<FileMapping, LayerError> {
        let fail = |source| LayerError::Io { file: self.name.clone(), source };
        match &self.data {
            Data::File(file) => FileMapping::new(file, self.len).map_err(fail),
            Data::Static(_) => Err(fail(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Tell the system that this range will be read soon, so that it is fetched in the background.
    pub(super) fn prefetch(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        if let (Data::File(file), Some(len)) = (&self.data, std::num::NonZeroU64::new(len)) {
            // advice only: where it is refused, the read itself still works
            let _ = rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::WillNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }

    fn truncated(&self, offset: u64, len: usize) -> LayerError {
        let expected = offset.saturating_add(len as u64);
        LayerError::Truncated { file: self.name.clone(), expected, found: self.len }
    }
}
