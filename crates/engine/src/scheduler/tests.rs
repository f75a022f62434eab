//! Single decisions of the scheduler, told as the plans it makes, and properties under random loads.

use super::*;
use crate::event::FinishReason;
use crate::executor::{Executor, Sampled, StepOutput};
use crate::fake::{FakeExecutor, VOCAB};
use crate::plan::SequenceWork;
use crate::request::{Limits, SamplingParams, StopConditions};

mod load;

const LIMITS: Limits = Limits { max_model_len: 1 << 20, vocab_size: VOCAB, max_logprobs: 5 };

const SIZES: EngineConfig = EngineConfig {
    block_size: 4,
    num_blocks: 16,
    max_num_seqs: 4,
    max_batched_tokens: 8,
    max_waiting: 100,
    max_model_len: 64,
    prefix_caching: true,
};

/// A scheduler and the fake model, one step at a time.
struct Bench {
    scheduler: Scheduler,
    executor: FakeExecutor,
    plan: StepPlan,
    events: Events,
}

impl Bench {
    fn new(config: EngineConfig) -> Self {
        config.check().unwrap();
        Self {
            executor: FakeExecutor::new(config.block_size, config.num_blocks),
            scheduler: Scheduler::new(config),
            plan: StepPlan::default(),
            events: Events::new(),
        }
    }

    /// Submit a prompt of its own of this length, without anything that stops it early.
    fn submit(&mut self, prompt: usize, max_tokens: usize, priority: i32) -> SeqId {
        let own = self.scheduler.arrivals as u32;
        let prompt = (0..prompt as u32).map(|position| (own * 7 + position) % VOCAB as u32).collect();
        self.submit_prompt(prompt, max_tokens, priority)
    }

    fn submit_prompt(&mut self, prompt: Vec<u32>, max_tokens: usize, priority: i32) -> SeqId {
        let stop = StopConditions { max_tokens, ..StopConditions::default() };
        let request =
            GenerateRequest::new(prompt, SamplingParams::default(), stop, priority, &LIMITS).unwrap();
        self.scheduler.submit(&request).unwrap()
    }

    /// One step, as `sequence:start+tokens` for each work item, `!` behind those that sample, `*` before those whose
    /// blocks are told anew, and `-sequence` for those that are gone.
    fn step(&mut self) -> String {
        let before = self.scheduler.stats();
        self.scheduler.plan(&mut self.plan, &mut self.events);
        self.scheduler.pool.assert_consistent();
        if self.plan.is_empty() {
            return "nothing".to_owned();
        }
        let output = self.executor.step(&self.plan).unwrap();
        self.scheduler.commit(&self.plan, output, &mut self.events).unwrap();
        self.scheduler.pool.assert_consistent();
        assert_eq!(self.scheduler.stats().steps, before.steps + 1);
        let gone = self.plan.finished.iter().map(|seq| format!("-{}", seq.0));
        let work = self.plan.work.iter().map(describe);
        gone.chain(work).collect::<Vec<_>>().join(" ")
    }

    fn steps(&mut self, expect: &[&str]) {
        for (idx, expect) in expect.iter().enumerate() {
            assert_eq!(self.step(), *expect, "step {idx}");
        }
    }

    /// Step until nothing is left; the sequences in the order in which they finish.
    fn finish(&mut self) -> Vec<SeqId> {
        while self.scheduler.has_work() {
            assert_ne!(self.step(), "nothing", "a scheduler with work makes progress");
        }
        let last = self.events.iter().filter(|(_, event)| event.is_last());
        last.map(|(seq, _)| *seq).collect()
    }
}

fn describe(work: &SequenceWork) -> String {
    let reset = if work.reset_blocks { "*" } else { "" };
    let sample = if work.sample { "!" } else { "" };
    format!("{reset}{}:{}+{}{sample}", work.seq.0, work.start, work.num_tokens())
}

#[test]
fn a_long_prompt_is_computed_in_chunks_beside_decodes() {
    let mut bench = Bench::new(SIZES);
    bench.submit(3, 5, 0);
    bench.submit(20, 2, 0);
    bench.steps(&[
        "*0:0+3! *1:0+5",
        "0:3+1! 1:5+7",
        "0:4+1! 1:12+7",
        "0:5+1! 1:19+1!",
        "0:6+1! 1:20+1!",
        "-0 -1",
        "nothing",
    ]);
}

