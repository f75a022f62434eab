//! Answers of `/v1/chat/completions`.

use vlinders_api::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs, ChatMessage,
    FinishReason, ToolCall, ToolCallDelta, Usage,
};
use vlinders_edge::SseWriter;

use crate::choice::Delta;
use crate::logprobs::TokenNames;
use crate::output::Output;
use crate::routes::Envelope;

/// Writes chat completions and their chunks.
pub(crate) struct ChatOutput {
    envelope: Envelope,
    /// Set if log-probabilities were asked for.
    names: Option<TokenNames>,
    choices: Vec<Partial>,
}

/// An answer as far as it is known.
#[derive(Debug, Default)]
struct Partial {
    /// The chunk with the role was written.
    started: bool,
    text: String,
    calls: Vec<ToolCall>,
    num_calls: usize,
    logprobs: ChatLogprobs,
    finish: Option<FinishReason>,
}

// === impl ChatOutput ===

impl ChatOutput {
    pub(crate) fn new(envelope: Envelope, names: Option<TokenNames>, num_choices: usize) -> Self {
        Self { envelope, names, choices: (0..num_choices).map(|_| Partial::default()).collect() }
    }

    fn logprobs(&self, delta: &Delta) -> Option<ChatLogprobs> {
        let names = self.names.as_ref().filter(|_| !delta.tokens.is_empty())?;
        Some(ChatLogprobs { content: delta.tokens.iter().map(|token| names.chat(token)).collect() })
    }
}

impl Envelope {
    fn chat_chunk<'a>(
        &'a self,
        choices: &'a [ChatChunkChoice<'a>],
        usage: Option<Option<Usage>>,
    ) -> ChatChunk<'a> {
        ChatChunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.name(),
            system_fingerprint: &self.model.settings.fingerprint,
            choices,
            usage,
        }
    }
}

impl Output for ChatOutput {
    fn chunk(&mut self, index: usize, delta: &Delta, usage: Option<Option<Usage>>, out: &mut SseWriter) {
        let logprobs = self.logprobs(delta);
        let partial = &mut self.choices[index];
        let mut write = |delta: ChatDelta<'_>, logprobs, finish_reason| {
            let choice = ChatChunkChoice { index, delta, logprobs, finish_reason };
            out.event(&self.envelope.chat_chunk(&[choice], usage));
        };
        if !std::mem::replace(&mut partial.started, true) {
            write(ChatDelta { role: Some("assistant"), content: Some(""), tool_calls: None }, None, None);
        }
        let calls: Vec<_> = delta
            .calls
            .iter()
            .enumerate()
            .map(|(number, call)| ToolCallDelta { index: partial.num_calls + number, call })
            .collect();
        partial.num_calls += calls.len();
        let news = ChatDelta {
            role: None,
            content: (!delta.text.is_empty()).then_some(&*delta.text),
            tool_calls: (!calls.is_empty()).then_some(&*calls),
        };
        if news.content.is_some() || news.tool_calls.is_some() || logprobs.is_some() || delta.finish.is_some()
        {
            write(news, logprobs.as_ref(), delta.finish);
        }
    }

    fn usage_chunk(&mut self, usage: Usage, out: &mut SseWriter) {
        out.event(&self.envelope.chat_chunk(&[], Some(Some(usage))));
    }

    fn collect(&mut self, index: usize, delta: Delta) {
        let logprobs = self.logprobs(&delta);
        let partial = &mut self.choices[index];
        partial.text.push_str(&delta.text);
        partial.calls.extend(delta.calls);
        partial.logprobs.content.extend(logprobs.into_iter().flat_map(|logprobs| logprobs.content));
        partial.finish = partial.finish.or(delta.finish);
    }

    fn whole(self, usage: Usage) -> Result<Vec<u8>, serde_json::Error> {
        let with_logprobs = self.names.is_some();
        let choices = self.choices.into_iter().enumerate().map(|(index, partial)| ChatChoice {
            index,
            message: ChatMessage {
                role: "assistant",
                content: (partial.calls.is_empty() || !partial.text.is_empty()).then_some(partial.text),
                refusal: None,
                tool_calls: partial.calls,
            },
            logprobs: with_logprobs.then_some(partial.logprobs),
            finish_reason: partial.finish.unwrap_or(FinishReason::Stop),
        });
        serde_json::to_vec(&ChatCompletion {
            id: &self.envelope.id,
            object: "chat.completion",
            created: self.envelope.created,
            model: self.envelope.model.name(),
            system_fingerprint: &self.envelope.model.settings.fingerprint,
            choices: choices.collect(),
            usage,
        })
    }
}
