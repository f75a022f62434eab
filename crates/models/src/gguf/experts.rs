//! What config.json would say of the experts of a GGUF file, and which files are of other kinds of experts than are served.
//!
//! llama.cpp knows by the architecture how experts are chosen and weighted; for `llama` and `qwen3moe` that is softmax over all
//! of them, the most likely ones, and weights that add up to one.

use serde_json::{Value, json};
use vlinders_layers::{LayerError, MAX_EXPERTS, MAX_TOP_K};

use super::Keys;

/// The experts of a layer, and of a token.
pub(super) struct Experts {
    /// Of a layer.
    pub(super) count: u64,
    /// Of a token.
    used: u64,
}

// === impl Keys ===

impl Keys<'_> {
    /// The experts, of which there are none in a dense model.
    pub(super) fn experts(&self) -> Result<Option<Experts>, LayerError> {
        let (count_name, used_name) = (self.name("expert_count"), self.name("expert_used_count"));
        let used = self.optional("expert_used_count")?;
        let Some(count) = self.optional("expert_count")?.filter(|count| *count > 0) else {
            let is_of_experts = |name: &&str| name.contains("_exps.") || name.contains(".ffn_gate_inp.");
            if let Some(name) = self.gguf.tensors().find(is_of_experts) {
                return Err(self.gguf.error(format!("it has {name}, of experts, but no {count_name}")));
            }
            return match used.filter(|used| *used > 0) {
                Some(used) => {
                    Err(self.gguf.error(format!("{used_name} is {used}, but it has no {count_name}")))
                }
                None => Ok(None),
            };
        };
        if count > MAX_EXPERTS as u64 {
            return Err(self.gguf.error(format!("{count_name} is {count}; the most is {MAX_EXPERTS}")));
        }
        let used = used.ok_or_else(|| self.missing("expert_used_count"))?;
        let most = count.min(MAX_TOP_K as u64);
        if used == 0 || used > most {
            return Err(self.gguf.error(format!(
                "{used_name} is {used}; of {count} experts ({count_name}) a token goes to 1 to {most}"
            )));
        }
        Ok(Some(Experts { count, used }))
    }

    /// Fields of config.json, beside those that dense models have.
    pub(super) fn expert_fields(&self, experts: &Experts) -> Result<Vec<(&'static str, Value)>, LayerError> {
        let used = ("num_experts_per_tok", json!(experts.used));
        if self.architecture == "llama" {
            return Ok(vec![used, ("num_local_experts", json!(experts.count))]);
        }
        let dense = |name: &str| -> Option<u32> {
            name.strip_prefix("blk.")?.strip_suffix(".ffn_gate.weight")?.parse().ok()
        };
        Ok(vec![
            used,
            ("num_experts", json!(experts.count)),
            ("moe_intermediate_size", json!(self.required("expert_feed_forward_length")?)),
            ("norm_topk_prob", json!(true)),
            ("mlp_only_layers", self.gguf.tensors().filter_map(dense).collect()),
        ])
    }

    /// A tensor of an expert that every token goes to.
    pub(super) fn shared_expert(&self) -> Option<&str> {
        self.gguf.tensors().find(|name| name.contains("shexp"))
    }

    /// Refuse what would make the model answer, but wrongly.
    pub(super) fn reject_other_experts(&self) -> Result<(), LayerError> {
        if let Some(shared) = self.shared_expert() {
            return Err(self.gguf.error(format!(
                "it has {shared}, of an expert that every token goes to: shared experts are not supported"
            )));
        }
        // Kinds of gating are those of `enum llama_expert_gating_func_type`.
        let only = [
            ("expert_shared_count", 0..=0, "shared experts are not supported"),
            ("expert_shared_feed_forward_length", 0..=0, "shared experts are not supported"),
            ("expert_gating_func", 0..=1, "only 1, softmax, is supported"),
            ("expert_group_count", 0..=1, "groups of experts are not supported"),
        ];
        for (key, allowed, reason) in only {
            if let Some(found) = self.optional(key)?.filter(|found| !allowed.contains(found)) {
                return Err(self.gguf.error(format!("{} is {found}; {reason}", self.name(key))));
            }
        }
        let key = self.name("expert_weights_norm");
        if self.gguf.metadata().flag(&key)? == Some(false) {
            let reason = format!("{key} is false; only weights of experts that add up to one are supported");
            return Err(self.gguf.error(reason));
        }
        Ok(())
    }
}
