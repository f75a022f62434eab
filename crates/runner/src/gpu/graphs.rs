//! Graphs of steps in which each sequence computes one token, one for each of some numbers of tokens.
//!
//! A step is filled up to the next of these numbers with tokens that belong to nobody. Launching some three hundred kernels one
//! by one takes longer than a small model computes; a graph is one launch.

use vlinders_device::{DeviceError, Gpu, GpuTensor, Graph};
use vlinders_layers::{Batch, KvStore, LayerError};
use vlinders_models::CausalLm;

use crate::LoadProgress;

/// Up to this there is a graph for each power of two.
const SMALL: usize = 8;

/// The graphs of a model.
#[derive(Default)]
pub(crate) struct Graphs {
    /// By ascending number of tokens.
    graphs: Vec<StepGraph>,
}

/// The forward pass of a step of so many tokens.
pub(crate) struct StepGraph {
    num_tokens: usize,
    graph: Graph,
    hidden: GpuTensor,
}

/// The numbers of tokens that there are graphs for, up to one that holds `most`.
///
/// Filling up costs at most a seventh of a step above sixteen tokens.
pub(crate) fn buckets(most: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut size = 1;
    while size < most {
        sizes.push(size);
        size += match size {
            1..SMALL => size,
            SMALL..128 => SMALL,
            128..256 => 16,
            256..512 => 32,
            _ => 64,
        };
    }
    if most > 0 {
        sizes.push(most);
    }
    sizes
}

// === impl Graphs ===

impl Graphs {
    pub(crate) fn capture(
        gpu: &Gpu,
        model: &dyn CausalLm,
        kv: &mut KvStore,
        batch: &mut Batch,
        sizes: &[usize],
        progress: &dyn LoadProgress,
    ) -> Result<Self, LayerError> {
        let mut graphs = Vec::with_capacity(sizes.len());
        // All graphs leave their result in one place: only one is in use at a time.
        let mut result: Option<GpuTensor> = None;
        batch.clear();
        // The largest one first, so that intermediate results of the others find room where its were.
        for (done, &num_tokens) in sizes.iter().rev().enumerate() {
            batch.upload(num_tokens)?;
            // Kernels are loaded, and memory is taken, by a step that is not captured.
            let hidden = model.forward(batch, kv)?;
            let hidden = hidden.gpu("graph", "hidden states")?;
            let all = match result {
                Some(all) => all,
                None => {
                    let buffer = gpu.allocate(hidden.num_bytes())?;
                    GpuTensor::of_buffer(&buffer, hidden.dims(), hidden.dtype())?
                }
            };
            let own = all.rows(0, num_tokens)?;
            result = Some(all);
            let graph = gpu.capture(|| -> Result<(), LayerError> {
                let hidden = model.forward(batch, kv)?;
                Ok(gpu.copy(hidden.gpu("graph", "hidden states")?, &own)?)
            })?;
            graphs.push(StepGraph { num_tokens, graph, hidden: own });
            progress.graphs(done + 1, sizes.len());
        }
        graphs.reverse();
        Ok(Self { graphs })
    }

    /// The smallest graph for at least so many tokens.
    pub(crate) fn for_tokens(&self, num_tokens: usize) -> Option<&StepGraph> {
        let first = self.graphs.partition_point(|graph| graph.num_tokens < num_tokens);
        self.graphs.get(first)
    }
}

// === impl StepGraph ===

impl StepGraph {
    /// The number of tokens that a batch must be filled up to.
    pub(crate) fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    /// Compute the hidden states of the batch that was uploaded.
    pub(crate) fn launch(&self) -> Result<GpuTensor, DeviceError> {
        self.graph.launch()?;
        Ok(self.hidden.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_bucket_that_is_not_much_larger() {
        for most in [1, 2, 7, 8, 100, 256, 300, 1000] {
            let sizes = buckets(most);
            assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
            assert_eq!(sizes.last(), Some(&most));
            for size in 1..=most {
                let bucket = sizes.iter().find(|bucket| **bucket >= size).copied().unwrap_or_default();
                assert!(bucket >= size && (bucket - size) * 7 <= size.max(49), "{size} of {most}: {bucket}");
            }
        }
        assert!(buckets(0).is_empty());
        assert_eq!(buckets(256).len(), 27);
    }
}
