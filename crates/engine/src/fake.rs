//! An executor for tests. Its tokens follow from the history of a sequence alone, and it checks the contract:
//! it keeps in each slot of its KV cache what was written there, and looks at every position a token reads.

use std::collections::HashSet;
use std::sync::Arc;

use crate::executor::{Executor, ExecutorError, PromptLogprobs, Sampled, StepOutput, TokenLogprobs};
use crate::plan::{BlockId, SequenceWork, StepPlan};
use crate::request::SamplingParams;

/// Token ids are below this.
pub(crate) const VOCAB: usize = 32;

/// Panics when a plan breaks the contract.
#[derive(Debug)]
pub(crate) struct FakeExecutor {
    block_size: usize,
    /// What each slot holds: the digest of all tokens up to its position.
    kv: Vec<Option<u64>>,
    states: Vec<Option<State>>,
    steps: u64,
}

#[derive(Debug)]
struct State {
    prompt: usize,
    tokens: Vec<u32>,
    sampling: Arc<SamplingParams>,
    table: Vec<BlockId>,
    computed: usize,
}

/// Digest of a token after a history.
fn digest(before: u64, token: u32) -> u64 {
    let mut bytes = before.to_le_bytes().to_vec();
    bytes.extend(token.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// Digests of all prefixes.
fn digests(tokens: &[u32]) -> Vec<u64> {
    let scan = tokens.iter().scan(1, |before, token| {
        *before = digest(*before, *token);
        Some(*before)
    });
    scan.collect()
}

/// The token that follows these.
pub(crate) fn next_token(tokens: &[u32], sampling: &SamplingParams) -> u32 {
    let history = digests(tokens).last().copied().unwrap_or(0);
    (history ^ sampling.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) as u32 % VOCAB as u32
}

/// What the fake says of a token at a position.
pub(crate) fn logprob_of(token: u32, position: usize) -> TokenLogprobs {
    TokenLogprobs { logprob: -(position as f32) - token as f32 / 100.0, rank: token + 1, top: Vec::new() }
}

impl FakeExecutor {
    pub(crate) fn new(block_size: usize, num_blocks: usize) -> Self {
        Self { block_size, kv: vec![None; block_size * num_blocks], states: Vec::new(), steps: 0 }
    }

    /// Sequences it has not been told to forget.
    pub(crate) fn num_known(&self) -> usize {
        self.states.iter().flatten().count()
    }

    fn state(&mut self, work: &SequenceWork) -> &mut State {
        self.states[work.seq.0 as usize].as_mut().expect("work for a sequence that was not started")
    }

    fn forget_and_start(&mut self, plan: &StepPlan) {
        for seq in &plan.finished {
            let state = self.states[seq.0 as usize].take();
            assert!(state.is_some(), "finished, but never started: {seq:?}");
        }
        for started in &plan.started {
            let idx = started.seq.0 as usize;
            if self.states.len() <= idx {
                self.states.resize_with(idx + 1, || None);
            }
            assert!(self.states[idx].is_none(), "started twice: {:?}", started.seq);
            assert!(plan.work.iter().any(|work| work.seq == started.seq), "started without work");
            self.states[idx] = Some(State {
                prompt: started.prompt.len(),
                tokens: started.prompt.to_vec(),
                sampling: started.sampling.clone(),
                table: Vec::new(),
                computed: 0,
            });
        }
    }

    /// Bring the block table up to date and check what can be checked without the KV cache.
    fn extend(&mut self, plan: &StepPlan, work: &SequenceWork) {
        let block_size = self.block_size;
        let state = self.state(work);
        let (start, end) = (work.start as usize, work.start as usize + work.num_tokens());
        if work.reset_blocks {
            state.table.clear();
        } else {
            assert_eq!(start, state.computed, "positions are contiguous");
        }
        state.table.extend(plan.blocks_of(work));
        assert_eq!(state.table.len(), end.div_ceil(block_size), "as many blocks as needed");
        assert!(work.num_tokens() > 0, "work feeds tokens");
        assert_eq!(plan.tokens_of(work), &state.tokens[start..end], "the sequence's own tokens");
        assert_eq!(work.num_generated as usize, state.tokens.len() - state.prompt, "its own count");
        assert!(!work.sample || end == state.tokens.len(), "a sample is taken at the end only");
        state.computed = end;
    }

    fn slots(&self, state: &State, positions: std::ops::Range<usize>) -> Vec<usize> {
        let slot = |position: usize| {
            state.table[position / self.block_size] as usize * self.block_size + position % self.block_size
        };
        positions.map(slot).collect()
    }

    /// Every position before `end` holds what this sequence wrote there, or one with the same tokens before it.
    fn check_reads(&self, work: &SequenceWork, end: usize) {
        let state = self.states[work.seq.0 as usize].as_ref().expect("known");
        for (slot, wanted) in self.slots(state, 0..end).into_iter().zip(digests(&state.tokens)) {
            assert_eq!(self.kv[slot], Some(wanted), "{:?} reads slot {slot}, which another owns", work.seq);
        }
    }
}

impl Executor for FakeExecutor {
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        self.steps += 1;
        assert_eq!(plan.step, self.steps, "steps are numbered without gaps");
        assert!(!plan.is_empty(), "no step without anything to do");
        self.forget_and_start(plan);
        let at_most_once: HashSet<_> = plan.work.iter().map(|work| work.seq).collect();
        assert_eq!(at_most_once.len(), plan.work.len(), "a sequence is in a step once");

        let mut written = HashSet::new();
        for work in &plan.work {
            self.extend(plan, work);
            self.check_reads(work, work.start as usize);
        }
        for work in &plan.work {
            let state = self.states[work.seq.0 as usize].as_ref().expect("known");
            let positions = work.start as usize..state.computed;
            let digests = digests(&state.tokens);
            for (slot, position) in self.slots(state, positions.clone()).into_iter().zip(positions) {
                assert!(written.insert(slot), "slot {slot} is written twice in a step");
                self.kv[slot] = Some(digests[position]);
            }
        }
        let mut output = StepOutput::default();
        for work in &plan.work {
            let state = self.states[work.seq.0 as usize].as_ref().expect("known");
            self.check_reads(work, state.computed);
            if state.sampling.prompt_logprobs.is_some() && (work.start as usize) + 1 < state.prompt {
                let known = work.start as usize + 1..(state.computed + 1).min(state.prompt);
                let tokens = known.map(|position| logprob_of(state.tokens[position], position)).collect();
                output.prompt_logprobs.push((work.seq, PromptLogprobs { start: work.start + 1, tokens }));
            }
            if work.sample {
                let token = next_token(&state.tokens, &state.sampling);
                let logprobs = state.sampling.logprobs.map(|_| Box::new(logprob_of(token, state.computed)));
                output.sampled.push(Sampled::Token { token, logprobs });
                self.state(work).tokens.push(token);
            }
        }
        Ok(output)
    }
}

/// The tokens of an answer and the id that stopped it, worked out without any engine.
pub(crate) fn answer_alone(
    prompt: &[u32],
    sampling: &SamplingParams,
    stop: &crate::StopConditions,
) -> (Vec<u32>, Option<u32>) {
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + stop.max_tokens {
        let token = next_token(&tokens, sampling);
        let ends = stop.eos_token_ids.contains(&token) || stop.stop_token_ids.contains(&token);
        if ends && tokens.len() - prompt.len() >= stop.min_tokens {
            return (tokens.split_off(prompt.len()), Some(token));
        }
        tokens.push(token);
    }
    (tokens.split_off(prompt.len()), None)
}