#[test]
fn decodes_get_their_token_before_any_prompt() {
    let mut bench = Bench::new(EngineConfig { max_batched_tokens: 4, ..SIZES });
    bench.submit(1, 9, 1);
    bench.submit(1, 9, 1);
    bench.submit(1, 9, 1);
    bench.step();
    bench.submit(6, 2, 0);
    bench.steps(&["0:1+1! 1:1+1! 2:1+1! *3:0+1", "3:1+1 0:2+1! 1:2+1! 2:2+1!"]);
}

#[test]
fn the_number_of_running_sequences_is_bounded() {
    let mut bench = Bench::new(EngineConfig { max_num_seqs: 2, ..SIZES });
    for _ in 0..3 {
        bench.submit(1, 2, 0);
    }
    bench.steps(&["*0:0+1! *1:0+1!", "0:1+1! 1:1+1!", "-0 -1 *2:0+1!", "2:1+1!", "-2"]);
}

#[test]
fn urgent_requests_go_first_and_equal_ones_in_order() {
    let check = |priorities: &[i32], expect: &[u32]| {
        let mut bench = Bench::new(EngineConfig { max_num_seqs: 1, ..SIZES });
        for priority in priorities {
            bench.submit(2, 1, *priority);
        }
        assert_eq!(bench.finish(), expect.iter().copied().map(SeqId).collect::<Vec<_>>());
    };
    check(&[0, 0, 0], &[0, 1, 2]);
    check(&[2, 1, 0], &[2, 1, 0]);
    check(&[5, -5, 5, -5, 0], &[1, 3, 4, 0, 2]);
    check(&[i32::MAX, i32::MIN], &[1, 0]);
}

#[test]
fn urgent_requests_without_end_do_not_starve_the_others() {
    let mut bench = Bench::new(EngineConfig { max_num_seqs: 1, ..SIZES });
    let patient = bench.submit(1, 1, 1);
    for _ in 0..5000 {
        bench.submit(1, 1, 0);
        bench.submit(1, 1, 0);
        bench.step();
        if bench.events.iter().any(|(seq, event)| *seq == patient && event.is_last()) {
            return;
        }
        bench.events.clear();
    }
    panic!("overtaken for ever");
}

#[test]
fn the_lowest_in_rank_yields_when_blocks_run_out() {
    // Blocks for 16 tokens. The third is the most urgent, the second the least.
    let mut bench = Bench::new(EngineConfig { num_blocks: 4, prefix_caching: false, ..SIZES });
    bench.submit(3, 8, 0);
    bench.submit(3, 8, 1);
    bench.submit(2, 8, -1);
    bench.steps(&["*2:0+2! *0:0+3! *1:0+3!", "2:2+1! 0:3+1! 1:3+1!"]);
    // Two need a second block now and one is free: the second sequence goes.
    bench.steps(&["2:3+1! 0:4+1!", "2:4+1! 0:5+1!"]);
    assert_eq!(bench.scheduler.stats().preemptions, 1);
    assert_eq!(bench.scheduler.stats().waiting, 1);
    assert_eq!(bench.finish(), [SeqId(2), SeqId(0), SeqId(1)]);
    let tokens = bench.events.iter().filter(|(_, event)| matches!(event, TokenEvent::Token { .. })).count();
    assert_eq!(tokens, 24, "nothing is lost");
    assert_eq!(bench.scheduler.stats().prompt_tokens, 8, "recomputed prompts are not counted again");
}

#[test]
fn a_preempted_sequence_goes_before_those_that_never_ran() {
    let mut bench = Bench::new(EngineConfig { num_blocks: 4, prefix_caching: false, ..SIZES });
    bench.submit(4, 9, 0);
    bench.submit(4, 9, 0);
    bench.step();
    bench.submit(1, 1, 0);
    (0..4).for_each(|at| assert_eq!(bench.step(), format!("0:{at}+1! 1:{at}+1!", at = at + 4)));
    // The second yields. The third would fit beside the first, but would overtake it.
    bench.steps(&["0:8+1!", "0:9+1!", "0:10+1!", "0:11+1!", "-0 *1:0+8", "1:8+1! *2:0+1!"]);
    assert_eq!(bench.scheduler.stats().preemptions, 1);
}

