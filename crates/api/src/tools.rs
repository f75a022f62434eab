//! Tools: offered by the client, called by the model.

use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A tool that the model may call, given to the chat template as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Name of the function.
    pub name: String,
    /// The whole object, `{"type": "function", "function": {…}}`.
    pub value: Value,
}

/// Whether the model may, must not or should call tools.
///
/// The model is not forced: `Required` and `Function` are hints to the chat template, and `Function` hides the
/// other tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// Tools are hidden from the model, and nothing is read as a call.
    None,
    /// The model decides.
    Auto,
    /// It should call one.
    Required,
    /// It should call this one.
    Function(String),
}

/// A call in the history of a conversation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ToolCallHistory {
    /// Id of the call, which its result repeats.
    #[serde(default)]
    pub id: Option<String>,
    /// What was called.
    pub function: FunctionHistory,
}

/// The function in a [`ToolCallHistory`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FunctionHistory {
    /// Its name.
    pub name: String,
    /// JSON in a string, as OpenAI sends it, or the object itself. It is not checked: a broken answer of a model
    /// must not make the conversation unusable.
    #[serde(default)]
    pub arguments: Value,
}

/// A call in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolCall {
    /// Id that the client repeats with the result.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What to call.
    pub function: FunctionCall,
}

/// Name and arguments of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionCall {
    /// Name of the function.
    pub name: String,
    /// A JSON object, in a string.
    pub arguments: String,
}

/// A call in a chunk of a streamed answer; always a whole call.
#[derive(Debug, Clone, Serialize)]
pub struct ToolCallDelta<'a> {
    /// Position among the calls of this answer.
    pub index: usize,
    /// The call.
    #[serde(flatten)]
    pub call: &'a ToolCall,
}

// === impl Tool ===

impl<'de> Deserialize<'de> for Tool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.get("type").and_then(Value::as_str) != Some("function") {
            return Err(D::Error::custom("a tool is an object with \"type\": \"function\""));
        }
        match value.pointer("/function/name").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => Ok(Self { name: name.to_owned(), value }),
            _ => Err(D::Error::custom("a tool needs a \"function\" with a \"name\"")),
        }
    }
}

// === impl ToolChoice ===

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;

        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = ToolChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"auto\", \"required\" or an object that names a function")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<ToolChoice, E> {
                match value {
                    "none" => Ok(ToolChoice::None),
                    "auto" => Ok(ToolChoice::Auto),
                    "required" => Ok(ToolChoice::Required),
                    other => Err(E::unknown_variant(other, &["none", "auto", "required"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ToolChoice, A::Error> {
                let mut name = None;
                while let Some(key) = map.next_key::<String>()? {
                    let value: Value = map.next_value()?;
                    if key == "function" {
                        name = value.get("name").and_then(Value::as_str).map(str::to_owned);
                    }
                }
                name.map(ToolChoice::Function)
                    .ok_or_else(|| A::Error::custom("it needs a \"function\" with a \"name\""))
            }
        }

        deserializer.deserialize_any(ChoiceVisitor)
    }
}

// === impl ToolCallHistory ===

impl ToolCallHistory {
    /// The same as JSON.
    #[must_use]
    pub fn into_value(self) -> Value {
        json!({
            "id": self.id,
            "type": "function",
            "function": { "name": self.function.name, "arguments": self.function.arguments },
        })
    }
}

// === impl ToolCall ===

impl ToolCall {
    /// A call of a function.
    #[must_use]
    pub fn function(id: String, name: String, arguments: String) -> Self {
        Self { id, kind: "function", function: FunctionCall { name, arguments } }
    }
}
