//! Tokens to text, one at a time, without ever writing part of a character.

use std::sync::Arc;

use tokenizers::Tokenizer;

use crate::vocabulary::{Joining, Leading, Vocabulary};

/// Turns the tokens of one answer into text as they come.
///
/// The pieces, concatenated, are the text of the whole answer behind its prompt. U+FFFD appears only where
/// the model produced bytes that no further byte can complete. The work for a token does not depend on how
/// many came before.
#[derive(Debug)]
pub struct Detokenizer {
    vocabulary: Arc<Vocabulary>,
    skip_special: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Bytes {
        /// The beginning of a character that is not complete.
        pending: Vec<u8>,
        /// What happens to the spaces that come next.
        leading: Leading,
    },
    Window(Window),
}

/// For decoders that only work on sequences: decodes a short window of the last tokens, and writes what is
/// new in it.
#[derive(Debug)]
struct Window {
    tokenizer: Arc<Tokenizer>,
    ids: Vec<u32>,
    /// How many of `ids` are written already.
    num_written: usize,
}

/// Tokens of context that a decoder may look at.
const CONTEXT: usize = 6;

/// Tokens that may wait for the rest of a character; the longest has four bytes.
const PATIENCE: usize = 8;

// === impl Detokenizer ===

impl Detokenizer {
    /// For an answer to a prompt of which `prompt_tail` is the end (a dozen tokens are enough, all of them
    /// do no harm).
    pub(crate) fn new(
        vocabulary: Arc<Vocabulary>,
        tokenizer: Arc<Tokenizer>,
        prompt_tail: &[u32],
        skip_special: bool,
    ) -> Self {
        let visible = |id: &u32| !(skip_special && vocabulary.is_special(*id));
        let mut tail: Vec<u32> = prompt_tail.iter().rev().copied().filter(visible).take(CONTEXT).collect();
        tail.reverse();
        let state = match vocabulary.joining() {
            Joining::Bytes(leading) => {
                let bytes: Vec<u8> = tail.iter().flat_map(|&id| vocabulary.bytes(id)).copied().collect();
                let pending = bytes[bytes.len() - incomplete(&bytes)..].to_vec();
                State::Bytes { pending, leading: if tail.is_empty() { leading } else { Leading::Keep } }
            }
            Joining::Opaque => {
                let num_written = tail.len();
                State::Window(Window { tokenizer, ids: tail, num_written })
            }
        };
        Self { vocabulary, skip_special, state }
    }

    /// Takes the next token; gives the text that is certain with it, often none. An id that the tokenizer
    /// does not know stands for nothing.
    pub fn push(&mut self, id: u32) -> String {
        if self.skip_special && self.vocabulary.is_special(id) {
            return String::new();
        }
        match &mut self.state {
            State::Bytes { pending, leading } => {
                let bytes = self.vocabulary.bytes(id);
                match *leading {
                    Leading::Keep => pending.extend_from_slice(bytes),
                    Leading::Drop(most) => {
                        let spaces = bytes.iter().take(most).take_while(|&&byte| byte == b' ').count();
                        let over = spaces < bytes.len() || spaces == most;
                        *leading = if over { Leading::Keep } else { Leading::Drop(most - spaces) };
                        pending.extend_from_slice(&bytes[spaces..]);
                    }
                    Leading::DropInFirstToken => {
                        *leading = Leading::Keep;
                        pending.extend(bytes.iter().filter(|&&byte| byte != b' '));
                    }
                }
                take_complete(pending)
            }
            State::Window(window) => window.push(id),
        }
    }

    /// The answer is over: gives U+FFFD if it ended inside a character.
    pub fn finish(&mut self) -> String {
        match &mut self.state {
            State::Bytes { pending, .. } if pending.is_empty() => String::new(),
            State::Bytes { pending, .. } => {
                pending.clear();
                char::REPLACEMENT_CHARACTER.to_string()
            }
            State::Window(window) => window.take_new(),
        }
    }
}

/// Takes from `pending` all that further bytes can not change, with U+FFFD for what can never become a
/// character, by the same rule as [`String::from_utf8_lossy`].
fn take_complete(pending: &mut Vec<u8>) -> String {
    let keep = incomplete(pending);
    let complete = pending.len() - keep;
    let text = String::from_utf8_lossy(&pending[..complete]).into_owned();
    pending.drain(..complete);
    text
}

/// How many bytes at the end of `bytes` are the beginning of a character that lacks bytes.
fn incomplete(bytes: &[u8]) -> usize {
    for length in 1..=bytes.len().min(3) {
        let tail = &bytes[bytes.len() - length..];
        // A byte that is no continuation begins the last character, if there is one.
        if tail[0] & 0xc0 != 0x80 {
            let unfinished = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
            return if unfinished { length } else { 0 };
        }
    }
    0
}

// === impl Window ===

impl Window {
    fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let text = self.decode(&self.ids);
        let waiting = self.ids.len() - self.num_written;
        if text.ends_with(char::REPLACEMENT_CHARACTER) && waiting < PATIENCE {
            return String::new();
        }
        self.take_new()
    }

    /// What the tokens that are not written yet add to those that are.
    fn take_new(&mut self) -> String {
        if self.num_written == self.ids.len() {
            return String::new();
        }
        let before = self.decode(&self.ids[..self.num_written]);
        let text = self.decode(&self.ids);
        // Characters, not bytes: the last one written may have been a replacement.
        let new = match text.strip_prefix(before.as_str()) {
            Some(new) => new.to_owned(),
            None => text.chars().skip(before.chars().count()).collect(),
        };
        let surplus = self.ids.len().saturating_sub(CONTEXT);
        self.ids.drain(..surplus);
        self.num_written = self.ids.len();
        new
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, false).unwrap_or_default()
    }
}
