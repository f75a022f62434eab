//! One row for each request, in PostgreSQL: written in batches off the request path, kept on disk while the database is away.

mod alarm;
mod collector;
mod config;
mod counts;
mod database;
mod deliverer;
mod entry;
mod error;
mod ledger;
mod render;
mod row;
mod segment;
mod shared;
mod spool;
mod url;
mod usage;

#[cfg(test)]
mod tests;

pub use self::{
    config::LedgerConfig,
    counts::DELIVERY_SECONDS,
    entry::{Entry, Outcome},
    error::LedgerError,
    ledger::Ledger,
    render::{UsageFormat, render},
    url::DatabaseUrl,
    usage::{GroupBy, UsageQuery, UsageRow, usage},
};
