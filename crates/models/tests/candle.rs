//! Logits of random shapes against candle-transformers, a second implementation in the same process.

#![allow(clippy::unwrap_used, reason = "a test that can not go on should stop")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, quantized_llama, qwen2, qwen3};
use proptest::prelude::*;
use serde_json::{Value, json};
use vlinders_comm::Single;
use vlinders_layers::{Batch, Checkpoint, Gguf, KvDtype, KvStore, LogitRows, Place, Precision, Weights};
use vlinders_models::{GgufModel, ModelSpec};
use vlinders_testkit::{Dtype, GgufFile, RandomModel, Shape, gguf_floats};

const BLOCK: usize = 4;
const MAX_LEN: usize = 64;

/// A random shape, and a prompt cut in two.
#[derive(Debug, Clone)]
struct Case {
    groups: usize,
    kv_heads: usize,
    head_dim: usize,
    hidden: usize,
    intermediate: usize,
    layers: usize,
    vocab: usize,
    tied: bool,
    theta: f64,
    prompt: Vec<u16>,
    cut: usize,
    seed: u64,
}

fn any_case() -> impl Strategy<Value = Case> {
    let heads = (1usize..4, 1usize..4, prop::sample::select(vec![4usize, 6, 8, 16, 24, 64]));
    let sizes = (1usize..40, 1usize..50, 1usize..4, 20usize..200);
    let prompt = prop::collection::vec(any::<u16>(), 1..40);
    let rest =
        (any::<bool>(), prop::sample::select(vec![1e4, 5e5, 1e6]), prompt, any::<prop::sample::Index>());
    (heads, sizes, rest, any::<u64>()).prop_map(|(heads, sizes, rest, seed)| Case {
        groups: heads.0,
        kv_heads: heads.1,
        head_dim: heads.2,
        hidden: sizes.0 * 4,
        intermediate: sizes.1 * 3,
        layers: sizes.2,
        vocab: sizes.3,
        tied: rest.0,
        theta: rest.1,
        cut: rest.3.index(rest.2.len()),
        prompt: rest.2,
        seed,
    })
}

// === impl Case ===

impl Case {
    /// The model; with `fill` its heads fill the hidden size, since candle's code can not do otherwise.
    fn model(&self, architecture: &'static str, fill: bool, extra: &Value) -> RandomModel {
        let heads = self.groups * self.kv_heads;
        let mut fields =
            json!({"max_position_embeddings": MAX_LEN, "rms_norm_eps": 1e-5, "rope_theta": self.theta});
        fields.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let shape = Shape {
            architecture,
            vocab_size: self.vocab,
            hidden_size: if fill { heads * self.head_dim } else { self.hidden },
            intermediate_size: self.intermediate,
            layers: self.layers,
            heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            tied: self.tied,
            extra: fields,
        };
        RandomModel { shape, dtype: Dtype::F32, seed: self.seed, shards: 1 + (self.seed % 2) as usize }
    }

