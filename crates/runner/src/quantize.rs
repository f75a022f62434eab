//! Writes a model again with quantised weights: `vlinders quantize`.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use vlinders_comm::Single;
use vlinders_layers::{Quantization, QuantizeStats, Weights};
use vlinders_models::ModelSpec;

use crate::rewrite::{empty_folder, finish_folder, refuse_gguf};
use crate::{LoadPhase, LoadProgress, ModelFiles, RunnerError};

/// Weights of a file, about.
const FILE_BYTES: u64 = 4_000_000_000;

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
    refuse_gguf(files)?;
    let config = files.config()?;
    let spec = ModelSpec::parse(&config)?;
    let planning = Weights::planning(Arc::new(Single));
    spec.build(&planning)?;
    let checkpoint = files.checkpoint()?;
    empty_folder(out)?;
    progress.phase(LoadPhase::Weights);
    let plan = planning.plan();
    let stats = checkpoint
        .quantize(&plan, quantization, out, FILE_BYTES, &|done, total| progress.bytes(done, total))?;
    let bits = match quantization {
        Quantization::Q8 => 8,
        Quantization::Q4 => 4,
    };
    finish_folder(files, &config, json!({"quant_method": "vlinders", "bits": bits}), out)?;
    Ok(stats)
}
