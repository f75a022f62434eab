//! The life of one request: its tokens, how far they are computed, its blocks, and when it ends.

use std::ops::Range;
use std::sync::Arc;

use crate::block_table::BlockTable;
use crate::event::FinishReason;
use crate::executor::{ExecutorError, PromptLogprobs, TokenLogprobs};
use crate::prefix::{BlockHash, BlockHasher};
use crate::request::{GenerateRequest, SamplingParams, StopConditions};

/// Later requests of the next more urgent priority that may overtake a request: 4096 for each step of priority.
/// Bounded, so that a stream of urgent requests can not starve the others.
const OVERTAKERS_PER_PRIORITY: i64 = 4096;

/// The place of a sequence in line, the most urgent first. It never changes, so that a sequence which waits
/// moves forward, and one that was preempted is in front of all of its priority that never ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    turn: i64,
    arrival: u64,
}

/// Where a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In the waiting queue, without blocks.
    Waiting,
    /// Takes part in steps.
    Running {
        /// It lacks the KV of more than the last token.
        prefilling: bool,
    },
}

/// A live request.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) rank: Rank,
    pub(crate) phase: Phase,
    /// The executor knows it.
    pub(crate) started: bool,
    /// Tokens whose KV is in the blocks.
    pub(crate) computed: usize,
    pub(crate) table: BlockTable,
    generated: Vec<u32>,
    prompt: Arc<[u32]>,
    prompt_done: bool,
    stop: StopConditions,
    sampling: Arc<SamplingParams>,
    hashes: Vec<BlockHash>,
    prompt_logprobs: Option<Vec<TokenLogprobs>>,
}

// === impl Rank ===

impl Rank {
    pub(crate) fn new(priority: i32, arrival: u64) -> Self {
        let waited = i64::try_from(arrival).unwrap_or(i64::MAX);
        Self { turn: waited.saturating_add(i64::from(priority) * OVERTAKERS_PER_PRIORITY), arrival }
    }
}

// === impl Sequence ===

impl Sequence {
    pub(crate) fn new(request: &GenerateRequest, arrival: u64) -> Self {
        let sampling = Arc::clone(request.sampling());
        Self {
            rank: Rank::new(request.priority(), arrival),
            phase: Phase::Waiting,
            started: false,
            computed: 0,
            table: BlockTable::default(),
            generated: Vec::new(),
            prompt: Arc::clone(request.prompt()),
            prompt_done: false,
            stop: request.stop().clone(),
            prompt_logprobs: sampling.prompt_logprobs.map(|_| Vec::new()),
            sampling,
            hashes: Vec::new(),
        }
    }

    pub(crate) fn prompt(&self) -> &Arc<[u32]> {
        &self.prompt
    }

    pub(crate) fn sampling(&self) -> &Arc<SamplingParams> {
        &self.sampling
    }

    /// Number of tokens known: prompt and answer.
    pub(crate) fn len(&self) -> usize {
        self.prompt.len() + self.generated.len()
    }

    /// Number of tokens to feed before the next one can be sampled.
    pub(crate) fn remaining(&self) -> usize {
        self.len() - self.computed
    }

    pub(crate) fn num_generated(&self) -> usize {
        self.generated.len()
    }

    /// Whether a token is wanted once all are computed.
    pub(crate) fn wants_tokens(&self) -> bool {
        self.stop.max_tokens > 0
    }

    pub(crate) fn is_prefilling(&self) -> bool {
        self.phase == Phase::Running { prefilling: true }
    }

    /// Whether cached blocks may stand for computed ones: not while each prompt token's distribution is wanted.
    pub(crate) fn may_use_cache(&self) -> bool {
        self.prompt_logprobs.is_none()
    }

    /// These tokens, as the part in the prompt and the part in the answer.
    pub(crate) fn tokens(&self, range: Range<usize>) -> (&[u32], &[u32]) {
        let prompt = self.prompt.len();
        let in_prompt = range.start.min(prompt)..range.end.min(prompt);
        let in_answer = range.start.max(prompt) - prompt..range.end.max(prompt) - prompt;
        (&self.prompt[in_prompt], &self.generated[in_answer])
    }

    /// The hash of block `idx`; all its tokens must be known.
    pub(crate) fn hash(&mut self, idx: usize, block_size: usize, hasher: &mut BlockHasher) -> BlockHash {
        while self.hashes.len() <= idx {
            let start = self.hashes.len() * block_size;
            let (head, tail) = self.tokens(start..start + block_size);
            let hash = hasher.hash(self.hashes.last().copied(), head, tail);
            self.hashes.push(hash);
        }
        self.hashes[idx]
    }

