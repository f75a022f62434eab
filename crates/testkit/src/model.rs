//! Whole models of random weights: any shape of the supported architectures.

use std::path::Path;

use serde_json::{Value, json};

use crate::{Dtype, RandomTensor, TestkitError, chat_files, write_safetensors};

/// The shape of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// As in config.json.
    pub architecture: &'static str,
    /// Token ids.
    pub vocab_size: usize,
    /// Size of a hidden state.
    pub hidden_size: usize,
    /// Size inside of the feed-forward network.
    pub intermediate_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Whether the head shares the table of the embedding.
    pub tied: bool,
    /// Other fields of config.json.
    pub extra: Value,
}

/// A model of random weights.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomModel {
    /// Its shape.
    pub shape: Shape,
    /// How its weights are stored.
    pub dtype: Dtype,
    /// Where its numbers come from.
    pub seed: u64,
    /// Files its weights are spread over; 1 is model.safetensors alone.
    pub shards: usize,
}

// === impl Shape ===

impl Shape {
    /// The shape with this name: `llama-3.2-1b`, `qwen2.5-0.5b` or `llama-tiny`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "llama-3.2-1b" => Some(Self::llama_3_2_1b()),
            "qwen2.5-0.5b" => Some(Self::qwen_2_5_0_5b()),
            "llama-tiny" => Some(Self::llama_tiny()),
            _ => None,
        }
    }

    /// That of Llama-3.2-1B.
    #[must_use]
    pub fn llama_3_2_1b() -> Self {
        Self {
            architecture: "LlamaForCausalLM",
            vocab_size: 128_256,
            hidden_size: 2048,
            intermediate_size: 8192,
            layers: 16,
            heads: 32,
            kv_heads: 8,
            head_dim: 64,
            tied: true,
            extra: json!({
                "max_position_embeddings": 131_072,
                "rms_norm_eps": 1e-5,
                "rope_theta": 500_000.0,
                "rope_scaling": {
                    "factor": 32.0,
                    "high_freq_factor": 4.0,
                    "low_freq_factor": 1.0,
                    "original_max_position_embeddings": 8192,
                    "rope_type": "llama3"
                }
            }),
        }
    }

    /// That of Qwen2.5-0.5B.
    #[must_use]
    pub fn qwen_2_5_0_5b() -> Self {
        Self {
            architecture: "Qwen2ForCausalLM",
            vocab_size: 151_936,
            hidden_size: 896,
            intermediate_size: 4864,
            layers: 24,
            heads: 14,
            kv_heads: 2,
            head_dim: 64,
            tied: true,
            extra: json!({
                "max_position_embeddings": 32_768,
                "rms_norm_eps": 1e-6,
                "rope_theta": 1_000_000.0,
                "use_sliding_window": false,
                "sliding_window": 32_768,
                "max_window_layers": 24
            }),
        }
    }

    /// Small enough for tests, with a vocabulary that the tokenizer of this crate fills.
    #[must_use]
    pub fn llama_tiny() -> Self {
        Self {
            architecture: "LlamaForCausalLM",
            vocab_size: 320,
            hidden_size: 48,
            intermediate_size: 96,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 12,
            tied: false,
            extra: json!({"max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0}),
        }
    }

    /// The same with two of four experts in each layer, as Mixtral has them.
    #[must_use]
    pub fn mixtral_tiny() -> Self {
        let mut shape = Self { architecture: "MixtralForCausalLM", ..Self::llama_tiny() };
        shape.extra["num_local_experts"] = json!(4);
        shape.extra["num_experts_per_tok"] = json!(2);
        shape
    }
}

// === impl RandomModel ===

impl RandomModel {
    /// Its tensors, by the names of its architecture.
    #[must_use]
    pub fn tensors(&self) -> Vec<RandomTensor> {
        let Shape { hidden_size: hidden, intermediate_size, head_dim, .. } = self.shape;
        let (q, kv) = (self.shape.heads * head_dim, self.shape.kv_heads * head_dim);
        let mut out = Vec::new();
        let mut add = |name: String, shape: Vec<usize>| {
            // norms around one; others so that the variance of activations stays near one
            let (mean, spread) = match shape.as_slice() {
                [_] if name.ends_with("norm.weight") => (1.0, 0.1),
                [_] => (0.0, 0.1),
                shape => (0.0, (3.0 / shape[1] as f32).sqrt()),
            };
            out.push(RandomTensor { name, shape, mean, spread });
        };
        let flag = |field: &str| self.shape.extra.get(field).and_then(Value::as_bool).unwrap_or(false);
        let qkv_bias = self.shape.architecture == "Qwen2ForCausalLM" || flag("attention_bias");
        add("model.embed_tokens.weight".to_owned(), vec![self.shape.vocab_size, hidden]);
        for layer in 0..self.shape.layers {
            let prefix = format!("model.layers.{layer}");
            for name in ["input_layernorm", "post_attention_layernorm"] {
                add(format!("{prefix}.{name}.weight"), vec![hidden]);
            }
            for (name, rows) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
                add(format!("{prefix}.self_attn.{name}.weight"), vec![rows, hidden]);
                if qkv_bias {
                    add(format!("{prefix}.self_attn.{name}.bias"), vec![rows]);
                }
            }
            add(format!("{prefix}.self_attn.o_proj.weight"), vec![hidden, q]);
            if flag("attention_bias") {
                add(format!("{prefix}.self_attn.o_proj.bias"), vec![hidden]);
            }
            if self.shape.architecture == "Qwen3ForCausalLM" {
                add(format!("{prefix}.self_attn.q_norm.weight"), vec![head_dim]);
                add(format!("{prefix}.self_attn.k_norm.weight"), vec![head_dim]);
            }
            if self.shape.architecture == "MixtralForCausalLM" {
                let layer = format!("{prefix}.block_sparse_moe");
                let experts = self.shape.extra["num_local_experts"].as_u64().unwrap_or(0);
                add(format!("{layer}.gate.weight"), vec![experts as usize, hidden]);
                for expert in 0..experts {
                    let name = |part: &str| format!("{layer}.experts.{expert}.{part}.weight");
                    add(name("w1"), vec![intermediate_size, hidden]);
                    add(name("w3"), vec![intermediate_size, hidden]);
                    add(name("w2"), vec![hidden, intermediate_size]);
                }
                continue;
            }
            for (name, rows, cols) in [
                ("gate_proj", intermediate_size, hidden),
                ("up_proj", intermediate_size, hidden),
                ("down_proj", hidden, intermediate_size),
            ] {
                add(format!("{prefix}.mlp.{name}.weight"), vec![rows, cols]);
                if flag("mlp_bias") {
                    add(format!("{prefix}.mlp.{name}.bias"), vec![rows]);
                }
            }
        }
        add("model.norm.weight".to_owned(), vec![hidden]);
        if !self.shape.tied {
            add("lm_head.weight".to_owned(), vec![self.shape.vocab_size, hidden]);
        }
        out
    }

    /// Its config.json.
    #[must_use]
    pub fn config(&self) -> Value {
        let shape = &self.shape;
        let mut config = json!({
            "architectures": [shape.architecture],
            "model_type": shape.architecture.trim_end_matches("ForCausalLM").to_lowercase(),
            "bos_token_id": null,
            "eos_token_id": shape.vocab_size - 1,
            "hidden_act": "silu",
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "tie_word_embeddings": shape.tied,
            "torch_dtype": self.dtype.torch_name(),
            "vocab_size": shape.vocab_size,
        });
        if let (Some(config), Some(extra)) = (config.as_object_mut(), shape.extra.as_object()) {
            config.extend(extra.clone());
        }
        config
    }

    /// Write config.json and weights, without a tokenizer.
    ///
    /// # Errors
    /// When a file can not be written.
    pub fn write_weights(&self, folder: &Path) -> Result<(), TestkitError> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|e| TestkitError::new(path, e))
        };
        std::fs::create_dir_all(folder).map_err(|e| TestkitError::new(folder, e))?;
        write("config.json", format!("{:#}\n", self.config()))?;
        let tensors = self.tensors();
        if self.shards <= 1 {
            return write_safetensors(&folder.join("model.safetensors"), &tensors, self.dtype, self.seed);
        }
        let mut weight_map = serde_json::Map::new();
        let per_shard = tensors.len().div_ceil(self.shards);
        for (i, part) in tensors.chunks(per_shard).enumerate() {
            let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, tensors.len().div_ceil(per_shard));
            write_safetensors(&folder.join(&file), part, self.dtype, self.seed + i as u64)?;
            weight_map.extend(part.iter().map(|t| (t.name.clone(), json!(file))));
        }
        let index = json!({"metadata": {}, "weight_map": weight_map});
        write("model.safetensors.index.json", index.to_string())
    }

    /// Write a folder that can be served: config, weights, tokenizer, chat template.
    ///
    /// # Errors
    /// When a file can not be written.
    pub fn write(&self, folder: &Path) -> Result<(), TestkitError> {
        self.write_weights(folder)?;
        for (name, text) in chat_files(self.shape.vocab_size) {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|e| TestkitError::new(path, e))?;
        }
        Ok(())
    }
}
