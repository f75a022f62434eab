//! What the ranks of a model have to agree on before the first step: that it is one model, and how large the cache is.

use candle_core::{Device, Tensor};
use vlinders_comm::{CommError, Communicator};

use crate::RunnerError;

/// What a rank knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// A hash of model, weights and settings.
    pub(crate) model: u64,
    /// Blocks that its memory has room for.
    pub(crate) num_blocks: u64,
    /// The longest sequence that goes with them.
    pub(crate) max_model_len: u64,
    /// Bytes of its weights.
    pub(crate) weight_bytes: u64,
    /// Bytes of its share of a block.
    pub(crate) block_bytes: u64,
}

const NUM_FACTS: usize = 5;

/// What all of them together have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) num_blocks: usize,
    pub(crate) max_model_len: usize,
    pub(crate) weight_bytes: u64,
    pub(crate) kv_bytes: u64,
}

// === impl Facts ===

impl Facts {
    fn to_array(self) -> [u64; NUM_FACTS] {
        [self.model, self.num_blocks, self.max_model_len, self.weight_bytes, self.block_bytes]
    }

    fn from_array(numbers: [u64; NUM_FACTS]) -> Self {
        let [model, num_blocks, max_model_len, weight_bytes, block_bytes] = numbers;
        Self { model, num_blocks, max_model_len, weight_bytes, block_bytes }
    }
}

/// Tell the others, hear of theirs, and come to the same conclusion as they.
///
/// # Errors
/// When ranks have different models or settings, or the group is broken.
pub(crate) fn agree(communicator: &dyn Communicator, own: Facts) -> Result<Agreement, RunnerError> {
    let all = exchange(communicator, own)?;
    if let Some(rank) = all.iter().position(|facts| facts.model != all[0].model) {
        return Err(RunnerError::OtherModel { rank });
    }
    let least = |fact: fn(&Facts) -> u64| all.iter().map(fact).min().unwrap_or(0);
    let sum = |fact: fn(&Facts) -> u64| all.iter().map(fact).fold(0, u64::saturating_add);
    let num_blocks = least(|facts| facts.num_blocks);
    Ok(Agreement {
        num_blocks: num_blocks as usize,
        max_model_len: least(|facts| facts.max_model_len) as usize,
        weight_bytes: sum(|facts| facts.weight_bytes),
        kv_bytes: sum(|facts| facts.block_bytes).saturating_mul(num_blocks),
    })
}

fn exchange(communicator: &dyn Communicator, own: Facts) -> Result<Vec<Facts>, CommError> {
    let words: Vec<u32> = own.to_array().iter().flat_map(|n| [*n as u32, (*n >> 32) as u32]).collect();
    let all = communicator.all_gather(&Tensor::from_slice(&words, words.len(), &Device::Cpu)?)?;
    let all = all.to_vec1::<u32>()?;
    let facts = all.chunks_exact(2 * NUM_FACTS).map(|words| {
        Facts::from_array(std::array::from_fn(|i| {
            u64::from(words[2 * i]) | u64::from(words[2 * i + 1]) << 32
        }))
    });
    Ok(facts.collect())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use vlinders_comm::Threads;

    use super::*;

    fn all_agree(facts: [Facts; 2]) -> Vec<Result<Agreement, String>> {
        let ranks: Vec<_> = Threads::group(2)
            .into_iter()
            .zip(facts)
            .map(|(rank, facts)| thread::spawn(move || agree(&rank, facts).map_err(|e| e.to_string())))
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    }

    const FACTS: Facts = Facts {
        model: u64::MAX - 1,
        num_blocks: 7,
        max_model_len: 90,
        weight_bytes: 5 << 33,
        block_bytes: 1 << 32,
    };

    #[test]
    fn the_rank_with_the_least_memory_decides() {
        let smaller = Facts { num_blocks: 5, max_model_len: 100, weight_bytes: 3, ..FACTS };
        let expected = Agreement {
            num_blocks: 5,
            max_model_len: 90,
            weight_bytes: (5 << 33) + 3,
            kv_bytes: 5 * (2 << 32),
        };
        assert_eq!(all_agree([FACTS, smaller]), [Ok(expected), Ok(expected)]);
    }

    #[test]
    fn ranks_with_different_weights_do_not_begin() {
        let errors = all_agree([FACTS, Facts { model: 3, ..FACTS }]);
        assert!(errors.iter().all(|e| e.as_ref().is_err_and(|e| e.starts_with("rank 1 has another model"))));
    }
}
