//! A model on several ranks of this process, from files to tokens.

use vlinders_engine::{Sampled, SamplingParams};
use vlinders_runner::{LoadOptions, LoadedModel, ModelFiles, NoProgress, RunnerError, inspect, load, pack};
use vlinders_testkit::Golden;

use crate::support::{Driver, Part, greedy, load_folder, options};

fn on(ranks: usize) -> LoadOptions {
    LoadOptions { tensor_parallel_size: ranks, warm_up: true, ..options() }
}

fn files(golden: &Golden) -> ModelFiles {
    ModelFiles::Folder(golden.folder.clone())
}

/// Greedy tokens after a prompt in two chunks, with their log-probabilities.
fn answer(model: LoadedModel, prompt: &[u32], len: usize) -> Vec<(u32, f32)> {
    let mut driver = Driver::new(model.executor);
    driver.begin(3, prompt, SamplingParams { logprobs: Some(0), ..greedy() });
    let table: Vec<u32> = (0..18).rev().collect();
    let cut = prompt.len() / 2;
    let part = Part { seq: 3, tokens: &prompt[..cut], start: 0, blocks: Some(&table), sample: None };
    assert!(driver.run(&[part]).unwrap().sampled.is_empty());
    let (mut fed, mut start, mut answer) = (prompt.to_vec(), cut, Vec::new());
    for i in 0..len {
        let part =
            Part { seq: 3, tokens: &fed[start..], start: start as u32, blocks: None, sample: Some(i as u32) };
        let output = driver.run(&[part]).unwrap();
        let Sampled::Token { token, logprobs } = &output.sampled[0] else { panic!("no token") };
        answer.push((*token, logprobs.as_ref().unwrap().logprob));
        start = fed.len();
        fed.push(*token);
    }
    driver.finish(3);
    driver.run(&[]).unwrap();
    answer
}

#[test]
fn tokens_are_those_of_the_reference_on_any_number_of_ranks() {
    for name in ["qwen3-tiny", "llama-tied-bias-tiny", "llama3-rope-tiny"] {
        let golden = Golden::load(name).unwrap();
        let prompt = &golden.prompts[4];
        for ranks in [1, 2, 4] {
            let model = load_folder(&golden.folder, &on(ranks));
            let answer = answer(model, &prompt.input_ids, prompt.greedy.len());
            let expected = prompt.greedy.iter().zip(&prompt.greedy_logprobs);
            for ((token, logprob), (expected, expected_logprob)) in answer.iter().zip(expected) {
                assert_eq!(token, expected, "{name} on {ranks} ranks");
                assert!((logprob - expected_logprob).abs() < 1e-4, "{name} on {ranks} ranks");
            }
        }
    }
}

#[test]
fn what_is_told_of_a_model_is_about_all_ranks() {
    let golden = Golden::load("llama-tiny").unwrap();
    let alone = load_folder(&golden.folder, &on(1)).info;
    let split = load_folder(&golden.folder, &on(2)).info;
    assert_eq!(split.num_parameters, alone.num_parameters);
    assert_eq!((split.num_blocks, split.max_model_len), (alone.num_blocks, alone.max_model_len));
    assert_eq!(split.kv_bytes, alone.kv_bytes, "two heads of keys, one on each rank");
    // Norms are on both ranks, and rows are filled up to tiles of sixteen.
    assert!(split.weight_bytes > alone.weight_bytes && split.weight_bytes < 2 * alone.weight_bytes);
    assert_ne!(split.fingerprint, alone.fingerprint, "sums are added in another order");
    let found = inspect(&files(&golden), &on(2), None).unwrap();
    assert_eq!((found.weight_bytes, found.num_parameters), (split.weight_bytes, split.num_parameters));
    // Four ranks need each head of keys twice.
    assert_eq!(load_folder(&golden.folder, &on(4)).info.kv_bytes, 2 * alone.kv_bytes);
}

#[test]
fn a_number_of_ranks_that_does_not_go_is_told_which_do() {
    let golden = Golden::load("llama-tiny").unwrap();
    let expected = "tensor_parallel_size 3 does not go with 4 heads of queries and 2 of keys and values: possible are 1, 2, 4";
    let error = load(&files(&golden), &on(3), &NoProgress).err().unwrap();
    assert_eq!(error.to_string(), expected);
    assert_eq!(inspect(&files(&golden), &on(3), None).err().unwrap().to_string(), expected);
    let error = load(&files(&golden), &on(0), &NoProgress).err().unwrap();
    assert!(matches!(error, RunnerError::Option { option: "tensor_parallel_size", .. }));
}

#[test]
fn a_packed_model_is_not_split() {
    let golden = Golden::load("llama-tiny").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    pack(&files(&golden), &packed, &options(), &NoProgress).unwrap();
    let packed = ModelFiles::Folder(packed);
    let problems = inspect(&packed, &on(2), None).unwrap().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].ends_with("give the folder it was packed from"), "{problems:?}");
    assert_eq!(load(&packed, &on(2), &NoProgress).err().unwrap().to_string(), problems[0]);
    assert!(load(&packed, &on(1), &NoProgress).is_ok());
}

/// A plan that no rank can execute ends all of them, and the next one hears why.
#[test]
fn a_failure_ends_the_group() {
    let golden = Golden::load("llama-tiny").unwrap();
    let mut driver = Driver::new(load_folder(&golden.folder, &on(2)).executor);
    let stranger = || Part { seq: 9, tokens: &[1], start: 0, blocks: Some(&[0]), sample: Some(0) };
    assert_eq!(driver.run(&[stranger()]).unwrap_err(), "the model failed: sequence 9 was never started");
    let error = driver.run(&[stranger()]).unwrap_err();
    assert!(error.contains("no longer work together: rank ") && error.contains("never started"), "{error}");
}
