//! What a template is given: the messages of a request, in the form that this template understands.
//!
//! Clients send content as a text or as a list of parts, tool-call arguments as JSON text, and `null` for
//! content that is not there; templates differ in what they take. [`Habits`], found out once per template,
//! say which form to use. What a template understands is passed on as it came.

use chrono::NaiveDateTime;
use minijinja::Value as Arg;
use serde_json::{Map, Value};

use crate::{TextError, template::Habits};

/// One conversation to be rendered.
#[derive(Debug, Clone, Default)]
pub struct RenderInput {
    /// Messages as JSON objects with `role` and `content`, and `content: null` rather than no content.
    pub messages: Vec<Value>,
    /// Tools on offer, as JSON objects.
    pub tools: Option<Vec<Value>>,
    /// Documents for templates with retrieval, as JSON objects.
    pub documents: Option<Vec<Value>>,
    /// End with the beginning of an assistant's message.
    pub add_generation_prompt: bool,
    /// Leave the last message open, so that the model goes on with it. Excludes `add_generation_prompt`.
    pub continue_final_message: bool,
    /// Further variables for the template.
    pub kwargs: Map<String, Value>,
    /// The time that `strftime_now` tells; the local time if `None`.
    pub now: Option<NaiveDateTime>,
}

/// Any JSON as a template value; objects keep their order.
pub(crate) fn to_arg(value: &Value) -> Arg {
    match value {
        Value::Null => Arg::from(()),
        Value::Bool(flag) => Arg::from(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Arg::from(int),
            (_, Some(int)) => Arg::from(int),
            _ => number.as_f64().map_or(Arg::from(()), Arg::from),
        },
        Value::String(text) => Arg::from(text.as_str()),
        Value::Array(list) => list.iter().map(to_arg).collect(),
        Value::Object(fields) => {
            Arg::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), to_arg(value))))
        }
    }
}

/// A message in the form that the template understands. `mark` is appended to its text.
pub(crate) fn message(
    index: usize,
    message: &Value,
    habits: &Habits,
    mark: Option<&str>,
) -> Result<Arg, TextError> {
    let fields = message.as_object().ok_or(TextError::InvalidMessage { index })?;
    let mut args: Vec<(&str, Arg)> = Vec::with_capacity(fields.len());
    for (key, value) in fields {
        let arg = match key.as_str() {
            "content" => content(index, value, habits, mark)?,
            "tool_calls" if habits.parse_arguments => tool_calls(value),
            _ => to_arg(value),
        };
        args.push((key, arg));
    }
    Ok(Arg::from_pairs(args))
}

fn content(index: usize, content: &Value, habits: &Habits, mark: Option<&str>) -> Result<Arg, TextError> {
    let marked = |text: &str| text.to_owned() + mark.unwrap_or_default();
    match content {
        Value::Null if mark.is_some() => Err(TextError::CannotContinue("needs a last message with content")),
        Value::Null if habits.empty_for_null => Ok(Arg::from("")),
        Value::Null => Ok(Arg::from(())),
        Value::String(text) if habits.takes_text => Ok(Arg::from(marked(text))),
        Value::String(text) => {
            let part = Arg::from_pairs([("type", "text".to_owned()), ("text", marked(text))]);
            Ok([part].into_iter().collect())
        }
        Value::Array(parts) if habits.takes_parts => marked_parts(parts, mark),
        Value::Array(parts) => Ok(Arg::from(marked(&flatten(index, parts)?))),
        _ if mark.is_some() => Err(TextError::CannotContinue("needs a last message with text")),
        // Some templates take the result of a tool as an object.
        other => Ok(to_arg(other)),
    }
}

/// Texts of parts, joined by newlines as vLLM does, so that prompts stay the same for those who come from there.
fn flatten(index: usize, parts: &[Value]) -> Result<String, TextError> {
    let texts: Vec<&str> = parts
        .iter()
        .map(|part| match part {
            Value::String(text) => Ok(text.as_str()),
            part => part["text"].as_str().ok_or_else(|| TextError::UnsupportedContent {
                index,
                kind: part["type"].as_str().unwrap_or("unknown").to_owned(),
            }),
        })
        .collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

/// Parts as they came, with `mark` behind the last text.
fn marked_parts(parts: &[Value], mark: Option<&str>) -> Result<Arg, TextError> {
    let Some(mark) = mark else { return Ok(parts.iter().map(to_arg).collect()) };
    let last = parts
        .iter()
        .rposition(|part| part["text"].is_string())
        .ok_or(TextError::CannotContinue("needs a last message with text"))?;
    let marked = parts.iter().enumerate().map(|(position, part)| {
        let mut part = part.clone();
        if position == last
            && let Value::String(text) = &mut part["text"]
        {
            text.push_str(mark);
        }
        to_arg(&part)
    });
    Ok(marked.collect())
}

/// Tool calls with their arguments as objects, where the JSON text in them is one.
fn tool_calls(calls: &Value) -> Arg {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        // transformers also knows calls without the `function` level.
        let function = match call.get_mut("function") {
            Some(function) => function,
            None => call,
        };
        if let Some(arguments) = function.get_mut("arguments")
            && let Some(text) = arguments.as_str()
        {
            let parsed = match text.trim() {
                "" => Ok(Map::new()),
                text => serde_json::from_str(text),
            };
            if let Ok(parsed) = parsed {
                *arguments = Value::Object(parsed);
            }
        }
    }
    to_arg(&calls)
}
