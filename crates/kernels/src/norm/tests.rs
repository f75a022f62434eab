//! Norms against f64, and the same bits however rows are grouped.

use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::testing::{assert_close, bits, noise, tensor, values};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn close_to_the_reference(n in 1usize..9, d in 1usize..200, seed: u64, big in prop::bool::ANY) {
        let factor = if big { 100.0 } else { 0.01 };
        let x: Vec<f32> = noise(seed, n * d).iter().map(|v| v * factor).collect();
        let residual = noise(seed + 1, n * d);
        let weight = noise(seed + 2, d);
        let w = tensor(&weight, &[d]);
        let normed = rms_norm(&tensor(&x, &[n, d]), &w, 1e-5).unwrap();
        assert_close(&values(&normed), &reference::rms_norm(&x, &weight, 1e-5), 2e-6);
        let (normed, sum) = add_rms_norm(&tensor(&x, &[n, d]), &tensor(&residual, &[n, d]), &w, 1e-6).unwrap();
        let (exact, exact_sum) = reference::add_rms_norm(&x, &residual, &weight, 1e-6);
        assert_close(&values(&normed), &exact, 2e-6);
        assert_close(&values(&sum), &exact_sum, 0.0);
        prop_assert_eq!(normed.dims(), [n, d]);
        prop_assert_eq!(sum.dims(), [n, d]);
    }

    #[test]
    fn a_row_alone_has_the_bits_of_a_row_in_a_batch(n in 2usize..40, d in 1usize..3000, seed: u64) {
        let x = noise(seed, n * d);
        let w = tensor(&noise(seed + 2, d), &[d]);
        let together = values(&rms_norm(&tensor(&x, &[n, d]), &w, 1e-5).unwrap());
        for row in [0, n / 2, n - 1] {
            let alone = values(&rms_norm(&tensor(&x[row * d..(row + 1) * d], &[1, d]), &w, 1e-5).unwrap());
            prop_assert_eq!(bits(&alone), bits(&together[row * d..(row + 1) * d]));
        }
        for isa in Isa::all() {
            let again = tensor(&x, &[n, d]).apply_op2_no_bwd(&w, &RmsNorm { eps: 1e-5, isa }).unwrap();
            prop_assert_eq!(bits(&values(&again)), bits(&together), "{:?}", isa);
        }
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let x = tensor(&[0.0; 6], &[2, 3]);
    let w = tensor(&[0.0; 2], &[2]);
    assert_eq!(
        rms_norm(&x, &w, 1e-5).unwrap_err().to_string(),
        "rms_norm: x is [2, 3], so weight must be its last dimension, not [2]"
    );
    let w = tensor(&[0.0; 3], &[3]);
    assert!(add_rms_norm(&x, &w, &w, 1e-5).is_err());
    assert!(rms_norm(&x.to_dtype(candle_core::DType::F64).unwrap(), &w, 1e-5).is_err());
}
