//! Folders: good, broken, unknown.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Value, json};
use vlinders_runner::{
    DType, KvDtype, LoadOptions, LoadPhase, LoadProgress, ModelFiles, NoProgress, Quantization, inspect,
    load, quantize,
};
use vlinders_testkit::{Dtype, GgufFile, GgufValue, RandomModel, Shape, gguf_floats, golden_root};

use crate::support::{load_folder, options};

fn tiny() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = RandomModel { shape: Shape::llama_tiny(), dtype: Dtype::Bf16, seed: 1, shards: 2 };
    model.write_weights(folder.path()).unwrap();
    folder
}

fn edit_config(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

fn error_with(folder: &Path, options: &LoadOptions) -> String {
    let result = load(&ModelFiles::Folder(folder.to_owned()), options, &NoProgress);
    result.map(|_| ()).unwrap_err().to_string()
}

fn error(folder: &Path) -> String {
    error_with(folder, &options())
}

#[test]
fn a_loaded_model_knows_its_sizes() {
    let folder = tiny();
    let model = load_folder(folder.path(), &LoadOptions { warm_up: true, ..options() });
    let info = model.info;
    assert_eq!((info.architecture, info.vocab_size), ("LlamaForCausalLM", 320));
    assert_eq!((info.num_blocks, info.block_size, info.max_model_len), (40, 4, 96));
    assert_eq!((info.format.as_str(), info.kv_cache_dtype), ("bfloat16", KvDtype::F32));
    let block = 48 * 48 + 2 * 24 * 48 + 48 * 48 + 3 * 96 * 48 + 2 * 48;
    assert_eq!(info.num_parameters, 2 * 320 * 48 + 2 * block + 48);
    // Blocks of four positions and heads of twelve numbers lie in tiles of sixteen by sixteen.
    assert_eq!(info.kv_bytes, 40 * 2 * 2 * 2 * (16 * 16 * 4));
    assert_eq!(model.report.bytes, info.num_parameters * 2);
    assert!(model.report.total >= model.report.read + model.report.convert + model.report.open);
}

#[test]
fn an_inspection_agrees_with_the_load() {
    let plain = ["llama-sharded-tiny", "qwen2-tiny", "qwen3-tiny", "mistral-tiny", "llama-bf16-tiny"];
    for name in plain.into_iter().chain(["llama-fp8-channel-tiny", "qwen3-fp8-block-tiny"]) {
        let folder = golden_root().join(name);
        let files = ModelFiles::Folder(folder.clone());
        let wanted = [
            (None, None, None),
            (Some(DType::F16), None, None),
            (None, Some(Quantization::Q8), None),
            (Some(DType::F32), Some(Quantization::Q4), Some(KvDtype::Int8)),
        ];
        for (dtype, quantization, kv_cache_dtype) in wanted {
            let options = LoadOptions { dtype, quantization, kv_cache_dtype, ..options() };
            let seen = inspect(&files, &options, None).unwrap();
            let loaded = load_folder(&folder, &options).info;
            assert_eq!(seen.problems, Vec::<String>::new());
            assert_eq!(seen.unused, Vec::<String>::new(), "scales are used");
            assert_eq!(seen.weight_bytes, loaded.weight_bytes, "{name}");
            assert_eq!((seen.format, seen.kv_cache_dtype), (loaded.format, loaded.kv_cache_dtype));
            assert_eq!(seen.num_parameters, loaded.num_parameters);
            let fit = seen.fit.unwrap();
            assert_eq!((fit.num_blocks, fit.kv_bytes), (loaded.num_blocks, loaded.kv_bytes));
        }
    }
}

/// What llama.cpp's converter makes of a golden model, with a change.
fn filed(golden: &str, folder: &Path, change: impl FnOnce(&mut GgufFile)) -> PathBuf {
    let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(Dtype::F32, shape, numbers);
    let mut file = GgufFile::from_folder(&golden_root().join(golden), &encode).unwrap();
    change(&mut file);
    let path = folder.join("model.gguf");
    file.write(&path).unwrap();
    path
}

#[test]
fn an_inspection_of_a_gguf_file_of_experts_agrees_with_the_load() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mixtral-tiny", "qwen3-moe-tiny"] {
        let files = ModelFiles::gguf(&filed(name, folder.path(), |_| {})).unwrap();
        let seen = inspect(&files, &options(), None).unwrap();
        let loaded = load(&files, &options(), &NoProgress).unwrap();
        let of_folder = load_folder(&golden_root().join(name), &options());
        assert_eq!((seen.problems, seen.unused), (Vec::new(), Vec::new()), "{name}");
        assert_eq!(seen.stored, [("F32".to_owned(), loaded.report.bytes)]);
        assert_eq!(
            (seen.weight_bytes, seen.num_parameters),
            (loaded.info.weight_bytes, loaded.info.num_parameters)
        );
        assert_eq!(loaded.info.architecture, of_folder.info.architecture);
        assert_eq!(loaded.info.num_parameters, of_folder.info.num_parameters);
        assert_eq!(
            (loaded.report.bytes, loaded.info.weight_bytes),
            (of_folder.report.bytes, of_folder.info.weight_bytes)
        );
    }
}

