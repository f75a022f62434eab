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
            Data::Static(bytes) => {
                let range = usize::try_from(offset).ok().and_then(|o| Some(o..o.checked_add(len)?));
                range.and_then(|r| bytes.get(r)).map(Cow::Borrowed).ok_or_else(|| self.truncated(offset, len))
            }
            Data::File(file) => {
                buffer.resize(len, 0);
                file.read_exact_at(buffer, offset).map_err(|source| match source.kind() {
                    io::ErrorKind::UnexpectedEof => self.truncated(offset, len),
                    _ => LayerError::Io { file: self.name.clone(), source },
                })?;
                Ok(Cow::Borrowed(&buffer[..]))
            }
        }
    }

    /// `len` bytes from `offset` on, and the same `rows - 1` times more, each `stride` bytes further, one behind the other.
    pub(super) fn read_strided<'a>(
        &self,
        offset: u64,
        len: usize,
        stride: u64,
        rows: usize,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Cow<'a, [u8]>, LayerError> {
        let mut piece = Vec::new();
        buffer.clear();
        for row in 0..rows as u64 {
            buffer.extend_from_slice(&self.read(offset + row * stride, len, &mut piece)?);
        }
        Ok(Cow::Borrowed(&buffer[..]))
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
