//! The cap on the threads of a model, end to end: what the system says about who has run. A process of its own, since other
//! tests use the same threads.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on should stop")]

use std::fs;
use std::time::Duration;

use vlinders_engine::{Executor, SamplingParams, SeqId, SequenceWork, StartedSequence, StepPlan};
use vlinders_runner::{Leader, LoadOptions, ModelFiles, NoProgress, load, set_num_threads};
use vlinders_testkit::Golden;

/// How often each worker of the pool has been given a processor.
fn turns() -> Vec<u64> {
    let mut turns = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).unwrap().starts_with("vlinders-kernel") {
            let stat = fs::read_to_string(task.join("schedstat")).unwrap();
            turns.push(stat.split_whitespace().nth(2).unwrap().parse().unwrap());
        }
    }
    turns.sort_unstable();
    turns
}

/// The same once all workers sleep.
fn turns_at_rest() -> Vec<u64> {
    let mut last = turns();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = turns();
        if now == last {
            return now;
        }
        last = now;
    }
}

fn model(num_threads: Option<usize>) -> Leader {
    let golden = Golden::load("llama-tiny").unwrap();
    let options = LoadOptions {
        num_threads,
        kv_blocks: Some(40),
        max_model_len: Some(96),
        block_size: 4,
        warm_up: false,
        ..LoadOptions::default()
    };
    load(&ModelFiles::Folder(golden.folder), &options, &NoProgress).unwrap().executor
}

/// A prompt of 80 tokens.
fn step(executor: &mut Leader) {
    let mut plan = StepPlan::default();
    plan.reset(1);
    let prompt: Vec<u32> = (1..81).collect();
    plan.started.push(StartedSequence {
        seq: SeqId(0),
        prompt: prompt.as_slice().into(),
        sampling: SamplingParams::default().into(),
    });
    plan.tokens = prompt;
    plan.blocks = (0..20).collect();
    plan.work.push(SequenceWork {
        seq: SeqId(0),
        tokens: 0..80,
        start: 0,
        reset_blocks: true,
        blocks: 0..20,
        sample: true,
        num_generated: 0,
    });
    assert_eq!(executor.step(&plan).unwrap().sampled.len(), 1);
}

#[test]
fn no_other_thread_takes_part_in_the_steps_of_a_model_that_may_have_one() {
    set_num_threads(3);
    let (mut alone, mut free) = (model(Some(1)), model(None));
    let before = turns_at_rest();
    assert_eq!(before.len(), 2);
    for _ in 0..20 {
        step(&mut alone);
    }
    let after = turns_at_rest();
    assert_eq!(before, after);
    for _ in 0..20 {
        step(&mut free);
    }
    assert!(turns_at_rest().iter().sum::<u64>() > after.iter().sum());
}
