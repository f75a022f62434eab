//! Arguments of `vlinders usage`.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::ValueEnum;

const EXAMPLES: &str = "\
Examples:
  vlinders usage                                       every day, consumer and model
  vlinders usage --from 2026-11-01 --to 2026-11-30 --by consumer
  vlinders usage --model llama-3-8b --format csv > usage.csv

The database is that of `ledger` in server.yaml; VLINDERS_DATABASE_URL holds its address where no file does.";

/// Report what was used: requests and tokens by consumer, model and day
///
/// Adds up the rows that heads enter into their database. Days are those of UTC.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UsageArgs {
    /// First day
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) from: Option<NaiveDate>,

    /// Last day
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) to: Option<NaiveDate>,

    /// Only this consumer
    #[arg(long, value_name = "NAME")]
    pub(crate) consumer: Option<String>,

    /// Only this model
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// What has a line of its own
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_value = "day,consumer,model")]
    pub(crate) by: Vec<UsageKey>,

    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: UsageForm,

    /// File with the address of the database
    #[arg(long, value_name = "FILE", env = "VLINDERS_DATABASE_URL_FILE")]
    pub(crate) database_url_file: Option<PathBuf>,

    /// Settings of the server [default: ./server.yaml if it exists]
    #[arg(long = "server", value_name = "FILE", env = "VLINDERS_SERVER")]
    pub(crate) server: Option<PathBuf>,
}

/// What can have a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageKey {
    /// Each day
    Day,
    /// Each consumer
    Consumer,
    /// Each model
    Model,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum UsageForm {
    /// For people
    #[default]
    Table,
    /// For spreadsheets
    Csv,
    /// For programs
    Json,
}
