//! The loop: take commands, plan, execute, commit. On a thread of its own, until it is drained or the model fails.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use crate::config::{EngineConfig, InvalidConfig};
use crate::event::TokenEvent;
use crate::executor::{Executor, ExecutorError};
use crate::handle::EngineHandle;
use crate::mailbox::{Command, Commands, Mailbox, Submission};
use crate::plan::{SeqId, StepPlan};
use crate::scheduler::{Events, Scheduler};
use crate::stats::Observer;
use crate::stream::RequestId;

/// Why an engine can not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its sizes do not work together.
    #[error("the engine's configuration is wrong: {0}")]
    Config(#[from] InvalidConfig),
    /// The system gives no thread.
    #[error("can not start the engine's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Everything the engine's thread owns but the executor.
struct Engine {
    mailbox: Arc<Mailbox>,
    scheduler: Scheduler,
    observer: Box<dyn Observer>,
    plan: StepPlan,
    events: Events,
    /// Indexed by [`SeqId`].
    streams: Vec<Option<Stream>>,
    seqs: HashMap<RequestId, SeqId>,
    draining: bool,
}

/// Where the events of a sequence go.
struct Stream {
    id: RequestId,
    events: mpsc::Sender<TokenEvent>,
}

/// Start an engine on a thread of its own.
///
/// # Errors
/// Sizes that do not work together, or no thread.
pub fn start(
    config: EngineConfig,
    executor: impl Executor,
    observer: Box<dyn Observer>,
) -> Result<EngineHandle, StartError> {
    config.check()?;
    let idle = Scheduler::new(config.clone()).stats();
    let mailbox = Arc::new(Mailbox::new(config.max_waiting, idle));
    let (sizes, inbox) = (config.clone(), Arc::clone(&mailbox));
    let body = move || Engine::new(sizes, inbox, observer).run(executor);
    let thread = thread::Builder::new().name("engine".to_owned()).spawn(body)?;
    Ok(EngineHandle::new(config, mailbox, thread))
}

impl Engine {
    fn new(config: EngineConfig, mailbox: Arc<Mailbox>, observer: Box<dyn Observer>) -> Self {
        Self {
            mailbox,
            scheduler: Scheduler::new(config),
            observer,
            plan: StepPlan::default(),
            events: Events::new(),
            streams: Vec::new(),
            seqs: HashMap::new(),
            draining: false,
        }
    }

    /// Work until drained; a failure, or a panic wherever it comes from, ends every request with a word.
    fn run(mut self, mut executor: impl Executor) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work(&mut executor)));
        match outcome {
            Ok(Ok(())) => self.mailbox.stop(),
            Ok(Err(error)) => self.fail(error.to_string()),
            Err(panic) => self.fail(format!("the engine panicked: {}", message(&*panic))),
        }
    }

    fn work(&mut self, executor: &mut impl Executor) -> Result<(), ExecutorError> {
        loop {
            let idle = !self.scheduler.has_work();
            if idle && self.draining {
                return Ok(());
            }
            let commands = self.mailbox.take(idle);
            if idle {
                self.observer.resumed();
            }
            self.obey(commands)?;
            self.step(executor)?;
        }
    }

    fn step(&mut self, executor: &mut impl Executor) -> Result<(), ExecutorError> {
        self.scheduler.plan(&mut self.plan, &mut self.events);
        self.report();
        if self.plan.is_empty() {
            return Ok(());
        }
        self.observer.step_planned(&self.scheduler.step_stats());
        let output = executor.step(&self.plan)?;
        self.observer.step_executed();
        self.scheduler.commit(&self.plan, output, &mut self.events)?;
        self.report();
        self.observer.step(&self.scheduler.step_stats());
        Ok(())
    }

    fn obey(&mut self, commands: Commands) -> Result<(), ExecutorError> {
        let mut outcome = Ok(());
        for command in commands.into_values() {
            match command {
                Command::Submit(submission) => self.submit(submission),
                Command::Cancel(id) => self.cancel(id),
                Command::Drain => self.draining = true,
                Command::Abort(reason) => self.abort(&reason),
                Command::Fail(reason) => outcome = Err(ExecutorError(reason)),
            }
        }
        outcome
    }

    fn submit(&mut self, submission: Submission) {
        let Submission { id, request, events } = submission;
        match self.scheduler.submit(&request) {
            Ok(seq) => {
                let idx = seq.0 as usize;
                if self.streams.len() <= idx {
                    self.streams.resize_with(idx + 1, || None);
                }
                self.streams[idx] = Some(Stream { id, events });
                self.seqs.insert(id, seq);
            }
            Err(never) => tell(&events, TokenEvent::Failed(never.to_string())),
        }
    }

    fn cancel(&mut self, id: RequestId) {
        if let Some(seq) = self.seqs.remove(&id) {
            self.scheduler.cancel(seq);
            self.streams[seq.0 as usize] = None;
        }
    }

    fn abort(&mut self, reason: &str) {
        for seq in std::mem::take(&mut self.seqs).into_values() {
            self.scheduler.cancel(seq);
            self.events.push((seq, TokenEvent::Failed(reason.to_owned())));
        }
    }

    /// Let the world know: counts first, so that who hears of an end finds it counted.
    fn report(&mut self) {
        self.mailbox.publish(self.scheduler.stats());
        for (seq, event) in self.events.drain(..) {
            let Some(place) = self.streams.get_mut(seq.0 as usize) else { continue };
            let last = event.is_last();
            if let Some(stream) = place {
                tell(&stream.events, event);
            }
            if last && let Some(stream) = place.take() {
                self.seqs.remove(&stream.id);
            }
        }
    }

    /// End every request, those still in the mailbox too.
    fn fail(&mut self, why: String) {
        let unseen = self.mailbox.fail(why.clone());
        let unseen = unseen.into_values().filter_map(|command| match command {
            Command::Submit(submission) => Some(submission.events),
            Command::Cancel(_) | Command::Drain | Command::Abort(_) | Command::Fail(_) => None,
        });
        let seen = self.streams.drain(..).flatten().map(|stream| stream.events);
        for events in seen.chain(unseen) {
            tell(&events, TokenEvent::Failed(why.clone()));
        }
    }
}

/// The channel holds a whole answer, so it is never full; when its reader is gone, a cancel is on its way.
fn tell(events: &mpsc::Sender<TokenEvent>, event: TokenEvent) {
    let _ = events.try_send(event);
}

/// The words of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests;