#[test]
fn what_is_wrong_with_a_gguf_file_of_experts_is_told_briefly() {
    let folder = tempfile::tempdir().unwrap();
    let key = "qwen3moe.expert_feed_forward_length";
    let wrong = filed("qwen3-moe-tiny", folder.path(), |file| file.set(key, GgufValue::U32(48)));
    let files = ModelFiles::gguf(&wrong).unwrap();
    let seen = inspect(&files, &options(), None).unwrap();
    // gates and ups, and downs, of the two layers with six experts
    assert_eq!(seen.problems.len(), 2 * (3 + 3), "{:#?}", seen.problems);
    assert!(seen.problems.iter().any(|p| p.contains("has shape [32, 32], its metadata implies [48, 32]")));
    let lost = filed("mixtral-tiny", folder.path(), |file| {
        file.tensors.retain(|t| t.name != "blk.1.ffn_up_exps.weight")
    });
    let told = inspect(&ModelFiles::gguf(&lost).unwrap(), &options(), None).unwrap_err().to_string();
    assert!(told.contains("of 5 experts it has 0 in blk.1.ffn_up_exps.weight"), "{told}");
}

/// Loading says so, and so does a look, before anything is said of tensors that are missing.
#[test]
fn weights_quantised_in_other_ways_are_refused() {
    let folder = tiny();
    for (config, what) in [
        (
            json!({"quant_method": "gptq", "bits": 4, "group_size": 128}),
            "quant_method \"gptq\" is not supported",
        ),
        (json!({"quant_method": "fp8", "fmt": "e5m2"}), "fmt \"e5m2\" is not supported"),
    ] {
        edit_config(folder.path(), |fields| fields["quantization_config"] = config);
        let looked = inspect(&ModelFiles::Folder(folder.path().to_owned()), &options(), None);
        for error in [error(folder.path()), looked.map(|_| ()).unwrap_err().to_string()] {
            assert!(error.starts_with(&format!("config.json: quantization_config: {what}")), "{error}");
        }
    }
}

/// What one program rounded is rounded once more, and the folder says nothing of its method afterwards.
#[test]
fn models_in_eight_bit_floats_are_quantised_again() {
    for name in ["qwen3-fp8-block-tiny", "mixtral-fp8-tensor-tiny"] {
        let files = ModelFiles::Folder(golden_root().join(name));
        let out = tempfile::tempdir().unwrap();
        let done = quantize(&files, out.path(), Quantization::Q8, &NoProgress);
        if name.contains("block") {
            // Its rows have 48 numbers.
            assert!(done.unwrap_err().to_string().contains("no whole blocks of 32"));
            continue;
        }
        done.unwrap();
        let seen = inspect(&ModelFiles::Folder(out.path().to_owned()), &options(), None).unwrap();
        assert_eq!((seen.problems.len(), seen.format.as_str()), (0, "q8"));
        assert_eq!(load_folder(out.path(), &options()).info.format.as_str(), "q8");
    }
}

#[test]
fn weights_alone_may_be_too_large() {
    let files = ModelFiles::Folder(golden_root().join("qwen3-tiny"));
    let needed = inspect(&files, &options(), None).unwrap().weight_bytes;
    let told = inspect(&files, &options(), Some(needed)).unwrap().fit.unwrap_err();
    assert!(told.starts_with(&format!("the weights need {needed} bytes, {needed} are available")), "{told}");
    assert!(inspect(&files, &options(), Some(needed + (1 << 20))).unwrap().fit.is_ok());
}

#[test]
fn an_inspection_lists_every_problem() {
    let folder = tiny();
    edit_config(folder.path(), |config| {
        config["intermediate_size"] = json!(95);
        config["num_hidden_layers"] = json!(3);
        config["tie_word_embeddings"] = json!(true);
    });
    let seen = inspect(&ModelFiles::Folder(folder.path().to_owned()), &options(), None).unwrap();
    // gate, up and down of the two blocks there are, and the nine tensors of the third
    assert_eq!(seen.problems.len(), 2 * 3 + 9, "{:#?}", seen.problems);
    assert!(seen.problems.iter().any(|p| p.ends_with("has shape [96, 48], config.json implies [95, 48]")));
    assert!(seen.problems.iter().any(|p| p.contains("lacks the tensor model.layers.2.mlp.down_proj.weight")));
    assert_eq!(seen.unused, ["lm_head.weight"]);
    assert!(error(folder.path()).contains("config.json"));
}

