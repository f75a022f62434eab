//! What is said of files of experts: which config stands for them, and which are refused.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use vlinders_comm::Single;
use vlinders_layers::{Checkpoint, Gguf, Precision, Weights};
use vlinders_testkit::{Dtype, GgufFile, GgufTensor, GgufValue, gguf_floats, golden_root};

use super::GgufModel;
use crate::ModelSpec;

fn file_of(golden: &str) -> GgufFile {
    let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(Dtype::F32, shape, numbers);
    GgufFile::from_folder(&golden_root().join(golden), &encode).unwrap()
}

fn read(file: &GgufFile) -> Result<GgufModel, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    file.write(&path).unwrap();
    let prefix = format!("{}/", folder.path().display());
    GgufModel::read(&Gguf::open(Path::new(&path)).unwrap()).map_err(|e| e.to_string().replace(&prefix, ""))
}

/// What is said of a file after a change.
fn error(golden: &str, change: impl FnOnce(&mut GgufFile)) -> String {
    let mut file = file_of(golden);
    change(&mut file);
    let message = read(&file).unwrap_err();
    message.strip_prefix("model.gguf is not a GGUF file that can be loaded: ").unwrap().to_owned()
}

fn remove(file: &mut GgufFile, key: &str) {
    file.metadata.retain(|(other, _)| other != key);
}

fn number(number: u32) -> GgufValue {
    GgufValue::U32(number)
}

fn tensor(name: &str) -> GgufTensor {
    GgufTensor { name: name.to_owned(), shape: vec![1, 1], data: gguf_floats(Dtype::F32, &[1, 1], &[0.0]) }
}

#[test]
fn files_of_experts_have_the_config_of_their_folder() {
    let model = read(&file_of("mixtral-tiny")).unwrap();
    let config: Value = serde_json::from_slice(&model.config).unwrap();
    assert_eq!(config["architectures"], json!(["MixtralForCausalLM"]));
    assert_eq!((&config["num_local_experts"], &config["num_experts_per_tok"]), (&json!(5), &json!(2)));
    assert_eq!((&config["intermediate_size"], &config["sliding_window"]), (&json!(64), &json!(12)));
    assert_eq!(model.layout.interleaved_head, Some(8));
    let experts = model.layout.experts.unwrap();
    assert_eq!((experts.count, experts.names.layer), (5, "block_sparse_moe"));

    let model = read(&file_of("qwen3-moe-tiny")).unwrap();
    let config: Value = serde_json::from_slice(&model.config).unwrap();
    assert_eq!(config["architectures"], json!(["Qwen3MoeForCausalLM"]));
    assert_eq!((&config["num_experts"], &config["num_experts_per_tok"]), (&json!(6), &json!(2)));
    assert_eq!((&config["intermediate_size"], &config["moe_intermediate_size"]), (&json!(56), &json!(32)));
    assert_eq!((&config["norm_topk_prob"], &config["mlp_only_layers"]), (&json!(true), &json!([1])));
    assert_eq!(model.layout.interleaved_head, None);
    let experts = model.layout.experts.unwrap();
    assert_eq!((experts.count, experts.names.layer), (6, "mlp"));
}

#[test]
fn a_dense_size_is_not_needed_where_all_layers_have_experts() {
    let mut file = file_of("qwen3-moe-tiny");
    remove(&mut file, "qwen3moe.feed_forward_length");
    let config: Value = serde_json::from_slice(&read(&file).unwrap().config).unwrap();
    assert_eq!(config["intermediate_size"], 32);
}

