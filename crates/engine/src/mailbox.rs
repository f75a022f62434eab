//! What handles and streams tell the engine, and what it lets them know: one short lock, held for no work.
//!
//! Bounded by construction: submissions by the limit on waiting requests, cancels by the number of live requests.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::event::TokenEvent;
use crate::handle::SubmitError;
use crate::request::GenerateRequest;
use crate::stats::{EngineState, Stats};
use crate::stream::RequestId;

/// What the engine can be told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run a request.
    Submit(Submission),
    /// Forget a request; it may have ended already.
    Cancel(RequestId),
    /// End once nothing is left to do.
    Drain,
    /// Tell every request that it failed, and why.
    Abort(String),
    /// The model has failed.
    Fail(String),
}

/// A request on its way in, with the way out for its events.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: RequestId,
    pub(crate) request: GenerateRequest,
    pub(crate) events: mpsc::Sender<TokenEvent>,
}

/// Commands in the order they were given.
pub(crate) type Commands = BTreeMap<u64, Command>;

/// Shared by the engine's thread, its handles and its streams.
#[derive(Debug)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    state: watch::Sender<EngineState>,
    max_waiting: usize,
}

#[derive(Debug, Default)]
struct Inbox {
    /// A submission is under the number of its request, so a cancel finds it.
    commands: Commands,
    next: u64,
    /// Submissions among the commands.
    submitted: usize,
    /// As the engine told last.
    stats: Stats,
}

impl Mailbox {
    pub(crate) fn new(max_waiting: usize, stats: Stats) -> Self {
        let inbox = Inbox { stats, ..Inbox::default() };
        Self {
            inbox: Mutex::new(inbox),
            arrived: Condvar::new(),
            state: watch::Sender::default(),
            max_waiting,
        }
    }

    /// Hand in a request; `events` is where it will be heard of.
    pub(crate) fn submit(
        &self,
        request: GenerateRequest,
        events: mpsc::Sender<TokenEvent>,
    ) -> Result<RequestId, SubmitError> {
        let mut inbox = self.lock();
        match &*self.state.borrow() {
            EngineState::Running => {}
            EngineState::Draining => return Err(SubmitError::Draining),
            EngineState::Stopped => return Err(SubmitError::Stopped),
            EngineState::Failed(why) => return Err(SubmitError::Failed(why.clone())),
        }
        let waiting = inbox.num_waiting();
        if waiting >= self.max_waiting {
            return Err(SubmitError::QueueFull { waiting, limit: self.max_waiting });
        }
        let id = RequestId(inbox.next);
        inbox.submitted += 1;
        self.put(inbox, Command::Submit(Submission { id, request, events }));
        Ok(id)
    }

    /// Forget a request: at once if the engine has not seen it yet, else between two of its steps.
    pub(crate) fn cancel(&self, id: RequestId) {
        let mut inbox = self.lock();
        if inbox.commands.remove(&id.0).is_some() {
            inbox.submitted -= 1;
        } else if self.is_alive() {
            self.put(inbox, Command::Cancel(id));
        }
    }

    /// Refuse requests from now on, and end once those at hand are done.
    pub(crate) fn drain(&self) {
        let inbox = self.lock();
        let begins = self.state.send_if_modified(|state| {
            let runs = *state == EngineState::Running;
            if runs {
                *state = EngineState::Draining;
            }
            runs
        });
        if begins {
            self.put(inbox, Command::Drain);
        }
    }

    pub(crate) fn abort(&self, reason: String) {
        let inbox = self.lock();
        if self.is_alive() {
            self.put(inbox, Command::Abort(reason));
        }
    }

    pub(crate) fn give_up(&self, reason: String) {
        let inbox = self.lock();
        if self.is_alive() {
            self.put(inbox, Command::Fail(reason));
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let inbox = self.lock();
        Stats {
            state: self.state.borrow().clone(),
            waiting: inbox.num_waiting(),
            has_work: inbox.stats.has_work || !inbox.commands.is_empty(),
            ..inbox.stats.clone()
        }
    }

    pub(crate) fn state(&self) -> EngineState {
        self.state.borrow().clone()
    }

    pub(crate) fn watch_state(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    // === the engine's side ===

    /// All commands given so far; with `wait`, at least one. Until the engine publishes its counts again, the
    /// requests among them count as waiting.
    pub(crate) fn take(&self, wait: bool) -> Commands {
        let mut inbox = self.lock();
        while wait && inbox.commands.is_empty() {
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        inbox.stats.waiting = inbox.num_waiting();
        inbox.stats.has_work |= !inbox.commands.is_empty();
        inbox.submitted = 0;
        std::mem::take(&mut inbox.commands)
    }

    /// The counts as of now.
    pub(crate) fn publish(&self, stats: Stats) {
        self.lock().stats = stats;
    }

    /// No request was left and none can come.
    pub(crate) fn stop(&self) {
        let _inbox = self.lock();
        self.state.send_replace(EngineState::Stopped);
    }

    /// Refuse requests from now on; gives what was not taken yet. All counts of what is at hand become 0.
    pub(crate) fn fail(&self, why: String) -> Commands {
        let mut inbox = self.lock();
        self.state.send_replace(EngineState::Failed(why));
        let stats = &mut inbox.stats;
        (stats.running, stats.waiting, stats.blocks_used, stats.blocks_cached) = (0, 0, 0, 0);
        stats.has_work = false;
        inbox.submitted = 0;
        std::mem::take(&mut inbox.commands)
    }

    fn put(&self, mut inbox: MutexGuard<'_, Inbox>, command: Command) {
        let number = inbox.next;
        inbox.next += 1;
        inbox.commands.insert(number, command);
        drop(inbox);
        self.arrived.notify_one();
    }

    fn is_alive(&self) -> bool {
        matches!(&*self.state.borrow(), EngineState::Running | EngineState::Draining)
    }

    /// No code panics while it holds the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    fn num_waiting(&self) -> usize {
        self.stats.waiting + self.submitted
    }
}
