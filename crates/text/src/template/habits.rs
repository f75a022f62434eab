//! Finds out in which form a template takes what clients send, by rendering samples with it.
//!
//! vLLM decides this from the syntax tree, by looking for loops over the content; that misses macros and
//! aliases. What a template does with a sample is the answer itself.

use serde_json::{Value, json};

/// The forms that a template understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Habits {
    /// Content may be a text.
    pub(crate) takes_text: bool,
    /// Content may be a list of parts.
    pub(crate) takes_parts: bool,
    /// Arguments of tool calls are to be objects, not JSON text.
    pub(crate) parse_arguments: bool,
    /// It would print `None` for content that is not there.
    pub(crate) empty_for_null: bool,
}

const PROBE: &str = "vlinders-probe";

// === impl Habits ===

impl Habits {
    /// `render` renders messages under the given habits, or fails.
    pub(crate) fn find(render: impl Fn(Vec<Value>, Self) -> Option<String>) -> Self {
        let as_is =
            Self { takes_text: true, takes_parts: true, parse_arguments: false, empty_for_null: false };
        let shows = |content: Value| {
            let text = render(vec![json!({"role": "user", "content": content})], as_is);
            // A list that is printed rather than understood shows the names of its fields.
            text.is_some_and(|text| {
                text.contains(PROBE) && !text.contains("'text'") && !text.contains("\"text\"")
            })
        };
        let takes_parts = shows(json!([{"type": "text", "text": PROBE}]));
        let takes_text = shows(json!(PROBE)) || !takes_parts;
        let content = Self { takes_text, takes_parts, ..as_is };

        let call = |arguments: Value, habits: Self| {
            let function = json!({"name": "probe", "arguments": arguments});
            // Mistral's templates ask for ids of nine letters or digits.
            let call = json!({"id": "probe0001", "type": "function", "function": function});
            let messages = vec![
                json!({"role": "user", "content": PROBE}),
                json!({"role": "assistant", "content": null, "tool_calls": [call]}),
                json!({"role": "tool", "tool_call_id": "probe0001", "name": "probe", "content": PROBE}),
            ];
            render(messages, habits)
        };
        let (object, text) = (json!({"probe_key": 1}), json!("{\"probe_key\": 1}"));
        // JSON within JSON would have its quotes escaped; a printed dict has single ones.
        let as_json = |prompt: &Option<String>| prompt.as_ref().is_some_and(|p| p.contains("\"probe_key\""));
        let with_object = call(object, content);
        let with_text = call(text, content);
        // Best is what the model wrote, to the letter: then its tokens are those of the cache.
        let parse_arguments = !as_json(&with_text);

        let sample = if parse_arguments { with_object } else { with_text };
        let empty_for_null = sample.is_some_and(|prompt| prompt.contains("None"));
        Self { parse_arguments, empty_for_null, ..content }
    }
}

impl Default for Habits {
    fn default() -> Self {
        Self { takes_text: true, takes_parts: false, parse_arguments: true, empty_for_null: false }
    }
}
