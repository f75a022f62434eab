//! What `vlinders quantize` and `vlinders pack` share: an empty folder, the files beside the weights, a config with a note.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use vlinders_comm::Single;
use vlinders_layers::{Checkpoint, LoadPlan, Weights};
use vlinders_models::ModelSpec;

use crate::{ModelFiles, RunnerError};

/// Files that hold weights, of this or another program.
const WEIGHTS: [&str; 9] = ["safetensors", "bin", "pt", "pth", "gguf", "onnx", "h5", "msgpack", "ckpt"];
/// A folder of chat templates that belongs to a tokenizer.
const TEMPLATES: &str = "additional_chat_templates";
const CONFIG: &str = "config.json";

/// A model that is to be written again.
pub(crate) struct Source {
    pub(crate) config: Cow<'static, [u8]>,
    pub(crate) plan: LoadPlan,
    pub(crate) checkpoint: Checkpoint,
}

/// Open a model and plan what it loads. A GGUF file is refused: it has no files beside its weights.
pub(crate) fn open(files: &ModelFiles) -> Result<Source, RunnerError> {
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
    Ok(Source { config, plan: planning.plan(), checkpoint })
}

/// Make the folder `out`, unless it is there and empty.
pub(crate) fn empty_folder(out: &Path) -> Result<(), RunnerError> {
    fs::create_dir_all(out).map_err(write_error(out))?;
    if fs::read_dir(out).map_err(write_error(out))?.next().is_some() {
        return Err(RunnerError::NotEmpty(out.display().to_string()));
    }
    Ok(())
}

/// Copy what is beside the weights. config.json comes last, with `note` as its `quantization_config`, so that a folder that
/// was not finished is not taken for a model, and other programs do not take its bytes for weights.
pub(crate) fn finish_folder(
    files: &ModelFiles,
    config: &[u8],
    note: Value,
    out: &Path,
) -> Result<(), RunnerError> {
    match files {
        ModelFiles::Folder(folder) => copy_beside_weights(folder, out)?,
        ModelFiles::Embedded(files) => {
            for (name, bytes) in files.iter().filter(|(name, _)| is_beside_weights(Path::new(name))) {
                fs::write(out.join(name), bytes).map_err(write_error(&out.join(name)))?;
            }
        }
        ModelFiles::Gguf(_) => {}
    }
    let path = out.join(CONFIG);
    fs::write(&path, marked(config, note)).map_err(write_error(&path))
}

fn marked(config: &[u8], note: Value) -> Vec<u8> {
    match serde_json::from_slice(config) {
        Ok(Value::Object(mut fields)) => {
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
        if path.is_dir() && name == TEMPLATES {
            fs::create_dir_all(&target).map_err(write_error(&target))?;
            copy_beside_weights(&path, &target)?;
        } else if path.is_file() && is_beside_weights(&path) {
            fs::copy(&path, &target).map_err(write_error(&target))?;
        }
    }
    Ok(())
}

fn is_beside_weights(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_weights = path.extension().is_some_and(|ext| WEIGHTS.iter().any(|other| ext == *other));
    !is_weights && !name.starts_with('.') && !name.ends_with(".index.json") && name != CONFIG
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> RunnerError + use<> {
    let file = path.display().to_string();
    move |source| RunnerError::Write { file: file.clone(), source }
}
