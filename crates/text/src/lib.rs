//! Strings to tokens and back: tokenizer, chat template, detokenizer, stop strings.
//!
//! [`TextModel`] is loaded once from the files of a model folder and shared by all requests. What a
//! request owns is small: a [`Detokenizer`] and a [`StopStrings`].
//!
//! ```
//! # fn read(_: &str) -> std::io::Result<Option<std::borrow::Cow<'static, [u8]>>> { Ok(None) }
//! use vlinders_text::{RenderInput, TextModel, TextOptions};
//! # fn serve() -> Result<(), vlinders_text::TextError> {
//! let text = TextModel::load(read, TextOptions::default())?;
//! let messages = vec![serde_json::json!({"role": "user", "content": "Hello"})];
//! let prompt = text.render(&RenderInput { messages, add_generation_prompt: true, ..Default::default() })?;
//! let ids = text.encode(&prompt, false)?;
//! let mut detokenizer = text.detokenizer(&ids, true);
//! let piece = detokenizer.push(text.eos_token_ids()[0]);
//! # let _ = piece; Ok(()) }
//! ```

mod detokenize;
mod error;
mod files;
mod gguf;
mod messages;
mod model;
mod stop;
mod template;
mod vocabulary;

pub use self::{
    detokenize::Detokenizer,
    error::TextError,
    files::GenerationDefaults,
    gguf::{GGUF_SPECIAL_TOKENS, GgufText},
    messages::RenderInput,
    model::{TextModel, TextOptions},
    stop::{StopStep, StopStrings},
};
