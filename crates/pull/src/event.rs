//! What a pull tells while it runs.

use std::path::Path;
use std::time::Duration;

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Somebody else fetches the same model; their lock is waited for.
    Waiting {
        /// The model's folder.
        folder: &'a Path,
    },
    /// The source said what it has.
    Listed {
        /// The exact version.
        revision: &'a str,
        /// Files that are wanted.
        files: usize,
        /// Of these, files that are not here yet.
        to_fetch: usize,
        /// Bytes still to be fetched, as far as the source says.
        bytes: u64,
    },
    /// The source has no better proof of this file than its size.
    Unproven {
        /// The file.
        path: &'a str,
    },
    /// A revision that is a name may mean something else tomorrow.
    Unpinned {
        /// What it means today.
        revision: &'a str,
    },
    /// A file is fetched from some byte on.
    Begun {
        /// The file.
        path: &'a str,
        /// Bytes that an earlier run fetched.
        from: u64,
    },
    /// Bytes came.
    Bytes(u64),
    /// Bytes that came are of no use.
    Lost {
        /// The file.
        path: &'a str,
        /// How many they were.
        bytes: u64,
        /// Why.
        reason: &'a str,
    },
    /// It failed, and is tried again.
    Retrying {
        /// What was asked.
        what: &'a str,
        /// What went wrong.
        reason: &'a str,
        /// After this time.
        wait: Duration,
    },
    /// A file is whole.
    Verified {
        /// The file.
        path: &'a str,
        /// What proves it.
        by: &'a str,
    },
}

/// Whoever wants to know.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}
