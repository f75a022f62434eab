//! How a model is loaded: types, lengths, memory.

use candle_core::DType;
use vlinders_device::Gpu;
use vlinders_kernels::gpu::can_round_activations;
use vlinders_kernels::{Format, KvDtype};
use vlinders_layers::{Activations, Precision, Quantization};

use crate::{DeviceChoice, RunnerError};

/// How a model is loaded. Every field has a default that suits a machine that serves one model.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// Where the model computes.
    pub device: DeviceChoice,
    /// Convert weights to F32, F16 or BF16; `None` keeps the type of the files.
    pub dtype: Option<DType>,
    /// Weights of random numbers, made on a GPU: of the files only config.json is read. For measurements.
    pub random_weights: bool,
    /// Quantise weights while loading; `None` keeps what the files have.
    pub quantization: Option<Quantization>,
    /// How activations meet weights.
    pub activations: Activations,
    /// Type of keys and values; `None` takes that of the weights, BF16 where these are quantised.
    pub kv_cache_dtype: Option<KvDtype>,
    /// Longest sequence, prompt and answer together. `None` takes that of config.json, or less where the cache can
    /// not hold as much.
    pub max_model_len: Option<usize>,
    /// Number of KV blocks; `None` takes what `memory_fraction` allows.
    pub kv_blocks: Option<usize>,
    /// The share of memory, available after loading the weights, that the cache may take; in (0, 1].
    pub memory_fraction: f64,
    /// Sequences that run at the same time; the cache is never larger than they can fill.
    pub max_num_seqs: usize,
    /// Tokens of a step. On a GPU memory is set aside for so many.
    pub max_batched_tokens: usize,
    /// Tokens of a KV block.
    pub block_size: usize,
    /// The most threads of the process's pool that steps of this model compute with; `None` is all of them.
    pub num_threads: Option<usize>,
    /// Ranks that the model is split among: threads of this process, each with its share of weights and cache.
    pub tensor_parallel_size: usize,
    /// Run a step before the first request, so that it finds everything in place.
    pub warm_up: bool,
}

// === impl LoadOptions ===

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Cpu,
            dtype: None,
            random_weights: false,
            quantization: None,
            activations: Activations::Auto,
            kv_cache_dtype: None,
            max_model_len: None,
            kv_blocks: None,
            memory_fraction: 0.8,
            max_num_seqs: 256,
            max_batched_tokens: 2048,
            block_size: 16,
            num_threads: None,
            tensor_parallel_size: 1,
            warm_up: true,
        }
    }
}

impl LoadOptions {
    /// The precision of weights on a GPU with activations of this type, or on the CPU.
    pub(crate) fn precision(&self, on_gpu: Option<DType>) -> Precision {
        let Self { dtype, quantization, activations, .. } = *self;
        Precision { dtype, quantization, activations, on_gpu }
    }

    /// Whether activations can be rounded as was asked for, on the CPU or on a GPU with activations of this type, which is `gpu` where
    /// that is known.
    ///
    /// # Errors
    /// Eight bits without weights of eight bits, in f32, or where there are no kernels for them.
    pub(crate) fn check_activations(
        &self,
        on_gpu: Option<DType>,
        gpu: Option<&Gpu>,
    ) -> Result<(), RunnerError> {
        if self.activations != Activations::Fp8 {
            return Ok(());
        }
        let reason = if self.quantization != Some(Quantization::Fp8) {
            "float8 multiplies weights of eight bits: write quantization: fp8 too, or activation_dtype: auto"
                .to_owned()
        } else if on_gpu.is_none() {
            "float8 is for GPUs, this model computes on the CPU: write auto".to_owned()
        } else if on_gpu == Some(DType::F32) {
            "float8 is not for a dtype of float32: write dtype: bfloat16, or activation_dtype: auto"
                .to_owned()
        } else if let Some(gpu) = gpu.filter(|gpu| !can_round_activations(gpu)) {
            let (major, minor) = gpu.properties().capability;
            format!(
                "float8 needs a GPU of compute capability 9.0 (Hopper), this has {major}.{minor}: write auto"
            )
        } else {
            return Ok(());
        };
        Err(RunnerError::Option { option: "activation_dtype", reason })
    }

    /// The type of keys and values beside weights of this format.
    ///
    /// # Errors
    /// A type that kernels on GPUs do not read beside the activations.
    pub(crate) fn kv_cache_dtype_for(
        &self,
        format: Format,
        on_gpu: Option<DType>,
    ) -> Result<KvDtype, RunnerError> {
        let activations = match on_gpu.or(format.dtype()) {
            Some(DType::F32) => KvDtype::F32,
            Some(DType::F16) => KvDtype::F16,
            _ => KvDtype::BF16,
        };
        match self.kv_cache_dtype {
            None => Ok(activations),
            Some(kv) if on_gpu.is_some() && kv != activations && kv != KvDtype::Int8 => {
                Err(RunnerError::KvDtypeOnGpu { kv, activations })
            }
            Some(kv) => Ok(kv),
        }
    }

    /// What ranks must have in common beside the model, as text.
    pub(crate) fn shared_settings(&self, on_gpu: Option<DType>) -> String {
        let precision = self.precision(on_gpu);
        format!("{precision:?} {:?} {}", self.kv_cache_dtype, self.block_size)
    }

    pub(crate) fn validate(&self) -> Result<(), RunnerError> {
        let bad = |option, reason: &str| Err(RunnerError::Option { option, reason: reason.to_owned() });
        if !matches!(self.dtype, None | Some(DType::F32) | Some(DType::F16) | Some(DType::BF16)) {
            return bad("dtype", "must be float32, float16 or bfloat16");
        }
        if !(self.memory_fraction > 0.0 && self.memory_fraction <= 1.0) {
            return bad("memory_fraction", "must be above 0 and at most 1");
        }
        if self.max_model_len.is_some_and(|len| len == 0 || len > 1 << 30) {
            return bad("max_model_len", "must be from 1 to 1073741824");
        }
        if self.kv_blocks == Some(0) {
            return bad("kv_blocks", "must be at least 1");
        }
        if self.max_num_seqs == 0 {
            return bad("max_num_seqs", "must be at least 1");
        }
        if self.max_batched_tokens == 0 {
            return bad("max_batched_tokens", "must be at least 1");
        }
        if self.block_size == 0 || self.block_size > 4096 {
            return bad("block_size", "must be from 1 to 4096");
        }
        if self.tensor_parallel_size == 0 {
            return bad("tensor_parallel_size", "must be at least 1");
        }
        if self.num_threads == Some(0) {
            return bad("num_threads", "must be at least 1");
        }
        Ok(())
    }
}
