//! Whether a volume has room for what is to come.

use std::path::Path;

use crate::PullError;

/// File systems need some for themselves, and a record is written at the end.
const SPARE: u64 = 16 << 20;

/// # Errors
/// So much does not fit into the file system of `folder`.
pub(crate) fn check(folder: &Path, needed: u64) -> Result<(), PullError> {
    let stat = rustix::fs::statvfs(folder).map_err(|error| PullError::io("look at", folder)(error.into()))?;
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    if needed == 0 || needed.saturating_add(SPARE) <= available {
        return Ok(());
    }
    Err(PullError::NoSpace { needed: shown(needed), available: shown(available), folder: folder.to_owned() })
}

fn shown(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{bytes} bytes"),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused_before_anything_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path(), 1).is_ok() && check(folder.path(), 0).is_ok());
        let error = check(folder.path(), u64::MAX / 2).unwrap_err().to_string();
        assert!(
            error.contains("GiB are still to be fetched") && error.contains("enlarge the volume"),
            "{error}"
        );
    }
}
