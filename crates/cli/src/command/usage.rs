//! `vlinders usage`: what heads have entered, added up.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use vlinders_ledger::{GroupBy, UsageFormat, UsageQuery, render, usage};

use crate::args::{ServerArgs, UsageArgs, UsageForm, UsageKey};
use crate::config;

/// Print the report.
pub(crate) fn run(args: &UsageArgs) -> anyhow::Result<ExitCode> {
    let server = ServerArgs { file: args.server.clone(), ..ServerArgs::default() };
    let mut ledger = config::resolve_ledger(&server, Path::new(""))?;
    ledger.database_url_file = args.database_url_file.clone().or(ledger.database_url_file);
    let Some(url) = config::database_url(&ledger)? else {
        bail!(
            "no database is named: give --database-url-file, set VLINDERS_DATABASE_URL, or write `ledger.database_url_file` into server.yaml"
        );
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(usage(&url, &query(args)?))?;
    let format = match args.format {
        UsageForm::Table => UsageFormat::Table,
        UsageForm::Csv => UsageFormat::Csv,
        UsageForm::Json => UsageFormat::Json,
    };
    print!("{}", render(&rows, format));
    Ok(ExitCode::SUCCESS)
}

fn query(args: &UsageArgs) -> anyhow::Result<UsageQuery> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        bail!("--from {from} is after --to {to}");
    }
    let begins = |day: NaiveDate| -> DateTime<Utc> { day.and_time(NaiveTime::MIN).and_utc() };
    let has = |key| args.by.contains(&key);
    Ok(UsageQuery {
        from: args.from.map(begins),
        // The last day is meant whole.
        to: args.to.and_then(|day| day.checked_add_days(Days::new(1))).map(begins),
        consumer: args.consumer.clone(),
        model: args.model.clone(),
        group_by: GroupBy {
            day: has(UsageKey::Day),
            consumer: has(UsageKey::Consumer),
            model: has(UsageKey::Model),
        },
    })
}
