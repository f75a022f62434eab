//! Finds tool calls of the Hermes form in the text of an answer, as it comes.
//!
//! A call is given out whole, once its JSON is complete and has been read: what a client gets always parses. What
//! looks like a call and is none stays text.

use serde_json::Value;
use vlinders_api::ToolCall;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Splits text into text and calls.
#[derive(Debug, Default)]
pub(crate) struct HermesParser {
    /// Text that is not given out yet: the inside of a call, or what may be the beginning of one.
    held: String,
    inside: bool,
    num_calls: usize,
}

/// What a piece of text led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
}

// === impl HermesParser ===

impl HermesParser {
    /// Calls found so far.
    pub(crate) fn num_calls(&self) -> usize {
        self.num_calls
    }

    /// Take the next piece of text.
    pub(crate) fn push(&mut self, piece: &str) -> Parsed {
        self.held.push_str(piece);
        let mut parsed = Parsed::default();
        loop {
            if self.inside {
                let Some(end) = self.held.find(CLOSE) else { return parsed };
                let inner = self.held[..end].to_owned();
                self.held.drain(..end + CLOSE.len());
                self.inside = false;
                self.close(&inner, CLOSE, &mut parsed);
            } else if let Some(start) = self.held.find(OPEN) {
                // White space before a call belongs to the call's form, not to the text.
                parsed.text.push_str(self.held[..start].trim_end());
                self.held.drain(..start + OPEN.len());
                self.inside = true;
            } else {
                let certain = self.held.len() - uncertain(&self.held, self.num_calls > 0);
                parsed.text.extend(self.held.drain(..certain));
                return parsed;
            }
        }
    }

    /// The answer is over: a call without its end is read as far as it goes.
    pub(crate) fn finish(&mut self) -> Parsed {
        let mut parsed = Parsed::default();
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.inside) {
            self.close(&held, "", &mut parsed);
        } else if self.num_calls == 0 || !held.trim().is_empty() {
            parsed.text = held;
        }
        parsed
    }

    fn close(&mut self, inner: &str, tag: &str, parsed: &mut Parsed) {
        match read_call(inner) {
            Some(call) => {
                self.num_calls += 1;
                parsed.calls.push(call);
            }
            None => {
                for part in [OPEN, inner, tag] {
                    parsed.text.push_str(part);
                }
            }
        }
    }
}

/// Bytes at the end of `text` that can not be given out yet: white space and the beginning of a tag, which may follow
/// it. Behind a call, white space alone is held too.
fn uncertain(text: &str, after_call: bool) -> usize {
    let tag = (1..OPEN.len()).rev().find(|&length| text.ends_with(&OPEN[..length])).unwrap_or(0);
    let before = &text[..text.len() - tag];
    let space = before.len() - before.trim_end().len();
    let only_space = space == before.len();
    if tag > 0 || (only_space && after_call) || space > 0 { tag + space } else { 0 }
}

/// `{"name": …, "arguments": {…}}` → a call.
fn read_call(inner: &str) -> Option<ToolCall> {
    let value: Value = serde_json::from_str(inner.trim()).ok()?;
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments = match value.get("arguments").or_else(|| value.get("parameters")) {
        None | Some(Value::Null) => "{}".to_owned(),
        // Some models write the arguments as OpenAI sends them: JSON in a string.
        Some(Value::String(text))
            if serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()) =>
        {
            text.clone()
        }
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(_) => return None,
    };
    let id = format!("call_{}", uuid::Uuid::new_v4().simple());
    Some(ToolCall::function(id, name, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and calls of `answer`, given in pieces of `size` bytes, which must not depend on `size`.
    fn parse(answer: &str, size: usize) -> (String, Vec<(String, String)>) {
        let mut parser = HermesParser::default();
        let mut text = String::new();
        let mut calls = Vec::new();
        let mut take = |parsed: Parsed| {
            text.push_str(&parsed.text);
            calls.extend(parsed.calls.into_iter().map(|call| (call.function.name, call.function.arguments)));
        };
        let characters: Vec<char> = answer.chars().collect();
        for piece in characters.chunks(size) {
            take(parser.push(&piece.iter().collect::<String>()));
        }
        take(parser.finish());
        (text, calls)
    }

    fn check(answer: &str, text: &str, calls: &[(&str, &str)]) {
        for size in [1, 2, 3, 7, 1000] {
            let (found_text, found_calls) = parse(answer, size);
            assert_eq!(found_text, text, "in pieces of {size}");
            let found: Vec<_> =
                found_calls.iter().map(|(name, args)| (name.as_str(), args.as_str())).collect();
            assert_eq!(found, calls, "in pieces of {size}");
        }
    }

    #[test]
    fn text_without_calls_is_unchanged() {
        check("a < b, <tool> and \n\n spaces  ", "a < b, <tool> and \n\n spaces  ", &[]);
    }

    #[test]
    fn calls_are_taken_out() {
        check(
            "Let me see.\n<tool_call>\n{\"name\": \"find\", \"arguments\": {\"b\": 1, \"a\": \"é\"}}\n</tool_call>\n\
             <tool_call>{\"name\": \"now\"}</tool_call>\n",
            "Let me see.",
            &[("find", "{\"b\":1,\"a\":\"é\"}"), ("now", "{}")],
        );
    }

    #[test]
    fn arguments_in_a_string_are_passed_on() {
        check(r#"<tool_call>{"name":"f","arguments":"{\"x\": 1}"}</tool_call>"#, "", &[("f", r#"{"x": 1}"#)]);
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for broken in [
            "<tool_call>{\"name\": \"f\"</tool_call>",
            "<tool_call>[]</tool_call>",
            "<tool_call>{\"name\":\"f\",\"arguments\":5}</tool_call>",
            "<tool_call>{\"name\": \"f",
            "<tool_cal",
        ] {
            check(broken, broken, &[]);
        }
    }

    #[test]
    fn a_complete_call_without_its_end_is_a_call() {
        check("<tool_call>{\"name\": \"f\", \"arguments\": {}}", "", &[("f", "{}")]);
    }
}
