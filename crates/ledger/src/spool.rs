//! Rows that wait for the database, oldest first: in files where the disk takes them, else a bounded number in memory.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::LedgerError;
use crate::row::Row;
use crate::segment::{self, Contents};

/// Bytes from which a file is not made longer.
const SEGMENT_BYTES: u64 = 1 << 20;
const ENDING: &str = "rows";
const DAMAGED: &str = "damaged";
const REJECTED: &str = "rejected.jsonl";

/// The folder and what waits in it.
pub(crate) struct Spool {
    folder: PathBuf,
    /// Held for the life of the process: nobody else takes this folder.
    lock: Option<File>,
    waiting: VecDeque<Segment>,
    next: u64,
    /// Bytes of all files that wait.
    bytes: u64,
    max_bytes: u64,
    rows_in_memory: usize,
    max_rows_in_memory: usize,
}

/// Rows that wait together.
struct Segment {
    number: u64,
    place: Place,
    /// No more rows are added: somebody reads it, or did.
    sealed: bool,
}

enum Place {
    File { bytes: u64 },
    Memory(Vec<Row>),
}

/// The oldest rows.
pub(crate) struct Front {
    pub(crate) number: u64,
    pub(crate) rows: Vec<Row>,
    /// The file has more than these rows, and they can not be read: it must not be removed.
    damaged: bool,
}

/// What became of rows.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    pub(crate) dropped: usize,
    /// Why they are not on disk.
    pub(crate) trouble: Option<String>,
}

// === impl Spool ===

