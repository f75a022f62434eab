//! Loads the models of a server, one after the other, each into its place.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use tokio::sync::oneshot;
use vlinders_engine::EngineConfig;
use vlinders_runner::{LoadOptions, LoadedModel, ModelFiles, RunnerError, load};
use vlinders_server::{LoadingModel, ModelSettings, ToolParser};

use super::threads;
use crate::config::{ModelConfig, Resolved, format_bytes, format_duration};
use crate::progress::ShownProgress;

/// Begin to load, on a thread of its own that nobody has to wait for. The future gives the outcome: every model is
/// served, or why one can not be.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start(
    resolved: Resolved,
    places: Vec<LoadingModel>,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>>> {
    let (sender, outcome) = oneshot::channel();
    let work = move || {
        // Nobody listens any more when the server is about to stop.
        let _ = sender.send(load_all(&resolved, places));
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(async { outcome.await.context("loading was cut off")? })
}

fn load_all(resolved: &Resolved, places: Vec<LoadingModel>) -> anyhow::Result<()> {
    threads::start(resolved);
    let share = 1.0 / resolved.models.len() as f64;
    for (model, place) in resolved.models.iter().zip(places) {
        load_one(model, share, place).with_context(|| format!("model '{}'", model.name))?;
    }
    Ok(())
}

fn load_one(model: &ModelConfig, share: f64, place: LoadingModel) -> anyhow::Result<()> {
    let files = model.files()?;
    let weights = start_weights(files.clone(), model.load_options(share), place)?;
    // What is wrong with the small files is told at once; weights that are still being loaded end with the process.
    let text = model.text(&files)?;
    let (place, loaded) = weights.join().map_err(|_| anyhow!("the thread that loads weights died"))?;
    let LoadedModel { executor, info, report } = loaded?;
    tracing::info!(
        model = model.name,
        architecture = info.architecture,
        parameters = info.num_parameters,
        weights = %format_bytes(info.weight_bytes),
        kv_cache = %format_bytes(info.kv_bytes),
        kv_cache_dtype = info.kv_cache_dtype.as_str(),
        max_model_len = info.max_model_len,
        open_ms = report.open.as_millis() as u64,
        read_ms = report.read.as_millis() as u64,
        convert_ms = report.convert.as_millis() as u64,
        warm_up_ms = report.warm_up.as_millis() as u64,
        total = %format_duration(report.total),
        "loaded"
    );
    place.report(&report.phases());
    let sizes = EngineConfig {
        block_size: info.block_size,
        num_blocks: info.num_blocks,
        max_num_seqs: model.max_num_seqs,
        max_batched_tokens: model.max_batched_tokens.max(model.max_num_seqs),
        max_waiting: model.max_waiting,
        max_model_len: info.max_model_len,
        prefix_caching: model.prefix_caching,
    };
    let engine = vlinders_engine::start(sizes, executor, place.observer())?;
    let settings = ModelSettings {
        fingerprint: info.fingerprint,
        max_model_len: info.max_model_len,
        vocab_size: info.vocab_size,
        tool_parser: model.hermes_tools.then_some(ToolParser::Hermes),
    };
    place.serve(settings, engine, Arc::new(text));
    Ok(())
}

/// Load weights on a thread of their own, which gives back the place whose progress it shows.
fn start_weights(
    files: ModelFiles,
    options: LoadOptions,
    place: LoadingModel,
) -> anyhow::Result<JoinHandle<(LoadingModel, Result<LoadedModel, RunnerError>)>> {
    let work = move || {
        let progress = ShownProgress::new(&place);
        let loaded = load(&files, &options, &progress);
        drop(progress);
        // Where that takes longer, it is what is waited for.
        place.phase("tokenizer");
        (place, loaded)
    };
    std::thread::Builder::new().name("weights".to_owned()).spawn(work).context("cannot start a thread")
}
