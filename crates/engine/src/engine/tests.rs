//! The engine's thread from outside: handles, streams, failures, the end.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use super::*;
use crate::event::FinishReason;
use crate::executor::StepOutput;
use crate::fake::{FakeExecutor, VOCAB, answer_alone};
use crate::handle::SubmitError;
use crate::request::{GenerateRequest, Limits, SamplingParams, StopConditions};
use crate::stats::{EngineState, StepStats};
use crate::stream::TokenStream;

const SIZES: EngineConfig = EngineConfig {
    block_size: 4,
    num_blocks: 64,
    max_num_seqs: 4,
    max_batched_tokens: 16,
    max_waiting: 8,
    max_model_len: 200,
    prefix_caching: true,
};

/// What a gated executor does with its next step.
#[derive(Debug)]
enum Gate {
    Pass,
    Fail,
    Panic,
}

/// Says when a step begins, and waits for leave to execute it. Passes freely when the test has let go of it.
struct Gated {
    model: FakeExecutor,
    begun: SyncSender<()>,
    gate: Receiver<Gate>,
}

/// The test's side of a [`Gated`].
struct Keeper {
    begun: Receiver<()>,
    gate: SyncSender<Gate>,
}

impl Executor for Gated {
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        let _ = self.begun.send(());
        match self.gate.recv().unwrap_or(Gate::Pass) {
            Gate::Pass => self.model.step(plan),
            Gate::Fail => Err(ExecutorError("the device is lost".to_owned())),
            Gate::Panic => panic!("index out of bounds"),
        }
    }
}

impl Keeper {
    /// Wait until a step has begun, so the engine is inside of it.
    fn wait(&self) {
        self.begun.recv().unwrap();
    }

    /// Let the step at hand end as said.
    fn open(&self, gate: Gate) {
        self.gate.send(gate).unwrap();
    }
}

fn fake() -> FakeExecutor {
    FakeExecutor::new(SIZES.block_size, SIZES.num_blocks)
}

fn free(config: EngineConfig) -> EngineHandle {
    let model = FakeExecutor::new(config.block_size, config.num_blocks);
    start(config, model, Box::new(())).unwrap()
}

fn gated(config: EngineConfig) -> (EngineHandle, Keeper) {
    let ((begin, begun), (open, gate)) = (sync_channel(100_000), sync_channel(0));
    let model = FakeExecutor::new(config.block_size, config.num_blocks);
    let handle = start(config, Gated { model, begun: begin, gate }, Box::new(())).unwrap();
    (handle, Keeper { begun, gate: open })
}

fn request(first: u32, max_tokens: usize) -> GenerateRequest {
    let limits = Limits { max_model_len: 200, vocab_size: VOCAB, max_logprobs: 5 };
    let stop = StopConditions { max_tokens, ..StopConditions::default() };
    GenerateRequest::new(vec![first, 2, 3], SamplingParams::default(), stop, 0, &limits).unwrap()
}

fn read(mut stream: TokenStream) -> Vec<TokenEvent> {
    std::iter::from_fn(|| stream.blocking_next()).collect()
}

fn tokens(events: &[TokenEvent]) -> Vec<u32> {
    let token = |event: &TokenEvent| match event {
        TokenEvent::Token { token, .. } => Some(*token),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

fn failed(why: &str) -> Option<TokenEvent> {
    Some(TokenEvent::Failed(why.to_owned()))
}

/// Wait until all that was asked of the engine is done.
fn settle(handle: &EngineHandle) {
    while handle.stats().has_work {
        thread::yield_now();
    }
}

#[test]
fn a_stream_tells_the_whole_answer_and_then_ends() {
    let handle = free(SIZES);
    let asked = request(1, 20);
    let mut stream = handle.submit(asked.clone()).unwrap();
    let first = stream.blocking_next();
    assert_eq!(first, Some(TokenEvent::Scheduled { cached_tokens: 0 }));
    let mut events = Vec::new();
    while let Some(event) = stream.blocking_next() {
        events.push(event);
    }
    assert_eq!(tokens(&events), answer_alone(asked.prompt(), asked.sampling(), asked.stop()).0);
    assert_eq!(events.last(), Some(&TokenEvent::Finished { reason: FinishReason::Length }));
    assert_eq!(stream.blocking_next(), None);
    let stats = handle.stats();
    assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0), "counted before it was told");
    assert_eq!((stats.prompt_tokens, stats.generation_tokens), (3, 20));
}

