//! What the files of a model folder say about text, beside tokenizer.json itself.
//!
//! Formats: those that `save_pretrained` of Hugging Face transformers writes, in all spellings of its
//! versions 4 and 5.

use std::{borrow::Cow, io};

use serde_json::{Map, Value};

use crate::TextError;

/// Sampling defaults that the model's author recommends, from generation_config.json; `None` where it is silent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Temperature, ≥ 0; 0 where `do_sample` is false.
    pub temperature: Option<f32>,
    /// Nucleus mass, in (0, 1].
    pub top_p: Option<f32>,
    /// Number of candidates; 0 for no limit.
    pub top_k: Option<u32>,
    /// Least probability relative to the best candidate, in [0, 1].
    pub min_p: Option<f32>,
    /// Factor on tokens that occurred already; 1 for none.
    pub repetition_penalty: Option<f32>,
}

/// Everything but tokenizer.json, as parsed.
#[derive(Debug, Default)]
pub(crate) struct TextFiles {
    /// Name → content of the special tokens: `bos_token`, `eos_token`, `pad_token`, …
    pub(crate) special_tokens: Vec<(String, Value)>,
    pub(crate) add_bos_token: Option<bool>,
    pub(crate) add_eos_token: Option<bool>,
    /// Source of the template for plain chat and, when it has its own, for chat with tools.
    pub(crate) template: Option<Source>,
    pub(crate) tool_template: Option<Source>,
    pub(crate) eos_token_ids: Vec<u32>,
    pub(crate) generation_defaults: GenerationDefaults,
}

/// Source text of a template, and where it is from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) origin: String,
    pub(crate) text: String,
}

/// Gives the bytes of a file of the model folder, by name, if it is there.
pub(crate) type Reader<'a> = dyn Fn(&str) -> io::Result<Option<Cow<'static, [u8]>>> + 'a;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

// === impl TextFiles ===

impl TextFiles {
    /// Reads what is there; every one of these files may be absent.
    pub(crate) fn read(read: &Reader<'_>, template_override: Option<String>) -> Result<Self, TextError> {
        let tokenizer_config = object(read, TOKENIZER_CONFIG)?.unwrap_or_default();
        let special_tokens_map = object(read, "special_tokens_map.json")?.unwrap_or_default();
        let generation_config = object(read, "generation_config.json")?.unwrap_or_default();
        let mut files = Self {
            special_tokens: special_tokens(&tokenizer_config, &special_tokens_map),
            add_bos_token: tokenizer_config.get("add_bos_token").and_then(Value::as_bool),
            add_eos_token: tokenizer_config.get("add_eos_token").and_then(Value::as_bool),
            generation_defaults: GenerationDefaults::parse(&generation_config),
            ..Self::default()
        };
        files.eos_token_ids = token_ids(generation_config.get("eos_token_id"), "generation_config.json")?;
        if files.eos_token_ids.is_empty() {
            let config = object(read, "config.json")?.unwrap_or_default();
            let eos = config
                .get("eos_token_id")
                .filter(|ids| !ids.is_null())
                .or_else(|| config.get("text_config").and_then(|text| text.get("eos_token_id")));
            files.eos_token_ids = token_ids(eos, "config.json")?;
        }
        match template_override {
            Some(text) => files.template = Some(Source { origin: "override".to_owned(), text }),
            None => files.find_templates(read, &tokenizer_config)?,
        }
        Ok(files)
    }

    /// chat_template.jinja, then tokenizer_config.json, then chat_template.json, as transformers does for
    /// tokenizers; the last is where it kept the templates of processors.
    fn find_templates(
        &mut self,
        read: &Reader<'_>,
        tokenizer_config: &Map<String, Value>,
    ) -> Result<(), TextError> {
        self.template = source(read, "chat_template.jinja")?;
        self.tool_template = source(read, "additional_chat_templates/tool_use.jinja")?;
        if self.template.is_none() {
            self.take_templates(tokenizer_config, TOKENIZER_CONFIG)?;
        }
        if self.template.is_none() {
            const FILE: &str = "chat_template.json";
            let config = object(read, FILE)?.unwrap_or_default();
            self.take_templates(&config, FILE)?;
        }
        Ok(())
    }

