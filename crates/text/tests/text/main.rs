//! The crate against what Hugging Face's libraries make of the same templates and tokenizers
//! (`tests/goldens`), and against the demo model's own files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on has failed")]

mod broken_files;
mod demo;
mod detokenizer;
mod folder;
mod gguf;
mod templates;
mod tokenizers;
