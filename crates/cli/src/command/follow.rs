//! `vlinders worker` as another rank than the first: load a share of the model, and compute what the first rank sends.
//!
//! It ends when the first rank does. A signal makes it ask the first rank for that, which finishes its requests before.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::oneshot;
use vlinders_edge::Shutdown;
use vlinders_runner::{GroupOptions, LoadPhase, LoadProgress, Member, Watcher, load_member};

use super::member;
use super::serve::threads;
use crate::config::Resolved;
use crate::logging;
use crate::progress::Bar;

/// After the grace time, for the first rank to say that it ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Compute until the first rank ends.
pub(super) fn run(resolved: &Resolved, ranks: Vec<GroupOptions>) -> anyhow::Result<ExitCode> {
    logging::start(&resolved.server.log)?;
    tracing::info!(models = resolved.origin.models, server = resolved.origin.server, "configuration");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    runtime.block_on(async {
        let mut shutdown = Shutdown::listen().context("cannot listen for signals")?;
        let (sender, ended) = oneshot::channel();
        let resolved_here = resolved.clone();
        let joined = Arc::new(OnceLock::new());
        let ready = Arc::clone(&joined);
        let work = move || {
            // Nobody listens any more when this process ends by a signal.
            let _ = sender.send(compute(&resolved_here, &ranks, &ready));
        };
        thread::Builder::new().name("rank".to_owned()).spawn(work).context("cannot start a thread")?;
        let ended = async { ended.await.context("the thread of this rank died")? };
        tokio::pin!(ended);
        let cause = tokio::select! {
            outcome = &mut ended => return outcome.map(|()| ExitCode::SUCCESS),
            cause = shutdown.requested() => cause,
        };
        let Some(watcher) = joined.get() else {
            tracing::info!(signal = cause.as_str(), "stopped before the model was loaded");
            return Ok(ExitCode::SUCCESS);
        };
        tracing::info!(signal = cause.as_str(), "rank 0 is asked to end; this rank ends when it does");
        watcher.ask_to_end();
        tokio::select! {
            outcome = &mut ended => outcome?,
            () = tokio::time::sleep(resolved.server.shutdown_grace + LAST_WORDS) => {
                tracing::warn!("rank 0 still runs after the grace time; this rank ends, and the group with it");
            }
            cause = shutdown.requested() => tracing::warn!(signal = cause.as_str(), "this rank ends at once"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn compute(resolved: &Resolved, ranks: &[GroupOptions], joined: &OnceLock<Watcher>) -> anyhow::Result<()> {
    threads::start(resolved);
    let model = resolved.models.first().context("there is no model")?;
    let (first, others) = ranks.split_first().context("there is no rank")?;
    let context = || format!("model '{}', rank {}", model.name, first.rank);
    let files = model.files().with_context(context)?;
    let options = model.load_options(1.0);
    let others = member::start_others(others, &files, &options)?;
    let group = member::join(first)?;
    let watcher = group.watcher();
    let shown = Shown(Bar::new());
    let member = load_member(&files, &options, group, &shown).with_context(context)?;
    drop(shown);
    let Member::Follower(follower) = member else {
        return Err(anyhow!("rank 0 can not follow itself"));
    };
    joined.get_or_init(|| watcher);
    tracing::info!(model = model.name, "ready: computing what rank 0 sends");
    follower.run().with_context(context)?;
    for other in others {
        // It has told of its end.
        let _ = other.join();
    }
    tracing::info!("rank 0 has ended, and this process with it");
    Ok(())
}

/// Shows how weights are loaded.
struct Shown(Bar);

impl LoadProgress for Shown {
    fn phase(&self, phase: LoadPhase) {
        tracing::info!(phase = phase.name(), "loading");
    }

    fn bytes(&self, done: u64, total: u64) {
        self.0.bytes(done, total);
    }
}
