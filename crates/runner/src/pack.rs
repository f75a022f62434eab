//! Writes a model again with its weights as they lie in memory: `vlinders pack`.

use std::path::Path;

use serde_json::json;
use vlinders_layers::PackStats;

use crate::rewrite::{Source, empty_folder, finish_folder, open};
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
    let Source { config, plan, checkpoint } = open(files)?;
    empty_folder(out)?;
    progress.phase(LoadPhase::Weights);
    let tell = |done, total| progress.bytes(done, total);
    let stats = checkpoint.pack(&plan, options.precision(None), out, &tell)?;
    let note = json!({"quant_method": "vlinders-packed", "format": stats.format.as_str()});
    finish_folder(files, &config, note, out)?;
    Ok(stats)
}
