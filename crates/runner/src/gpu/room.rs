//! How much memory of a GPU a step takes, and how much is left for the cache.

use vlinders_device::{Gpu, GpuTensor};
use vlinders_kernels::KvDtype;
use vlinders_kernels::ops::{self, Ids};
use vlinders_layers::{Batch, GpuBatch, GpuBatchLimits, KvStore, LayerError, LogitRows, Place};
use vlinders_models::CausalLm;

use super::LOGIT_ROWS;
use crate::LoadOptions;

/// Bytes that are left to the driver: code of kernels, graphs, and what it takes for itself.
const FOR_THE_DRIVER: u64 = 512 << 20;

/// The largest step of a model under these options.
pub(crate) fn limits(options: &LoadOptions, max_model_len: usize) -> GpuBatchLimits {
    GpuBatchLimits {
        num_tokens: options.max_batched_tokens,
        table_entries: num_sequences(options) * max_model_len.div_ceil(options.block_size),
    }
}

/// Sequences of the largest step.
pub(crate) fn num_sequences(options: &LoadOptions) -> usize {
    options.max_num_seqs.min(options.max_batched_tokens)
}

/// Set aside what intermediate results of the largest steps take, as a rehearsal of them tells.
///
/// # Errors
/// When the device has not so much.
pub(crate) fn set_aside_for_steps(
    gpu: &Gpu,
    model: &dyn CausalLm,
    options: &LoadOptions,
    place: &Place,
    kv_cache_dtype: KvDtype,
    max_model_len: usize,
) -> Result<(), LayerError> {
    let limits = limits(options, max_model_len);
    let mut kv = KvStore::new(model.kv_shape(), kv_cache_dtype, 1, options.block_size, place)?;
    let mut batch = Batch::default();
    batch.set_gpu(GpuBatch::new(gpu, kv.attention_shape(model.num_heads(), model.kv_shape()), limits)?);
    let mut bytes = 0;
    for shape in [Shape::Prompt, Shape::Decodes] {
        let rehearsed = gpu.rehearse(|| step(model, &mut kv, &mut batch, shape, options, max_model_len))?;
        bytes = bytes.max(rehearsed);
    }
    // The driver may still be copying to what is given back here.
    gpu.wait()?;
    drop((batch, kv));
    Ok(gpu.set_aside(bytes)?)
}

/// Bytes that the cache may be made of.
pub(crate) fn left_for_cache(gpu: &Gpu) -> Result<u64, LayerError> {
    let memory = gpu.memory()?;
    // Small devices, as emulated ones, have a smaller driver.
    Ok(memory.free.saturating_sub(FOR_THE_DRIVER.min(memory.total / 16)))
}

/// The two kinds of steps that need most.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Prompts fill the step, each as long as it may be.
    Prompt,
    /// Each sequence computes one token at the end of the longest context.
    Decodes,
}

fn step(
    model: &dyn CausalLm,
    kv: &mut KvStore,
    batch: &mut Batch,
    shape: Shape,
    options: &LoadOptions,
    max_model_len: usize,
) -> Result<(), LayerError> {
    let (num_sequences, block_size) = (num_sequences(options), options.block_size);
    let table = vec![0; max_model_len.div_ceil(block_size)];
    batch.clear();
    match shape {
        Shape::Prompt => {
            let mut left = options.max_batched_tokens;
            for _ in 0..num_sequences {
                let tokens = vec![0; left.min(max_model_len)];
                if !tokens.is_empty() {
                    batch.push(&tokens, 0, &table, block_size, LogitRows::Last);
                }
                left -= tokens.len();
            }
        }
        Shape::Decodes => {
            let last = max_model_len.saturating_sub(1) as u32;
            for _ in 0..num_sequences {
                batch.push(&[0], last, &table, block_size, LogitRows::Last);
            }
        }
    }
    batch.upload(batch.tokens().len())?;
    let hidden = model.forward(batch, kv)?;
    let rows = num_sequences.min(LOGIT_ROWS);
    let rows = some_rows(batch, rows)?;
    model.logits(&ops::gather_rows(&hidden, Ids::Gpu(&rows))?)?;
    Ok(())
}

fn some_rows(batch: &Batch, count: usize) -> Result<GpuTensor, LayerError> {
    let Some(on_gpu) = batch.gpu() else { return Err(LayerError::NotPlanned("batch".to_owned())) };
    let all = on_gpu.tokens().num_elements();
    // Which rows they are does not matter here.
    Ok(on_gpu.tokens().rows(0, count.min(all))?)
}
