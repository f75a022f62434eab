//! Gates against f64.

use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::testing::{assert_close, bits, noise, tensor, values};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn close_to_the_reference(n in 1usize..9, i in 1usize..300, seed: u64) {
        let x: Vec<f32> = noise(seed, n * 2 * i).iter().map(|v| v * 30.0).collect();
        let x_tensor = tensor(&x, &[n, 2 * i]);
        let out = silu_mul(&x_tensor).unwrap();
        prop_assert_eq!(out.dims(), [n, i]);
        assert_close(&values(&out), &reference::silu_mul(&x, i), 1e-6);
        for isa in Isa::all() {
            let again = x_tensor.apply_op1_no_bwd(&SiluMul { isa }).unwrap();
            prop_assert_eq!(bits(&values(&again)), bits(&values(&out)), "{:?}", isa);
        }
    }
}

#[test]
fn extremes_neither_overflow_nor_hide() {
    let out = values(&silu_mul(&tensor(&[1e30, -1e30, f32::NAN, 0.0, 1.0, 1.0, 1.0, 1.0], &[1, 8])).unwrap());
    assert_eq!(out[0], 1e30);
    assert_eq!(out[1], 0.0);
    assert!(out[2].is_nan());
    assert_eq!(out[3], 0.0);
    assert!(silu_mul(&tensor(&[0.0; 3], &[1, 3])).is_err());
}
