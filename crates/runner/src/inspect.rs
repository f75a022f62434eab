//! Whether a model can be loaded, from config and headers alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use vlinders_comm::Outline;
use vlinders_kernels::{Format, KvDtype};
use vlinders_layers::{LoadPlan, Weights};
use vlinders_models::{CausalLm, ModelSpec};

use crate::{LoadOptions, MemoryFit, ModelFiles, RunnerError};

/// What `vlinders check` shows of a model.
#[derive(Debug)]
pub struct Inspection {
    /// Its name in config.json.
    pub architecture: &'static str,
    /// Number of token ids.
    pub vocab_size: usize,
    /// The longest context that the model was made for.
    pub max_position_embeddings: usize,
    /// Tensors that the model needs.
    pub num_tensors: usize,
    /// What keeps the weights from being loaded: missing tensors, wrong shapes, wrong types; of experts a few of each layer.
    pub problems: Vec<String>,
    /// Tensors in the files that the model does not use, such as scales of activations, sorted.
    pub unused: Vec<String>,
    /// How the files encode the tensors that are needed, their scales among them, and the bytes of each encoding, the largest share first.
    pub stored: Vec<(String, u64)>,
    /// How most weights lie in memory once loaded.
    pub format: Format,
    /// Type of keys and values.
    pub kv_cache_dtype: KvDtype,
    /// Numbers in all weights.
    pub num_parameters: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Bytes of weights in memory, of all ranks.
    pub weight_bytes: u64,
    /// Bytes of the cache for each token of a full block.
    pub kv_bytes_per_token: u64,
    /// Bytes of the cache for one sequence of the longest length asked for.
    pub kv_bytes_per_sequence: u64,
    /// The cache that fits beside the weights, or why none does.
    pub fit: Result<MemoryFit, String>,
}

/// What one rank needs of a model.
struct Share {
    outline: Box<dyn CausalLm>,
    plan: LoadPlan,
}

// === impl Share ===

impl Share {
    fn plan(spec: &ModelSpec, rank: usize, ranks: usize) -> Result<Self, RunnerError> {
        let planning = Weights::planning(Arc::new(Outline::new(rank, ranks)?));
        let outline = spec.build(&planning)?;
        Ok(Self { outline, plan: planning.plan() })
    }

    fn block_bytes(&self, dtype: KvDtype, block_size: usize, on_gpu: bool) -> Result<u64, RunnerError> {
        Ok(self.outline.kv_shape().bytes_per_block(dtype, block_size, on_gpu)? as u64)
    }
}

/// Look at a model without loading it: reads config.json and the headers of the weights. `available` is the memory
/// that weights and cache may take together, as [`crate::available_memory`] tells it.
///
/// # Errors
/// When config or headers can not be read at all; what is wrong with single tensors is in
/// [`Inspection::problems`].
pub fn inspect(
    files: &ModelFiles,
    options: &LoadOptions,
    available: Option<u64>,
) -> Result<Inspection, RunnerError> {
    options.validate()?;
    let spec = ModelSpec::parse(&files.config()?)?;
    let checkpoint = files.checkpoint()?;
    let ranks = options.tensor_parallel_size;
    let first = Share::plan(&spec, 0, ranks)?;
    let is_gpu = options.device.is_gpu();
    let on_gpu = is_gpu.then(|| checkpoint.activations_on_gpu(&first.plan, options.dtype));
    options.check_activations(on_gpu, None)?;
    let (format, mut weight_bytes) = checkpoint.in_memory(&first.plan, options.precision(on_gpu));
    let kv_cache_dtype = options.kv_cache_dtype_for(format, on_gpu)?;
    let mut block_bytes = first.block_bytes(kv_cache_dtype, options.block_size, is_gpu)?;
    for rank in 1..ranks {
        let share = Share::plan(&spec, rank, ranks)?;
        weight_bytes += checkpoint.in_memory(&share.plan, options.precision(on_gpu)).1;
        block_bytes += share.block_bytes(kv_cache_dtype, options.block_size, is_gpu)?;
    }
    let Share { outline, plan } = first;
    let wanted: HashSet<&str> = plan.tensors().collect();
    let scales: HashSet<String> = wanted.iter().filter_map(|name| checkpoint.scales_of(name)).collect();
    let mut unused: Vec<String> = checkpoint
        .tensors()
        .map(|(name, _)| name)
        .filter(|name| !wanted.contains(name) && !scales.contains(*name))
        .map(str::to_owned)
        .collect();
    unused.sort_unstable();
    let mut stored = HashMap::<&str, u64>::new();
    let is_read = |name: &str| wanted.contains(name) || scales.contains(name);
    for (_, info) in checkpoint.tensors().filter(|(name, _)| is_read(name)) {
        *stored.entry(info.dtype_name()).or_default() += info.num_bytes();
    }
    let mut stored: Vec<_> = stored.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    stored.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let max_positions = spec.max_position_embeddings;
    let fit = match available {
        Some(available) if available <= weight_bytes => {
            Err(RunnerError::WeightsTooLarge { needed: weight_bytes, available })
        }
        _ => {
            let left = available.map(|bytes| bytes - weight_bytes);
            MemoryFit::new(options, block_bytes, max_positions, left)
        }
    };
    let longest = options.max_model_len.unwrap_or(max_positions).div_ceil(options.block_size);
    Ok(Inspection {
        architecture: spec.architecture(),
        vocab_size: outline.vocab_size(),
        max_position_embeddings: max_positions,
        num_tensors: wanted.len(),
        problems: checkpoint
            .problems(&plan, options.precision(on_gpu))
            .iter()
            .map(ToString::to_string)
            .collect(),
        unused,
        stored,
        format,
        kv_cache_dtype,
        num_parameters: plan.num_parameters(),
        file_bytes: checkpoint.file_bytes(),
        weight_bytes,
        kv_bytes_per_token: block_bytes.div_ceil(options.block_size as u64),
        kv_bytes_per_sequence: block_bytes.saturating_mul(longest as u64),
        fit: fit.map_err(|error| error.to_string()),
    })
}
