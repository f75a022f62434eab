//! From files to an executor: open, plan, read, size the cache, warm up.

use std::sync::Arc;
use std::time::Instant;

use vlinders_comm::{Communicator, Single};
use vlinders_kernels::{Format, KvDtype};
use vlinders_layers::{KvStore, Weights};
use vlinders_models::ModelSpec;

use crate::fingerprint::fingerprint;
use crate::{
    LoadOptions, LoadPhase, LoadProgress, LoadReport, LocalExecutor, MemoryFit, ModelFiles, RunnerError,
    available_memory,
};

/// A model that is ready to execute plans.
pub struct LoadedModel {
    /// The model itself.
    pub executor: LocalExecutor,
    /// What others need to know of it.
    pub info: ModelInfo,
    /// How long loading took.
    pub report: LoadReport,
}

/// What others need to know of a loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Its name in config.json.
    pub architecture: &'static str,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_model_len: usize,
    /// The longest context that the model was made for.
    pub max_position_embeddings: usize,
    /// KV blocks.
    pub num_blocks: usize,
    /// Tokens of a block.
    pub block_size: usize,
    /// How most weights lie in memory.
    pub format: Format,
    /// Type of keys and values.
    pub kv_cache_dtype: KvDtype,
    /// Numbers in all weights.
    pub num_parameters: u64,
    /// Bytes of weights in memory.
    pub weight_bytes: u64,
    /// Bytes of the cache.
    pub kv_bytes: u64,
    /// Names weights, code and settings: `system_fingerprint` of the API.
    pub fingerprint: String,
}

/// Load a model.
///
/// # Errors
/// When a file is missing or broken, the architecture is not supported, or the cache does not fit.
pub fn load(
    files: &ModelFiles,
    options: &LoadOptions,
    progress: &dyn LoadProgress,
) -> Result<LoadedModel, RunnerError> {
    let started = Instant::now();
    options.validate()?;
    vlinders_kernels::keep_freed_memory();
    progress.phase(LoadPhase::Open);
    let config = files.config()?;
    let spec = ModelSpec::parse(&config)?;
    let communicator: Arc<dyn Communicator> = Arc::new(Single);
    let planning = Weights::planning(Arc::clone(&communicator));
    let outline = spec.build(&planning)?;
    let plan = planning.plan();
    let checkpoint = files.checkpoint()?;
    let open = started.elapsed();

    progress.phase(LoadPhase::Weights);
    let before = available_memory();
    let bytes = |done, total| progress.bytes(done, total);
    let (tensors, stats) = checkpoint.load(&plan, options.precision(), &bytes)?;

    progress.phase(LoadPhase::WarmUp);
    let before_warm_up = Instant::now();
    let (format, weight_bytes) = (tensors.format(), tensors.num_bytes());
    let kv_cache_dtype = options.kv_cache_dtype_for(format);
    let shape = outline.kv_shape();
    let max_positions = spec.max_position_embeddings;
    let block_bytes = shape.bytes_per_block(kv_cache_dtype, options.block_size)? as u64;
    let available = available_beside(before, stats.mapped);
    let fit = MemoryFit::new(options, block_bytes, max_positions, available)?;
    if fit.max_model_len > max_positions {
        let len = fit.max_model_len;
        tracing::warn!(max_model_len = len, max_positions, "longer than the context the model was made for");
    } else if fit.max_model_len < options.max_model_len.unwrap_or(max_positions) {
        tracing::warn!(
            max_model_len = fit.max_model_len,
            max_positions,
            "context shortened to fit in memory"
        );
    }
    let weights = Weights::loaded(tensors, fit.max_model_len, communicator);
    let model = spec.build(&weights)?;
    drop(weights);
    let kv = KvStore::new(shape, kv_cache_dtype, fit.num_blocks, options.block_size)?;
    let rounded = options.precision().rounds_activations();
    let settings = format!("{format} {kv_cache_dtype} {rounded}");
    let info = ModelInfo {
        architecture: spec.architecture(),
        vocab_size: model.vocab_size(),
        max_model_len: fit.max_model_len,
        max_position_embeddings: max_positions,
        num_blocks: fit.num_blocks,
        block_size: options.block_size,
        format,
        kv_cache_dtype,
        num_parameters: plan.num_parameters(),
        weight_bytes,
        kv_bytes: fit.kv_bytes,
        fingerprint: fingerprint(&config, &checkpoint, &settings)?,
    };
    let mut executor = LocalExecutor::new(model, kv, options.num_threads);
    if options.warm_up {
        executor.warm_up()?;
    }
    let report = LoadReport {
        open,
        read: stats.read,
        convert: stats.convert,
        warm_up: before_warm_up.elapsed(),
        total: started.elapsed(),
        bytes: stats.bytes,
    };
    Ok(LoadedModel { executor, info, report })
}

/// Memory for the cache. Pages of a mapped file count as free, since the system could drop them; a model needs them to stay.
fn available_beside(before: Option<u64>, mapped: u64) -> Option<u64> {
    let left = before.map(|bytes| bytes.saturating_sub(mapped));
    left.into_iter().chain(available_memory()).min()
}
