//! Rotation against f64, whole and partial.

use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::testing::{assert_close, bits, noise, tensor, values};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn close_to_the_reference(
        n in 1usize..20, heads in 1usize..9, half in 1usize..70, rest in 0usize..20, seed: u64,
    ) {
        let d = 2 * half + rest;
        let max_pos = 50;
        let x = noise(seed, n * heads * d);
        let (cos, sin) = (noise(seed + 1, max_pos * half), noise(seed + 2, max_pos * half));
        let positions: Vec<u32> = (0..n).map(|i| ((i as u64 * 7 + seed % 50) % 50) as u32).collect();
        let table = |t: &[f32]| tensor(t, &[max_pos, half]);
        let x_tensor = tensor(&x, &[n, heads, d]);
        let turned = values(&rope(&x_tensor, &table(&cos), &table(&sin), &positions).unwrap());
        assert_close(&turned, &reference::rope(&x, &cos, &sin, &positions, d, half), 3e-7);
        for isa in Isa::all() {
            let op = Rope { positions: &positions, heads, d, half, isa };
            let again = x_tensor.apply_op3_no_bwd(&table(&cos), &table(&sin), &op).unwrap();
            prop_assert_eq!(bits(&values(&again)), bits(&turned), "{:?}", isa);
        }
        let row = heads * d;
        let last = tensor(&x[(n - 1) * row..], &[1, heads, d]);
        let alone = rope(&last, &table(&cos), &table(&sin), &positions[n - 1..]).unwrap();
        prop_assert_eq!(bits(&values(&alone)), bits(&turned[(n - 1) * row..]));
    }
}

#[test]
fn bad_arguments_are_errors() {
    let x = tensor(&[0.0; 8], &[1, 2, 4]);
    let table = tensor(&[0.0; 6], &[3, 2]);
    let wide = tensor(&[0.0; 9], &[3, 3]);
    let error = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert_eq!(error(rope(&x, &table, &table, &[3])), "rope: position 3 does not exist, there are 3");
    assert_eq!(error(rope(&x, &table, &table, &[0, 1])), "rope: 2 positions for 1 tokens");
    assert_eq!(error(rope(&x, &wide, &wide, &[0])), "rope: a rotation of 6 does not fit heads of 4");
    assert!(rope(&x, &table, &wide, &[0]).is_err());
    assert!(rope(&table, &table, &table, &[0]).is_err());
}
