//! Answers of `/v1/completions`.

use vlinders_api::{Completion, CompletionChoice, CompletionLogprobs, FinishReason, Usage};
use vlinders_edge::SseWriter;

use crate::choice::Delta;
use crate::logprobs::TokenNames;
use crate::output::Output;
use crate::routes::Envelope;

/// Writes completions and their chunks.
pub(crate) struct CompletionOutput {
    envelope: Envelope,
    /// Set if log-probabilities were asked for.
    names: Option<TokenNames>,
    choices: Vec<Partial>,
}

/// An answer as far as it is known.
#[derive(Debug, Default)]
struct Partial {
    text: String,
    logprobs: CompletionLogprobs,
    /// Characters of the tokens so far.
    offset: usize,
    finish: Option<FinishReason>,
}

// === impl CompletionOutput ===

impl CompletionOutput {
    pub(crate) fn new(envelope: Envelope, names: Option<TokenNames>, num_choices: usize) -> Self {
        Self { envelope, names, choices: (0..num_choices).map(|_| Partial::default()).collect() }
    }
}

impl Envelope {
    fn completion<'a>(
        &'a self,
        choices: &'a [CompletionChoice<'a>],
        usage: Option<Option<Usage>>,
    ) -> Completion<'a> {
        Completion {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: self.model.name(),
            system_fingerprint: &self.model.settings.fingerprint,
            choices,
            usage,
        }
    }
}

impl Output for CompletionOutput {
    fn chunk(&mut self, index: usize, delta: &Delta, usage: Option<Option<Usage>>, out: &mut SseWriter) {
        let partial = &mut self.choices[index];
        let logprobs = self.names.as_ref().filter(|_| !delta.tokens.is_empty()).map(|names| {
            let mut logprobs = CompletionLogprobs::default();
            for token in &delta.tokens {
                names.completion(token, &mut partial.offset, &mut logprobs);
            }
            logprobs
        });
        let choice = CompletionChoice {
            index,
            text: &delta.text,
            logprobs: logprobs.as_ref(),
            finish_reason: delta.finish,
        };
        out.event(&self.envelope.completion(&[choice], usage));
    }

    fn usage_chunk(&mut self, usage: Usage, out: &mut SseWriter) {
        out.event(&self.envelope.completion(&[], Some(Some(usage))));
    }

    fn collect(&mut self, index: usize, delta: Delta) {
        let partial = &mut self.choices[index];
        partial.text.push_str(&delta.text);
        partial.finish = partial.finish.or(delta.finish);
        if let Some(names) = &self.names {
            for token in &delta.tokens {
                names.completion(token, &mut partial.offset, &mut partial.logprobs);
            }
        }
    }

    fn whole(self, usage: Usage) -> Result<Vec<u8>, serde_json::Error> {
        let with_logprobs = self.names.is_some();
        let choices: Vec<_> = self
            .choices
            .iter()
            .enumerate()
            .map(|(index, partial)| CompletionChoice {
                index,
                text: &partial.text,
                logprobs: with_logprobs.then_some(&partial.logprobs),
                finish_reason: Some(partial.finish.unwrap_or(FinishReason::Stop)),
            })
            .collect();
        serde_json::to_vec(&self.envelope.completion(&choices, Some(Some(usage))))
    }
}
