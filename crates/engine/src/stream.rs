//! The receiving end of one request. Dropping it cancels the request.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;

use crate::event::TokenEvent;
use crate::mailbox::Mailbox;

/// Names a request, unique in the life of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// The events of one request. The channel has room for a whole answer, so the engine never waits for its reader.
#[derive(Debug)]
pub struct TokenStream {
    id: RequestId,
    events: mpsc::Receiver<TokenEvent>,
    mailbox: Arc<Mailbox>,
    /// The last event was read.
    ended: bool,
}

impl TokenStream {
    pub(crate) fn new(id: RequestId, events: mpsc::Receiver<TokenEvent>, mailbox: Arc<Mailbox>) -> Self {
        Self { id, events, mailbox, ended: false }
    }

    /// The name of the request.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The next event; none after the last one. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<TokenEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next event, for those who implement a stream.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<TokenEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(context));
        Poll::Ready(Some(self.note(event)))
    }

    /// The next event, for threads without a runtime.
    ///
    /// # Panics
    /// When called from asynchronous code.
    pub fn blocking_next(&mut self) -> Option<TokenEvent> {
        if self.ended {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.note(event))
    }

    /// A channel that ends without a last event means that the engine's thread is gone.
    fn note(&mut self, event: Option<TokenEvent>) -> TokenEvent {
        let event = event.unwrap_or_else(|| TokenEvent::Failed("the engine has ended".to_owned()));
        self.ended |= event.is_last();
        event
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        if !self.ended {
            self.mailbox.cancel(self.id);
        }
    }
}
