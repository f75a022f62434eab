//! All answers to one request, as one source of what is new.

use std::future::poll_fn;
use std::task::{Context, Poll};

use vlinders_api::Usage;
use vlinders_edge::{ApiError, Listed};

use crate::choice::{Choice, Delta};

/// The answers to a request: `n` for each prompt, in that order.
#[derive(Debug)]
pub(crate) struct Generation {
    choices: Vec<Choice>,
    /// Choices for each prompt.
    n: usize,
    prompt_tokens: usize,
    /// In the list of those that run, until it ends.
    listed: Listed,
    /// Where to look first, so that no choice waits behind a busy one.
    next: usize,
}

// === impl Generation ===

impl Generation {
    /// `prompt_tokens` counts each prompt once.
    pub(crate) fn new(choices: Vec<Choice>, n: usize, prompt_tokens: usize, listed: Listed) -> Self {
        Self { choices, n, prompt_tokens, listed, next: 0 }
    }

    /// How many answers there are.
    pub(crate) fn num_choices(&self) -> usize {
        self.choices.len()
    }

    /// What is new, and of which choice; `None` when all have ended.
    pub(crate) fn poll_delta(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<Delta, ApiError>)>> {
        let count = self.choices.len();
        let mut ended = 0;
        for step in 0..count {
            let index = (self.next + step) % count;
            match self.choices[index].poll_delta(cx) {
                Poll::Ready(Some(delta)) => {
                    self.next = index + 1;
                    if let Err(error) = &delta {
                        self.listed.failed(error.kind().status().as_u16(), error.to_string());
                    }
                    return Poll::Ready(Some((index, delta)));
                }
                Poll::Ready(None) => ended += 1,
                Poll::Pending => {}
            }
        }
        if ended == count { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The next of [`Self::poll_delta`].
    pub(crate) async fn next(&mut self) -> Option<(usize, Result<Delta, ApiError>)> {
        poll_fn(|cx| self.poll_delta(cx)).await
    }

    /// Token counts so far.
    pub(crate) fn usage(&self) -> Usage {
        let cached = self.choices.iter().step_by(self.n.max(1)).map(Choice::cached_tokens).sum();
        let completion = self.choices.iter().map(Choice::num_tokens).sum();
        Usage::new(self.prompt_tokens, cached, completion)
    }
}