    /// `chat_template` is a text, or a list of named ones.
    fn take_templates(&mut self, config: &Map<String, Value>, file: &str) -> Result<(), TextError> {
        match config.get("chat_template") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => {
                self.template = Some(Source { origin: file.to_owned(), text: text.clone() });
            }
            Some(Value::Array(list)) => {
                for entry in list {
                    let (Some(name), Some(text)) = (entry["name"].as_str(), entry["template"].as_str())
                    else {
                        return Err(broken(file, "each chat_template needs a `name` and a `template`"));
                    };
                    let source = Source { origin: format!("{file}:{name}"), text: text.to_owned() };
                    match name {
                        "default" => self.template = Some(source),
                        "tool_use" => self.tool_template = Some(source),
                        _ => {}
                    }
                }
            }
            Some(_) => return Err(broken(file, "`chat_template` is neither a text nor a list of templates")),
        }
        Ok(())
    }

    /// Content of a special token, such as `bos_token`.
    pub(crate) fn special_token(&self, name: &str) -> Option<&str> {
        self.special_tokens.iter().find(|(key, _)| key == name).and_then(|(_, content)| content.as_str())
    }
}

// === impl GenerationDefaults ===

impl GenerationDefaults {
    /// Values that make no sense are left out: the file also serves other programs.
    fn parse(config: &Map<String, Value>) -> Self {
        let number = |name: &str, range: std::ops::RangeInclusive<f64>| {
            config.get(name).and_then(Value::as_f64).filter(|x| range.contains(x)).map(|x| x as f32)
        };
        let positive = f64::MIN_POSITIVE;
        Self {
            // Who says that nothing is drawn at random recommends temperature 0, whatever else stands there.
            temperature: match config.get("do_sample") {
                Some(Value::Bool(false)) => Some(0.0),
                _ => number("temperature", 0.0..=1e6),
            },
            top_p: number("top_p", positive..=1.0),
            top_k: config.get("top_k").and_then(Value::as_u64).and_then(|k| u32::try_from(k).ok()),
            min_p: number("min_p", 0.0..=1.0),
            repetition_penalty: number("repetition_penalty", positive..=1e6),
        }
    }
}

/// tokenizer_config.json over special_tokens_map.json; a token is a text or an object with `content`.
fn special_tokens(config: &Map<String, Value>, map: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut tokens: Vec<(String, Value)> = Vec::new();
    for (name, value) in config.iter().chain(map) {
        let known = name.ends_with("_token") && !name.starts_with("add_");
        let content = match value {
            Value::Array(list) if name == "additional_special_tokens" => {
                Some(list.iter().filter_map(content).collect::<Value>())
            }
            value if known => content(value),
            _ => None,
        };
        if let Some(content) = content
            && !tokens.iter().any(|(other, _)| other == name)
        {
            tokens.push((name.clone(), content));
        }
    }
    tokens
}

fn content(token: &Value) -> Option<Value> {
    match token {
        Value::String(_) => Some(token.clone()),
        Value::Object(fields) => fields.get("content").filter(|content| content.is_string()).cloned(),
        _ => None,
    }
}

/// An id or a list of ids.
fn token_ids(value: Option<&Value>, file: &str) -> Result<Vec<u32>, TextError> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    list.iter()
        .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
        .collect::<Option<Vec<u32>>>()
        .ok_or_else(|| broken(file, "`eos_token_id` is neither a token id nor a list of token ids"))
}

fn object(read: &Reader<'_>, file: &str) -> Result<Option<Map<String, Value>>, TextError> {
    let Some(bytes) = contents(read, file)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| broken(file, &error.to_string()))
}

fn source(read: &Reader<'_>, file: &str) -> Result<Option<Source>, TextError> {
    let Some(bytes) = contents(read, file)? else { return Ok(None) };
    let text = String::from_utf8(bytes.into_owned()).map_err(|error| broken(file, &error.to_string()))?;
    Ok(Some(Source { origin: file.to_owned(), text }))
}

/// The bytes of a file, if it is there.
pub(crate) fn contents(read: &Reader<'_>, file: &str) -> Result<Option<Cow<'static, [u8]>>, TextError> {
    read(file).map_err(|source| TextError::UnreadableFile { file: file.to_owned(), source })
}

pub(crate) fn broken(file: &str, reason: &str) -> TextError {
    TextError::BrokenFile { file: file.to_owned(), reason: reason.to_owned() }
}
