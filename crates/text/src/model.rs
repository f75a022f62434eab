//! One model's text side: its tokenizer, chat template and special tokens.

use std::{borrow::Cow, io, sync::Arc};

use tokenizers::{AddedToken, Tokenizer};

use crate::{
    Detokenizer, GenerationDefaults, RenderInput, TextError,
    files::{Reader, TextFiles, broken, contents},
    template::ChatTemplate,
    vocabulary::Vocabulary,
};

/// Strings to tokens and back, for one model. Immutable; share it with an [`Arc`].
#[derive(Debug)]
pub struct TextModel {
    tokenizer: Arc<Tokenizer>,
    vocabulary: Arc<Vocabulary>,
    template: Option<ChatTemplate>,
    eos_token_ids: Vec<u32>,
    edges: Edges,
    generation_defaults: GenerationDefaults,
}

/// What the configuration adds to the files.
#[derive(Debug, Clone, Default)]
pub struct TextOptions {
    /// Source text of a chat template that replaces the model's own.
    pub chat_template: Option<String>,
}

/// Corrections to what tokenizer.json adds around a text, from `add_bos_token` and `add_eos_token` of
/// tokenizer_config.json, which win.
#[derive(Debug, Default)]
struct Edges {
    prepend: Option<u32>,
    append: Option<u32>,
    drop_first: bool,
    drop_last: bool,
}

const TOKENIZER: &str = "tokenizer.json";

// === impl TextModel ===

impl TextModel {
    /// Loads from the files of a model folder, which `read` gives by name, with `None` for one that is not there.
    ///
    /// Reads tokenizer.json, which must be there, and, as far as they are, tokenizer_config.json,
    /// special_tokens_map.json, generation_config.json, config.json, chat_template.jinja,
    /// chat_template.json and additional_chat_templates/tool_use.jinja.
    ///
    /// # Errors
    /// When tokenizer.json is missing, a file can not be read or parsed, or the template does not compile.
    pub fn load(
        read: impl Fn(&str) -> io::Result<Option<Cow<'static, [u8]>>>,
        options: TextOptions,
    ) -> Result<Self, TextError> {
        let bytes = contents(&read, TOKENIZER)?.ok_or(TextError::MissingFile {
            file: TOKENIZER,
            remedy: "convert the tokenizer with transformers (`AutoTokenizer.from_pretrained(…).save_pretrained(…)`)",
        })?;
        let tokenizer =
            Tokenizer::from_bytes(&bytes).map_err(|error| broken(TOKENIZER, &error.to_string()))?;
        drop(bytes);
        Self::assemble(tokenizer, &read, options)
    }

    /// Puts a tokenizer and what the files around it say together.
    pub(crate) fn assemble(
        mut tokenizer: Tokenizer,
        read: &Reader<'_>,
        options: TextOptions,
    ) -> Result<Self, TextError> {
        let files = TextFiles::read(read, options.chat_template)?;

        // Lengths are the server's business: a tokenizer that cuts or pads on its own would hide them.
        tokenizer.with_truncation(None).map_err(|error| broken(TOKENIZER, &error.to_string()))?;
        tokenizer.with_padding(None);
        mark_special(&mut tokenizer, &files)?;

        let mut eos_token_ids = files.eos_token_ids.clone();
        eos_token_ids.extend(files.special_token("eos_token").and_then(|eos| tokenizer.token_to_id(eos)));
        let mut seen = std::collections::HashSet::new();
        eos_token_ids.retain(|id| seen.insert(*id));

        Ok(Self {
            vocabulary: Arc::new(Vocabulary::new(&tokenizer)),
            edges: Edges::new(&tokenizer, &files)?,
            template: ChatTemplate::compile(&files)?,
            eos_token_ids,
            generation_defaults: files.generation_defaults,
            tokenizer: Arc::new(tokenizer),
        })
    }

