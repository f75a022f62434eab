//! The text side of a GGUF file: a tokenizer built from its vocabulary, and what else it says.
//!
//! GGUF keeps a tokenizer as lists, and what is not in them is implied by two names: `tokenizer.ggml.model` says which
//! algorithm it is, `tokenizer.ggml.pre` how text is cut before. What is built here is what the tokenizer.json of
//! such models holds, so that both give the same tokens.

mod byte_level;
mod sentencepiece;

use std::{borrow::Cow, collections::HashMap, io};

use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, Tokenizer, models::bpe::Vocab};

use crate::{TextError, TextModel, TextOptions};

/// What a GGUF file says about text, one field for each of its keys. Lists that are not there are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufText {
    /// Name of the file, for errors.
    pub file: String,
    /// `tokenizer.ggml.model`: `gpt2` or `llama`.
    pub model: Option<String>,
    /// `tokenizer.ggml.pre`: how text is cut before it is encoded.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, by id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by id.
    pub token_types: Vec<i64>,
    /// `tokenizer.ggml.scores`, by id.
    pub scores: Vec<f64>,
    /// `tokenizer.ggml.merges`, the first before all others.
    pub merges: Vec<String>,
    /// Names of special tokens, such as `bos`, and their ids, from `tokenizer.ggml.bos_token_id` and so on.
    pub special_tokens: Vec<(&'static str, u64)>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
    /// `tokenizer.chat_template.tool_use`.
    pub tool_template: Option<String>,
    /// Recommended sampling, under the names of generation_config.json.
    pub sampling: Vec<(&'static str, f64)>,
}

/// The names of special tokens that are asked for: [`GgufText::special_tokens`].
pub const GGUF_SPECIAL_TOKENS: [&str; 6] = ["bos", "eos", "eot", "eom", "unknown", "padding"];

/// What kind of token it is; numbers are those of `enum llama_token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// What the kinds of tokenizers do differently.
struct Built {
    tokenizer: Tokenizer,
    add_bos: bool,
    /// Ids that hold where the file names no others.
    defaults: &'static [(&'static str, u64)],
}

/// Tokens that end an answer wherever they are: files often name one of several.
const ENDS: [&str; 10] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "</s>",
    "<EOT>",
    "<｜end▁of▁sentence｜>",
];

// === impl TextModel ===

impl TextModel {
    /// Builds the text side of a model from what its GGUF file says.
    ///
    /// # Errors
    /// When the tokenizer is of a kind that is not known, its lists do not fit together, or the template does not
    /// compile.
    pub fn from_gguf(text: &GgufText, options: TextOptions) -> Result<Self, TextError> {
        let types = text.types()?;
        let Built { mut tokenizer, add_bos, defaults } = match text.model.as_deref() {
            Some("gpt2") => byte_level::build(text, &types)?,
            Some("llama") => sentencepiece::build(text, &types)?,
            Some(other) => {
                let reason =
                    format!("tokenizer.ggml.model {other:?} is not supported; supported are gpt2 and llama");
                return Err(text.error(reason));
            }
            None => return Err(text.error("it has no tokenizer.ggml.model")),
        };
        text.add_tokens(&mut tokenizer, &types)?;
        let special = text.special(defaults)?;
        let config = text.tokenizer_config(&special, add_bos).to_string();
        let generation = text.generation_config(&special, &types).to_string();
        let read = |name: &str| -> io::Result<Option<Cow<'static, [u8]>>> {
            Ok(match name {
                "tokenizer_config.json" => Some(Cow::Owned(config.clone().into_bytes())),
                "generation_config.json" => Some(Cow::Owned(generation.clone().into_bytes())),
                _ => None,
            })
        };
        Self::assemble(tokenizer, &read, options)
    }
}

// === impl GgufText ===

impl GgufText {
    fn error(&self, reason: impl Into<String>) -> TextError {
        TextError::Gguf { file: self.file.clone(), reason: reason.into() }
    }

    /// The type of each token.
    fn types(&self) -> Result<Vec<TokenType>, TextError> {
        let count = self.tokens.len();
        if count == 0 {
            return Err(self.error("it has no tokenizer.ggml.tokens"));
        }
        if self.token_types.is_empty() {
            return Ok(vec![TokenType::Normal; count]);
        }
        if self.token_types.len() != count {
            let found = self.token_types.len();
            return Err(
                self.error(format!("tokenizer.ggml.token_type has {found} entries for {count} tokens"))
            );
        }
        Ok(self.token_types.iter().map(|number| TokenType::of(*number)).collect())
    }

