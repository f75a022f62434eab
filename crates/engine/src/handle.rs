//! The engine as seen by those who use it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::config::{EngineConfig, NeverFits};
use crate::mailbox::Mailbox;
use crate::request::GenerateRequest;
use crate::stats::{EngineState, Stats};
use crate::stream::TokenStream;

/// Events of a request besides its tokens: scheduled, log-probabilities of the prompt, the end.
const OTHER_EVENTS: usize = 3;

/// A handle on an engine; clones are handles on the same one. When the last is dropped, the engine finishes the
/// requests it has and ends.
#[derive(Debug, Clone)]
pub struct EngineHandle(Arc<Owner>);

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many requests wait already.
    #[error("{waiting} requests wait and the limit is {limit}; try again later")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// [`EngineConfig::max_waiting`].
        limit: usize,
    },
    /// It could not run even alone.
    #[error(transparent)]
    NeverFits(#[from] NeverFits),
    /// The engine finishes what it has and takes nothing new.
    #[error("the engine is shutting down; send the request to another one")]
    Draining,
    /// The engine has ended.
    #[error("the engine has shut down; send the request to another one")]
    Stopped,
    /// The model has failed.
    #[error("the engine has failed: {0}")]
    Failed(String),
}

#[derive(Debug)]
struct Owner {
    config: EngineConfig,
    mailbox: Arc<Mailbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

// === impl EngineHandle ===

impl EngineHandle {
    pub(crate) fn new(config: EngineConfig, mailbox: Arc<Mailbox>, thread: JoinHandle<()>) -> Self {
        Self(Arc::new(Owner { config, mailbox, thread: Mutex::new(Some(thread)) }))
    }

    /// Hand in a request. Dropping the stream cancels it.
    ///
    /// # Errors
    /// The queue is full, the request could never run, or the engine takes no requests.
    pub fn submit(&self, request: GenerateRequest) -> Result<TokenStream, SubmitError> {
        self.0.config.check_fits(&request)?;
        let (sender, receiver) = mpsc::channel(request.stop().max_tokens + OTHER_EVENTS);
        let id = self.0.mailbox.submit(request, sender)?;
        Ok(TokenStream::new(id, receiver, Arc::clone(&self.0.mailbox)))
    }

    /// All counts, exact as of the last command and step.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.mailbox.stats()
    }

    /// Whether it takes requests.
    #[must_use]
    pub fn state(&self) -> EngineState {
        self.0.mailbox.state()
    }

    /// The sizes it was started with.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    /// Refuse new requests from now on, and end when those at hand are done, waiting ones included.
    pub fn drain(&self) {
        self.0.mailbox.drain();
    }

    /// Tell all requests at hand that they failed, and why. New ones are taken as before.
    pub fn abort_all(&self, reason: impl Into<String>) {
        self.0.mailbox.abort(reason.into());
    }

    /// The model can not go on, which its executor may notice only at the next step: every request fails, and the engine with
    /// them.
    pub fn fail(&self, reason: impl Into<String>) {
        self.0.mailbox.give_up(reason.into());
    }

    /// Wait until the engine has ended, by a drain or by a failure.
    pub async fn drained(&self) {
        let mut state = self.0.mailbox.watch_state();
        let ended = |state: &EngineState| matches!(state, EngineState::Stopped | EngineState::Failed(_));
        // The sender is in the mailbox, which is alive: there is always an answer.
        let _ = state.wait_for(ended).await;
    }

    /// Wait until the engine's thread is gone and with it the model's memory. Blocks: not for asynchronous code
    /// that has not waited for [`EngineHandle::drained`] before.
    pub fn join(&self) {
        let mut thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic of the thread was turned into the state Failed.
            let _ = thread.join();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.mailbox.drain();
    }
}
