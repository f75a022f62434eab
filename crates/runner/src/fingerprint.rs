//! A short name for weights, code and settings that decide which tokens come out.

use vlinders_layers::Checkpoint;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::RunnerError;

/// Pieces of each file that are looked at, and their size.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: u64 = 4096;

/// A number that is equal for equal config, weights and version of this program. Without a checkpoint, weights are random.
///
/// Of large files only the header and evenly spread pieces are read; two checkpoints that differ in a few
/// numbers elsewhere get the same number.
pub(crate) fn identity(config: &[u8], checkpoint: Option<&Checkpoint>) -> Result<u64, RunnerError> {
    let mut hash = Xxh3::new();
    let mut update = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    update(env!("CARGO_PKG_VERSION").as_bytes());
    update(config);
    if let Some(checkpoint) = checkpoint {
        checkpoint.sample(SAMPLES, SAMPLE_BYTES, &mut update)?;
    }
    Ok(hash.digest())
}

/// The same of a model with settings.
pub(crate) fn with_settings(identity: u64, settings: &str) -> u64 {
    xxh3_64_with_seed(settings.as_bytes(), identity)
}

/// How the API names it: `fp_` and 16 hexadecimal digits.
pub(crate) fn name(fingerprint: u64) -> String {
    format!("fp_{fingerprint:016x}")
}