impl Spool {
    /// Take the folder, with what a former process left there; its rows are counted.
    pub(crate) fn open(folder: &Path, max_bytes: u64, max_rows: usize) -> Result<(Self, usize), LedgerError> {
        let fail = |reason| LedgerError::Spool { path: folder.to_owned(), reason };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
        let lock = options().create(true).append(true).open(folder.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::SpoolInUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let mut spool = Self {
            folder: folder.to_owned(),
            lock: Some(lock),
            waiting: VecDeque::new(),
            next: 1,
            bytes: 0,
            max_bytes,
            rows_in_memory: 0,
            max_rows_in_memory: max_rows,
        };
        let rows = spool.find().map_err(fail)?;
        Ok((spool, rows))
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Rows that are nowhere but in memory.
    pub(crate) fn rows_in_memory(&self) -> usize {
        self.rows_in_memory
    }

    /// Leave the folder to others.
    pub(crate) fn close(&mut self) {
        self.lock = None;
    }

    /// Keep rows until they are removed.
    pub(crate) fn append(&mut self, mut rows: Vec<Row>) -> Appended {
        let mut bytes = Vec::new();
        rows.iter().for_each(|row| segment::append(&mut bytes, row));
        let trouble = match self.write(&bytes) {
            Ok(()) => return Appended::default(),
            Err(error) => error.to_string(),
        };
        let kept = rows.len().min(self.max_rows_in_memory.saturating_sub(self.rows_in_memory));
        let dropped = rows.len() - kept;
        rows.truncate(kept);
        if kept > 0 {
            self.rows_in_memory += kept;
            self.push(Place::Memory(rows), true);
        }
        Appended { dropped, trouble: Some(trouble) }
    }

    /// The oldest rows. They stay until [`Self::remove`].
    pub(crate) fn front(&mut self) -> Option<Front> {
        let path = self.path(self.waiting.front()?.number, ENDING);
        let segment = self.waiting.front_mut()?;
        segment.sealed = true;
        let number = segment.number;
        if let Place::Memory(rows) = &segment.place {
            return Some(Front { number, rows: rows.clone(), damaged: false });
        }
        let contents = fs::read(&path).map(|bytes| segment::read(&bytes)).unwrap_or_else(|error| {
            tracing::error!("usage rows in {} cannot be read: {error}", path.display());
            Contents { damaged: true, ..Contents::default() }
        });
        if contents.torn {
            tracing::warn!(
                "the last usage row in {} was torn by a crash and is left out; {} before it are whole",
                path.display(),
                contents.rows.len()
            );
        }
        Some(Front { number, rows: contents.rows, damaged: contents.damaged })
    }

    /// Forget rows that the database has. A file with rows that can not be read gets another name.
    pub(crate) fn remove(&mut self, front: &Front) {
        let Some(segment) = self.waiting.pop_front_if(|segment| segment.number == front.number) else {
            return;
        };
        match segment.place {
            Place::Memory(rows) => self.rows_in_memory -= rows.len(),
            Place::File { bytes } => {
                self.bytes -= bytes;
                let path = self.path(front.number, ENDING);
                let removed =
                    if front.damaged { self.set_aside(front.number) } else { fs::remove_file(&path) };
                if let Err(error) = removed {
                    // The next process delivers it again, which changes nothing.
                    tracing::error!("cannot remove delivered usage rows in {}: {error}", path.display());
                }
            }
        }
    }

    /// Keep a row that the database refuses, for people.
    pub(crate) fn reject(&self, row: &Row) -> io::Result<PathBuf> {
        let path = self.folder.join(REJECTED);
        let mut file = options().create(true).append(true).open(&path)?;
        if file.metadata()?.len() >= self.max_bytes {
            return Err(io::Error::other(format!("{} is full", path.display())));
        }
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()?;
        Ok(path)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        if self.bytes + length > self.max_bytes {
            return Err(io::Error::other(format!("the limit of {} bytes is reached", self.max_bytes)));
        }
        if let Some(Segment { number, place: Place::File { bytes: had }, sealed: false }) =
            self.waiting.back()
            && *had < SEGMENT_BYTES
        {
            let (path, had) = (self.path(*number, ENDING), *had);
            let written = extend(&path, had, bytes);
            if let Some(segment) = self.waiting.back_mut() {
                segment.sealed = written.is_err();
                segment.place = Place::File { bytes: had + if written.is_ok() { length } else { 0 } };
            }
            written?;
        } else {
            let path = self.path(self.next, ENDING);
            let written = create(&path, bytes).and_then(|()| File::open(&self.folder)?.sync_all());
            if let Err(error) = written {
                // What is left of it would be delivered twice at worst.
                let _ = fs::remove_file(&path);
                self.next += 1;
                return Err(error);
            }
            self.push(Place::File { bytes: length }, false);
        }
        self.bytes += length;
        Ok(())
    }

    fn push(&mut self, place: Place, sealed: bool) {
        self.waiting.push_back(Segment { number: self.next, place, sealed });
        self.next += 1;
    }

    /// What is in the folder, oldest first, sealed.
    fn find(&mut self) -> io::Result<usize> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let Some((number, ending)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else { continue };
            self.next = self.next.max(number + 1);
            if ending == ENDING {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        let mut rows = 0;
        for number in numbers {
            let bytes = fs::read(self.path(number, ENDING))?;
            rows += segment::read(&bytes).rows.len();
            let bytes = bytes.len() as u64;
            self.bytes += bytes;
            self.waiting.push_back(Segment { number, place: Place::File { bytes }, sealed: true });
        }
        Ok(rows)
    }

    fn set_aside(&self, number: u64) -> io::Result<()> {
        let to = self.path(number, DAMAGED);
        fs::rename(self.path(number, ENDING), &to)?;
        tracing::error!(
            "usage rows were damaged on disk: those that can be read are delivered, the file is kept as {}",
            to.display()
        );
        Ok(())
    }

    fn path(&self, number: u64, ending: &str) -> PathBuf {
        self.folder.join(format!("{number:012}.{ending}"))
    }
}

/// For files that nobody else reads: they say who asked what when.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = options().create_new(true).write(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Make a file of `had` bytes longer, or leave it as it was.
fn extend(path: &Path, had: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = options().append(true).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    if written.is_err() {
        // A torn end is recognised too, where not even this is possible.
        let _ = file.set_len(had);
    }
    written
}
