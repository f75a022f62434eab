//! How many KV blocks there are, and how long a sequence may be.

use crate::{LoadOptions, RunnerError};

/// What is assumed to be free where the system does not tell.
const UNKNOWN_MEMORY: u64 = 4 << 30;

/// The cache that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryFit {
    /// Blocks.
    pub num_blocks: usize,
    /// Bytes of all blocks.
    pub kv_bytes: u64,
    /// Longest sequence.
    pub max_model_len: usize,
    /// Sequences of that length that the cache holds at once. More may run while they are shorter.
    pub full_sequences: usize,
    /// The longest sequence that the memory allows, whatever was asked for.
    pub largest_max_model_len: usize,
    /// The most sequences of `max_model_len` that the memory allows at once, whatever was asked for.
    pub largest_max_num_seqs: usize,
}

impl MemoryFit {
    /// Size the cache, whose blocks take `block_bytes` each. `available` is the memory that weights have left.
    pub(crate) fn new(
        options: &LoadOptions,
        block_bytes: u64,
        max_position_embeddings: usize,
        available: Option<u64>,
    ) -> Result<Self, RunnerError> {
        let block_size = options.block_size;
        let budget = (available.unwrap_or(UNKNOWN_MEMORY) as f64 * options.memory_fraction) as u64;
        let fitting = (budget / block_bytes.max(1)) as usize;
        let wanted_len = options.max_model_len.unwrap_or(max_position_embeddings);
        let filling = wanted_len.div_ceil(block_size).saturating_mul(options.max_num_seqs);
        let num_blocks = options.kv_blocks.unwrap_or(fitting.min(filling));
        let holds = num_blocks.saturating_mul(block_size);
        let most_blocks = options.kv_blocks.unwrap_or(fitting);
        let largest = most_blocks.saturating_mul(block_size);
        if holds == 0 || (holds < wanted_len && options.max_model_len.is_some()) {
            return Err(RunnerError::CacheTooSmall {
                max_model_len: wanted_len,
                needed: wanted_len.div_ceil(block_size) as u64 * block_bytes,
                available: options.kv_blocks.map_or(budget, |blocks| blocks as u64 * block_bytes),
                largest,
            });
        }
        let max_model_len = wanted_len.min(holds);
        let blocks_of_one = max_model_len.div_ceil(block_size).max(1);
        Ok(Self {
            num_blocks,
            kv_bytes: num_blocks as u64 * block_bytes,
            max_model_len,
            full_sequences: num_blocks / blocks_of_one,
            largest_max_model_len: largest,
            largest_max_num_seqs: most_blocks / blocks_of_one,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of each token, in blocks of ten.
    const TOKEN: u64 = 256;

    fn fit(options: &LoadOptions, tokens: u64) -> Result<MemoryFit, String> {
        MemoryFit::new(options, 10 * TOKEN, 1000, Some(tokens * TOKEN)).map_err(|e| e.to_string())
    }

    fn options() -> LoadOptions {
        LoadOptions { memory_fraction: 0.5, max_num_seqs: 3, block_size: 10, ..LoadOptions::default() }
    }

    #[test]
    fn the_cache_takes_its_share_of_memory() {
        let fit = fit(&options(), 4000).unwrap();
        assert_eq!((fit.num_blocks, fit.kv_bytes), (200, 2000 * TOKEN));
        assert_eq!((fit.max_model_len, fit.largest_max_model_len), (1000, 2000));
    }

    #[test]
    fn sequences_of_full_length_are_counted_in_whole_blocks() {
        // 2000 tokens fit: one of 999 tokens takes a hundred blocks, as one of 1000 does.
        for len in [999, 1000] {
            let asked = LoadOptions { max_model_len: Some(len), max_num_seqs: 1, ..options() };
            let fit = fit(&asked, 4000).unwrap();
            assert_eq!((fit.full_sequences, fit.largest_max_num_seqs), (1, 2), "{len}");
        }
        let longer = LoadOptions { max_model_len: Some(1001), ..options() };
        assert_eq!(fit(&longer, 4000).unwrap().largest_max_num_seqs, 1);
        let shortened = fit(&options(), 1000).unwrap();
        assert_eq!((shortened.full_sequences, shortened.largest_max_num_seqs), (1, 1));
    }

    #[test]
    fn the_largest_settings_are_those_that_are_taken_and_one_more_is_not() {
        let memory = 123_456;
        let first = fit(&options(), memory).unwrap();
        let at = |max_model_len, max_num_seqs| {
            fit(&LoadOptions { max_model_len: Some(max_model_len), max_num_seqs, ..options() }, memory)
        };
        let (len, seqs) = (first.largest_max_model_len, first.largest_max_num_seqs);
        assert_eq!(at(len, 1).unwrap().max_model_len, len);
        assert!(at(len + 1, 1).is_err());
        assert_eq!(at(first.max_model_len, seqs).unwrap().full_sequences, seqs);
        assert_eq!(at(first.max_model_len, seqs + 1).unwrap().full_sequences, seqs, "no memory for one more");
    }

    #[test]
    fn the_cache_is_not_larger_than_the_sequences_can_fill() {
        assert_eq!(fit(&options(), 1_000_000).unwrap().num_blocks, 300);
    }

    #[test]
    fn a_length_nobody_asked_for_shrinks_to_what_fits() {
        assert_eq!(fit(&options(), 1000).unwrap().max_model_len, 500);
    }

    #[test]
    fn a_length_that_was_asked_for_is_kept_or_refused() {
        let asked = LoadOptions { max_model_len: Some(600), ..options() };
        assert_eq!(fit(&asked, 1200).unwrap().max_model_len, 600);
        let error = fit(&asked, 1000).unwrap_err();
        assert_eq!(
            error,
            "max_model_len 600 needs 153600 bytes of KV cache, 128000 are available; \
             the largest max_model_len that fits is 500"
        );
        assert!(fit(&options(), 1).unwrap_err().contains("the largest max_model_len that fits is 0"));
    }

    #[test]
    fn blocks_that_were_asked_for_are_taken() {
        let asked = LoadOptions { kv_blocks: Some(7), ..options() };
        let fit = fit(&asked, 1_000_000).unwrap();
        assert_eq!((fit.num_blocks, fit.max_model_len), (7, 70));
    }
}
