//! From files to an executor: open, plan, read, agree with the other ranks on the size of the cache, warm up.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use candle_core::DType;
use vlinders_comm::{Communicator, Outline, Single};
use vlinders_engine::Executor;
use vlinders_kernels::gpu::{GpuGroup, Peers};
use vlinders_kernels::{Format, KvDtype};
use vlinders_layers::{
    Activations, Checkpoint, GpuBatch, KvStore, LoadStats, LoadedTensors, Place, Precision, Quantization,
    Ranks, Weights, linear_encoding,
};
use vlinders_models::{CausalLm, ModelSpec};

use crate::agree::{Facts, agree};
use crate::fingerprint::{identity, name, with_settings};
use crate::gpu::{self, GpuExecutor, STEP_TIMEOUT, Watchdog};
use crate::local::{Compute, LocalExecutor};
use crate::{
    DeviceChoice, Follower, Leader, LoadOptions, LoadPhase, LoadProgress, LoadReport, MemoryFit, ModelFiles,
    RunnerError, available_memory, ranks,
};

/// Of random weights.
const SEED: u64 = 0x5eed;

/// A model that is ready to execute plans.
pub struct LoadedModel {
    /// The model itself.
    pub executor: Leader,
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
    /// Bytes of weights in memory, of all ranks.
    pub weight_bytes: u64,
    /// Bytes of the cache, of all ranks.
    pub kv_bytes: u64,
    /// Names weights, code and settings: `system_fingerprint` of the API.
    pub fingerprint: String,
}

/// One rank of a model before it is loaded.
pub(crate) struct Rank {
    pub(crate) communicator: Arc<dyn Communicator>,
    /// The threads it computes with.
    pub(crate) compute: Compute,
    /// Ranks that share the memory of this machine, itself included.
    pub(crate) ranks_here: usize,
    /// Which of them it is.
    pub(crate) index_here: usize,
    /// Where ranks of one process find each other's GPUs.
    pub(crate) peers: Option<Arc<Peers>>,
}

/// A rank that is ready.
pub(crate) struct LoadedRank {
    executor: Box<dyn Executor>,
    communicator: Arc<dyn Communicator>,
    info: ModelInfo,
    report: LoadReport,
}

/// Load a model, with [`LoadOptions::tensor_parallel_size`] ranks as threads of this process.
///
/// # Errors
/// When a file is missing or broken, the architecture is not supported, it can not be split among so many ranks, or the cache
/// does not fit.
pub fn load(
    files: &ModelFiles,
    options: &LoadOptions,
    progress: &dyn LoadProgress,
) -> Result<LoadedModel, RunnerError> {
    options.validate()?;
    if options.tensor_parallel_size > 1 {
        return ranks::load(files, options, progress);
    }
    let rank = Rank {
        communicator: Arc::new(Single),
        compute: Compute::Shared(options.num_threads),
        ranks_here: 1,
        index_here: 0,
        peers: None,
    };
    Ok(rank.load(files, options, progress)?.lead(Vec::new()))
}

// === impl LoadedRank ===

impl LoadedRank {
    /// The model whose first rank this is; `followers` are the others, where they are threads of this process.
    pub(crate) fn lead(self, followers: Vec<JoinHandle<()>>) -> LoadedModel {
        let executor = Leader::new(self.executor, self.communicator, followers);
        LoadedModel { executor, info: self.info, report: self.report }
    }

    /// This rank as one that follows the first.
    pub(crate) fn follow(self) -> Follower {
        Follower::new(self.executor, self.communicator)
    }
}

// === impl Rank ===

impl Rank {
    /// Load the share of this rank. When that fails, the others hear of it.
    pub(crate) fn load(
        self,
        files: &ModelFiles,
        options: &LoadOptions,
        progress: &dyn LoadProgress,
    ) -> Result<LoadedRank, RunnerError> {
        let communicator = Arc::clone(&self.communicator);
        self.load_share(files, options, progress)
            .inspect_err(|error| communicator.leave(&format!("rank {}: {error}", communicator.rank())))
    }

