//! The one error of this crate. None of its texts holds a password.

use std::path::PathBuf;

/// The ledger can not start, or usage can not be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The text is not the URL of a PostgreSQL database.
    #[error("the URL of the usage database {0}; it looks like postgres://user:password@host:5432/name")]
    Url(String),
    /// The folder for rows on their way can not be used.
    #[error("cannot use the spool folder {} of the usage ledger: {reason}; it must be writable by this process", path.display())]
    Spool {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// Another process has the folder.
    #[error("the spool folder {} of the usage ledger is in use by another process; give each process a folder of its own", .0.display())]
    SpoolInUse(PathBuf),
    /// The database can not be reached, or refuses the query.
    #[error("the usage database {database}: {reason}")]
    Database {
        /// User, host, port and name.
        database: String,
        /// What it says.
        reason: String,
    },
    /// It is reached, but no ledger has written to it yet.
    #[error(
        "the database {0} has no usage yet: its tables are made when a server with a ledger first connects"
    )]
    NoTables(String),
}
