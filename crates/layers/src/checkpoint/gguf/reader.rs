//! Reads the header of a GGUF file front to back, and never past its end.

use super::super::shard::Shard;
use super::bad;
use crate::LayerError;

/// Bytes that are read ahead: headers have some megabytes, in pieces of a few bytes.
const AHEAD: u64 = 1 << 20;
/// A header longer than this is refused: it would have to be held in memory.
const MAX_HEADER_BYTES: u64 = 1 << 29;

/// A place in the header of a file.
pub(super) struct Reader<'a> {
    shard: &'a Shard,
    buffer: Vec<u8>,
    /// Where `buffer` begins in the file.
    begin: u64,
    /// What is next, from the start of the file.
    position: u64,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) fn new(shard: &'a Shard) -> Self {
        Self { shard, buffer: Vec::new(), begin: 0, position: 0 }
    }

    pub(super) fn file(&self) -> &str {
        &self.shard.name
    }

    /// Bytes of the file up to here.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the file from here on.
    pub(super) fn left(&self) -> u64 {
        self.shard.len - self.position
    }

    pub(super) fn bad(&self, reason: impl Into<String>) -> LayerError {
        bad(self.file(), reason.into())
    }

    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: u64) -> Result<&[u8], LayerError> {
        if len > self.left() {
            let expected = self.position.saturating_add(len);
            return Err(LayerError::Truncated {
                file: self.file().to_owned(),
                expected,
                found: self.shard.len,
            });
        }
        if self.position + len > MAX_HEADER_BYTES {
            return Err(self.bad(format!("its header is longer than {MAX_HEADER_BYTES} bytes")));
        }
        let held = self.begin + self.buffer.len() as u64;
        if self.position + len > held {
            let ahead = len.max(AHEAD.min(self.left()));
            let mut fresh = Vec::new();
            let read = self.shard.read(self.position, ahead as usize, &mut fresh)?.into_owned();
            (self.buffer, self.begin) = (read, self.position);
        }
        let at = (self.position - self.begin) as usize;
        self.position += len;
        Ok(&self.buffer[at..at + len as usize])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], LayerError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N as u64)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, LayerError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, LayerError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of things, of which there are at most `max`.
    pub(super) fn count(&mut self, what: &str, max: u64) -> Result<u64, LayerError> {
        let count = self.u64()?;
        if count > max {
            return Err(self.bad(format!("it claims {count} {what}, the most is {max}")));
        }
        Ok(count)
    }

    /// A text of at most `max` bytes behind its length. `what` names it in errors.
    pub(super) fn text(&mut self, max: u64, what: &dyn Fn() -> String) -> Result<String, LayerError> {
        let len = self.u64()?;
        if len > max {
            return Err(self.bad(format!("{} claims {len} bytes, the most is {max}", what())));
        }
        let bytes = self.bytes(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.bad(format!("{} is not UTF-8", what())))
    }
}
