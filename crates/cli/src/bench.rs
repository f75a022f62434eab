//! `vlinders bench`: puts an OpenAI-compatible server under load and reports how it fared.
//!
//! `prompt` makes the requests, `load` decides when they are sent, `send` measures one, `stats` condenses,
//! `report` and `plot` show.

mod calibrate;
mod load;
mod plot;
mod prompt;
mod report;
mod send;
mod stats;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    calibrate::calibrate,
    load::Load,
    prompt::Prompts,
    report::Report,
    send::{Record, Sender},
};
use crate::args::BenchArgs;
use crate::client::Client;

/// Run the load and report. Fails when no request at all succeeded.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(measure(args))?;
    // Requests still in flight after Ctrl-C are given up.
    runtime.shutdown_background();
    print!("{report}");
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report.to_json(args))?;
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &args.svg {
        let svg = plot::draw(&report)?;
        std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if report.num_ok() > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &BenchArgs) -> anyhow::Result<Report> {
    let client = Client::new(&args.client)?;
    let model = client.model(args.client.model.as_deref()).await?;
    let calibration = calibrate(&client, &model).await?;
    if let Some(limit) = calibration.max_model_len {
        let longest = args.shared_prefix + args.input_len.max + args.output_len.max;
        anyhow::ensure!(
            longest <= limit,
            "the longest request has {longest} tokens (shared prefix {} + input {} + output {}), but {model} takes \
             at most {limit}; lower --shared-prefix, --input-len or --output-len",
            args.shared_prefix,
            args.input_len.max,
            args.output_len.max,
        );
    }
    // A server that has answered the same prompts before would find them in its prefix cache. Short enough to type.
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("{} · model {model} · {} · seed {seed}", client.root(), calibration.describe());
    let prompts = Prompts::new(args, seed, calibration);
    let sender = Arc::new(Sender::new(client.clone(), model.clone(), args, prompts));

    let load = Load::new(args, seed);
    let warm_up = load.warm_up();
    if warm_up.num_requests() > 0 {
        let records = warm_up.run(&sender, &bar("warming up", Some(warm_up.num_requests()))).await;
        fail_if_all_failed(&records.records)?;
    }
    let measured = load.run(&sender, &bar("measuring", load.bound())).await;
    Ok(Report::new(client.root(), &model, seed, measured))
}

/// A wrong model name or key should not take a hundred requests to be told.
fn fail_if_all_failed(records: &[Record]) -> anyhow::Result<()> {
    let first = records.iter().find_map(|record| record.error.as_ref());
    match first {
        Some(error) if records.iter().all(|record| record.error.is_some()) => {
            anyhow::bail!("every warm-up request failed; the first one: {error}")
        }
        _ => Ok(()),
    }
}

fn bar(label: &'static str, length: Option<usize>) -> ProgressBar {
    let bar = ProgressBar::new(length.unwrap_or(0) as u64);
    let template = match length {
        Some(_) => "{msg:12} {wide_bar:.cyan} {pos}/{len} [{elapsed}]",
        None => "{msg:12} {spinner} {pos} done [{elapsed}]",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(label);
    bar
}
