//! Weights of random numbers, made on a device from nothing but the shapes of a model: for measurements.

use std::sync::Arc;

use candle_core::Device;
use vlinders_kernels::Stored;
use vlinders_kernels::gpu::GpuMatrix;
use vlinders_kernels::ops::Matrix;

use crate::{LayerError, LoadPlan, LoadedTensors, MatrixKind, Place, Precision, VectorSpec};

// === impl LoadedTensors ===

impl LoadedTensors {
    /// What `plan` asks for, as if a checkpoint held it whose linear maps are encoded as `linear` and all else as bf16: matrices of
    /// random numbers around zero, norms of ones, biases of zeros. The same seed gives the same numbers.
    /// [`linear_encoding`](crate::linear_encoding) tells the encoding of a config.json.
    ///
    /// # Errors
    /// When `place` is the CPU, or its device fails or has no memory for them.
    pub fn random(
        plan: &LoadPlan,
        precision: Precision,
        linear: Stored,
        place: &Place,
        seed: u64,
    ) -> Result<Self, LayerError> {
        let Place::Gpu { gpu, .. } = place else { return Err(LayerError::RandomOnCpu) };
        let mut loaded = Self { place: place.clone(), ..Self::default() };
        for (i, spec) in plan.matrices().iter().enumerate() {
            let stored = if spec.kind == MatrixKind::Linear { linear } else { Stored::BF16 };
            let encodings = vec![stored; spec.parts.len()];
            let (rows, cols) = (spec.rows(), spec.cols.len());
            let format = precision.format(spec.kind, cols, &encodings);
            let mut matrix =
                GpuMatrix::random(gpu, format.try_into()?, rows, cols, seed.wrapping_add(i as u64))?;
            if precision.rounds_to_eight_bits(spec.kind, format) {
                matrix.round_activations()?;
            }
            loaded.matrices.insert(spec.key().to_owned(), Matrix::Gpu(Arc::new(matrix)));
        }
        for spec in plan.vectors() {
            let numbers = numbers_of(spec);
            let vector = candle_core::Tensor::from_slice(&numbers, numbers.len(), &Device::Cpu)?;
            loaded.vectors.insert(spec.key().to_owned(), place.put_vector(vector)?);
        }
        Ok(loaded)
    }
}

fn numbers_of(spec: &VectorSpec) -> Vec<f32> {
    let of = |part: &crate::Part| {
        let number = if part.tensor.ends_with(".bias") { 0.0 } else { 1.0 };
        std::iter::repeat_n(number, part.rows.len())
    };
    spec.parts.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Part;

    #[test]
    fn norms_are_ones_and_biases_are_zeros() {
        let part = |tensor: &str, len: usize| Part { tensor: tensor.to_owned(), rows: len.into() };
        let norm = VectorSpec { parts: vec![part("model.norm.weight", 3)] };
        assert_eq!(numbers_of(&norm), [1.0; 3]);
        let biases = VectorSpec { parts: vec![part("q_proj.bias", 2), part("k_proj.bias", 1)] };
        assert_eq!(numbers_of(&biases), [0.0; 3]);
    }

    #[test]
    fn the_cpu_has_no_random_weights() {
        let made =
            LoadedTensors::random(&LoadPlan::default(), Precision::default(), Stored::BF16, &Place::Cpu, 1);
        assert!(matches!(made, Err(LayerError::RandomOnCpu)));
    }
}