    /// Ids by token, of those that text can become or that stand in it.
    fn vocabulary(&self, types: &[TokenType]) -> Result<Vocab, TextError> {
        let mut vocabulary = Vocab::with_capacity(self.tokens.len());
        for (id, (token, kind)) in (0..).zip(self.tokens.iter().zip(types)) {
            // Converters fill the vocabulary up to the rows of the embedding.
            if *kind == TokenType::Unused && *token == format!("[PAD{id}]") || token.is_empty() {
                continue;
            }
            if let Some(other) = vocabulary.insert(token.clone(), id) {
                return Err(self.error(format!("tokens {other} and {id} are both {token:?}")));
            }
        }
        Ok(vocabulary)
    }

    /// Tokens that are found in a text before it is encoded.
    fn add_tokens(&self, tokenizer: &mut Tokenizer, types: &[TokenType]) -> Result<(), TextError> {
        let of_type = |wanted: &[TokenType], special: bool| -> Vec<AddedToken> {
            let tokens = self.tokens.iter().zip(types).filter(|(_, kind)| wanted.contains(kind));
            tokens.map(|(token, _)| AddedToken::from(token, special).normalized(false)).collect()
        };
        let special = of_type(&[TokenType::Control, TokenType::Unknown], true);
        let plain = of_type(&[TokenType::UserDefined], false);
        let added = tokenizer.add_special_tokens(special).and_then(|_| tokenizer.add_tokens(plain));
        added.map(drop).map_err(|error| self.error(error.to_string()))
    }

    /// Ids of the special tokens by name.
    fn special(&self, defaults: &[(&'static str, u64)]) -> Result<HashMap<&'static str, u32>, TextError> {
        let mut special = HashMap::new();
        let known = |id: u64| (id as usize) < self.tokens.len();
        for (name, id) in defaults.iter().filter(|(_, id)| known(*id)) {
            special.insert(*name, *id as u32);
        }
        for (name, id) in &self.special_tokens {
            if !known(*id) {
                let count = self.tokens.len();
                let reason = format!("tokenizer.ggml.{name}_token_id is {id}, there are {count} tokens");
                return Err(self.error(reason));
            }
            special.insert(*name, *id as u32);
        }
        Ok(special)
    }

    /// The file that says what stands around a text.
    fn tokenizer_config(&self, special: &HashMap<&str, u32>, add_bos: bool) -> Value {
        let mut config = Map::new();
        for (name, field) in
            [("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")]
        {
            if let Some(id) = special.get(name) {
                config.insert(field.to_owned(), json!(self.tokens[*id as usize]));
            }
        }
        config.insert("add_bos_token".to_owned(), json!(self.add_bos.unwrap_or(add_bos)));
        config.insert("add_eos_token".to_owned(), json!(self.add_eos.unwrap_or(false)));
        let named = [("default", &self.chat_template), ("tool_use", &self.tool_template)];
        let templates: Vec<Value> = named
            .into_iter()
            .filter_map(|(name, text)| Some(json!({"name": name, "template": text.as_ref()?})))
            .collect();
        config.insert("chat_template".to_owned(), json!(templates));
        Value::Object(config)
    }

    /// The file that says what ends an answer, and how to sample.
    fn generation_config(&self, special: &HashMap<&str, u32>, types: &[TokenType]) -> Value {
        let named = ["eos", "eot", "eom"].iter().filter_map(|name| special.get(name).copied());
        let tokens = (0..).zip(self.tokens.iter().zip(types));
        let spelled = tokens
            .filter(|(_, (token, kind))| kind.is_added() && ENDS.contains(&token.as_str()))
            .map(|(id, _)| id);
        let ends: Vec<u32> = named.chain(spelled).collect();
        let mut config: Map<String, Value> =
            self.sampling.iter().map(|(name, number)| ((*name).to_owned(), json!(number))).collect();
        if let Some(top_k) = config.get_mut("top_k") {
            *top_k = json!(top_k.as_f64().unwrap_or(0.0) as u64);
        }
        config.insert("eos_token_id".to_owned(), json!(ends));
        Value::Object(config)
    }
}

// === impl TokenType ===

impl TokenType {
    fn of(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// Whether it is looked for in a text before that is encoded.
    fn is_added(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::UserDefined)
    }
}
