//! What planning and committing a step costs, beside the model: the time of a step by the number of sequences,
//! all decoding, and with prompts prefilled and sequences starting and ending beside them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vlinders_engine::{
    EngineConfig, Events, GenerateRequest, Limits, Sampled, SamplingParams, Scheduler, StepOutput, StepPlan,
    StopConditions,
};

const BLOCK_SIZE: usize = 16;
const LIMITS: Limits = Limits { max_model_len: 4096, vocab_size: 128_000, max_logprobs: 0 };
const PROMPT: usize = 128;

/// A scheduler and what a step needs; the model answers at once.
struct Bench {
    scheduler: Scheduler,
    plan: StepPlan,
    events: Events,
    submitted: u32,
}

impl Bench {
    fn new(num_seqs: usize, max_batched_tokens: usize) -> Self {
        let config = EngineConfig {
            block_size: BLOCK_SIZE,
            num_blocks: num_seqs * 80,
            max_num_seqs: num_seqs,
            max_batched_tokens,
            max_waiting: num_seqs,
            max_model_len: LIMITS.max_model_len,
            prefix_caching: true,
        };
        let (plan, events) = (StepPlan::default(), Events::new());
        Self { scheduler: Scheduler::new(config), plan, events, submitted: 0 }
    }

    /// A request with a prompt of its own.
    fn submit(&mut self, max_tokens: usize) {
        self.submitted += 1;
        let prompt = (0..PROMPT as u32).map(|at| (self.submitted * 31 + at) % 100_000).collect();
        let stop = StopConditions { max_tokens, ..StopConditions::default() };
        let request = GenerateRequest::new(prompt, SamplingParams::default(), stop, 0, &LIMITS)
            .expect("a valid request");
        self.scheduler.submit(&request).expect("it fits");
    }

    /// One step; the time of planning and committing it.
    fn step(&mut self) -> Duration {
        let begin = Instant::now();
        self.scheduler.plan(&mut self.plan, &mut self.events);
        let planned = begin.elapsed();

        let asked = black_box(&self.plan).work.iter().filter(|work| work.sample);
        let sampled =
            asked.map(|work| Sampled::Token { token: work.num_generated, logprobs: None }).collect();
        let output = StepOutput { sampled, prompt_logprobs: Vec::new() };

        let begin = Instant::now();
        self.scheduler.commit(&self.plan, output, &mut self.events).expect("the outcome answers the plan");
        let committed = begin.elapsed();
        self.events.clear();
        planned + committed
    }

    /// With this many sequences that all decode, not in step with each other.
    fn decoding(num_seqs: usize) -> Self {
        let mut bench = Self::new(num_seqs, num_seqs + 16 * PROMPT);
        (0..num_seqs).for_each(|_| bench.submit(1024));
        while bench.scheduler.stats().prompt_tokens < (num_seqs * PROMPT) as u64 {
            bench.step();
        }
        bench
    }
}

/// The time of so many steps with so many sequences.
type Load = fn(num_seqs: usize, count: u64) -> Duration;

/// The time of `count` steps in which all sequences decode.
fn decode(num_seqs: usize, count: u64) -> Duration {
    let mut total = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let mut bench = Bench::decoding(num_seqs);
        let some = left.min(256);
        for step in 0..some + 8 {
            let took = bench.step();
            if step >= 8 {
                total += took;
            }
        }
        left -= some;
    }
    total
}

/// The time of `count` steps under load: answers of 32 to 95 tokens, each replaced by a new request when it ends.
fn mixed(num_seqs: usize, count: u64) -> Duration {
    let mut bench = Bench::new(num_seqs, num_seqs + 2048);
    let top_up = |bench: &mut Bench| {
        while bench.scheduler.num_live() < num_seqs {
            let max_tokens = 32 + bench.submitted as usize * 37 % 64;
            bench.submit(max_tokens);
        }
    };
    let mut total = Duration::ZERO;
    for step in 0..count + 200 {
        top_up(&mut bench);
        let took = bench.step();
        if step >= 200 {
            total += took;
        }
    }
    total
}

fn steps(criterion: &mut Criterion) {
    for (name, load) in [("decode", decode as Load), ("mixed", mixed as Load)] {
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(3));
        for num_seqs in [10, 100, 256, 1000, 10_000] {
            group.throughput(Throughput::Elements(num_seqs as u64));
            group.bench_with_input(BenchmarkId::from_parameter(num_seqs), &num_seqs, |bencher, num_seqs| {
                bencher.iter_custom(|count| load(*num_seqs, count));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
