//! What can go wrong between strings and tokens, and what to do about it.

use std::io;

/// An error of this crate.
///
/// The variants up to [`TextError::TemplateSyntax`] come from [`crate::TextModel::load`]; all others are
/// caused by one request and concern it alone.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file without which there is no text.
    #[error("{file} is missing from the model folder; {remedy}")]
    MissingFile {
        /// Name of the file inside the model folder.
        file: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A file is there and can not be read.
    #[error("can not read {file}: {source}")]
    UnreadableFile {
        /// Name of the file inside the model folder.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file was read and makes no sense.
    #[error("{file} is broken: {reason}; download the model again or correct the file")]
    BrokenFile {
        /// Name of the file inside the model folder.
        file: String,
        /// Where and why, from the parser.
        reason: String,
    },
    /// What a GGUF file says about text can not be used.
    #[error("{file}: {reason}")]
    Gguf {
        /// The file.
        file: String,
        /// What is wrong with it, or not supported.
        reason: String,
    },
    /// The chat template does not compile.
    #[error("the chat template {origin} does not compile, line {line}: {reason}")]
    TemplateSyntax {
        /// Where the template comes from: a file of the model folder, or `override`.
        origin: String,
        /// Line of the template, counted from 1.
        line: usize,
        /// What the parser met.
        reason: String,
    },
    /// The model has no chat template, and none was configured.
    #[error(
        "this model has no chat template; use /v1/completions, or configure one with `chat_template` in models.yaml"
    )]
    NoChatTemplate,
    /// The template refused the messages with `raise_exception`.
    #[error("the chat template of this model refuses these messages: {0}")]
    TemplateRefused(String),
    /// The template failed on these messages.
    #[error("the chat template failed on these messages: {0}")]
    TemplateFailed(String),
    /// The template did too much work or wrote too much for these messages.
    #[error("the chat template exceeded its limit of {limit} on these messages; send fewer or shorter ones")]
    TemplateLimit {
        /// The limit, in words.
        limit: &'static str,
    },
    /// A template argument that would replace what the request says elsewhere.
    #[error("chat_template_kwargs may not contain `{0}`, which the request sets elsewhere")]
    ReservedKwarg(String),
    /// A message is not an object.
    #[error("messages[{index}] is not an object with `role` and `content`")]
    InvalidMessage {
        /// Position of the message in the request.
        index: usize,
    },
    /// The template takes text only, and a part of the content is something else.
    #[error(
        "messages[{index}] has content of type `{kind}`, and the chat template of this model takes text only"
    )]
    UnsupportedContent {
        /// Position of the message in the request.
        index: usize,
        /// The `type` of the part.
        kind: String,
    },
    /// `continue_final_message` does not fit the request.
    #[error("continue_final_message {0}")]
    CannotContinue(&'static str),
    /// The tokenizer failed.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
}
