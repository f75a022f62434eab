//! Reads streams, and makes them comparable.

use serde_json::Value;

/// The events of a stream without `[DONE]`, which must be the last.
pub(crate) fn events(stream: &str) -> Vec<Value> {
    let mut events: Vec<&str> =
        stream.split_terminator("\n\n").filter(|event| !event.starts_with(':')).collect();
    assert_eq!(events.pop(), Some("data: [DONE]"), "{stream}");
    events
        .into_iter()
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").expect(event)).expect(event))
        .collect()
}

/// The same text with ids and times that do not change from run to run.
pub(crate) fn transcript(stream: &str) -> String {
    let mut out = stream.to_owned();
    for prefix in ["chatcmpl-", "\"cmpl-", "call_"] {
        out = replace_behind(&out, prefix, |c| c.is_ascii_hexdigit(), "ID");
    }
    replace_behind(&out, "\"created\":", |c| c.is_ascii_digit(), "0")
}

fn replace_behind(text: &str, prefix: &str, is_part: fn(char) -> bool, with: &str) -> String {
    let mut parts = text.split(prefix);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(prefix);
        out.push_str(with);
        out.push_str(part.trim_start_matches(is_part));
    }
    out
}
