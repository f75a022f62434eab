//! `prompt` of a completion: text or tokens, one or many.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptInput {
    /// To be tokenized.
    Text(String),
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
}

/// The prompts of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt(pub Vec<PromptInput>);

/// What an element of a list may be.
enum Element {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

// === impl Prompt ===

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PromptVisitor;

        impl<'de> Visitor<'de> for PromptVisitor {
            type Value = Prompt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a string, a list of strings, a list of token ids or a list of lists of token ids",
                )
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Prompt, E> {
                self.visit_string(value.to_owned())
            }

            fn visit_string<E: Error>(self, value: String) -> Result<Prompt, E> {
                Ok(Prompt(vec![PromptInput::Text(value)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Prompt, A::Error> {
                let mut prompts = Vec::new();
                let mut tokens = Vec::new();
                while let Some(element) = seq.next_element()? {
                    match element {
                        Element::Token(token) => tokens.push(token),
                        Element::Text(text) => prompts.push(PromptInput::Text(text)),
                        Element::Tokens(list) => prompts.push(PromptInput::Tokens(list)),
                    }
                    if !tokens.is_empty() && !prompts.is_empty() {
                        return Err(A::Error::custom(
                            "single token ids can not be mixed with strings or lists",
                        ));
                    }
                }
                if !tokens.is_empty() {
                    prompts.push(PromptInput::Tokens(tokens));
                }
                Ok(Prompt(prompts))
            }
        }

        deserializer.deserialize_any(PromptVisitor)
    }
}

// === impl Element ===

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;

        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id or a list of token ids")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Element, E> {
                Ok(Element::Text(value.to_owned()))
            }

            fn visit_string<E: Error>(self, value: String) -> Result<Element, E> {
                Ok(Element::Text(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Element, E> {
                let token =
                    u32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))?;
                Ok(Element::Token(token))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Element, E> {
                let token =
                    u32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))?;
                Ok(Element::Token(token))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = seq.next_element()? {
                    tokens.push(token);
                }
                Ok(Element::Tokens(tokens))
            }
        }

        deserializer.deserialize_any(ElementVisitor)
    }
}
