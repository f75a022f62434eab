//! One loader at a time for each model: a lock that the system takes back from whoever dies.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::{Event, Progress, PullError};

/// How often it is tried.
const PERIOD: Duration = Duration::from_millis(500);

/// The right to change a model's folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

impl Lock {
    /// Wait for the lock. Its file stays: whoever removed it would take it from others that wait.
    ///
    /// # Errors
    /// The file can not be made, or the file system knows no locks.
    pub(crate) async fn take(folder: &Path, name: &str, progress: &dyn Progress) -> Result<Self, PullError> {
        let path = folder.join(name);
        let mut options = File::options();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(PullError::io("open", &path))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress.event(Event::Waiting { folder });
                    }
                    told = true;
                    tokio::time::sleep(PERIOD).await;
                }
                Err(TryLockError::Error(error)) => return Err(PullError::io("lock", &path)(error)),
            }
        }
    }
}
