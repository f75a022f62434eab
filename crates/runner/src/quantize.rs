//! Writes a model again with quantised weights: `vlinders quantize`.

use std::path::Path;

use serde_json::json;
use vlinders_layers::{Quantization, QuantizeStats};

use crate::rewrite::{Source, empty_folder, finish_folder, open};
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
    let bits = match quantization {
        Quantization::Q8 => 8,
        Quantization::Q4 => 4,
        Quantization::Fp8 => {
            let reason = "files hold q8 or q4; fp8 is made while a model is loaded to a GPU".to_owned();
            return Err(RunnerError::Option { option: "quantization", reason });
        }
    };
    progress.phase(LoadPhase::Open);
    let Source { config, plan, checkpoint } = open(files)?;
    empty_folder(out)?;
    progress.phase(LoadPhase::Weights);
    let stats = checkpoint
        .quantize(&plan, quantization, out, FILE_BYTES, &|done, total| progress.bytes(done, total))?;
    finish_folder(files, &config, json!({"quant_method": "vlinders", "bits": bits}), out)?;
    Ok(stats)
}
