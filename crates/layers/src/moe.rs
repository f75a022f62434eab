//! The mixture of experts: many gated feed-forward networks, of which each token goes to a few.

use vlinders_device::Tensor;
use vlinders_kernels::ops::{self, Experts, Matrix};

use crate::{LayerError, Ranks, Weights};

/// The most experts that kernels can choose among.
pub const MAX_EXPERTS: usize = 512;
/// The most experts of a token.
pub const MAX_TOP_K: usize = 32;
/// Outputs of an expert lie in tiles of so many, and so do those of the share that a rank has.
const TILE: usize = 16;

/// The shape of a mixture of experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoeConfig {
    /// Experts of a layer.
    pub experts: usize,
    /// Experts of a token.
    pub top_k: usize,
    /// Size inside of an expert.
    pub intermediate: usize,
    /// Whether the weights of a token's experts are divided by their sum.
    pub renormalise: bool,
    /// What tensors are called.
    pub names: ExpertNames,
}

/// What an architecture calls the tensors of a mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertNames {
    /// The layer in its block.
    pub layer: &'static str,
    /// `experts.N.` this is the gate of an expert.
    pub gate: &'static str,
    /// Likewise.
    pub up: &'static str,
    /// Likewise.
    pub down: &'static str,
}

/// `sum of p * down(silu(gate(x)) * up(x))` over the experts that a token goes to. Ranks share what is inside of each expert.
pub struct Moe {
    router: Matrix,
    top_k: usize,
    renormalise: bool,
    gate_up: Experts,
    down: Experts,
    ranks: Ranks,
}

// === impl MoeConfig ===

impl MoeConfig {
    /// Refuse sizes that no kernel takes.
    ///
    /// # Errors
    /// Names the field, as Qwen3-MoE calls it.
    pub fn validate(&self) -> Result<(), LayerError> {
        if self.experts == 0 || self.experts > MAX_EXPERTS {
            let reason = format!("must be from 1 to {MAX_EXPERTS}, is {}", self.experts);
            return Err(LayerError::config("num_experts", reason));
        }
        if self.top_k == 0 || self.top_k > self.experts.min(MAX_TOP_K) {
            let most = self.experts.min(MAX_TOP_K);
            let reason = format!("must be from 1 to {most}, is {}", self.top_k);
            return Err(LayerError::config("num_experts_per_tok", reason));
        }
        if self.intermediate == 0 || self.intermediate > 1 << 24 {
            return Err(LayerError::config(
                "moe_intermediate_size",
                format!("can not be {}", self.intermediate),
            ));
        }
        Ok(())
    }
}

// === impl Moe ===

impl Moe {
    /// `gate`, and the experts, under the prefix of `weights`.
    ///
    /// # Errors
    /// When a tensor can not be had, or the insides of experts can not be divided among the ranks.
    pub fn new(weights: &Weights, hidden: usize, config: &MoeConfig) -> Result<Self, LayerError> {
        config.validate()?;
        let inner = weights.share(config.intermediate);
        let ranks = weights.ranks();
        if config.experts > 1 && !((2 * inner.len()).is_multiple_of(TILE) && hidden.is_multiple_of(TILE)) {
            let count = ranks.communicator().size();
            let reason = format!(
                "experts of {} by {hidden} on {count} ranks have shares of {}: twice that, and hidden_size, must be multiples of {TILE}",
                config.intermediate,
                inner.len()
            );
            return Err(LayerError::config("moe_intermediate_size", reason));
        }
        let names = &config.names;
        let router = weights.router("gate.weight", config.experts, hidden)?;
        let name = |expert: usize, part: &str| format!("experts.{expert}.{part}.weight");
        let gates_and_ups: Vec<_> = (0..config.experts)
            .flat_map(|expert| [name(expert, names.gate), name(expert, names.up)])
            .collect();
        let gates_and_ups: Vec<_> = gates_and_ups.iter().map(|name| (name.as_str(), inner)).collect();
        let downs: Vec<_> = (0..config.experts).map(|expert| name(expert, names.down)).collect();
        let downs: Vec<_> = downs.iter().map(|name| (name.as_str(), hidden)).collect();
        let gate_up = weights.stacked_matrix(&gates_and_ups, hidden)?;
        let down = weights.stacked_matrix(&downs, inner)?;
        // What stands for a matrix that is not loaded has no rows to divide.
        let count = if weights.is_planning() { 0 } else { config.experts };
        Ok(Self {
            router,
            top_k: config.top_k,
            renormalise: config.renormalise,
            gate_up: gate_up.split_experts(count)?,
            down: down.split_experts(count)?,
            ranks,
        })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`.
    ///
    /// # Errors
    /// When a kernel refuses the shapes, or the other ranks are gone.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        let routing = ops::route(&ops::logits(x, &self.router)?, self.top_k, self.renormalise)?;
        self.ranks.all_reduce(ops::experts(x, &routing, &self.gate_up, &self.down)?)
    }
}