    /// More tokens are computed: blocks they complete are full, and with a hasher they can be found again.
    pub(crate) fn advance(&mut self, num_tokens: usize, block_size: usize, hasher: Option<&mut BlockHasher>) {
        self.computed += num_tokens;
        let full = self.table.num_full()..self.computed / block_size;
        if full.is_empty() {
            return;
        }
        let findable = hasher.is_some();
        if let Some(hasher) = hasher {
            self.hash(full.end - 1, block_size, hasher);
        }
        let hashes = &self.hashes;
        self.table.seal(full.map(|idx| findable.then(|| hashes[idx])));
    }

    /// Keep log-probabilities of prompt tokens. A recomputed sequence may get some again.
    ///
    /// # Errors
    /// Some are missing.
    pub(crate) fn keep_prompt_logprobs(&mut self, run: PromptLogprobs) -> Result<(), ExecutorError> {
        let Some(kept) = &mut self.prompt_logprobs else { return Ok(()) };
        // The prompt's first token has none.
        let next = kept.len() + 1;
        let start = run.start as usize;
        if start > next {
            return Err(ExecutorError(format!(
                "log-probabilities of the prompt start at {start}, those from {next} on are missing"
            )));
        }
        let room = self.prompt.len().saturating_sub(next);
        kept.extend(run.tokens.into_iter().skip(next - start).take(room));
        Ok(())
    }

    /// Whether the prompt is computed for the first time just now.
    pub(crate) fn completes_prompt(&mut self) -> bool {
        let completes = !self.prompt_done && self.computed >= self.prompt.len();
        self.prompt_done |= completes;
        completes
    }

    /// The log-probabilities of the whole prompt, if they were asked for, once.
    ///
    /// # Errors
    /// Some are missing.
    pub(crate) fn take_prompt_logprobs(&mut self) -> Result<Option<PromptLogprobs>, ExecutorError> {
        let Some(tokens) = self.prompt_logprobs.take() else { return Ok(None) };
        if tokens.len() + 1 != self.prompt.len() {
            return Err(ExecutorError(format!(
                "there are log-probabilities for {} of {} prompt tokens",
                tokens.len(),
                self.prompt.len() - 1
            )));
        }
        Ok(Some(PromptLogprobs { start: 1, tokens }))
    }

    /// Whether the answer ends with this token, the next one.
    pub(crate) fn ends_with(&self, token: u32) -> Option<FinishReason> {
        let listed = |ids: &[u32]| ids.binary_search(&token).is_ok();
        let stops = listed(&self.stop.eos_token_ids) || listed(&self.stop.stop_token_ids);
        if stops && self.generated.len() >= self.stop.min_tokens {
            return Some(FinishReason::Stop { token });
        }
        (self.generated.len() + 1 >= self.stop.max_tokens).then_some(FinishReason::Length)
    }

    /// The answer goes on with this token.
    pub(crate) fn push(&mut self, token: u32) {
        self.generated.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_is_priority_then_arrival_within_bounds() {
        let before = |first: (i32, u64), second: (i32, u64)| {
            assert!(Rank::new(first.0, first.1) < Rank::new(second.0, second.1), "{first:?} {second:?}");
        };
        before((0, 1), (0, 2));
        before((-1, 2), (0, 1));
        before((0, 4000), (1, 1));
        before((1, 1), (0, 5000));
        before((i32::MIN, 9), (0, 1));
        before((0, 1), (i32::MAX, 0));
        before((i32::MAX, u64::MAX - 1), (i32::MAX, u64::MAX));
    }

    #[test]
    fn tokens_span_prompt_and_answer() {
        let limits = crate::Limits { max_model_len: 10, vocab_size: 10, max_logprobs: 0 };
        let stop = StopConditions { max_tokens: 5, ..StopConditions::default() };
        let request =
            GenerateRequest::new(vec![1, 2, 3], SamplingParams::default(), stop, 0, &limits).unwrap();
        let mut sequence = Sequence::new(&request, 0);
        [4, 5].into_iter().for_each(|token| sequence.push(token));
        let check = |range: Range<usize>, expect: (&[u32], &[u32])| {
            assert_eq!(sequence.tokens(range), expect);
        };
        check(0..5, (&[1, 2, 3], &[4, 5]));
        check(2..4, (&[3], &[4]));
        check(1..2, (&[2], &[]));
        check(3..3, (&[], &[]));
        check(4..5, (&[], &[5]));
    }
}