#[test]
fn the_engine_does_not_wait_for_slow_readers() {
    let handle = free(SIZES);
    let streams: Vec<_> = (0..6).map(|first| handle.submit(request(first, 100)).unwrap()).collect();
    handle.drain();
    handle.join();
    for stream in streams {
        assert_eq!(tokens(&read(stream)).len(), 100, "the answer was kept");
    }
}

#[test]
fn many_threads_get_their_own_answers() {
    let handle = free(EngineConfig { num_blocks: 40, max_waiting: 1000, ..SIZES });
    thread::scope(|scope| {
        for first in 0..8 {
            let handle = handle.clone();
            scope.spawn(move || {
                for max_tokens in 1..40 {
                    let asked = request(first, max_tokens);
                    let mut stream = handle.submit(asked.clone()).unwrap();
                    if max_tokens % 3 == 0 {
                        stream.blocking_next();
                        continue;
                    }
                    let told = tokens(&read(stream));
                    assert_eq!(told, answer_alone(asked.prompt(), asked.sampling(), asked.stop()).0);
                }
            });
        }
    });
    settle(&handle);
    let stats = handle.stats();
    assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0));
    assert_eq!(stats.state, EngineState::Running, "the fake model found no fault");
}

#[test]
fn the_queue_is_bounded_exactly() {
    let (handle, keeper) = gated(EngineConfig { max_num_seqs: 1, max_waiting: 3, ..SIZES });
    let running = handle.submit(request(0, 2)).unwrap();
    keeper.wait();
    let waiting: Vec<_> = (0..3).map(|first| handle.submit(request(first, 2)).unwrap()).collect();
    assert_eq!(handle.stats().waiting, 3, "counted before the engine saw them");
    let full = SubmitError::QueueFull { waiting: 3, limit: 3 };
    assert_eq!(handle.submit(request(9, 2)).unwrap_err(), full);
    drop(waiting);
    assert_eq!(handle.stats().waiting, 0, "the engine need not finish its step for that");
    let again: Vec<_> = (0..3).map(|first| handle.submit(request(first, 2)).unwrap()).collect();
    assert_eq!(handle.submit(request(9, 2)).unwrap_err(), full);
    keeper.open(Gate::Pass);
    keeper.wait();
    // Seen by the engine, and still waiting: one runs at a time.
    assert_eq!((handle.stats().running, handle.stats().waiting), (1, 3));
    assert_eq!(handle.submit(request(9, 2)).unwrap_err(), full);
    drop(keeper);
    assert_eq!(tokens(&read(running)).len(), 2);
    again.into_iter().for_each(|stream| assert_eq!(tokens(&read(stream)).len(), 2));
}

#[test]
fn dropping_a_stream_frees_all_it_held() {
    let (handle, keeper) = gated(SIZES);
    let streams: Vec<_> = (0..6).map(|first| handle.submit(request(first, 100)).unwrap()).collect();
    keeper.wait();
    keeper.open(Gate::Pass);
    keeper.wait();
    let stats = handle.stats();
    assert_eq!((stats.running, stats.waiting), (4, 2));
    assert!(stats.blocks_used >= 4 && stats.has_work);
    // In the middle of a step.
    drop(streams);
    keeper.open(Gate::Pass);
    // The next step only tells the model whom to forget.
    keeper.wait();
    let stats = handle.stats();
    assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0));
    keeper.open(Gate::Pass);
    settle(&handle);
    let steps = handle.stats().steps;
    assert_eq!(steps, 3, "an idle engine makes no steps");
}

