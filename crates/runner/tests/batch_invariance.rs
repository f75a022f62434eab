//! A request gives the same bits alone and under load: real engine, real model, tiny cache.

use proptest::prelude::*;
use vlinders_engine::{
    EngineConfig, EngineHandle, GenerateRequest, Limits, SamplingParams, StopConditions, TokenEvent, start,
};
use vlinders_runner::{KvDtype, LoadOptions, ModelFiles, NoProgress, load};
use vlinders_testkit::golden_root;

const MAX_LEN: usize = 96;
const VOCAB: usize = 64;

/// What a client can see of an answer: tokens, and the bits of their log-probabilities.
type Answer = Vec<(u32, u32)>;

#[derive(Debug, Clone)]
struct Job {
    prompt: Vec<u32>,
    max_tokens: usize,
    temperature: f32,
    seed: u64,
    priority: i32,
}

/// A cache of `num_blocks` blocks of type `kv`.
fn engine(kv: KvDtype, num_blocks: usize, max_batched_tokens: usize, prefix_caching: bool) -> EngineHandle {
    let files = ModelFiles::Folder(golden_root().join("llama-tiny"));
    let options = LoadOptions {
        kv_cache_dtype: Some(kv),
        max_model_len: Some(MAX_LEN),
        kv_blocks: Some(num_blocks),
        block_size: 4,
        warm_up: false,
        ..LoadOptions::default()
    };
    let loaded = load(&files, &options, &NoProgress).expect("a model");
    assert!(loaded.info.vocab_size >= VOCAB);
    let config = EngineConfig {
        block_size: 4,
        num_blocks,
        max_num_seqs: 8,
        max_batched_tokens,
        max_waiting: 64,
        max_model_len: MAX_LEN,
        prefix_caching,
    };
    start(config, loaded.executor, Box::new(())).expect("an engine")
}

fn submit(engine: &EngineHandle, job: &Job) -> vlinders_engine::TokenStream {
    let limits = Limits { max_model_len: MAX_LEN, vocab_size: VOCAB, max_logprobs: 5 };
    let sampling = SamplingParams {
        temperature: job.temperature,
        seed: job.seed,
        top_k: 20,
        repetition_penalty: 1.1,
        logprobs: Some(0),
        ..SamplingParams::default()
    };
    let stop = StopConditions { max_tokens: job.max_tokens, ..StopConditions::default() };
    let request = GenerateRequest::new(job.prompt.clone(), sampling, stop, job.priority, &limits);
    engine.submit(request.expect("a valid request")).expect("room in the queue")
}

fn answer(mut stream: vlinders_engine::TokenStream) -> Answer {
    let mut tokens = Vec::new();
    while let Some(event) = stream.blocking_next() {
        match event {
            TokenEvent::Token { token, logprobs } => {
                tokens.push((token, logprobs.expect("log-probabilities were asked for").logprob.to_bits()));
            }
            TokenEvent::Failed(reason) => unreachable!("failed: {reason}"),
            _ => {}
        }
    }
    tokens
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    // A few prefixes that many share, so that the prefix cache has something to find.
    let prompt = (0..3_u32, 0..30_usize, prop::collection::vec(3..VOCAB as u32, 1..20)).prop_map(
        |(family, shared, own)| {
            let prefix = (0..shared as u32).map(|idx| 3 + (idx * 7 + family * 13) % (VOCAB as u32 - 3));
            prefix.chain(own).collect::<Vec<_>>()
        },
    );
    let job = (prompt, 1..40_usize, prop::sample::select(vec![0.0_f32, 0.7, 1.3]), any::<u64>(), 0..3_i32);
    let job = job.prop_map(|(prompt, max_tokens, temperature, seed, priority)| Job {
        prompt,
        max_tokens,
        temperature,
        seed,
        priority,
    });
    prop::collection::vec(job, 2..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn load_does_not_change_an_answer(
        jobs in jobs(),
        kv in prop::sample::select(vec![KvDtype::F32, KvDtype::Int8]),
        blocks in 24..60_usize,
        budget in 8..40_usize,
    ) {
        // Alone: a large cache, whole prompts, nothing to find in the cache.
        let quiet = engine(kv, 64, 128, false);
        let alone: Vec<Answer> = jobs.iter().map(|job| answer(submit(&quiet, job))).collect();
        // Under load: chunked prompts, shared prefixes, preemption.
        let busy = engine(kv, blocks, budget, true);
        let streams: Vec<_> = jobs.iter().map(|job| submit(&busy, job)).collect();
        let together: Vec<Answer> = streams.into_iter().map(answer).collect();
        prop_assert_eq!(together, alone);
    }
}

#[test]
fn the_load_of_the_property_preempts_and_finds_prefixes() {
    let busy = engine(KvDtype::F32, 24, 8, true);
    let job = |seed: u32| Job {
        prompt: (0..24).map(|idx| 3 + (idx * 7) % 50).chain([seed]).collect(),
        max_tokens: 40,
        temperature: 0.7,
        seed: u64::from(seed),
        priority: 0,
    };
    let first: Vec<_> = (0..8).map(|seed| submit(&busy, &job(seed))).collect();
    first.into_iter().for_each(|stream| assert_eq!(answer(stream).len(), 40));
    let stats = busy.stats();
    assert!(stats.preemptions > 0, "{stats:?}");
    assert!(stats.prefix_hit_tokens > 0, "{stats:?}");
}