    /// Tokens of a text. With `add_special_tokens` those that the model expects around it (such as a
    /// beginning-of-text token) are added; a rendered chat template has them already. Special tokens that
    /// are spelled out in the text are recognised either way.
    ///
    /// # Errors
    /// When the tokenizer has no token for some part of the text and no unknown token.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        let encoding = self.tokenizer.encode_fast(text, add_special_tokens).map_err(tokenizer_error)?;
        let mut ids = encoding.get_ids().to_vec();
        if add_special_tokens {
            self.edges.correct(&mut ids);
        }
        Ok(ids)
    }

    /// Text of tokens. Ids that the tokenizer does not know are skipped, and special tokens on request.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TextError> {
        self.tokenizer.decode(ids, skip_special_tokens).map_err(tokenizer_error)
    }

    /// A detokenizer for an answer behind a prompt that ends with `prompt_tail`. The last dozen tokens are
    /// enough; an empty tail says that the answer begins the text, where some tokenizers drop a space.
    pub fn detokenizer(&self, prompt_tail: &[u32], skip_special_tokens: bool) -> Detokenizer {
        let (vocabulary, tokenizer) = (Arc::clone(&self.vocabulary), Arc::clone(&self.tokenizer));
        Detokenizer::new(vocabulary, tokenizer, prompt_tail, skip_special_tokens)
    }

    /// The prompt for a conversation, by the model's chat template. Encode it with `add_special_tokens` off.
    ///
    /// # Errors
    /// When the model has no template, or it refuses or fails on the messages.
    pub fn render(&self, input: &RenderInput) -> Result<String, TextError> {
        self.template.as_ref().ok_or(TextError::NoChatTemplate)?.render(input)
    }

    /// Whether [`Self::render`] can work at all.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Tokens that end an answer: those of generation_config.json, or else of config.json, and the
    /// tokenizer's own.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// Sampling defaults that the model's author recommends.
    pub fn generation_defaults(&self) -> &GenerationDefaults {
        &self.generation_defaults
    }

    /// The exact bytes that a token stands for: perhaps a part of a character; none for an unknown id.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// A token as text by itself, with U+FFFD for parts of characters.
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.vocabulary.bytes(id)).into_owned()
    }

    /// A token as the vocabulary spells it, such as `Ġthe` or `▁the`; `None` for an unknown id.
    pub fn token_str(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Id of a token as the vocabulary spells it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Whether a token is one of the model's control tokens, which text normally does not show.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary.is_special(id)
    }

    /// One more than the highest id of the tokenizer. The model may have more rows, for padding.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.size()
    }
}

/// transformers treats the tokens that the configuration names as special, whatever tokenizer.json says.
/// Those that are not in the vocabulary stay out: the model has no row for them.
fn mark_special(tokenizer: &mut Tokenizer, files: &TextFiles) -> Result<(), TextError> {
    let named = files.special_tokens.iter().flat_map(|(_, content)| match content {
        serde_json::Value::Array(list) => list.iter().filter_map(|token| token.as_str()).collect(),
        content => Vec::from_iter(content.as_str()),
    });
    let missing: Vec<AddedToken> = named
        .filter(|token| !token.is_empty() && tokenizer.token_to_id(token).is_some())
        .filter(|token| !tokenizer.get_added_vocabulary().is_special_token(token))
        .map(|token| AddedToken::from(token, true))
        .collect();
    tokenizer.add_special_tokens(missing).map(drop).map_err(|error| broken(TOKENIZER, &error.to_string()))
}

fn tokenizer_error(error: tokenizers::Error) -> TextError {
    TextError::Tokenizer(error.to_string())
}

// === impl Edges ===

impl Edges {
    /// Compares what the tokenizer does with what the configuration wants.
    fn new(tokenizer: &Tokenizer, files: &TextFiles) -> Result<Self, TextError> {
        let id = |name: &str| files.special_token(name).and_then(|token| tokenizer.token_to_id(token));
        let (bos, eos) = (id("bos_token"), id("eos_token"));
        let encoding = tokenizer.encode_fast("", true).map_err(tokenizer_error)?;
        let around = encoding.get_ids();
        let has_bos = bos.is_some() && around.first().copied() == bos;
        let has_eos = eos.is_some() && around.last().copied() == eos && around.len() > usize::from(has_bos);
        Ok(Self {
            prepend: bos.filter(|_| files.add_bos_token == Some(true) && !has_bos),
            append: eos.filter(|_| files.add_eos_token == Some(true) && !has_eos),
            drop_first: has_bos && files.add_bos_token == Some(false),
            drop_last: has_eos && files.add_eos_token == Some(false),
        })
    }

    fn correct(&self, ids: &mut Vec<u32>) {
        if self.drop_first && !ids.is_empty() {
            ids.remove(0);
        }
        if self.drop_last {
            ids.pop();
        }
        if let Some(bos) = self.prepend {
            ids.insert(0, bos);
        }
        ids.extend(self.append);
    }
}
