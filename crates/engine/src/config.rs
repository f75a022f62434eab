//! The sizes an engine is built with, and which requests can never fit into them.

use crate::request::GenerateRequest;

/// Sizes and limits of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Tokens a KV block holds.
    pub block_size: usize,
    /// Number of KV blocks there are.
    pub num_blocks: usize,
    /// The most sequences that run at the same time.
    pub max_num_seqs: usize,
    /// The most tokens one step feeds; at least `max_num_seqs`, so that every running sequence can decode.
    pub max_batched_tokens: usize,
    /// The most requests that wait; one more is refused.
    pub max_waiting: usize,
    /// Prompt and answer together, in tokens.
    pub max_model_len: usize,
    /// Find blocks of equal prefixes again.
    pub prefix_caching: bool,
}

/// Sizes that can not work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// A size is 0.
    #[error("{field} is 0; it must be at least 1")]
    Zero {
        /// The field of [`EngineConfig`].
        field: &'static str,
    },
    /// Slots of the cache are counted in 32 bits.
    #[error("{num_blocks} blocks of {block_size} tokens are more than 32 bits can count; use fewer blocks")]
    TooManySlots {
        /// As configured.
        num_blocks: usize,
        /// As configured.
        block_size: usize,
    },
    /// A full set of running sequences could not decode in one step.
    #[error(
        "max_batched_tokens is {max_batched_tokens}, less than max_num_seqs {max_num_seqs}; \
         raise the one or lower the other"
    )]
    SmallBudget {
        /// As configured.
        max_batched_tokens: usize,
        /// As configured.
        max_num_seqs: usize,
    },
}

/// A request that could not run even if it were alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeverFits {
    /// It needs more KV blocks than exist.
    #[error(
        "the request may need {needed} KV blocks ({tokens} tokens) and the cache has {num_blocks}; \
         lower max_tokens or shorten the prompt"
    )]
    Blocks {
        /// Tokens whose keys and values are kept at the end of the answer.
        tokens: usize,
        /// Blocks for these tokens.
        needed: usize,
        /// Blocks of the engine.
        num_blocks: usize,
    },
    /// It is longer than the model allows.
    #[error(
        "the prompt has {prompt} tokens and max_tokens is {max_tokens}, together more than the {max_model_len} \
         tokens of the model; lower max_tokens or shorten the prompt"
    )]
    Length {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the answer asked for.
        max_tokens: usize,
        /// Tokens allowed.
        max_model_len: usize,
    },
}

impl EngineConfig {
    /// Whether the sizes work together.
    ///
    /// # Errors
    /// Names the field that must change.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let sizes = [
            ("block_size", self.block_size),
            ("num_blocks", self.num_blocks),
            ("max_num_seqs", self.max_num_seqs),
            ("max_waiting", self.max_waiting),
            ("max_model_len", self.max_model_len),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(InvalidConfig::Zero { field });
        }
        let slots = self.num_blocks.checked_mul(self.block_size);
        if slots.is_none_or(|slots| slots > u32::MAX as usize) {
            return Err(InvalidConfig::TooManySlots {
                num_blocks: self.num_blocks,
                block_size: self.block_size,
            });
        }
        if self.max_batched_tokens < self.max_num_seqs {
            return Err(InvalidConfig::SmallBudget {
                max_batched_tokens: self.max_batched_tokens,
                max_num_seqs: self.max_num_seqs,
            });
        }
        Ok(())
    }

    /// Blocks that hold this many tokens.
    #[must_use]
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_size)
    }

    /// Whether the request could run if it were alone. The last token of an answer is never fed, so it needs no
    /// room in the cache.
    ///
    /// # Errors
    /// Says what it needs and what there is.
    pub fn check_fits(&self, request: &GenerateRequest) -> Result<(), NeverFits> {
        let prompt = request.prompt().len();
        let max_tokens = request.stop().max_tokens;
        if prompt.saturating_add(max_tokens) > self.max_model_len {
            return Err(NeverFits::Length { prompt, max_tokens, max_model_len: self.max_model_len });
        }
        let tokens = prompt + max_tokens.saturating_sub(1);
        let needed = self.blocks_for(tokens);
        if needed > self.num_blocks {
            return Err(NeverFits::Blocks { tokens, needed, num_blocks: self.num_blocks });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{SamplingParams, StopConditions};

    const SIZES: EngineConfig = EngineConfig {
        block_size: 4,
        num_blocks: 8,
        max_num_seqs: 4,
        max_batched_tokens: 4,
        max_waiting: 1,
        max_model_len: 100,
        prefix_caching: true,
    };

    #[test]
    fn sizes_must_work_together() {
        let check = |config: EngineConfig, expect: &str| {
            let said = config.check().map_or_else(|error| error.to_string(), |()| "ok".to_owned());
            assert_eq!(said, expect);
        };
        check(SIZES, "ok");
        check(EngineConfig { block_size: 0, ..SIZES }, "block_size is 0; it must be at least 1");
        check(EngineConfig { num_blocks: 0, ..SIZES }, "num_blocks is 0; it must be at least 1");
        check(EngineConfig { max_waiting: 0, ..SIZES }, "max_waiting is 0; it must be at least 1");
        check(
            EngineConfig { max_batched_tokens: 3, ..SIZES },
            "max_batched_tokens is 3, less than max_num_seqs 4; raise the one or lower the other",
        );
        check(
            EngineConfig { num_blocks: 1 << 30, ..SIZES },
            "1073741824 blocks of 4 tokens are more than 32 bits can count; use fewer blocks",
        );
    }

    #[test]
    fn what_can_never_fit_is_refused_with_numbers() {
        let limits = crate::Limits { max_model_len: 1000, vocab_size: 10, max_logprobs: 0 };
        let check = |prompt: usize, max_tokens: usize, expect: &str| {
            let stop = StopConditions { max_tokens, ..StopConditions::default() };
            let request =
                GenerateRequest::new(vec![1; prompt], SamplingParams::default(), stop, 0, &limits).unwrap();
            let said =
                SIZES.check_fits(&request).map_or_else(|error| error.to_string(), |()| "ok".to_owned());
            assert_eq!(said, expect);
        };
        check(1, 32, "ok");
        check(32, 1, "ok");
        check(
            33,
            1,
            "the request may need 9 KV blocks (33 tokens) and the cache has 8; lower max_tokens or shorten the prompt",
        );
        check(
            1,
            33,
            "the request may need 9 KV blocks (33 tokens) and the cache has 8; lower max_tokens or shorten the prompt",
        );
        check(
            90,
            11,
            "the prompt has 90 tokens and max_tokens is 11, together more than the 100 tokens of the model; \
             lower max_tokens or shorten the prompt",
        );
    }
}
