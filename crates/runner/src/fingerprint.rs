//! A short name for weights, code and settings that decide which tokens come out.

use vlinders_layers::Checkpoint;
use xxhash_rust::xxh3::Xxh3;

use crate::RunnerError;

/// Pieces of each file that are looked at, and their size.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: u64 = 4096;

/// `fp_` and 16 hexadecimal digits: equal for equal config, weights, version of this program and `settings`.
///
/// Of large files only the header and evenly spread pieces are read; two checkpoints that differ in a few
/// numbers elsewhere get the same name.
pub(crate) fn fingerprint(
    config: &[u8],
    checkpoint: &Checkpoint,
    settings: &str,
) -> Result<String, RunnerError> {
    let mut hash = Xxh3::new();
    let mut update = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    update(env!("CARGO_PKG_VERSION").as_bytes());
    update(settings.as_bytes());
    update(config);
    checkpoint.sample(SAMPLES, SAMPLE_BYTES, &mut update)?;
    Ok(format!("fp_{:016x}", hash.digest()))
}
