//! Experts in GGUF files: stacked in one tensor for each layer and part, or, as older converters had them, each in its own.

use std::collections::BTreeMap;

use super::{Encode, GgufData, GgufFile, GgufTensor};

/// The experts of a folder while they are gathered: by layer and part, then by number.
#[derive(Default)]
pub(super) struct Stacks {
    stacks: BTreeMap<(usize, &'static str), BTreeMap<usize, Matrix>>,
}

struct Matrix {
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

// === impl Stacks ===

impl Stacks {
    /// Take a tensor when it is of an expert.
    pub(super) fn take(&mut self, name: &str, shape: &[usize], numbers: impl FnOnce() -> Vec<f32>) -> bool {
        let Some((layer, part, expert)) = of_expert(name) else { return false };
        let matrix = Matrix { shape: shape.to_vec(), numbers: numbers() };
        self.stacks.entry((layer, part)).or_default().insert(expert, matrix);
        true
    }

    /// `[experts, rows, cols]` for each layer and part.
    pub(super) fn tensors(self, encode: Encode<'_>) -> Vec<GgufTensor> {
        let stack = |((layer, part), experts): ((usize, &str), BTreeMap<usize, Matrix>)| {
            let name = format!("blk.{layer}.{part}_exps.weight");
            let mut shape = vec![experts.len()];
            shape.extend(experts.values().next().map(|expert| expert.shape.clone()).unwrap_or_default());
            let numbers: Vec<f32> = experts.into_values().flat_map(|expert| expert.numbers).collect();
            let data = encode(&name, &shape, &numbers);
            GgufTensor { name, shape, data }
        };
        self.stacks.into_iter().map(stack).collect()
    }
}

// === impl GgufFile ===

impl GgufFile {
    /// The same file with each expert in a tensor of its own, as files of Mixtral were at first.
    #[must_use]
    pub fn with_experts_apart(&self) -> Self {
        let apart = |tensor: &GgufTensor| -> Vec<GgufTensor> {
            let Some(stem) = tensor.name.strip_suffix("_exps.weight") else { return vec![tensor.clone()] };
            let bytes = tensor.data.bytes.chunks(tensor.data.bytes.len() / tensor.shape[0]);
            let one = |(expert, bytes): (usize, &[u8])| GgufTensor {
                name: format!("{stem}.{expert}.weight"),
                shape: tensor.shape[1..].to_vec(),
                data: GgufData { dtype: tensor.data.dtype, bytes: bytes.to_vec() },
            };
            bytes.enumerate().map(one).collect()
        };
        let tensors = self.tensors.iter().flat_map(apart).collect();
        Self { version: self.version, metadata: self.metadata.clone(), tensors }
    }
}

/// `model.layers.L.mlp.experts.E.gate_proj.weight` or `model.layers.L.block_sparse_moe.experts.E.w1.weight`, and likewise.
fn of_expert(name: &str) -> Option<(usize, &'static str, usize)> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let rest = rest.strip_prefix("mlp.").or_else(|| rest.strip_prefix("block_sparse_moe."))?;
    let (expert, part) = rest.strip_prefix("experts.")?.strip_suffix(".weight")?.split_once('.')?;
    let part = match part {
        "gate_proj" | "w1" => "ffn_gate",
        "up_proj" | "w3" => "ffn_up",
        "down_proj" | "w2" => "ffn_down",
        _ => return None,
    };
    Some((layer.parse().ok()?, part, expert.parse().ok()?))
}
