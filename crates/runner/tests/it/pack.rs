//! A packed model computes the same bits as the folder it was packed from, in every format.

use std::fs;

use vlinders_engine::{Sampled, SamplingParams};
use vlinders_runner::{Activations, DType, LoadOptions, ModelFiles, NoProgress, Quantization, inspect, pack};
use vlinders_testkit::{Golden, golden_names};

use crate::support::{Driver, Part, greedy, load_folder, options};

/// Log-probabilities of every prompt token and of the first answer, as bits.
fn bits(folder: &std::path::Path, options: &LoadOptions, prompt: &[u32]) -> Vec<u32> {
    let mut driver = Driver::new(load_folder(folder, options).executor);
    let all = SamplingParams { logprobs: Some(20), prompt_logprobs: Some(20), ..greedy() };
    driver.begin(0, prompt, all);
    let table: Vec<u32> = (0..20).collect();
    let part = Part { seq: 0, tokens: prompt, start: 0, blocks: Some(&table), sample: Some(0) };
    let output = driver.run(&[part]).unwrap();
    let Sampled::Token { logprobs: Some(sampled), .. } = &output.sampled[0] else { panic!("no token") };
    let prompts = output.prompt_logprobs.iter().flat_map(|(_, run)| &run.tokens);
    let tops = prompts.chain([&**sampled]).flat_map(|token| &token.top);
    tops.flat_map(|(token, logprob)| [*token, logprob.to_bits()]).collect()
}

fn packed(golden: &Golden, asked: &LoadOptions) -> tempfile::TempDir {
    let out = tempfile::tempdir().unwrap();
    pack(&ModelFiles::Folder(golden.folder.clone()), out.path(), asked, &NoProgress).unwrap();
    out
}

#[test]
fn every_architecture_gives_the_bits_of_its_source() {
    for name in golden_names().unwrap() {
        let golden = Golden::load(&name).unwrap();
        let out = packed(&golden, &options());
        let prompt = &golden.prompts[3].input_ids;
        let (found, expected) =
            (bits(out.path(), &options(), prompt), bits(&golden.folder, &options(), prompt));
        assert!(expected.len() > 20);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn every_format_gives_the_bits_of_its_source() {
    let golden = Golden::load("llama-bf16-tiny").unwrap();
    let prompt = &golden.prompts[3].input_ids;
    for (dtype, quantization) in [
        (Some(DType::F32), None),
        (Some(DType::F16), None),
        (None, None),
        (None, Some(Quantization::Q8)),
        (None, Some(Quantization::Q4)),
    ] {
        let asked = LoadOptions { dtype, quantization, ..options() };
        let out = packed(&golden, &asked);
        for activations in [Activations::Auto, Activations::F32] {
            let plain = LoadOptions { activations, ..options() };
            let expected = bits(&golden.folder, &LoadOptions { activations, ..asked.clone() }, prompt);
            assert_eq!(bits(out.path(), &plain, prompt), expected, "{dtype:?} {quantization:?}");
        }
    }
}

#[test]
fn a_packed_folder_knows_its_sizes_and_keeps_its_name() {
    let golden = Golden::load("qwen2-tiny").unwrap();
    let asked = LoadOptions { quantization: Some(Quantization::Q8), ..options() };
    let (first, second) = (packed(&golden, &asked), packed(&golden, &asked));
    fs::write(first.path().join("notes.txt"), "").unwrap();
    let load = |folder: &tempfile::TempDir| load_folder(folder.path(), &options()).info;
    let (info, again) = (load(&first), load(&second));
    assert_eq!(info.fingerprint, again.fingerprint);
    let source = load_folder(&golden.folder, &asked).info;
    assert_eq!((info.format, info.weight_bytes), (source.format, source.weight_bytes));
    assert_eq!((info.num_parameters, info.num_blocks), (source.num_parameters, source.num_blocks));
    let seen = inspect(&ModelFiles::Folder(first.path().to_owned()), &options(), None).unwrap();
    assert_eq!((seen.problems, seen.unused), (Vec::<String>::new(), Vec::<String>::new()));
    assert_eq!((seen.format, seen.weight_bytes), (info.format, info.weight_bytes));
    assert_eq!(seen.stored[0].0, "packed q8");
    let other = packed(&golden, &options());
    assert_ne!(load(&other).fingerprint, info.fingerprint);
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let golden = Golden::load("llama-tiny").unwrap();
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("model.safetensors"), "mine").unwrap();
    let files = ModelFiles::Folder(golden.folder);
    let told = pack(&files, out.path(), &options(), &NoProgress).unwrap_err().to_string();
    assert!(told.ends_with("is not empty; give a folder that does not exist yet"), "{told}");
    assert_eq!(fs::read(out.path().join("model.safetensors")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}
