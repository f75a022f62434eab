//! Gathered rows are the table's rows.

use candle_core::DType;

use super::*;
use crate::reference;
use crate::testing::{assert_close, noise, rounded, values, weight};

#[test]
fn rows_of_the_table_in_every_dtype() {
    let (vocabulary, hidden) = (37, 21);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let table: Vec<f32> =
            noise(3, vocabulary * hidden).into_iter().map(|value| rounded(dtype, value)).collect();
        let packed = Arc::new(weight(dtype, vocabulary, hidden, &table));
        let ids = [0, 36, 5, 5, 16, 15];
        let rows = embedding(&ids, &packed).unwrap();
        assert_eq!(rows.dims(), [6, hidden]);
        assert_close(&values(&rows), &reference::embedding(&ids, &table, hidden), 0.0);
        assert_eq!(embedding(&[], &packed).unwrap().dims(), [0, hidden]);
    }
}

#[test]
fn an_unknown_token_is_an_error() {
    let packed = Arc::new(weight(DType::F32, 3, 1, &[0.0; 3]));
    let error = embedding(&[2, 3], &packed).unwrap_err().to_string();
    assert_eq!(error, "embedding: token 3 does not exist, there are 3");
}
