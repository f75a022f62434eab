//! Asks one question and shows the answer while it arrives.

use std::io::{IsTerminal as _, Write as _, stdout};

use serde_json::json;

use super::conversation::Conversation;
use super::shown::harmless;
use crate::args::ChatArgs;
use crate::client::{Client, ClientError, StreamEvent, follow};

/// Asks a server's model.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) client: Client,
    pub(super) model: String,
    temperature: Option<f64>,
    max_tokens: Option<u64>,
    seed: Option<i64>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Ctrl-C stopped it; `text` is what had arrived.
    pub(super) cancelled: bool,
    finish_reason: Option<String>,
}

impl Asker {
    pub(super) fn new(client: Client, model: String, args: &ChatArgs) -> Self {
        Self { client, model, temperature: args.temperature, max_tokens: args.max_tokens, seed: args.seed }
    }

    /// Stream the answer to standard output, until it ends or Ctrl-C.
    pub(super) async fn ask(&self, conversation: &Conversation) -> Result<Answer, ClientError> {
        let mut answer = Answer::default();
        let outcome = tokio::select! {
            outcome = self.stream(conversation, &mut answer) => Some(outcome),
            // Dropping the stream closes the connection, which is how a server learns of it.
            _ = tokio::signal::ctrl_c() => None,
        };
        if !(answer.text.ends_with('\n') || answer.text.is_empty() && outcome.is_some()) {
            println!();
        }
        match outcome {
            Some(Err(error)) => return Err(error),
            Some(Ok(())) => {}
            None => answer.cancelled = true,
        }
        if answer.finish_reason.as_deref() == Some("length") && stdout().is_terminal() {
            eprintln!("(the answer was cut off at its length limit)");
        }
        Ok(answer)
    }

    async fn stream(&self, conversation: &Conversation, answer: &mut Answer) -> Result<(), ClientError> {
        let mut body = json!({"model": self.model, "messages": conversation.messages(), "stream": true});
        if let Some(temperature) = self.temperature {
            body["temperature"] = json!(temperature);
        }
        if let Some(max_tokens) = self.max_tokens {
            body["max_tokens"] = json!(max_tokens);
        }
        if let Some(seed) = self.seed {
            body["seed"] = json!(seed);
        }
        let in_terminal = stdout().is_terminal();
        let response = self.client.post_stream("/v1/chat/completions", body.to_string().into_bytes()).await?;
        follow(response, |event| {
            let StreamEvent::Chunk { text, finish_reason, .. } = event else { return };
            answer.finish_reason = finish_reason.or(answer.finish_reason.take());
            answer.text.push_str(&text);
            let shown = if in_terminal { harmless(&text) } else { text.as_str().into() };
            let mut out = stdout().lock();
            // A closed output ends the process with the next line; nothing to do about it here.
            let _ = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
        })
        .await
    }
}
