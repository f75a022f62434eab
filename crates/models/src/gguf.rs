//! What config.json would say of a GGUF file: sizes and settings from its metadata, under the names of Hugging Face.
//!
//! Keys are those of llama.cpp (`class Keys` in its `gguf-py/gguf/constants.py`), meanings those of its loader.

mod experts;

use serde_json::{Map, Value, json};
use vlinders_layers::{Gguf, GgufExperts, GgufLayout, LayerError};

use crate::{mixtral, qwen3_moe};

/// A GGUF file as a model of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufModel {
    /// Its config.json.
    pub config: Vec<u8>,
    /// How its tensors lie; for [`vlinders_layers::Checkpoint::gguf`].
    pub layout: GgufLayout,
}

/// The architectures of GGUF that are known; Mistral and Mixtral models call themselves `llama`.
const KNOWN: &str = "llama (also Mistral and Mixtral), qwen2, qwen3, qwen3moe";

/// Reads keys of one architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

// === impl GgufModel ===

impl GgufModel {
    /// Read the metadata of a file.
    ///
    /// # Errors
    /// Names the key that is missing or that asks for what no architecture here does.
    pub fn read(gguf: &Gguf) -> Result<Self, LayerError> {
        let architecture = gguf.metadata().text("general.architecture")?;
        let architecture = architecture
            .ok_or_else(|| gguf.error("it has no general.architecture; is it the first of several files?"))?;
        let keys = Keys { gguf, architecture };
        if !["llama", "qwen2", "qwen3", "qwen3moe"].contains(&architecture) {
            let also = if keys.shared_expert().is_some() { " (nor are shared experts)" } else { "" };
            let reason =
                format!("the architecture {architecture:?} is not supported{also}; supported are {KNOWN}");
            return Err(gguf.error(reason));
        }
        keys.reject_unavailable()?;
        keys.reject_other_experts()?;
        let window = keys.optional("attention.sliding_window")?.filter(|window| *window > 0);
        let experts = keys.experts()?;
        let name = match (architecture, &experts) {
            ("llama", Some(_)) => "MixtralForCausalLM",
            ("llama", None) if window.is_some() => "MistralForCausalLM",
            ("llama", None) => "LlamaForCausalLM",
            ("qwen2", None) => "Qwen2ForCausalLM",
            ("qwen3", None) => "Qwen3ForCausalLM",
            ("qwen3moe", Some(_)) => "Qwen3MoeForCausalLM",
            (_, None) => return Err(keys.missing("expert_count")),
            (_, Some(_)) => {
                return Err(gguf.error(format!("experts in a model of {architecture} are not supported")));
            }
        };
        let heads = keys.each_layer_the_same("attention.head_count")?;
        let hidden = keys.required("embedding_length")?;
        let head_dim = match keys.optional("attention.key_length")? {
            Some(length) => length,
            None => hidden / heads.max(1),
        };
        keys.expect("attention.value_length", head_dim)?;
        keys.expect("rope.dimension_count", head_dim)?;
        let has = |tensor: &str| gguf.shape(tensor).is_some();
        let mut config = json!({
            "architectures": [name],
            "vocab_size": keys.vocab_size()?,
            "hidden_size": hidden,
            "intermediate_size": keys.intermediate_size()?,
            "num_hidden_layers": keys.required("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": match gguf.metadata().has(&keys.name("attention.head_count_kv")) {
                true => keys.each_layer_the_same("attention.head_count_kv")?,
                false => heads,
            },
            "head_dim": head_dim,
            "max_position_embeddings": keys.required("context_length")?,
            "rms_norm_eps": keys.required_number("attention.layer_norm_rms_epsilon")?,
            "rope_theta": keys.number("rope.freq_base")?.unwrap_or(10_000.0),
            "rope_scaling": keys.rope_scaling()?,
            "tie_word_embeddings": !has("output.weight"),
            "attention_bias": has("blk.0.attn_q.bias"),
            "mlp_bias": has("blk.0.ffn_down.bias"),
            // Of the Qwen models a file does not say in which layers a window would be; none that is known uses it.
            "sliding_window": window,
        });
        let interleaved_head = (architecture == "llama").then_some(head_dim as usize);
        let mut layout = GgufLayout { interleaved_head, experts: None };
        if let Some(experts) = experts {
            let names = if architecture == "llama" { mixtral::NAMES } else { qwen3_moe::NAMES };
            layout.experts = Some(GgufExperts { count: experts.count as usize, names });
            for (field, value) in keys.expert_fields(&experts)? {
                config[field] = value;
            }
        }
        Ok(Self { config: config.to_string().into_bytes(), layout })
    }
}

// === impl Keys ===

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn optional(&self, key: &str) -> Result<Option<u64>, LayerError> {
        self.gguf.metadata().count(&self.name(key))
    }

