//! Writes a model again with its weights as they lie in memory: `vlinders pack`.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use vlinders_comm::Single;
use vlinders_layers::{PackStats, Weights};
use vlinders_models::ModelSpec;

use crate::rewrite::{empty_folder, finish_folder, refuse_gguf};
use crate::{LoadOptions, LoadPhase, LoadProgress, ModelFiles, RunnerError};

/// Write the model of `files` to the folder `out`, with its weights as loading with these options would have them in memory,
/// so that the next start maps them. `dtype` and `quantization` of the options count, nothing else. Other files of the folder
/// are copied; config.json comes last, so that a folder that was not finished is not taken for a model.
///
/// # Errors
/// When the source can not be loaded or is packed already, `out` holds something already, or writing fails.
pub fn pack(
    files: &ModelFiles,
    out: &Path,
    options: &LoadOptions,
    progress: &dyn LoadProgress,
) -> Result<PackStats, RunnerError> {
    progress.phase(LoadPhase::Open);
    options.validate()?;
    refuse_gguf(files)?;
    let config = files.config()?;
    let spec = ModelSpec::parse(&config)?;
    let planning = Weights::planning(Arc::new(Single));
    spec.build(&planning)?;
    let checkpoint = files.checkpoint()?;
    empty_folder(out)?;
    progress.phase(LoadPhase::Weights);
    let tell = |done, total| progress.bytes(done, total);
    let stats = checkpoint.pack(&planning.plan(), options.precision(), out, &tell)?;
    let note = json!({"quant_method": "vlinders-packed", "format": stats.format.as_str()});
    finish_folder(files, &config, note, out)?;
    Ok(stats)
}
