//! Random loads: whatever comes in whatever order, answers are those of a request alone, and nothing leaks.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fake::{answer_alone, logprob_of};

/// What happens between two steps.
#[derive(Debug, Clone)]
enum Op {
    Submit(Ask),
    /// One of the live requests.
    Cancel(usize),
    Step,
}

#[derive(Debug, Clone)]
struct Ask {
    /// Requests of one family begin alike.
    family: u32,
    prompt: usize,
    max_tokens: usize,
    min_tokens: usize,
    priority: i32,
    stops: bool,
    seed: u64,
    prompt_logprobs: bool,
}

/// A live request and what was heard of it.
struct Heard {
    ask: Ask,
    request: GenerateRequest,
    events: Vec<TokenEvent>,
}

impl Ask {
    fn request(&self, limits: &Limits) -> GenerateRequest {
        let prompt: Vec<u32> = (0..self.prompt as u32).map(|at| (self.family + at / 5) % 3).collect();
        let sampling = SamplingParams {
            seed: self.seed,
            logprobs: Some(0),
            prompt_logprobs: self.prompt_logprobs.then_some(0),
            ..SamplingParams::default()
        };
        let stop = StopConditions {
            eos_token_ids: if self.stops { vec![1, 2, 3] } else { vec![] },
            stop_token_ids: vec![],
            max_tokens: self.max_tokens,
            min_tokens: self.min_tokens.min(self.max_tokens),
        };
        GenerateRequest::new(prompt, sampling, stop, self.priority, limits).unwrap()
    }
}

impl Heard {
    /// The answer is the one the request gets alone, told in the right order, and only once.
    fn check_complete(&self) -> Result<(), TestCaseError> {
        let (request, events) = (&self.request, &self.events);
        let (tokens, stopped) = answer_alone(request.prompt(), request.sampling(), request.stop());
        let mut expect = tokens
            .iter()
            .enumerate()
            .map(|(idx, token)| TokenEvent::Token {
                token: *token,
                logprobs: Some(Box::new(logprob_of(*token, self.ask.prompt + idx))),
            })
            .collect::<Vec<_>>();
        let reason = stopped.map_or(FinishReason::Length, |token| FinishReason::Stop { token });
        expect.push(TokenEvent::Finished { reason });
        if self.ask.prompt_logprobs {
            let tokens = (1..self.ask.prompt).map(|at| logprob_of(request.prompt()[at], at)).collect();
            expect.insert(0, TokenEvent::PromptLogprobs(crate::PromptLogprobs { start: 1, tokens }));
        }
        let first = events.first();
        let scheduled = matches!(first, Some(TokenEvent::Scheduled { cached_tokens }) if *cached_tokens < self.ask.prompt);
        prop_assert!(scheduled, "{first:?}");
        prop_assert_eq!(&events[1..], &expect[..]);
        Ok(())
    }
}

/// A bench, and all requests that live in it.
struct World {
    bench: Bench,
    live: HashMap<SeqId, Heard>,
    generated: u64,
    prompts: u64,
}

