//! Loads the models of a server, one after the other, each into its place.

use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use tokio::sync::oneshot;
use vlinders_engine::{EngineConfig, EngineHandle};
use vlinders_runner::{
    GroupEnd, GroupOptions, LoadOptions, LoadedModel, Member, ModelFiles, Watcher, load, load_member,
};
use vlinders_server::{LoadingModel, ModelSettings, ToolParser};

use super::threads;
use crate::command::member;
use crate::config::{ModelConfig, Resolved, format_bytes, format_duration};
use crate::progress::ShownProgress;

/// What there is once every model is served.
pub(super) struct Loaded {
    /// How the group of processes ends that this one belongs to; pending as long as it works, and where there is none.
    pub(super) group_end: Pin<Box<dyn Future<Output = GroupEnd> + Send>>,
}

/// Begin to load, on a thread of its own that nobody has to wait for. The future gives the outcome: every model is
/// served, or why one can not be. With `ranks`, this process is these of the one model, the first among them.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start(
    resolved: Resolved,
    places: Vec<LoadingModel>,
    ranks: Vec<GroupOptions>,
) -> anyhow::Result<impl Future<Output = anyhow::Result<Loaded>>> {
    let (sender, outcome) = oneshot::channel();
    let work = move || {
        let (tell, end) = oneshot::channel();
        let loaded = load_all(&resolved, places, ranks, tell);
        let group_end = Box::pin(async {
            match end.await {
                Ok(end) => end,
                // There is no group.
                Err(_) => std::future::pending().await,
            }
        });
        // Nobody listens any more when the server is about to stop.
        let _ = sender.send(loaded.map(|()| group_end));
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(async { Ok(Loaded { group_end: outcome.await.context("loading was cut off")?? }) })
}

fn load_all(
    resolved: &Resolved,
    places: Vec<LoadingModel>,
    ranks: Vec<GroupOptions>,
    tell: oneshot::Sender<GroupEnd>,
) -> anyhow::Result<()> {
    threads::start(resolved);
    let share = 1.0 / resolved.models.len() as f64;
    let mut group = (!ranks.is_empty()).then_some((ranks, tell));
    for (model, place) in resolved.models.iter().zip(places) {
        load_one(model, share, place, group.take()).with_context(|| format!("model '{}'", model.name))?;
    }
    Ok(())
}

fn load_one(
    model: &ModelConfig,
    share: f64,
    place: LoadingModel,
    group: Option<(Vec<GroupOptions>, oneshot::Sender<GroupEnd>)>,
) -> anyhow::Result<()> {
    let files = model.files()?;
    let (here, tell) = group.unzip();
    let here = here.unwrap_or_default();
    let ranks = here.first().map_or(model.tensor_parallel_size.unwrap_or(1), |first| first.size);
    let weights = start_weights(files.clone(), model.load_options(share), place, here)?;
    // What is wrong with the small files is told at once; weights that are still being loaded end with the process.
    let text = model.text(&files)?;
    let (place, loaded) = weights.join().map_err(|_| anyhow!("the thread that loads weights died"))?;
    let (LoadedModel { executor, info, report }, watcher) = loaded?;
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
        max_num_seqs: model.max_num_seqs(),
        max_batched_tokens: model.max_batched_tokens(),
        max_waiting: model.max_waiting,
        max_model_len: info.max_model_len,
        prefix_caching: model.prefix_caching,
    };
    let engine = vlinders_engine::start(sizes, executor, place.observer())?;
    if let Some((watcher, tell)) = watcher.zip(tell) {
        watch(watcher, engine.clone(), tell)?;
    }
    let settings = ModelSettings {
        fingerprint: info.fingerprint,
        max_model_len: info.max_model_len,
        vocab_size: info.vocab_size,
        tool_parser: model.hermes_tools.then_some(ToolParser::Hermes),
        ranks,
    };
    place.serve(settings, engine, Arc::new(text));
    Ok(())
}

/// Tell engine and server when a rank is lost, also while nothing is computed, and the server when one asks for the end.
fn watch(watcher: Watcher, engine: EngineHandle, tell: oneshot::Sender<GroupEnd>) -> anyhow::Result<()> {
    let work = move || {
        let mut tell = Some(tell);
        loop {
            let end = watcher.wait();
            if let Some(tell) = tell.take() {
                // Nobody listens any more when the group ends since the server stops.
                let _ = tell.send(end.clone());
            }
            if matches!(end, GroupEnd::Broken(_)) {
                return engine.fail(end.to_string());
            }
        }
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(())
}

type Weights = (LoadingModel, anyhow::Result<(LoadedModel, Option<Watcher>)>);

/// Load weights on a thread of their own, which gives back the place whose progress it shows.
fn start_weights(
    files: ModelFiles,
    options: LoadOptions,
    place: LoadingModel,
    ranks: Vec<GroupOptions>,
) -> anyhow::Result<JoinHandle<Weights>> {
    let work = move || {
        let progress = ShownProgress::new(&place);
        let loaded = match ranks.split_first() {
            None => load(&files, &options, &progress).map(|loaded| (loaded, None)).map_err(Into::into),
            Some((first, others)) => {
                place.phase("join");
                load_first(&files, &options, first, others, &progress)
            }
        };
        drop(progress);
        // Where that takes longer, it is what is waited for.
        place.phase("tokenizer");
        (place, loaded)
    };
    std::thread::Builder::new().name("weights".to_owned()).spawn(work).context("cannot start a thread")
}

/// Load the first rank of a group of processes, while threads load those that this process is beside it.
fn load_first(
    files: &ModelFiles,
    options: &LoadOptions,
    first: &GroupOptions,
    others: &[GroupOptions],
    progress: &ShownProgress<'_>,
) -> anyhow::Result<(LoadedModel, Option<Watcher>)> {
    // They end with the group, which waits for all of them.
    drop(member::start_others(others, files, options)?);
    let group = member::join(first)?;
    let watcher = group.watcher();
    match load_member(files, options, group, progress)? {
        Member::Leader(loaded) => Ok((*loaded, Some(watcher))),
        Member::Follower(_) => Err(anyhow!("only rank 0 answers requests")),
    }
}