    fn load_share(
        self,
        files: &ModelFiles,
        options: &LoadOptions,
        progress: &dyn LoadProgress,
    ) -> Result<LoadedRank, RunnerError> {
        let started = Instant::now();
        let communicator = self.communicator;
        vlinders_kernels::keep_freed_memory();
        progress.phase(LoadPhase::Open);
        let gpu = options.device.open(self.index_here)?;
        let config = files.config()?;
        let spec = ModelSpec::parse(&config)?;
        let outline = Outline::new(communicator.rank(), communicator.size())?;
        let planning = Weights::planning(Arc::new(outline));
        let outline = spec.build(&planning)?;
        let plan = planning.plan();
        let checkpoint = if options.random_weights { None } else { Some(files.checkpoint()?) };
        let identity = identity(&config, checkpoint.as_ref())?;
        let place = match gpu {
            None => Place::Cpu,
            Some(gpu) => {
                let suits = |files: &Checkpoint| files.activations_on_gpu(&plan, options.dtype);
                let dtype = checkpoint.as_ref().map_or(options.dtype.unwrap_or(DType::BF16), suits);
                Place::Gpu { gpu, dtype }
            }
        };
        if place.gpu().is_none() && options.quantization == Some(Quantization::Fp8) {
            let reason = "fp8 is for GPUs, this model computes on the CPU: use q8".to_owned();
            return Err(RunnerError::Option { option: "quantization", reason });
        }
        if place.gpu().is_none() && options.random_weights {
            let reason = "are made on GPUs, this model computes on the CPU".to_owned();
            return Err(RunnerError::Option { option: "random_weights", reason });
        }
        options.check_activations(place.activations(), place.gpu())?;
        let precision = options.precision(place.activations());
        let open = started.elapsed();

        progress.phase(LoadPhase::Weights);
        let before = available_memory();
        let bytes = |done, total| progress.bytes(done, total);
        let (tensors, stats) = match &checkpoint {
            Some(files) => files.load_to(&plan, precision, &place, &bytes)?,
            None => {
                let linear = linear_encoding(&config)?;
                (LoadedTensors::random(&plan, precision, linear, &place, SEED)?, LoadStats::default())
            }
        };
        let gpus = match place.gpu() {
            Some(gpu) => gpu::join(gpu, &*communicator, self.peers.as_deref())?,
            None => None,
        };
        let watchdog = gpus.as_ref().map(|gpus| watch(&communicator, gpus, options)).transpose()?;
        // Memory is looked at when all ranks hold their weights, and taken when all have looked.
        communicator.barrier()?;

        progress.phase(LoadPhase::WarmUp);
        let before_warm_up = Instant::now();
        let (format, weight_bytes) = (tensors.format(), tensors.num_bytes());
        let kv_cache_dtype = options.kv_cache_dtype_for(format, place.activations())?;
        let shape = outline.kv_shape();
        let max_positions = spec.max_position_embeddings;
        let wanted_len = options.max_model_len.unwrap_or(max_positions);
        let block_bytes =
            shape.bytes_per_block(kv_cache_dtype, options.block_size, place.gpu().is_some())? as u64;
        let has_graphs = communicator.size() == 1 || gpus.is_some();
        let weights = Weights::loaded(tensors, 1, Ranks::with_gpus(Arc::clone(&communicator), gpus));
        let available = match place.gpu() {
            None => available_beside(before, stats.mapped).map(|bytes| bytes / self.ranks_here as u64),
            Some(gpu) => {
                let model = spec.build(&weights)?;
                // What can not fit is refused below; a rehearsal of it would take long.
                let fitting = gpu::left_for_cache(gpu)? / block_bytes.max(1) * options.block_size as u64;
                let len = wanted_len.min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1);
                gpu::set_aside_for_steps(gpu, model.as_ref(), options, &place, kv_cache_dtype, len)?;
                Some(gpu::left_for_cache(gpu)?)
            }
        };
        let fit = MemoryFit::new(options, block_bytes, max_positions, available)?;
        let settings = options.shared_settings(place.activations());
        let agreed = agree(
            &*communicator,
            Facts {
                model: with_settings(identity, &settings),
                num_blocks: fit.num_blocks as u64,
                max_model_len: fit.max_model_len as u64,
                weight_bytes,
                block_bytes,
            },
        )?;
        if communicator.rank() == 0 {
            warn_of_length(agreed.max_model_len, max_positions, options);
        }
        let model = spec.build(&weights.with_max_positions(agreed.max_model_len))?;
        drop(weights);
        let kv = KvStore::new(shape, kv_cache_dtype, agreed.num_blocks, options.block_size, &place)?;
        let settings = settings_of(format, kv_cache_dtype, precision, &place, communicator.size());
        let info = ModelInfo {
            architecture: spec.architecture(),
            vocab_size: model.vocab_size(),
            max_model_len: agreed.max_model_len,
            max_position_embeddings: max_positions,
            num_blocks: agreed.num_blocks,
            block_size: options.block_size,
            format,
            kv_cache_dtype,
            num_parameters: plan.num_parameters(),
            weight_bytes: agreed.weight_bytes,
            kv_bytes: agreed.kv_bytes,
            fingerprint: name(with_settings(identity, &settings)),
        };
        let executor = match place.gpu() {
            None => on_cpu(model, kv, self.compute, options)?,
            Some(gpu) => {
                let max_model_len = agreed.max_model_len;
                let shape = kv.attention_shape(model.num_heads(), model.kv_shape());
                let batch = GpuBatch::new(gpu, shape, gpu::limits(options, max_model_len))?;
                let num_sequences = gpu::num_sequences(options);
                let mut executor = GpuExecutor::new(model, kv, gpu.clone(), batch, num_sequences, watchdog)?;
                if options.warm_up {
                    executor.warm_up()?;
                    // What waits for the host can not be captured.
                    if has_graphs {
                        executor.capture_graphs(&gpu::buckets(num_sequences), progress)?;
                    }
                }
                Box::new(executor)
            }
        };
        let report = LoadReport {
            open,
            read: stats.read,
            convert: stats.convert,
            warm_up: before_warm_up.elapsed(),
            total: started.elapsed(),
            bytes: stats.bytes,
        };
        Ok(LoadedRank { executor, communicator, info, report })
    }
}