#[test]
fn the_step_count_shows_whether_the_loop_advances() {
    let (handle, keeper) = gated(SIZES);
    assert!(!handle.stats().has_work);
    let _stream = handle.submit(request(0, 100)).unwrap();
    for steps in 0..3 {
        keeper.wait();
        assert_eq!((handle.stats().steps, handle.stats().has_work), (steps, true));
        keeper.open(Gate::Pass);
    }
}

#[test]
fn a_failure_is_told_to_all() {
    let check = |gate: Gate, why: &str| {
        let (handle, keeper) = gated(EngineConfig { max_num_seqs: 1, ..SIZES });
        let running = handle.submit(request(0, 100)).unwrap();
        keeper.wait();
        keeper.open(Gate::Pass);
        keeper.wait();
        let unseen = handle.submit(request(1, 100)).unwrap();
        let dropped = handle.submit(request(2, 100)).unwrap();
        keeper.open(gate);
        let events = read(running);
        assert_eq!(events.last(), failed(why).as_ref());
        assert_eq!(tokens(&events).len(), 1, "what was told stays told");
        assert_eq!(read(unseen).last(), failed(why).as_ref());
        assert_eq!(handle.state(), EngineState::Failed(why.to_owned()));
        let refused = handle.submit(request(0, 1)).unwrap_err();
        assert_eq!(refused, SubmitError::Failed(why.to_owned()));
        handle.join();
        drop(dropped);
        handle.drain();
        assert_eq!(handle.state(), EngineState::Failed(why.to_owned()), "it stays failed");
        let stats = handle.stats();
        assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0));
        assert!(!stats.has_work);
        assert_eq!(stats.steps, 1);
    };
    check(Gate::Fail, "the model failed: the device is lost");
    check(Gate::Panic, "the engine panicked: index out of bounds");
}

#[test]
fn a_drain_finishes_what_was_taken() {
    let (handle, keeper) = gated(EngineConfig { max_num_seqs: 1, ..SIZES });
    let running = handle.submit(request(0, 5)).unwrap();
    keeper.wait();
    let waiting = handle.submit(request(1, 5)).unwrap();
    handle.drain();
    assert_eq!(handle.state(), EngineState::Draining);
    assert_eq!(handle.submit(request(2, 5)).unwrap_err(), SubmitError::Draining);
    drop(keeper);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(handle.drained());
    assert_eq!(handle.state(), EngineState::Stopped);
    assert_eq!(handle.submit(request(2, 5)).unwrap_err(), SubmitError::Stopped);
    handle.join();
    handle.join();
    assert_eq!(tokens(&read(running)).len(), 5);
    assert_eq!(tokens(&read(waiting)).len(), 5);
    assert!(!handle.stats().has_work);
}

#[test]
fn the_grace_time_may_end_before_the_requests() {
    let (handle, keeper) = gated(EngineConfig { max_num_seqs: 1, ..SIZES });
    let streams: Vec<_> = (0..3).map(|first| handle.submit(request(first, 100)).unwrap()).collect();
    keeper.wait();
    handle.drain();
    handle.abort_all("the server is shutting down");
    drop(keeper);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(handle.drained());
    for stream in streams {
        assert_eq!(read(stream).last(), failed("the server is shutting down").as_ref());
    }
    assert_eq!(handle.state(), EngineState::Stopped);
}

#[test]
fn after_an_abort_requests_are_taken_as_before() {
    let handle = free(SIZES);
    let stream = handle.submit(request(0, 100)).unwrap();
    handle.abort_all("enough");
    let end = read(stream);
    assert!(matches!(end.last(), Some(event) if event.is_last()));
    assert_eq!(tokens(&read(handle.submit(request(0, 5)).unwrap())).len(), 5);
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    let (handle, Keeper { begun, gate }) = gated(SIZES);
    drop(gate);
    let other = handle.clone();
    let stream = handle.submit(request(0, 50)).unwrap();
    drop(handle);
    assert_eq!(other.state(), EngineState::Running);
    let last = other.submit(request(1, 50)).unwrap();
    drop(other);
    assert_eq!(tokens(&read(stream)).len(), 50, "what was taken is finished");
    assert_eq!(tokens(&read(last)).len(), 50);
    // Ends when the executor is gone, which the thread owned.
    assert!(begun.iter().count() >= 50);
}