    /// Ours over the paged cache, the prompt in two steps, against `theirs` in one: logits of the last token.
    fn compare(
        &self,
        model: &RandomModel,
        theirs: impl Fn(&[u8], VarBuilder<'static>, &Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<(), TestCaseError> {
        let folder = tempfile::tempdir().unwrap();
        model.write_weights(folder.path()).unwrap();
        let config = std::fs::read(folder.path().join("config.json")).unwrap();
        let tokens: Vec<u32> = self.prompt.iter().map(|&t| u32::from(t) % self.vocab as u32).collect();
        let input = Tensor::new(&tokens[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let expected = theirs(&config, their_weights(folder.path()), &input).unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let ours = our_logits(&checkpoint, &config, &tokens, self.cut);
        prop_assert_eq!(ours.len(), expected.len());
        for (id, (ours, theirs)) in ours.iter().zip(&expected).enumerate() {
            prop_assert!((ours - theirs).abs() <= 1e-4, "logit {id}: {ours} against {theirs}");
        }
        Ok(())
    }
}

fn our_logits(checkpoint: &Checkpoint, config: &[u8], tokens: &[u32], cut: usize) -> Vec<f32> {
    let spec = ModelSpec::parse(config).unwrap();
    let planning = Weights::planning(Arc::new(Single));
    spec.build(&planning).unwrap();
    let (tensors, _) = checkpoint.load(&planning.plan(), Precision::default(), &|_, _| {}).unwrap();
    let model = spec.build(&Weights::loaded(tensors, MAX_LEN, Arc::new(Single))).unwrap();
    let mut kv = KvStore::new(model.kv_shape(), KvDtype::F32, 2 * MAX_LEN, BLOCK, &Place::Cpu).unwrap();
    let table: Vec<u32> = (0..(MAX_LEN / BLOCK) as u32).map(|i| i * 37 % 128).collect();
    let mut last = None;
    for (start, part) in [(0, &tokens[..cut]), (cut, &tokens[cut..])] {
        if part.is_empty() {
            continue;
        }
        let mut batch = Batch::default();
        batch.push(part, start as u32, &table, BLOCK, LogitRows::Last);
        let hidden = model.forward(&batch, &mut kv).unwrap();
        let hidden = hidden.to_cpu().unwrap();
        last = Some(hidden.narrow(0, part.len() - 1, 1).unwrap().contiguous().unwrap());
    }
    let logits = model.logits(&last.unwrap().into()).unwrap().unwrap().to_cpu().unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

fn their_weights(folder: &Path) -> VarBuilder<'static> {
    let mut tensors = HashMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            tensors.extend(candle_core::safetensors::load(path, &Device::Cpu).unwrap());
        }
    }
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

fn their_llama(config: &[u8], weights: VarBuilder<'static>, input: &Tensor) -> candle_core::Result<Tensor> {
    let config: llama::LlamaConfig = serde_json::from_slice(config).unwrap();
    let config = config.into_config(false);
    let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
    llama::Llama::load(weights, &config)?.forward(input, 0, &mut cache)
}

/// The file of a Mixtral model as others read it, each expert in a tensor of its own, and as we read it, stacked.
#[test]
fn gguf_files_of_experts_agree() {
    let folder = tempfile::tempdir().unwrap();
    RandomModel { shape: Shape::mixtral_tiny(), dtype: Dtype::F32, seed: 7, shards: 2 }
        .write_weights(folder.path())
        .unwrap();
    let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(Dtype::F32, shape, numbers);
    let stacked = GgufFile::from_folder(folder.path(), &encode).unwrap();
    let path = |name: &str| folder.path().join(name);
    stacked.write(&path("stacked.gguf")).unwrap();
    stacked.with_experts_apart().write(&path("apart.gguf")).unwrap();
    let tokens: Vec<u32> = (0..40).map(|i| i * 37 % 320).collect();

    let mut file = std::fs::File::open(path("apart.gguf")).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut theirs = quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let input = Tensor::new(&tokens[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let expected = theirs.forward(&input, 0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();

    for name in ["stacked.gguf", "apart.gguf"] {
        let gguf = Gguf::open(&path(name)).unwrap();
        let model = GgufModel::read(&gguf).unwrap();
        let checkpoint = Checkpoint::gguf(&gguf, model.layout).unwrap();
        let ours = our_logits(&checkpoint, &model.config, &tokens, 17);
        assert_eq!(ours.len(), expected.len());
        for (id, (ours, theirs)) in ours.iter().zip(&expected).enumerate() {
            assert!((ours - theirs).abs() <= 1e-4, "{name}, logit {id}: {ours} against {theirs}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn llama_agrees(case in any_case()) {
        case.compare(&case.model("LlamaForCausalLM", true, &json!({})), their_llama)?;
    }

    #[test]
    fn llama_3_scaling_agrees(case in any_case()) {
        let scaling = json!({"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                             "original_max_position_embeddings": 16, "rope_type": "llama3"});
        let model = case.model("LlamaForCausalLM", true, &json!({"rope_scaling": scaling}));
        case.compare(&model, their_llama)?;
    }

    #[test]
    fn mistral_agrees(case in any_case()) {
        let case = Case { tied: false, ..case };
        let extra = json!({"sliding_window": null, "use_flash_attn": false});
        case.compare(&case.model("MistralForCausalLM", false, &extra), |config, weights, input| {
            let config: mistral::Config = serde_json::from_slice(config).unwrap();
            mistral::Model::new(&config, weights)?.forward(input, 0)
        })?;
    }

    #[test]
    fn qwen2_agrees(case in any_case()) {
        let extra = json!({"sliding_window": MAX_LEN, "use_sliding_window": false, "max_window_layers": 99});
        case.compare(&case.model("Qwen2ForCausalLM", true, &extra), |config, weights, input| {
            let config: qwen2::Config = serde_json::from_slice(config).unwrap();
            qwen2::ModelForCausalLM::new(&config, weights)?.forward(input, 0)
        })?;
    }

    #[test]
    fn qwen3_agrees(case in any_case()) {
        let extra = json!({"attention_bias": false, "sliding_window": null, "use_sliding_window": false,
                           "max_window_layers": 99});
        case.compare(&case.model("Qwen3ForCausalLM", false, &extra), |config, weights, input| {
            let config: qwen3::Config = serde_json::from_slice(config).unwrap();
            qwen3::ModelForCausalLM::new(&config, weights)?.forward(input, 0)
        })?;
    }
}
