//! Where each expert of a GGUF file lies: stacked with those of its layer in one tensor, or, in older files of Mixtral, in a
//! tensor of its own.
//!
//! Models ask for experts one by one. A stacked tensor `[experts, rows, cols]` has them one behind the other, so each is a run of
//! its bytes, and loading reads it, or the part of a rank, as it reads any matrix.

use std::collections::{BTreeSet, HashMap};

use super::super::{Container, TensorInfo};
use super::tensors::RawTensor;
use super::{GgufExperts, bad};
use crate::{ExpertNames, LayerError};

/// A tensor of a layer with experts.
struct OfExperts {
    layer: u32,
    part: Part,
    /// Of one expert; of all when `None`.
    expert: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Router,
    Gate,
    Up,
    Down,
}

/// Which experts the tensors of a file have; says at the end which are missing.
pub(super) struct Census<'a> {
    file: &'a str,
    experts: GgufExperts,
    layers: BTreeSet<u32>,
    found: HashMap<(u32, Part), usize>,
}

// === impl Census ===

impl<'a> Census<'a> {
    pub(super) fn new(file: &'a str, experts: GgufExperts) -> Self {
        Self { file, experts, layers: BTreeSet::new(), found: HashMap::new() }
    }

    /// What `tensor`, which is `info`, is for a model: a router, or each of the experts in it. `None` when it is neither.
    pub(super) fn take(
        &mut self,
        shard: &str,
        tensor: &RawTensor,
        info: &TensorInfo,
    ) -> Result<Option<Vec<(String, TensorInfo)>>, LayerError> {
        let GgufExperts { count, names } = self.experts;
        let Some(OfExperts { layer, part, expert }) = OfExperts::named(&tensor.name) else { return Ok(None) };
        let prefix = format!("model.layers.{layer}.{}", names.layer);
        self.layers.insert(layer);
        let Some(matrix) = part.of(names) else {
            return Ok(Some(vec![(format!("{prefix}.gate.weight"), info.clone())]));
        };
        if tensor.stored.is_none() {
            return Err(LayerError::WrongDtype {
                tensor: tensor.name.clone(),
                file: shard.to_owned(),
                found: tensor.dtype_name.clone(),
                supported: Container::Gguf.types(),
            });
        }
        let hugging_face = |expert: usize| format!("{prefix}.experts.{expert}.{matrix}.weight");
        let wrong = |what: String| {
            bad(shard, format!("{} {what}, its metadata says that there are {count}", tensor.name))
        };
        let taken = match (expert, tensor.shape.as_slice()) {
            (Some(expert), _) if expert >= count => {
                return Err(wrong(format!("is of expert {expert}, counted from 0")));
            }
            (Some(expert), _) => vec![(hugging_face(expert), info.clone())],
            (None, [experts, rows, cols]) if *experts == count => {
                let bytes = info.bytes / count as u64;
                let at = |expert: usize| TensorInfo {
                    offset: info.offset + expert as u64 * bytes,
                    bytes,
                    shape: vec![*rows, *cols],
                    ..info.clone()
                };
                (0..count).map(|expert| (hugging_face(expert), at(expert))).collect()
            }
            (None, [experts, _, _]) => return Err(wrong(format!("has {experts} experts"))),
            (None, shape) => {
                let reason = format!("{} has shape {shape:?}, not [experts, out, in]", tensor.name);
                return Err(bad(shard, reason));
            }
        };
        *self.found.entry((layer, part)).or_default() += taken.len();
        Ok(Some(taken))
    }

    /// Every layer that has some experts, or a router, must have all.
    pub(super) fn finish(self) -> Result<(), LayerError> {
        let count = self.experts.count;
        for layer in self.layers {
            for part in [Part::Gate, Part::Up, Part::Down] {
                let found = self.found.get(&(layer, part)).copied().unwrap_or(0);
                if found < count {
                    let name = part.name();
                    return Err(bad(
                        self.file,
                        format!(
                            "of {count} experts it has {found} in blk.{layer}.{name}_exps.weight (or blk.{layer}.{name}.E.weight): \
                             a part of the model is missing, or it is a variant that is not supported"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

// === impl OfExperts ===

impl OfExperts {
    /// `blk.L.ffn_gate_inp.weight`, `blk.L.ffn_gate_exps.weight` or `blk.L.ffn_gate.E.weight`.
    fn named(name: &str) -> Option<Self> {
        let (layer, rest) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
        let layer = layer.parse().ok()?;
        if rest == Part::Router.name() {
            return Some(Self { layer, part: Part::Router, expert: None });
        }
        [Part::Gate, Part::Up, Part::Down].into_iter().find_map(|part| {
            let expert = match rest.strip_prefix(part.name())? {
                "_exps" => None,
                one => Some(one.strip_prefix('.')?.parse().ok()?),
            };
            Some(Self { layer, part, expert })
        })
    }
}

// === impl Part ===

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Router => "ffn_gate_inp",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// What models call it in each expert; `None` for the router.
    fn of(self, names: ExpertNames) -> Option<&'static str> {
        match self {
            Self::Router => None,
            Self::Gate => Some(names.gate),
            Self::Up => Some(names.up),
            Self::Down => Some(names.down),
        }
    }
}
