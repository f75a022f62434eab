//! From a configured model to its names, its files, its load options and its text model.

use std::io;

use anyhow::Context as _;
use vlinders_runner::{DType, LoadOptions, Metadata, ModelFiles, RunnerError};
use vlinders_server::ModelNames;
use vlinders_text::{GGUF_SPECIAL_TOKENS, GgufText, TextModel, TextOptions};

use crate::config::{Dtype, ModelConfig, ModelPath};

impl ModelConfig {
    /// What clients call it.
    pub(crate) fn names(&self) -> ModelNames {
        ModelNames { name: self.name.clone(), aliases: self.aliases.clone() }
    }

    /// Where the files are.
    ///
    /// # Errors
    /// A GGUF file is broken, or its model is not supported.
    pub(crate) fn files(&self) -> Result<ModelFiles, RunnerError> {
        Ok(match &self.path {
            ModelPath::Builtin => ModelFiles::Embedded(vlinders_demo::FILES),
            ModelPath::Folder(folder) => ModelFiles::Folder(folder.clone()),
            ModelPath::Gguf(path) => ModelFiles::gguf(path)?,
        })
    }

    /// How the weights are loaded. `share` is the part of `memory_fraction` that this model may take.
    pub(crate) fn load_options(&self, share: f64) -> LoadOptions {
        LoadOptions {
            device: self.device,
            dtype: self.dtype.map(dtype),
            quantization: self.quantization,
            activations: self.activations,
            kv_cache_dtype: self.kv_cache_dtype,
            max_model_len: self.max_model_len,
            memory_fraction: self.memory_fraction() * share,
            max_num_seqs: self.max_num_seqs(),
            max_batched_tokens: self.max_batched_tokens(),
            num_threads: self.num_threads,
            tensor_parallel_size: self.tensor_parallel_size.unwrap_or(1),
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
        if let ModelFiles::Gguf(gguf) = files {
            let text = gguf_text(&files.place(), gguf.metadata())?;
            return Ok(TextModel::from_gguf(&text, TextOptions { chat_template })?);
        }
        let read = |name: &str| {
            files.read(name).map_err(|error| match error {
                RunnerError::Io { source, .. } => source,
                other => io::Error::other(other),
            })
        };
        Ok(TextModel::load(read, TextOptions { chat_template })?)
    }
}

/// What the metadata of a GGUF file says about text.
fn gguf_text(file: &str, metadata: &Metadata) -> Result<GgufText, RunnerError> {
    let text = |key: &str| metadata.text(key).map(|text| text.map(str::to_owned));
    let texts = |key: &str| {
        let texts = metadata.texts(key)?.unwrap_or_default();
        Ok::<_, RunnerError>(texts.into_iter().map(str::to_owned).collect())
    };
    let mut special_tokens = Vec::new();
    for name in GGUF_SPECIAL_TOKENS {
        let id = metadata.count(&format!("tokenizer.ggml.{name}_token_id"))?;
        special_tokens.extend(id.map(|id| (name, id)));
    }
    let mut sampling = Vec::new();
    for (name, key) in SAMPLING {
        sampling.extend(metadata.number(key)?.map(|number| (name, number)));
    }
    Ok(GgufText {
        file: file.to_owned(),
        model: text("tokenizer.ggml.model")?,
        pre: text("tokenizer.ggml.pre")?,
        tokens: texts("tokenizer.ggml.tokens")?,
        token_types: metadata.integers("tokenizer.ggml.token_type")?.unwrap_or_default(),
        scores: metadata.numbers("tokenizer.ggml.scores")?.unwrap_or_default(),
        merges: texts("tokenizer.ggml.merges")?,
        special_tokens,
        add_bos: metadata.flag("tokenizer.ggml.add_bos_token")?,
        add_eos: metadata.flag("tokenizer.ggml.add_eos_token")?,
        add_space_prefix: metadata.flag("tokenizer.ggml.add_space_prefix")?,
        chat_template: text("tokenizer.chat_template")?,
        tool_template: text("tokenizer.chat_template.tool_use")?,
        sampling,
    })
}

/// Recommended sampling: names of generation_config.json, and keys of GGUF.
const SAMPLING: [(&str, &str); 5] = [
    ("temperature", "general.sampling.temp"),
    ("top_p", "general.sampling.top_p"),
    ("top_k", "general.sampling.top_k"),
    ("min_p", "general.sampling.min_p"),
    ("repetition_penalty", "general.sampling.penalty_repeat"),
];

fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    }
}
