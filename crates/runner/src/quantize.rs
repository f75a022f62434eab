//! Writes a model again with quantised weights: `vlinders quantize`.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use vlinders_comm::Single;
use vlinders_layers::{Quantization, QuantizeStats, Weights};
use vlinders_models::ModelSpec;

use crate::{LoadPhase, LoadProgress, ModelFiles, RunnerError};

/// Weights of a file, about.
const FILE_BYTES: u64 = 4_000_000_000;
/// Files that hold weights, of this or another program.
const WEIGHTS: [&str; 9] = ["safetensors", "bin", "pt", "pth", "gguf", "onnx", "h5", "msgpack", "ckpt"];
/// A folder of chat templates that belongs to a tokenizer.
const TEMPLATES: &str = "additional_chat_templates";

/// Write the model of `files` to the folder `out`, with its matrices stored as this quantisation rounds them, so that the
/// next start reads them as they are. Other files of the folder are copied; config.json comes last, so that a
/// folder that was not finished is not taken for a model.
///
/// # Errors
/// When the source can not be loaded, `out` holds something already, or writing fails.
pub fn quantize(
    files: &ModelFiles,
    out: &Path,
    quantization: Quantization,
    progress: &dyn LoadProgress,
) -> Result<QuantizeStats, RunnerError> {
    progress.phase(LoadPhase::Open);
    if let ModelFiles::Gguf(_) = files {
        return Err(RunnerError::Option {
            option: "SOURCE",
            reason: "is a GGUF file, which loads as it is; give a Hugging Face folder".to_owned(),
        });
    }
    let config = files.config()?;
    let spec = ModelSpec::parse(&config)?;
    let planning = Weights::planning(Arc::new(Single));
    spec.build(&planning)?;
    let checkpoint = files.checkpoint()?;
    let fail = |path: &Path| {
        let file = path.display().to_string();
        move |source: io::Error| RunnerError::Write { file, source }
    };
    fs::create_dir_all(out).map_err(fail(out))?;
    if fs::read_dir(out).map_err(fail(out))?.next().is_some() {
        return Err(RunnerError::NotEmpty(out.display().to_string()));
    }
    progress.phase(LoadPhase::Weights);
    let plan = planning.plan();
    let stats = checkpoint
        .quantize(&plan, quantization, out, FILE_BYTES, &|done, total| progress.bytes(done, total))?;
    match files {
        ModelFiles::Folder(folder) => copy_beside_weights(folder, out)?,
        ModelFiles::Embedded(files) => {
            for (name, bytes) in files.iter().filter(|(name, _)| is_beside_weights(Path::new(name))) {
                fs::write(out.join(name), bytes).map_err(fail(&out.join(name)))?;
            }
        }
        ModelFiles::Gguf(_) => {}
    }
    let path = out.join("config.json");
    fs::write(&path, marked(&config, quantization)).map_err(fail(&path))?;
    Ok(stats)
}

/// The config with a note of what was done, so that other programs do not take the blocks for weights.
fn marked(config: &[u8], quantization: Quantization) -> Vec<u8> {
    let bits = match quantization {
        Quantization::Q8 => 8,
        Quantization::Q4 => 4,
    };
    match serde_json::from_slice(config) {
        Ok(Value::Object(mut fields)) => {
            let note = json!({"quant_method": "vlinders", "bits": bits});
            fields.insert("quantization_config".to_owned(), note);
            format!("{:#}\n", Value::Object(fields)).into_bytes()
        }
        // It was parsed before, so it is an object.
        _ => config.to_vec(),
    }
}

fn copy_beside_weights(from: &Path, to: &Path) -> Result<(), RunnerError> {
    let read = |source| RunnerError::Io { file: from.display().to_string(), source };
    for entry in fs::read_dir(from).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        let write = |source| RunnerError::Write { file: target.display().to_string(), source };
        if path.is_dir() && name == TEMPLATES {
            fs::create_dir_all(&target).map_err(write)?;
            copy_beside_weights(&path, &target)?;
        } else if path.is_file() && is_beside_weights(&path) {
            fs::copy(&path, &target).map_err(write)?;
        }
    }
    Ok(())
}

fn is_beside_weights(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_weights = path.extension().is_some_and(|ext| WEIGHTS.iter().any(|other| ext == *other));
    !is_weights && !name.starts_with('.') && !name.ends_with(".index.json") && name != "config.json"
}
