//! Server-sent events of a completion stream: finds the events in bytes, and what matters in an event.
//!
//! A load generator parses every token of every stream, so this builds no JSON tree and looks at each byte once.

use std::borrow::Cow;

use serde::Deserialize;

/// Cuts a byte stream into the `data` of its events.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    /// Start of a line whose end has not arrived.
    partial: Vec<u8>,
    /// `data` lines of the event that is not complete yet.
    data: Vec<u8>,
    has_data: bool,
}

/// What one event of a completion stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    /// A chunk: its text (all choices together), and the counts of `usage` if it has them.
    Chunk {
        /// Empty for chunks with a role or a finish reason only.
        text: String,
        finish_reason: Option<String>,
        usage: Option<Usage>,
    },
    /// An error in mid-stream, its message.
    Error(String),
    /// `[DONE]`.
    Done,
}

/// Token counts of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Usage {
    #[serde(default)]
    pub(crate) prompt_tokens: u64,
    #[serde(default)]
    pub(crate) completion_tokens: u64,
    #[serde(default)]
    pub(crate) prompt_tokens_details: Option<PromptTokensDetails>,
}

/// More about the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct PromptTokensDetails {
    #[serde(default)]
    pub(crate) cached_tokens: Option<u64>,
}

// === impl SseParser ===

impl SseParser {
    /// Take more bytes; `event` is called with the data of each event that they complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut event: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.partial.is_empty() {
                self.line(line, &mut event);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole, &mut event);
                whole.clear();
                self.partial = whole;
            }
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8], event: &mut impl FnMut(&[u8])) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if self.has_data {
                event(&self.data);
                self.data.clear();
                self.has_data = false;
            }
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            self.has_data = true;
        }
        // Comments (keep-alive) and other fields say nothing to us.
    }
}

// === impl StreamEvent ===

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(borrow, default)]
    choices: Vec<RawChoice<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawChoice<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    delta: Option<RawDelta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawDelta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
}

impl StreamEvent {
    /// Read the data of an event.
    ///
    /// # Errors
    /// What the JSON parser found wrong.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, String> {
        if data == b"[DONE]" {
            return Ok(Self::Done);
        }
        let raw: RawEvent<'_> = serde_json::from_slice(data).map_err(|error| error.to_string())?;
        if let Some(error) = raw.error {
            return Ok(Self::Error(message_of(&error)));
        }
        let mut text = String::new();
        let mut finish_reason = None;
        for choice in raw.choices {
            let delta = choice.delta.into_iter().flat_map(|delta| [delta.reasoning_content, delta.content]);
            for part in [choice.text].into_iter().chain(delta).flatten() {
                text.push_str(&part);
            }
            finish_reason = choice.finish_reason.map(Cow::into_owned).or(finish_reason);
        }
        Ok(Self::Chunk { text, finish_reason, usage: raw.usage })
    }
}

/// The message of an `error` value, in OpenAI's form or another.
pub(super) fn message_of(error: &serde_json::Value) -> String {
    let message = error.get("message").and_then(serde_json::Value::as_str).or(error.as_str());
    message.map_or_else(|| error.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        ": keep-alive\n\ndata: {\"a\":1}\n\nevent: x\ndata: two\r\ndata:lines\r\n\r\ndata: [DONE]\n\n";

    fn events_of(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece, |data| events.push(String::from_utf8(data.to_vec()).unwrap()));
        }
        events
    }

    #[test]
    fn events_are_the_same_however_the_bytes_arrive() {
        let expected = ["{\"a\":1}", "two\nlines", "[DONE]"];
        let bytes = STREAM.as_bytes();
        assert_eq!(events_of(&[bytes]), expected);
        for size in 1..12 {
            assert_eq!(events_of(&bytes.chunks(size).collect::<Vec<_>>()), expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_incomplete_event_is_not_given() {
        assert!(events_of(&[b"data: {\"a\":1}\n"]).is_empty());
    }

    #[test]
    fn chunks_of_both_apis() {
        let chunk = |text: &str, reason: Option<&str>, usage| StreamEvent::Chunk {
            text: text.to_owned(),
            finish_reason: reason.map(str::to_owned),
            usage,
        };
        let parse = |data: &str| StreamEvent::parse(data.as_bytes()).unwrap();
        assert_eq!(
            parse(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#),
            chunk("", None, None)
        );
        assert_eq!(
            parse(r#"{"choices":[{"delta":{"content":"a\n\u00e9"}}],"usage":null}"#),
            chunk("a\né", None, None)
        );
        assert_eq!(
            parse(r#"{"choices":[{"text":"b","finish_reason":"stop"}]}"#),
            chunk("b", Some("stop"), None)
        );
        let usage = Usage { prompt_tokens: 3, completion_tokens: 5, prompt_tokens_details: None };
        assert_eq!(
            parse(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#),
            chunk("", None, Some(usage))
        );
        assert_eq!(parse("[DONE]"), StreamEvent::Done);
        assert_eq!(
            parse(r#"{"error":{"message":"out of luck"}}"#),
            StreamEvent::Error("out of luck".to_owned())
        );
        assert!(StreamEvent::parse(b"{").is_err());
    }
}
