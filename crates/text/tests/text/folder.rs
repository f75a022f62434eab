//! A model folder in memory.

use std::{borrow::Cow, collections::HashMap, fs, io, path::PathBuf};

use serde_json::Value;
use vlinders_text::{TextError, TextModel, TextOptions};

/// Files by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folder(HashMap<&'static str, Vec<u8>>);

/// Names of the tokenizers under `tests/goldens/tokenizers`.
pub(crate) const TOKENIZERS: [&str; 3] = ["byte-bpe", "sentencepiece-bpe", "metaspace-added"];

// === impl Folder ===

impl Folder {
    /// With one of the golden tokenizers.
    pub(crate) fn with_tokenizer(name: &str) -> Self {
        Self::default().with("tokenizer.json", golden(&format!("tokenizers/{name}.tokenizer.json")))
    }

    pub(crate) fn with(mut self, name: &'static str, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name, content.into());
        self
    }

    pub(crate) fn load(&self) -> Result<TextModel, TextError> {
        self.load_with(TextOptions::default())
    }

    pub(crate) fn load_with(&self, options: TextOptions) -> Result<TextModel, TextError> {
        TextModel::load(|name| self.read(name), options)
    }

    fn read(&self, name: &str) -> io::Result<Option<Cow<'static, [u8]>>> {
        Ok(self.0.get(name).map(|bytes| Cow::Owned(bytes.clone())))
    }
}

/// A text under `tests/goldens`.
pub(crate) fn golden(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A JSON file under `tests/goldens`.
pub(crate) fn golden_json(path: &str) -> Value {
    serde_json::from_str(&golden(path)).expect("goldens are JSON")
}
