//! One message of a conversation, as clients send it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::content::Content;
use crate::tools::ToolCallHistory;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model.
    System,
    /// The newer name of `system`; templates know only the older one.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; may be absent where an assistant only called tools.
    #[serde(default)]
    pub content: Option<Content>,
    /// The name of the speaker.
    #[serde(default)]
    pub name: Option<String>,
    /// Tools the assistant called.
    #[serde(default)]
    pub tool_calls: Option<Vec<ToolCallHistory>>,
    /// Which call this is the result of.
    #[serde(default)]
    pub tool_call_id: Option<String>,
    /// What a reasoning model thought before it answered.
    #[serde(default)]
    pub reasoning_content: Option<String>,
}

// === impl Role ===

impl Role {
    /// The name chat templates know.
    #[must_use]
    pub fn template_name(self) -> &'static str {
        match self {
            Self::System | Self::Developer => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

// === impl Message ===

impl Message {
    /// The same as JSON, without what was not given. `developer` becomes `system`, the name templates know.
    #[must_use]
    pub fn into_value(self) -> Value {
        let mut message = Map::new();
        message.insert("role".into(), self.role.template_name().into());
        message.insert("content".into(), self.content.map_or(Value::Null, Content::into_value));
        if let Some(name) = self.name {
            message.insert("name".into(), name.into());
        }
        if let Some(reasoning) = self.reasoning_content {
            message.insert("reasoning_content".into(), reasoning.into());
        }
        if let Some(id) = self.tool_call_id {
            message.insert("tool_call_id".into(), id.into());
        }
        if let Some(calls) = self.tool_calls.filter(|calls| !calls.is_empty()) {
            let calls = calls.into_iter().map(ToolCallHistory::into_value).collect::<Vec<_>>();
            message.insert("tool_calls".into(), json!(calls));
        }
        Value::Object(message)
    }
}