#[test]
fn counts_that_make_no_sense_are_refused() {
    let set = |key: &'static str, value: u32| move |file: &mut GgufFile| file.set(key, number(value));
    let without = |key: &'static str| move |file: &mut GgufFile| remove(file, key);
    let (mixtral, qwen) = ("mixtral-tiny", "qwen3-moe-tiny");
    assert_eq!(error(mixtral, without("llama.expert_used_count")), "it has no llama.expert_used_count");
    assert_eq!(
        error(mixtral, set("llama.expert_used_count", 6)),
        "llama.expert_used_count is 6; of 5 experts (llama.expert_count) a token goes to 1 to 5"
    );
    assert!(error(qwen, set("qwen3moe.expert_used_count", 0)).contains("is 0; of 6 experts"));
    assert_eq!(
        error(qwen, set("qwen3moe.expert_count", 513)),
        "qwen3moe.expert_count is 513; the most is 512"
    );
    let message = error(mixtral, |file| {
        remove(file, "llama.expert_count");
        file.tensors.retain(|tensor| tensor.name == "blk.1.ffn_up_exps.weight");
    });
    assert_eq!(message, "it has blk.1.ffn_up_exps.weight, of experts, but no llama.expert_count");
    let message = error("llama-tiny", set("llama.expert_used_count", 2));
    assert_eq!(message, "llama.expert_used_count is 2, but it has no llama.expert_count");
    assert!(error(qwen, set("qwen3moe.expert_count", 0)).contains("but no qwen3moe.expert_count"));
    let message = error(qwen, |file| {
        remove(file, "qwen3moe.expert_count");
        remove(file, "qwen3moe.expert_used_count");
        file.tensors.clear();
    });
    assert_eq!(message, "it has no qwen3moe.expert_count");
    let message = error(qwen, without("qwen3moe.expert_feed_forward_length"));
    assert_eq!(message, "it has no qwen3moe.expert_feed_forward_length");
    let message = error("qwen3-tiny", |file| {
        file.set("qwen3.expert_count", number(4));
        file.set("qwen3.expert_used_count", number(2));
    });
    assert_eq!(message, "experts in a model of qwen3 are not supported");
}

#[test]
fn experts_of_other_kinds_are_refused() {
    let qwen = "qwen3-moe-tiny";
    let set = |key: &'static str, value: GgufValue| move |file: &mut GgufFile| file.set(key, value);
    let says = |message: String, part: &str| assert!(message.contains(part), "{message}");
    let message = error(qwen, |file| file.tensors.push(tensor("blk.0.ffn_up_shexp.weight")));
    says(
        message,
        "it has blk.0.ffn_up_shexp.weight, of an expert that every token goes to: shared experts are not",
    );
    let message = error(qwen, |file| {
        file.set("general.architecture", GgufValue::Text("qwen2moe".to_owned()));
        file.tensors.push(tensor("blk.0.ffn_gate_inp_shexp.weight"));
    });
    says(
        message,
        "\"qwen2moe\" is not supported (nor are shared experts); supported are llama (also Mistral and Mixtral), qwen2",
    );
    says(
        error(qwen, set("qwen3moe.expert_shared_count", number(1))),
        "qwen3moe.expert_shared_count is 1; shared experts are not supported",
    );
    says(error(qwen, set("qwen3moe.expert_gating_func", number(2))), "is 2; only 1, softmax, is supported");
    says(
        error(qwen, set("qwen3moe.expert_group_count", number(8))),
        "is 8; groups of experts are not supported",
    );
    says(
        error(qwen, set("qwen3moe.expert_weights_scale", GgufValue::F32(2.5))),
        "qwen3moe.expert_weights_scale is not supported",
    );
    says(
        error(qwen, set("qwen3moe.expert_weights_norm", GgufValue::Bool(false))),
        "qwen3moe.expert_weights_norm is false; only weights of experts that add up to one",
    );
    let mut usual = file_of(qwen);
    usual.set("qwen3moe.expert_gating_func", number(1));
    usual.set("qwen3moe.expert_weights_norm", GgufValue::Bool(true));
    usual.set("qwen3moe.expert_weights_scale", GgufValue::F32(1.0));
    assert!(read(&usual).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is damaged in metadata and table of a file of experts, it is refused or its problems are told.
    #[test]
    fn damaged_files_of_experts_never_panic(
        mixtral in any::<bool>(),
        flips in prop::collection::vec((0usize..4096, any::<u8>()), 1..5),
    ) {
        let mut bytes = file_of(if mixtral { "mixtral-tiny" } else { "qwen3-moe-tiny" }).to_bytes();
        for (at, value) in flips {
            bytes[at] = value;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, &bytes).unwrap();
        let Ok(gguf) = Gguf::open(&path) else { return Ok(()) };
        let Ok(model) = GgufModel::read(&gguf) else { return Ok(()) };
        let Ok(checkpoint) = Checkpoint::gguf(&gguf, model.layout) else { return Ok(()) };
        let Ok(spec) = ModelSpec::parse(&model.config) else { return Ok(()) };
        let weights = Weights::planning(Arc::new(Single));
        if spec.build(&weights).is_ok() && checkpoint.problems(&weights.plan(), Precision::default()).is_empty() {
            checkpoint.load(&weights.plan(), Precision::default(), &|_, _| {}).unwrap();
        }
    }
}