/// What beside the weights decides on the bits of results.
fn settings_of(
    format: Format,
    kv_cache_dtype: KvDtype,
    precision: Precision,
    place: &Place,
    ranks: usize,
) -> String {
    match place {
        Place::Cpu => format!("{format} {kv_cache_dtype} {} {ranks}", precision.rounds_activations()),
        Place::Gpu { gpu, dtype } => {
            let (major, minor) = gpu.properties().capability;
            let rounded = if precision.activations == Activations::Fp8 { " float8" } else { "" };
            format!("{format} {kv_cache_dtype} {dtype:?}{rounded} {ranks} gpu {major}.{minor}")
        }
    }
}

/// The executor of a model on the CPU, warmed up.
fn on_cpu(
    model: Box<dyn CausalLm>,
    kv: KvStore,
    compute: Compute,
    options: &LoadOptions,
) -> Result<Box<dyn Executor>, RunnerError> {
    let mut executor = LocalExecutor::new(model, kv, compute);
    if options.warm_up {
        executor.warm_up()?;
    }
    Ok(Box::new(executor))
}

/// Let nobody wait for ever for a rank that is gone.
fn watch(
    communicator: &Arc<dyn Communicator>,
    gpus: &Arc<GpuGroup>,
    options: &LoadOptions,
) -> Result<Watchdog, RunnerError> {
    // Emulated steps take what they take.
    let timeout = (options.device != DeviceChoice::Emulated).then_some(STEP_TIMEOUT);
    Watchdog::start(Arc::clone(communicator), Arc::clone(gpus), timeout).map_err(RunnerError::Thread)
}

fn warn_of_length(max_model_len: usize, max_positions: usize, options: &LoadOptions) {
    if max_model_len > max_positions {
        tracing::warn!(max_model_len, max_positions, "longer than the context the model was made for");
    } else if max_model_len < options.max_model_len.unwrap_or(max_positions) {
        tracing::warn!(max_model_len, max_positions, "context shortened to fit in memory");
    }
}

/// Memory for the cache. Pages of a mapped file count as free, since the system could drop them; a model needs them to stay.
fn available_beside(before: Option<u64>, mapped: u64) -> Option<u64> {
    let left = before.map(|bytes| bytes.saturating_sub(mapped));
    left.into_iter().chain(available_memory()).min()
}