impl World {
    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Submit(ask) => {
                let request = ask.request(&LIMITS);
                if let Ok(seq) = self.bench.scheduler.submit(&request) {
                    let old = self.live.insert(seq, Heard { ask, request, events: Vec::new() });
                    prop_assert!(old.is_none(), "an id for two live requests");
                }
            }
            Op::Cancel(which) if !self.live.is_empty() => {
                let mut seqs: Vec<SeqId> = self.live.keys().copied().collect();
                seqs.sort_unstable();
                let seq = seqs[which % seqs.len()];
                self.bench.scheduler.cancel(seq);
                self.live.remove(&seq);
            }
            Op::Cancel(_) => {}
            Op::Step => {
                self.bench.step();
                self.listen()?;
            }
        }
        self.check_counts()
    }

    fn listen(&mut self) -> Result<(), TestCaseError> {
        for (seq, event) in std::mem::take(&mut self.bench.events) {
            let last = event.is_last();
            self.generated += event.num_tokens() as u64;
            let heard = self.live.get_mut(&seq).expect("events are about live requests");
            heard.events.push(event);
            if last && let Some(heard) = self.live.remove(&seq) {
                self.prompts += heard.ask.prompt as u64;
                heard.check_complete()?;
            }
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), TestCaseError> {
        let scheduler = &self.bench.scheduler;
        let stats = scheduler.stats();
        scheduler.pool.assert_consistent();
        let phase = |running: bool| {
            let sequences = scheduler.sequences.iter().flatten();
            sequences.filter(move |sequence| (sequence.phase != Phase::Waiting) == running)
        };
        prop_assert_eq!(stats.running, phase(true).count());
        prop_assert_eq!(stats.waiting, phase(false).count());
        prop_assert_eq!(stats.running + stats.waiting, self.live.len());
        let prefilling = phase(true).filter(|sequence| sequence.is_prefilling());
        prop_assert!(prefilling.clone().all(|sequence| sequence.remaining() > 1));
        prop_assert_eq!(scheduler.num_prefilling, prefilling.count());
        prop_assert!(phase(false).all(|sequence| sequence.table.is_empty()));
        prop_assert_eq!(stats.blocks_used == 0, stats.running == 0);
        prop_assert_eq!(stats.generation_tokens, self.generated);
        prop_assert!(stats.running <= scheduler.config.max_num_seqs);
        prop_assert!(self.bench.plan.tokens.len() <= scheduler.config.max_batched_tokens);
        Ok(())
    }

    /// Everything that is left finishes: nobody starves. Each step computes a token at least, and the most urgent
    /// sequence is never preempted, so the steps are bounded.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        let tokens = |heard: &Heard| heard.ask.prompt + heard.ask.max_tokens;
        let work: usize = self.live.values().map(tokens).sum();
        for _ in 0..=work + 1 {
            if !self.bench.scheduler.has_work() {
                break;
            }
            self.apply(Op::Step)?;
            prop_assert!(!self.bench.plan.is_empty());
        }
        prop_assert!(self.live.is_empty(), "all are answered");
        prop_assert!(!self.bench.scheduler.has_work());
        prop_assert_eq!(self.bench.scheduler.stats().blocks_used, 0);
        prop_assert_eq!(self.bench.executor.num_known(), 0, "the executor was told to forget all");
        Ok(())
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    let lengths = (0..3_u32, 1..24_usize, 1..12_usize, 0..4_usize);
    let manner = (-1..2_i32, any::<bool>(), 0..3_u64, 0..8_u8);
    (lengths, manner).prop_map(|((family, prompt, max_tokens, min_tokens), (priority, stops, seed, kind))| {
        Ask {
            family,
            prompt,
            max_tokens: if kind == 0 { 0 } else { max_tokens },
            min_tokens,
            priority,
            stops,
            seed,
            prompt_logprobs: kind <= 1,
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => ask().prop_map(Op::Submit),
        1 => any::<usize>().prop_map(Op::Cancel),
        6 => Just(Op::Step),
    ]
}

fn config() -> impl Strategy<Value = EngineConfig> {
    (1..6_usize, 6..40_usize, 1..6_usize, 0..12_usize, any::<bool>()).prop_map(
        |(block_size, slots, max_num_seqs, more_tokens, prefix_caching)| EngineConfig {
            block_size,
            num_blocks: slots.div_ceil(block_size),
            max_num_seqs,
            max_batched_tokens: max_num_seqs + more_tokens,
            max_waiting: 100,
            max_model_len: 40,
            prefix_caching,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_request_is_answered_as_if_it_were_alone(config in config(), ops in vec(op(), 0..80)) {
        let mut world = World { bench: Bench::new(config), live: HashMap::new(), generated: 0, prompts: 0 };
        for op in ops {
            world.apply(op)?;
        }
        world.finish()?;
        let stats = world.bench.scheduler.stats();
        prop_assert!(stats.prompt_tokens >= world.prompts, "every finished prompt is counted");
        prop_assert!(stats.prefix_hit_tokens <= stats.prefix_query_tokens);
    }

    #[test]
    fn everything_comes_back_after_cancels(config in config(), asks in vec(ask(), 1..20), steps in 0..12_usize) {
        let mut world = World { bench: Bench::new(config), live: HashMap::new(), generated: 0, prompts: 0 };
        for ask in asks {
            world.apply(Op::Submit(ask))?;
        }
        for _ in 0..steps {
            world.apply(Op::Step)?;
        }
        while !world.live.is_empty() {
            world.apply(Op::Cancel(0))?;
        }
        let stats = world.bench.scheduler.stats();
        prop_assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0));
        world.finish()?;
    }
}