#[test]
fn what_can_never_run_is_refused() {
    let handle = free(EngineConfig { num_blocks: 2, ..SIZES });
    let check = |max_tokens: usize, expect: &str| {
        let said =
            handle.submit(request(0, max_tokens)).map_or_else(|error| error.to_string(), |_| "ok".into());
        assert_eq!(said, expect);
    };
    check(6, "ok");
    check(
        7,
        "the request may need 3 KV blocks (9 tokens) and the cache has 2; lower max_tokens or shorten the prompt",
    );
    let small = EngineConfig { max_batched_tokens: 1, ..SIZES };
    let refused = start(small, fake(), Box::new(())).unwrap_err();
    assert!(refused.to_string().contains("max_batched_tokens is 1"), "{refused}");
}

#[test]
fn an_observer_hears_of_each_step() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<(&'static str, StepStats)>>>);
    impl Observer for Log {
        fn step_planned(&mut self, step: &StepStats) {
            self.0.lock().unwrap().push(("planned", *step));
        }
        fn step(&mut self, step: &StepStats) {
            self.0.lock().unwrap().push(("done", *step));
        }
    }
    let log = Log::default();
    let handle = start(SIZES, fake(), Box::new(log.clone())).unwrap();
    read(handle.submit(request(0, 3)).unwrap());
    handle.drain();
    handle.join();
    let log = log.0.lock().unwrap();
    let told: Vec<_> = log
        .iter()
        .map(|(what, step)| (*what, step.step, step.sequences, step.prefill_tokens, step.decode_tokens))
        .collect();
    let expect = [(1, 1, 3, 0), (2, 1, 0, 1), (3, 1, 0, 1), (4, 0, 0, 0)];
    let expect: Vec<_> = expect
        .into_iter()
        .flat_map(|(step, sequences, prefill, decode)| {
            ["planned", "done"].map(|what| (what, step, sequences, prefill, decode))
        })
        .collect();
    assert_eq!(told, expect);
}

#[test]
fn an_observer_with_a_clock_can_tell_the_model_from_the_loop_around_it() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<&'static str>>>);
    impl Log {
        fn note(&self, word: &'static str) {
            self.0.lock().unwrap().push(word);
        }
    }
    impl Observer for Log {
        fn resumed(&mut self) {
            self.note("resumed");
        }
        fn step_planned(&mut self, _step: &StepStats) {
            self.note("planned");
        }
        fn step_executed(&mut self) {
            self.note("executed");
        }
        fn step(&mut self, _step: &StepStats) {
            self.note("done");
        }
    }
    struct Noting(FakeExecutor, Log);
    impl Executor for Noting {
        fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
            self.1.note("model");
            self.0.step(plan)
        }
    }
    let log = Log::default();
    let handle = start(SIZES, Noting(fake(), log.clone()), Box::new(log.clone())).unwrap();
    read(handle.submit(request(0, 3)).unwrap());
    handle.drain();
    handle.join();
    let log = log.0.lock().unwrap();
    assert_eq!(log[0], "resumed", "it had waited for the request");
    let steps: Vec<_> = log.iter().copied().filter(|word| *word != "resumed").collect();
    assert!(steps.len() >= 12, "{log:?}");
    for step in steps.chunks(4) {
        assert_eq!(step, ["planned", "model", "executed", "done"], "{log:?}");
    }
}

#[test]
fn an_executor_that_outlives_its_stream_still_answers_others() {
    let handle = free(EngineConfig { max_num_seqs: 2, ..SIZES });
    for first in 0..100 {
        let keep = handle.submit(request(first % 7, 9)).unwrap();
        drop(handle.submit(request(first % 5, 90)).unwrap());
        assert_eq!(tokens(&read(keep)).len(), 9);
    }
    settle(&handle);
    assert_eq!(handle.stats().blocks_used, 0);
}
