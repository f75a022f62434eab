//! Log-probabilities in the two forms of the API.

use std::sync::Arc;

use vlinders_api::{CompletionLogprobs, TokenLogprob, TopLogprob, TopTokens};
use vlinders_engine::TokenLogprobs;
use vlinders_text::TextModel;

/// A token and what the model thought of it; nothing of the first token of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoggedToken {
    pub(crate) token: u32,
    pub(crate) logprobs: Option<Box<TokenLogprobs>>,
}

/// How tokens are written.
#[derive(Debug, Clone)]
pub(crate) struct TokenNames {
    pub(crate) text: Arc<TextModel>,
    /// As `token_id:123` instead of text.
    pub(crate) as_ids: bool,
}

/// JSON has no infinity; this is what vLLM writes for it.
const LEAST: f32 = -9999.0;

// === impl TokenNames ===

impl TokenNames {
    /// The name of a token.
    fn name(&self, token: u32) -> String {
        if self.as_ids { format!("token_id:{token}") } else { self.text.token_text(token) }
    }

    /// An entry of a chat completion.
    pub(crate) fn chat(&self, logged: &LoggedToken) -> TokenLogprob {
        let logprobs = logged.logprobs.as_deref();
        let top = logprobs.map_or(&[][..], |logprobs| &logprobs.top);
        TokenLogprob {
            token: self.name(logged.token),
            logprob: logprobs.map_or(0.0, |logprobs| finite(logprobs.logprob)),
            bytes: self.text.token_bytes(logged.token).to_vec(),
            top_logprobs: top
                .iter()
                .map(|&(token, logprob)| TopLogprob {
                    token: self.name(token),
                    logprob: finite(logprob),
                    bytes: self.text.token_bytes(token).to_vec(),
                })
                .collect(),
        }
    }

    /// Append an entry of a completion; `offset` counts the characters written so far.
    pub(crate) fn completion(&self, logged: &LoggedToken, offset: &mut usize, out: &mut CompletionLogprobs) {
        let name = self.name(logged.token);
        out.text_offset.push(*offset);
        *offset += num_characters(self.text.token_bytes(logged.token));
        out.token_logprobs.push(logged.logprobs.as_ref().map(|logprobs| finite(logprobs.logprob)));
        out.top_logprobs.push(logged.logprobs.as_ref().map(|logprobs| {
            let mut top: Vec<_> =
                logprobs.top.iter().map(|&(token, logprob)| (self.name(token), finite(logprob))).collect();
            // The token itself is always there, likely or not. A name that two tokens share stands once: the better.
            if !logprobs.top.iter().any(|(token, _)| *token == logged.token) {
                top.push((name.clone(), finite(logprobs.logprob)));
            }
            let mut seen = std::collections::HashSet::new();
            top.retain(|(name, _)| seen.insert(name.clone()));
            TopTokens(top)
        }));
        out.tokens.push(name);
    }
}

fn finite(logprob: f32) -> f32 {
    logprob.max(LEAST)
}

/// Characters that begin in these bytes: a character split over tokens counts where it begins.
fn num_characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_character_counts_once() {
        let butterfly = "🦋".as_bytes();
        assert_eq!(num_characters(butterfly), 1);
        assert_eq!(num_characters(&butterfly[..2]) + num_characters(&butterfly[2..]), 1);
        assert_eq!(num_characters("aé蝶".as_bytes()), 3);
    }

    #[test]
    fn infinity_becomes_a_number_that_json_can_say() {
        assert_eq!(finite(f32::NEG_INFINITY), LEAST);
        assert_eq!(finite(-3.5), -3.5);
    }
}