#[test]
fn a_sequence_without_a_block_keeps_what_it_has_until_another_needs_it() {
    let mut bench = Bench::new(EngineConfig { num_blocks: 5, max_batched_tokens: 16, ..SIZES });
    bench.submit(7, 4, 0);
    bench.submit(7, 4, 1);
    bench.steps(&["*0:0+7! *1:0+7!", "0:7+1! 1:7+1!", "0:8+1!", "0:9+1!", "-0 1:8+1!"]);
    assert_eq!(bench.scheduler.stats().preemptions, 0);
}

#[test]
fn a_preempted_sequence_finds_its_blocks_again() {
    let mut bench = Bench::new(EngineConfig { num_blocks: 5, max_batched_tokens: 16, ..SIZES });
    bench.submit(7, 10, 0);
    bench.submit(7, 4, 1);
    bench.steps(&["*0:0+7! *1:0+7!", "0:7+1! 1:7+1!"]);
    (8..16).for_each(|at| assert_eq!(bench.step(), format!("0:{at}+1!")));
    assert_eq!(bench.scheduler.stats().preemptions, 1);
    // The first took the later one of its two full blocks.
    bench.steps(&["-0 *1:4+5!"]);
    assert_eq!(bench.scheduler.stats().prefix_hit_tokens, 0, "hits are counted when a request first starts");
}

#[test]
fn a_new_sequence_starts_only_when_all_its_tokens_fit() {
    let sizes = EngineConfig { num_blocks: 8, max_batched_tokens: 26, prefix_caching: false, ..SIZES };
    let mut bench = Bench::new(sizes);
    bench.submit(24, 2, 0);
    bench.submit(9, 1, 0);
    // The first holds six of eight blocks, the second needs three: it waits, though there is room for a chunk.
    bench.steps(&["*0:0+24!", "0:24+1!", "-0 *1:0+9!"]);
    assert_eq!(bench.scheduler.stats().preemptions, 0);
}

#[test]
fn a_new_sequence_leaves_some_room_for_the_running_ones() {
    let check = |num_blocks: usize, expect: &[&str]| {
        let config = EngineConfig { num_blocks, max_batched_tokens: 300, max_model_len: 256, ..SIZES };
        let mut bench = Bench::new(config);
        bench.submit(4, 3, 0);
        bench.submit(62 * 4, 1, 0);
        bench.steps(expect);
    };
    check(64, &["*0:0+4! *1:0+248!"]);
    check(63, &["*0:0+4!", "0:4+1!", "0:5+1!", "-0 *1:0+248!"]);
}

#[test]
fn equal_prefixes_are_computed_once() {
    let check = |prompt: usize, skip: bool, expect: &str, hits: u64| {
        let mut bench = Bench::new(EngineConfig { max_batched_tokens: 64, ..SIZES });
        bench.submit_prompt((0..prompt as u32).collect(), 1, 0);
        bench.step();
        let sampling = SamplingParams { prompt_logprobs: skip.then_some(0), ..SamplingParams::default() };
        let stop = StopConditions { max_tokens: 1, ..StopConditions::default() };
        let prompt = (0..prompt as u32).collect();
        let request = GenerateRequest::new(prompt, sampling, stop, 0, &LIMITS).unwrap();
        bench.scheduler.submit(&request).unwrap();
        bench.steps(&[expect]);
        assert_eq!(bench.scheduler.stats().prefix_hit_tokens, hits);
        let cached = bench.events.iter().filter_map(|(_, event)| match event {
            TokenEvent::Scheduled { cached_tokens } => Some(*cached_tokens as u64),
            _ => None,
        });
        assert_eq!(cached.sum::<u64>(), hits);
    };
    check(3, false, "-0 *1:0+3!", 0);
    check(7, false, "-0 *1:4+3!", 4);
    // At least one token is computed, even when all are cached.
    check(8, false, "-0 *1:4+4!", 4);
    check(9, false, "-0 *1:8+1!", 8);
    // The distribution of every prompt token is wanted.
    check(9, true, "-0 *1:0+9!", 0);
}