#[test]
fn a_config_that_is_wrong_is_refused_by_name() {
    let with = |edit: &dyn Fn(&mut Value)| {
        let folder = tiny();
        edit_config(folder.path(), edit);
        error(folder.path())
    };
    let set = |field: &'static str, value: Value| move |config: &mut Value| config[field] = value.clone();
    assert_eq!(
        with(&set("architectures", json!(["MambaForCausalLM"]))),
        "config.json: the architecture [\"MambaForCausalLM\"] is not supported; supported are \
         LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, \
         Qwen3MoeForCausalLM"
    );
    let without =
        |field: &'static str| move |config: &mut Value| drop(config.as_object_mut().unwrap().remove(field));
    assert!(with(&without("architectures")).contains("supported are LlamaForCausalLM"));
    assert!(with(&without("vocab_size")).contains("missing field `vocab_size`"));
    assert!(with(&without("max_position_embeddings")).contains("max_position_embeddings: is missing"));
    assert!(with(&set("hidden_size", json!("big"))).starts_with("config.json: hidden_size: invalid type"));
    assert!(with(&set("hidden_size", json!(-1))).starts_with("config.json: hidden_size: invalid value"));
    assert!(with(&set("hidden_act", json!("gelu"))).contains("known: silu"));
    assert!(with(&set("num_hidden_layers", json!(0))).contains("num_hidden_layers: must be from 1"));
    assert!(with(&set("num_hidden_layers", json!(1e15 as u64))).contains("num_hidden_layers: must be"));
    assert!(
        with(&set("num_key_value_heads", json!(3))).contains("must divide num_attention_heads (4), is 3")
    );
    assert!(with(&set("num_attention_heads", json!(0))).contains("num_attention_heads: must be"));
    assert!(with(&set("head_dim", json!(7))).contains("head_dim"));
    assert!(with(&set("rms_norm_eps", json!(-1))).contains("rms_norm_eps"));
    assert!(with(&set("rope_scaling", json!({"type": "magic"}))).contains("known: default, linear"));
    let folder = tiny();
    fs::write(folder.path().join("config.json"), "{\"architectures\": [").unwrap();
    assert!(error(folder.path()).contains("line 1 column"));
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(error(folder.path()).ends_with("has no config.json"));
    assert!(error(Path::new("/no/such/folder")).starts_with("/no/such/folder is not a folder"));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let folder = tiny();
    let with = |options: LoadOptions| error_with(folder.path(), &options);
    assert!(with(LoadOptions { dtype: Some(DType::U8), ..options() }).starts_with("dtype: "));
    assert!(with(LoadOptions { memory_fraction: f64::NAN, ..options() }).starts_with("memory_fraction: "));
    assert!(with(LoadOptions { max_model_len: Some(0), ..options() }).starts_with("max_model_len: "));
    assert!(with(LoadOptions { kv_blocks: Some(0), ..options() }).starts_with("kv_blocks: "));
    assert!(with(LoadOptions { block_size: 0, ..options() }).starts_with("block_size: "));
    assert!(with(LoadOptions { num_threads: Some(0), ..options() }).starts_with("num_threads: "));
    assert_eq!(
        with(LoadOptions { max_model_len: Some(500), ..options() }),
        "max_model_len 500 needs 1024000 bytes of KV cache, 327680 are available; \
         the largest max_model_len that fits is 160"
    );
}

#[test]
fn the_fingerprint_names_weights_and_settings() {
    let print = |folder: &Path, options: &LoadOptions| load_folder(folder, options).info.fingerprint;
    let folder = tiny();
    let first = print(folder.path(), &options());
    assert_eq!((first.len(), &first[..3]), (19, "fp_"));
    assert_eq!(print(tiny().path(), &options()), first);
    assert_ne!(print(folder.path(), &LoadOptions { dtype: Some(DType::F32), ..options() }), first);
    assert_ne!(print(folder.path(), &LoadOptions { kv_cache_dtype: None, ..options() }), first);
    let int8 = LoadOptions { kv_cache_dtype: Some(KvDtype::Int8), ..options() };
    assert_ne!(print(folder.path(), &int8), first);
    let shard = folder.path().join("model-00001-of-00002.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let damaged = print(folder.path(), &options());
    assert_ne!(damaged, first);
    edit_config(folder.path(), |config| config["rope_theta"] = json!(20_000.0));
    assert_ne!(print(folder.path(), &options()), damaged);
}

#[derive(Default)]
struct Seen {
    phases: Mutex<Vec<LoadPhase>>,
    bytes: Mutex<u64>,
}

impl LoadProgress for Seen {
    fn phase(&self, phase: LoadPhase) {
        self.phases.lock().unwrap().push(phase);
    }

    fn bytes(&self, done: u64, total: u64) {
        assert!(done <= total);
        let mut bytes = self.bytes.lock().unwrap();
        *bytes = done.max(*bytes);
    }
}

#[test]
fn progress_tells_phases_and_bytes() {
    let folder = tiny();
    let seen = Seen::default();
    let model = load(&ModelFiles::Folder(folder.path().to_owned()), &options(), &seen).unwrap();
    assert_eq!(*seen.phases.lock().unwrap(), [LoadPhase::Open, LoadPhase::Weights, LoadPhase::WarmUp]);
    assert_eq!(*seen.bytes.lock().unwrap(), model.report.bytes);
}
