//! `vlinders health`: whether a server is well, for images that have nothing else to ask with.

use std::process::ExitCode;

use crate::args::{ClientArgs, HealthArgs};
use crate::client::Client;

/// Ask once.
pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    let client = ClientArgs { url: args.url.clone(), model: None, api_key_file: None, ca_file: None };
    let client = Client::new(&client)?;
    let path = if args.ready { "/ready" } else { "/health" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(client.get_status(path, args.timeout))?;
    Ok(ExitCode::SUCCESS)
}