#[test]
fn blocks_are_shared_only_once_they_are_computed() {
    let mut bench = Bench::new(EngineConfig { max_batched_tokens: 12, ..SIZES });
    bench.submit_prompt((0..10).collect(), 2, 0);
    bench.submit_prompt((0..10).collect(), 2, 0);
    bench.steps(&["*0:0+10! *1:0+2", "0:10+1! 1:2+8!"]);
    bench.submit_prompt((0..10).collect(), 2, 0);
    bench.steps(&["-0 1:10+1! *2:8+2!"]);
}

#[test]
fn without_prefix_caching_nothing_is_found() {
    let mut bench = Bench::new(EngineConfig { prefix_caching: false, max_batched_tokens: 64, ..SIZES });
    bench.submit_prompt((0..9).collect(), 1, 0);
    bench.step();
    bench.submit_prompt((0..9).collect(), 1, 0);
    bench.steps(&["-0 *1:0+9!"]);
    let stats = bench.scheduler.stats();
    assert_eq!((stats.blocks_cached, stats.prefix_query_tokens, stats.prefix_hit_tokens), (0, 0, 0));
}

#[test]
fn what_can_never_fit_is_refused() {
    let mut scheduler = Scheduler::new(EngineConfig { num_blocks: 2, ..SIZES });
    let mut check = |prompt: usize, max_tokens: usize, fits: bool| {
        let stop = StopConditions { max_tokens, ..StopConditions::default() };
        let request =
            GenerateRequest::new(vec![1; prompt], SamplingParams::default(), stop, 0, &LIMITS).unwrap();
        assert_eq!(scheduler.submit(&request).is_ok(), fits);
    };
    check(8, 1, true);
    check(9, 1, false);
    check(4, 5, true);
    check(4, 6, false);
}

#[test]
fn an_answer_ends_for_its_reason() {
    let check = |sampled: &[u32], stop: StopConditions, expect: (usize, FinishReason)| {
        let mut scheduler = Scheduler::new(SIZES);
        let (mut plan, mut events) = (StepPlan::default(), Events::new());
        let request = GenerateRequest::new(vec![1, 2], SamplingParams::default(), stop, 0, &LIMITS).unwrap();
        scheduler.submit(&request).unwrap();
        for token in sampled {
            scheduler.plan(&mut plan, &mut events);
            let sampled = vec![Sampled::Token { token: *token, logprobs: None }];
            let output = StepOutput { sampled, ..StepOutput::default() };
            scheduler.commit(&plan, output, &mut events).unwrap();
        }
        let told = events.iter().filter(|(_, event)| matches!(event, TokenEvent::Token { .. })).count();
        let reason = match events.last() {
            Some((_, TokenEvent::Finished { reason })) => *reason,
            other => panic!("not finished: {other:?}"),
        };
        assert_eq!((told, reason), expect);
        assert_eq!(scheduler.stats().generation_tokens, sampled.len() as u64);
        let counted: usize = events.iter().map(|(_, event)| event.num_tokens()).sum();
        assert_eq!(counted, sampled.len(), "the stop token counts");
        assert_eq!(scheduler.stats().blocks_used, 0);
    };
    let stop =
        StopConditions { eos_token_ids: vec![9], stop_token_ids: vec![7], max_tokens: 4, min_tokens: 0 };
    check(&[1, 2, 3, 4], stop.clone(), (4, FinishReason::Length));
    check(&[9], stop.clone(), (0, FinishReason::Stop { token: 9 }));
    check(&[1, 7], stop.clone(), (1, FinishReason::Stop { token: 7 }));
    check(&[1, 2, 3, 9], stop.clone(), (3, FinishReason::Stop { token: 9 }));
    let later = StopConditions { min_tokens: 2, ..stop };
    check(&[9, 7, 9], later, (2, FinishReason::Stop { token: 9 }));
}

#[test]
fn a_request_may_want_nothing_but_log_probabilities_of_its_prompt() {
    let check = |prompt: usize| {
        let mut bench = Bench::new(SIZES);
        let sampling = SamplingParams { prompt_logprobs: Some(0), ..SamplingParams::default() };
        let request = GenerateRequest::new(
            (0..prompt as u32).collect(),
            sampling,
            StopConditions::default(),
            0,
            &LIMITS,
        );
        bench.scheduler.submit(&request.unwrap()).unwrap();
        bench.finish();
        let expect: Vec<_> = (1..prompt).map(|at| crate::fake::logprob_of(at as u32, at)).collect();
        let events: Vec<_> = bench.events.into_iter().map(|(_, event)| event).collect();
        assert_eq!(
            events,
            [
                TokenEvent::Scheduled { cached_tokens: 0 },
                TokenEvent::PromptLogprobs(crate::PromptLogprobs { start: 1, tokens: expect }),
                TokenEvent::Finished { reason: FinishReason::Length },
            ]
        );
        assert_eq!(bench.scheduler.counts.generation_tokens, 0);
    };
    // In one chunk, exactly one, one and a bit, several.
    [1, 5, 8, 9, 30].into_iter().for_each(check);
}