    fn required(&self, key: &str) -> Result<u64, LayerError> {
        self.optional(key)?.ok_or_else(|| self.missing(key))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, LayerError> {
        self.gguf.metadata().number(&self.name(key))
    }

    fn required_number(&self, key: &str) -> Result<f64, LayerError> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> LayerError {
        self.gguf.error(format!("it has no {}", self.name(key)))
    }

    /// A size that is one number, or one for each layer.
    fn each_layer_the_same(&self, key: &str) -> Result<u64, LayerError> {
        let name = self.name(key);
        if self.gguf.metadata().array_len(&name).is_none() {
            return self.required(key);
        }
        let sizes = self.gguf.metadata().integers(&name)?.unwrap_or_default();
        match sizes.first().and_then(|size| u64::try_from(*size).ok()) {
            Some(size) if sizes.iter().all(|other| *other == sizes[0]) => Ok(size),
            _ => Err(self.gguf.error(format!("{name} differs among layers, which is not supported"))),
        }
    }

    /// A size that, where it is given, can only have one value.
    fn expect(&self, key: &str, only: u64) -> Result<(), LayerError> {
        match self.optional(key)? {
            Some(found) if found != only => {
                let name = self.name(key);
                Err(self
                    .gguf
                    .error(format!("{name} is {found}; only the size of a head, {only}, is supported")))
            }
            _ => Ok(()),
        }
    }

    /// Settings without which the model would answer, but wrongly.
    fn reject_unavailable(&self) -> Result<(), LayerError> {
        let scales = [
            "logit_scale",
            "residual_scale",
            "embedding_scale",
            "attention.scale",
            "expert_weights_scale",
            "rope.scaling.attn_factor",
            "rope.scaling.yarn_log_multiplier",
        ];
        for key in scales {
            if self.number(key)?.is_some_and(|scale| scale != 0.0 && scale != 1.0) {
                return Err(self.gguf.error(format!("{} is not supported", self.name(key))));
            }
        }
        Ok(())
    }

    /// The size inside of a feed-forward network, or of an expert where all layers have experts and nothing else is said.
    fn intermediate_size(&self) -> Result<u64, LayerError> {
        match self.architecture {
            "qwen3moe" if !self.gguf.metadata().has(&self.name("feed_forward_length")) => {
                self.required("expert_feed_forward_length")
            }
            _ => self.each_layer_the_same("feed_forward_length"),
        }
    }

    fn vocab_size(&self) -> Result<u64, LayerError> {
        if let Some(size) = self.optional("vocab_size")? {
            return Ok(size);
        }
        match self.gguf.shape("token_embd.weight") {
            Some([rows, _]) => Ok(*rows as u64),
            _ => Err(self.gguf.error("it has no token_embd.weight")),
        }
    }

    fn rope_scaling(&self) -> Result<Value, LayerError> {
        let factor = match self.number("rope.scaling.factor")? {
            None => self.number("rope.scale_linear")?,
            factor => factor,
        };
        let factor = factor.filter(|factor| *factor != 0.0 && *factor != 1.0);
        let name = self.name("rope.scaling.type");
        // A factor without a type means linear.
        let kind = self.gguf.metadata().text(&name)?.unwrap_or("linear");
        let scaling = match (kind, factor) {
            ("none", _) | ("linear", None) => None,
            ("linear", Some(factor)) => Some(json!({"rope_type": "linear", "factor": factor})),
            ("yarn", factor) => Some(self.yarn(factor)?),
            (other, _) => {
                let reason =
                    format!("{name} {other:?} is not supported; supported are none, linear and yarn");
                return Err(self.gguf.error(reason));
            }
        };
        match (scaling, self.gguf.rope_factors()?) {
            (scaling, None) => Ok(scaling.unwrap_or(Value::Null)),
            (None, Some(factors)) => Ok(json!({"rope_type": "divided", "factors": factors})),
            (Some(_), Some(_)) => {
                Err(self.gguf.error(format!("{name} together with rope_freqs.weight is not supported")))
            }
        }
    }

    fn yarn(&self, factor: Option<f64>) -> Result<Value, LayerError> {
        let mut scaling = Map::new();
        scaling.insert("rope_type".to_owned(), json!("yarn"));
        scaling.insert("factor".to_owned(), json!(factor.unwrap_or(1.0)));
        if let Some(original) = self.optional("rope.scaling.original_context_length")? {
            scaling.insert("original_max_position_embeddings".to_owned(), json!(original));
        }
        let keys = [
            ("attention_factor", "rope.scaling.yarn_attn_factor"),
            ("beta_fast", "rope.scaling.yarn_beta_fast"),
            ("beta_slow", "rope.scaling.yarn_beta_slow"),
        ];
        for (field, key) in keys {
            if let Some(number) = self.number(key)? {
                scaling.insert(field.to_owned(), json!(number));
            }
        }
        Ok(Value::Object(scaling))
    }
}

#[cfg(test)]
mod tests;
