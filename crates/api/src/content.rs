//! `content` of a message: a string, or a list of parts.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::{Value, json};

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// As one string.
    Text(String),
    /// As parts, in order.
    Parts(Vec<ContentPart>),
}

/// A part of a message; only text exists so far.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ContentPart {
    /// Always `text`: other kinds are refused while reading.
    #[serde(rename = "type")]
    kind: TextKind,
    /// The text.
    pub text: String,
}

/// The one kind of part there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TextKind;

// === impl Content ===

impl Content {
    /// The same as JSON, in the form it came.
    #[must_use]
    pub fn into_value(self) -> Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Parts(parts) => {
                parts.into_iter().map(|part| json!({ "type": "text", "text": part.text })).collect()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;

        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, null, or a list of content parts")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Content, E> {
                Ok(Content::Text(value.to_owned()))
            }

            fn visit_string<E: Error>(self, value: String) -> Result<Content, E> {
                Ok(Content::Text(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }

        deserializer.deserialize_any(ContentVisitor)
    }
}

// === impl TextKind ===

impl<'de> Deserialize<'de> for TextKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = String::deserialize(deserializer)?;
        if kind == "text" {
            return Ok(Self);
        }
        Err(D::Error::custom(format_args!(
            "content parts of type '{kind}' are not supported, the models served here read only 'text'"
        )))
    }
}
