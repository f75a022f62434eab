//! From a configured model to its names, its files, its load options and its text model.

use std::io;

use anyhow::Context as _;
use vlinders_runner::{DType, LoadOptions, ModelFiles, RunnerError};
use vlinders_server::ModelNames;
use vlinders_text::{TextModel, TextOptions};

use crate::config::{Dtype, ModelConfig, ModelPath};

impl ModelConfig {
    /// What clients call it.
    pub(crate) fn names(&self) -> ModelNames {
        ModelNames { name: self.name.clone(), aliases: self.aliases.clone() }
    }

    /// Where the files are.
    pub(crate) fn files(&self) -> ModelFiles {
        match &self.path {
            ModelPath::Builtin => ModelFiles::Embedded(vlinders_demo::FILES),
            ModelPath::Folder(folder) => ModelFiles::Folder(folder.clone()),
        }
    }

    /// How the weights are loaded. `share` is the part of `memory_fraction` that this model may take.
    pub(crate) fn load_options(&self, share: f64) -> LoadOptions {
        LoadOptions {
            dtype: self.dtype.map(dtype),
            quantization: self.quantization,
            activations: self.activations,
            kv_cache_dtype: self.kv_cache_dtype.map(dtype),
            max_model_len: self.max_model_len,
            memory_fraction: self.memory_fraction * share,
            max_num_seqs: self.max_num_seqs,
            ..LoadOptions::default()
        }
    }

    /// Tokenizer and chat template.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub(crate) fn text(&self, files: &ModelFiles) -> anyhow::Result<TextModel> {
        let chat_template = match &self.chat_template {
            Some(file) => Some(
                std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read the chat template {}", file.display()))?,
            ),
            None => None,
        };
        let read = |name: &str| {
            files.read(name).map_err(|error| match error {
                RunnerError::Io { source, .. } => source,
                other => io::Error::other(other),
            })
        };
        Ok(TextModel::load(read, TextOptions { chat_template })?)
    }
}

fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    }
}
