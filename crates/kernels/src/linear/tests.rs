//! Products against f64, and the same bits for a row in any company, on any instruction set and thread count.

use candle_core::DType;
use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::set_num_threads;
use crate::testing::{assert_close, bits, noise, rounded, tensor, values, weight};

struct Case {
    x: Vec<f32>,
    w: Arc<PackedWeight>,
    dense: Vec<f32>,
    bias: Option<Vec<f32>>,
}

/// What is multiplied: the dtype of the weight, and whether activations are rounded to bf16 before.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind {
    dtype: DType,
    rounds: bool,
}

const KINDS: [Kind; 4] = [
    Kind { dtype: DType::F32, rounds: false },
    Kind { dtype: DType::F16, rounds: false },
    Kind { dtype: DType::BF16, rounds: false },
    Kind { dtype: DType::BF16, rounds: true },
];

fn case(kind: Kind, n: usize, out: usize, inn: usize, with_bias: bool, seed: u64) -> Case {
    let dense: Vec<f32> = noise(seed, out * inn).into_iter().map(|v| rounded(kind.dtype, v)).collect();
    let mut w = weight(kind.dtype, out, inn, &dense);
    w.round_activations(kind.rounds);
    Case { x: noise(seed ^ 1, n * inn), w: Arc::new(w), dense, bias: with_bias.then(|| noise(seed ^ 2, out)) }
}

impl Case {
    fn run(&self, isa: Isa, rows: std::ops::Range<usize>) -> Vec<f32> {
        let inn = self.w.in_features();
        let x = tensor(&self.x[rows.start * inn..rows.end * inn], &[rows.len(), inn]);
        let bias = self.bias.as_ref().map(|b| tensor(b, &[b.len()]));
        let y = linear_on(isa, &x, &self.w, bias.as_ref()).unwrap();
        assert_eq!(y.dims(), [rows.len(), self.w.out_features()]);
        values(&y)
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(KINDS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn close_to_the_reference(
        kind in kinds(), n in 1usize..40, out in 1usize..90, inn in 1usize..700, with_bias: bool, seed: u64,
    ) {
        let case = case(kind, n, out, inn, with_bias, seed);
        let x: Vec<f32> =
            case.x.iter().map(|x| if kind.rounds { rounded(DType::BF16, *x) } else { *x }).collect();
        let exact = reference::linear(&x, &case.dense, case.bias.as_deref(), inn);
        assert_close(&case.run(Isa::detect(), 0..n), &exact, 1e-6 * (inn as f64).sqrt());
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_company(
        kind in kinds(), n in 2usize..120, out in 1usize..100, inn in 1usize..600, with_bias: bool, seed: u64,
        cut in 1usize..119, threads in 1usize..5, isa in prop::sample::select(Isa::all()),
    ) {
        let case = case(kind, n, out, inn, with_bias, seed);
        set_num_threads(threads);
        let together = case.run(isa, 0..n);
        set_num_threads(threads % 3 + 1);
        for row in [0, n / 2, n - 1] {
            prop_assert_eq!(bits(&case.run(isa, row..row + 1)), bits(&together[row * out..(row + 1) * out]));
        }
        let cut = cut % n;
        let mut parts = if cut > 0 { case.run(isa, 0..cut) } else { Vec::new() };
        parts.extend(case.run(isa, cut..n));
        prop_assert_eq!(bits(&parts), bits(&together));
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits(
        kind in kinds(), n in 1usize..20, out in 1usize..50, inn in 1usize..300, with_bias: bool, seed: u64,
    ) {
        let case = case(kind, n, out, inn, with_bias, seed);
        let portable = case.run(Isa::Portable, 0..n);
        for isa in Isa::all() {
            prop_assert_eq!(bits(&case.run(isa, 0..n)), bits(&portable), "{:?}", isa);
        }
    }
}

#[test]
fn every_number_of_rows_in_a_matrix_of_many_chunks() {
    for kind in [KINDS[2], KINDS[3]] {
        let case = case(kind, 14, 650, 321, true, 9);
        let alone: Vec<f32> = (0..14).flat_map(|row| case.run(Isa::Portable, row..row + 1)).collect();
        set_num_threads(3);
        for (isa, n) in Isa::all().into_iter().flat_map(|isa| (1..=14).map(move |n| (isa, n))) {
            assert_eq!(bits(&case.run(isa, 0..n)), bits(&alone[..n * 650]), "{isa:?}, {n} rows, {kind:?}");
        }
    }
}

#[test]
fn nan_and_infinity_stay_in_their_row() {
    for kind in KINDS {
        let mut case = case(kind, 7, 20, 33, false, 4);
        let clean = case.run(Isa::detect(), 0..7);
        case.x[2 * 33 + 5] = f32::NAN;
        case.x[4 * 33 + 5] = f32::INFINITY;
        let found = case.run(Isa::detect(), 0..7);
        for (row, (found, clean)) in found.chunks(20).zip(clean.chunks(20)).enumerate() {
            match row {
                2 => assert!(found.iter().all(|v| v.is_nan())),
                4 => assert!(found.iter().all(|v| !v.is_finite())),
                _ => assert_eq!(bits(found), bits(clean)),
            }
        }
    }
}

#[test]
fn no_rows_give_no_rows() {
    let case = case(KINDS[0], 0, 5, 3, true, 1);
    assert!(case.run(Isa::detect(), 0..0).is_empty());
}

#[test]
fn wrong_shapes_are_errors() {
    let w = Arc::new(weight(DType::F32, 2, 3, &[0.0; 6]));
    let error = |r: Result<Tensor>| r.unwrap_err().to_string();
    let x = tensor(&[0.0; 4], &[1, 4]);
    assert_eq!(error(linear(&x, &w, None)), "linear: x is [1, 4], the weight needs [n, 3]");
    let x = tensor(&[0.0; 3], &[1, 3]);
    assert_eq!(error(linear(&x, &w, Some(&tensor(&[0.0; 3], &[3])))), "linear: bias is [3], not [2]");
    let half = x.to_dtype(DType::F16).unwrap();
    assert_eq!(error(linear(&half, &w, None)), "linear: x has dtype F16, give it one of [F32]");
}
