//! Open files: each connection is one, and the limit that a shell or a unit file sets is often 1,024.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files that are no connections: the listener, logs, checkpoints, what the runtime waits with.
const OTHERS: usize = 64;

/// Take as many open files as the system lets this process take, and give the number of connections that this allows,
/// at most `wanted`: one more could not be accepted.
pub(crate) fn connections(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current;
    limit.current = limit.maximum;
    // Raising the soft limit up to the hard one is allowed to everybody; if it fails all the same, the old one holds.
    let files = if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { soft };
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    let possible = wanted.min(files.saturating_sub(OTHERS)).max(1);
    if possible < wanted {
        tracing::warn!(
            open_files = files,
            max_connections = wanted,
            possible,
            "the limit of open files allows fewer connections than configured; raise it with `ulimit -Hn` or \
             LimitNOFILE, or lower max_connections"
        );
    }
    possible
}