#[test]
fn one_sequence_may_fail_alone() {
    let mut scheduler = Scheduler::new(SIZES);
    let (mut plan, mut events) = (StepPlan::default(), Events::new());
    let stop = StopConditions { max_tokens: 4, ..StopConditions::default() };
    let request = GenerateRequest::new(vec![1], SamplingParams::default(), stop, 0, &LIMITS).unwrap();
    let first = scheduler.submit(&request).unwrap();
    let second = scheduler.submit(&request).unwrap();
    scheduler.plan(&mut plan, &mut events);
    events.clear();
    let sampled = vec![Sampled::Failed("all is NaN".to_owned()), Sampled::Token { token: 3, logprobs: None }];
    scheduler.commit(&plan, StepOutput { sampled, ..StepOutput::default() }, &mut events).unwrap();
    assert_eq!(
        events,
        [
            (first, TokenEvent::Failed("all is NaN".to_owned())),
            (second, TokenEvent::Token { token: 3, logprobs: None }),
        ]
    );
    scheduler.plan(&mut plan, &mut events);
    assert_eq!(plan.finished, [first]);
    assert_eq!(plan.work.len(), 1);
}

#[test]
fn an_outcome_that_does_not_answer_the_plan_is_an_error() {
    let check = |given: usize, expect: &str| {
        let mut scheduler = Scheduler::new(SIZES);
        let (mut plan, mut events) = (StepPlan::default(), Events::new());
        let stop = StopConditions { max_tokens: 4, ..StopConditions::default() };
        let request = GenerateRequest::new(vec![1], SamplingParams::default(), stop, 0, &LIMITS).unwrap();
        scheduler.submit(&request).unwrap();
        scheduler.plan(&mut plan, &mut events);
        let sampled = vec![Sampled::Token { token: 3, logprobs: None }; given];
        let outcome = scheduler.commit(&plan, StepOutput { sampled, ..StepOutput::default() }, &mut events);
        assert_eq!(outcome.unwrap_err().to_string(), expect);
    };
    check(0, "the model failed: step 1 asked for 1 tokens and got 0");
    check(2, "the model failed: step 1 asked for 1 tokens and got 2");
}

#[test]
fn an_id_is_given_again_only_after_the_executor_forgot_it() {
    let mut bench = Bench::new(SIZES);
    let first = bench.submit(1, 3, 0);
    bench.step();
    bench.scheduler.cancel(first);
    assert_eq!(bench.scheduler.stats().blocks_used, 0, "blocks come back at once");
    let second = bench.submit(1, 1, 0);
    assert_ne!(second, first);
    bench.steps(&["-0 *1:0+1!"]);
    assert_eq!(bench.submit(1, 1, 0), first);
    bench.scheduler.cancel(first);
    assert_eq!(bench.submit(1, 1, 0), first, "the executor never heard of it");
    bench.finish();
    assert_eq!(bench.executor.num_known(), 0);
}

#[test]
fn a_step_tells_what_it_does() {
    let mut bench = Bench::new(SIZES);
    bench.submit(3, 5, 0);
    bench.submit(20, 2, 0);
    let expect = StepStats {
        step: 1,
        sequences: 2,
        prefill_tokens: 8,
        admitted: 2,
        running: 2,
        ..StepStats::default()
    };
    bench.step();
    assert_eq!(bench.scheduler.step_stats(), expect);
    bench.submit(1, 1, 0);
    let expect = StepStats {
        step: 2,
        sequences: 2,
        prefill_tokens: 7,
        decode_tokens: 1,
        running: 2,
        waiting: 1,
        ..StepStats::default()
    };
    bench.step();
    assert_eq!(bench.scheduler.step_stats(), expect);
}
