//! A packed file: the matrices of a model as they lie in memory, so that loading is mapping.
//!
//! `vlinders pack` writes one safetensors file. Each matrix of the load plan is a `U8` tensor under the name of its first part: the
//! tiles of [`PackedWeight`](vlinders_kernels::PackedWeight), then zeros up to a multiple of [`TILE_ALIGNMENT`]. Matrices come
//! first and the data begins at such a multiple, so each of them does. Vectors follow as `F32`, one for each part.
//! `__metadata__` has the version of the tiles under `vlinders.layout`, and for each matrix, under `vlinders.packed:` and
//! its name, a JSON text: format, shape `[out, in]`, and the tensors that were stacked with the rows of each.

use serde::{Deserialize, Serialize};
use vlinders_kernels::{Format, TILE_ALIGNMENT, TILE_LAYOUT};

use super::{Checkpoint, Container, TensorInfo, header};
use crate::{LayerError, MatrixSpec, Precision};

/// The key of `__metadata__` that has the version of the tiles.
pub(super) const LAYOUT: &str = "vlinders.layout";
/// Begins the keys of `__metadata__` that describe matrices.
pub(super) const NOTE: &str = "vlinders.packed:";

const FORMATS: [Format; 8] =
    [Format::F32, Format::F16, Format::BF16, Format::Q8, Format::Q4, Format::Q4K, Format::Q5K, Format::Q6K];

/// What the bytes of a packed matrix are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackedNote {
    pub(super) format: Format,
    parts: Vec<(String, usize)>,
}

/// As `__metadata__` has it.
#[derive(Serialize, Deserialize)]
struct RawNote {
    format: String,
    shape: [usize; 2],
    parts: Vec<(String, usize)>,
}

/// The text that describes a matrix.
pub(super) fn note(format: Format, spec: &MatrixSpec) -> String {
    let parts = parts(spec);
    let shape = [spec.rows(), spec.cols.len()];
    // A struct of texts and numbers always has a JSON text.
    serde_json::to_string(&RawNote { format: format.as_str().to_owned(), shape, parts }).unwrap_or_default()
}

/// Bytes of a matrix in the file; `None` when that is more than can be counted.
pub(super) fn file_bytes(format: Format, out: usize, inn: usize) -> Option<usize> {
    format.packed_bytes(out, inn)?.checked_next_multiple_of(TILE_ALIGNMENT)
}

fn parts(spec: &MatrixSpec) -> Vec<(String, usize)> {
    spec.parts.iter().map(|part| (part.tensor.clone(), part.rows.len())).collect()
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Take the one file of this checkpoint for a packed one: each matrix gets its shape and format.
    pub(super) fn packed(mut self) -> Result<Self, LayerError> {
        let (Some(shard), Some(header)) = (self.shards.first(), self.headers.first()) else {
            return Err(LayerError::NoWeights { place: self.place });
        };
        let bad = |reason: String| LayerError::BadPacked { file: shard.name.clone(), reason };
        let metadata = header::metadata(&shard.name, &header.bytes)?;
        let layout =
            metadata.get(LAYOUT).ok_or_else(|| bad("it does not say that it was packed".to_owned()))?;
        if *layout != TILE_LAYOUT.to_string() {
            let reason = format!(
                "it was written by another version (layout {layout}, this one reads layout {TILE_LAYOUT})"
            );
            return Err(bad(reason));
        }
        for (key, text) in &metadata {
            let Some(name) = key.strip_prefix(NOTE) else { continue };
            let info = self.tensors.get_mut(name);
            let info = info.ok_or_else(|| bad(format!("it describes {name}, which it does not hold")))?;
            let note = serde_json::from_str(text).map_err(|e| bad(format!("the note of {name}: {e}")))?;
            describe(info, note).map_err(|reason| bad(format!("{name} {reason}")))?;
        }
        self.container = Container::Packed;
        Ok(self)
    }

    /// An error where the weights of a model have to be read number by number.
    pub(super) fn refuse_packed(&self) -> Result<(), LayerError> {
        match self.container {
            Container::Packed => Err(LayerError::AlreadyPacked { place: self.place.clone() }),
            Container::Safetensors | Container::Gguf => Ok(()),
        }
    }

    /// Where a packed matrix lies and its format, once it is known to be as model and precision need it.
    pub(super) fn check_packed(
        &self,
        spec: &MatrixSpec,
        precision: Precision,
    ) -> Result<(&TensorInfo, Format), LayerError> {
        let name = spec.key();
        let info = self.tensors.get(name).ok_or_else(|| LayerError::MissingTensor {
            tensor: name.to_owned(),
            place: self.place.clone(),
            config: self.container.config(),
        })?;
        let file = || self.shards[info.shard].name.clone();
        let note = info.packed.as_ref().ok_or_else(|| LayerError::BadPacked {
            file: file(),
            reason: format!("it does not describe {name}"),
        })?;
        let expected = vec![spec.rows(), spec.cols.len()];
        if info.shape != expected {
            return Err(LayerError::WrongShape {
                tensor: name.to_owned(),
                file: file(),
                config: self.container.config(),
                expected,
                found: info.shape.clone(),
            });
        }
        if note.parts != parts(spec) {
            let reason = format!("{name} was stacked of {:?}, the model needs {:?}", note.parts, parts(spec));
            return Err(LayerError::BadPacked { file: file(), reason });
        }
        let asked = precision.format(spec.kind, spec.cols.len(), &[note.format.stored()]);
        if asked != note.format {
            let tensor = name.to_owned();
            return Err(LayerError::PackedOtherwise { tensor, packed: note.format, asked });
        }
        Ok((info, note.format))
    }
}

/// Make bytes the matrix that they are, when they can be it; else what is wrong with them.
fn describe(info: &mut TensorInfo, note: RawNote) -> Result<(), String> {
    let format = FORMATS.into_iter().find(|format| format.as_str() == note.format);
    let format = format.ok_or_else(|| format!("has the format {}, which is not known", note.format))?;
    let [out, inn] = note.shape;
    let bytes = file_bytes(format, out, inn).filter(|bytes| *bytes > 0);
    if info.dtype_name != "U8" || bytes.map(|bytes| bytes as u64) != Some(info.bytes) {
        return Err(format!(
            "has {} bytes as {}, {format} of shape {:?} has {bytes:?} as U8",
            info.bytes, info.dtype_name, note.shape
        ));
    }
    if !info.offset.is_multiple_of(TILE_ALIGNMENT as u64) {
        return Err(format!("begins at byte {}, which is no multiple of {TILE_ALIGNMENT}", info.offset));
    }
    info.shape = note.shape.to_vec();
    info.dtype_name = format!("packed {format}");
    info.packed = Some(PackedNote { format, parts: note.parts });
    Ok(())
}

#[cfg(test)]
mod tests;
