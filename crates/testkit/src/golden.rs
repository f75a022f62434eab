//! Reading the results of the reference implementation under `golden/`; its README describes the files.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;

use crate::TestkitError;

/// One tiny checkpoint and what the reference computes with it.
#[derive(Debug, Clone)]
pub struct Golden {
    /// Its folder: config.json and weights.
    pub folder: PathBuf,
    /// Name of the architecture.
    pub architecture: String,
    /// Largest allowed difference of one logit.
    pub tolerance: f32,
    /// Inputs and outputs.
    pub prompts: Vec<GoldenPrompt>,
}

/// One prompt, its logits and what follows it.
#[derive(Debug, Clone)]
pub struct GoldenPrompt {
    /// Token ids.
    pub input_ids: Vec<u32>,
    /// The tokens that follow by greedy choice.
    pub greedy: Vec<u32>,
    /// Log-probability of each of them.
    pub greedy_logprobs: Vec<f32>,
    /// Logits after each position, `[len][vocab]`.
    pub logits: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct File {
    architecture: String,
    tolerance: f32,
    prompts: Vec<FilePrompt>,
}

#[derive(Deserialize)]
struct FilePrompt {
    input_ids: Vec<u32>,
    greedy: Vec<u32>,
    greedy_logprobs: Vec<f32>,
}

/// The folder of all golden results: where this was built, or else, for tests that were carried to another machine, below the
/// working directory as in the repository.
#[must_use]
pub fn golden_root() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    if built.is_dir() { built } else { PathBuf::from("crates/testkit/golden") }
}

/// Names of all golden checkpoints, sorted.
///
/// # Errors
/// When the folder can not be read.
pub fn golden_names() -> Result<Vec<String>, TestkitError> {
    let root = golden_root();
    let entries = std::fs::read_dir(&root).map_err(|e| TestkitError::new(&root, e))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("golden.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    Ok(names)
}

// === impl Golden ===

impl Golden {
    /// Read a golden result.
    ///
    /// # Errors
    /// When a file is missing or not as described.
    pub fn load(name: &str) -> Result<Self, TestkitError> {
        let folder = golden_root().join(name);
        let path = folder.join("golden.json");
        let text = std::fs::read(&path).map_err(|e| TestkitError::new(&path, e))?;
        let file: File = serde_json::from_slice(&text).map_err(|e| TestkitError::new(&path, e))?;
        let path = folder.join("golden.safetensors");
        let bytes = std::fs::read(&path).map_err(|e| TestkitError::new(&path, e))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| TestkitError::new(&path, e))?;
        let mut prompts = Vec::new();
        for (i, prompt) in file.prompts.into_iter().enumerate() {
            let view = tensors.tensor(&format!("logits.{i}")).map_err(|e| TestkitError::new(&path, e))?;
            let vocab = view.shape().last().copied().unwrap_or(1).max(1);
            let values: Vec<f32> =
                view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            prompts.push(GoldenPrompt {
                input_ids: prompt.input_ids,
                greedy: prompt.greedy,
                greedy_logprobs: prompt.greedy_logprobs,
                logits: values.chunks(vocab).map(<[f32]>::to_vec).collect(),
            });
        }
        Ok(Self { folder, architecture: file.architecture, tolerance: file.tolerance, prompts })
    }
}
