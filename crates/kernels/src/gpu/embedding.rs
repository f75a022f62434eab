//! Rows of a table for token ids, and rows of activations picked out: `cuda/embedding.cu`.

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

use super::{GpuFormat, GpuMatrix};
use crate::error::{KernelError, Result};

const THREADS: u32 = 256;
/// Numbers of a row that a block looks up.
const EMBEDDED: usize = 4 * THREADS as usize;

#[derive(Clone, Copy)]
#[repr(C)]
struct EmbeddingParams {
    ids: u64,
    codes: u64,
    scales: u64,
    y: u64,
    first: u32,
    out: i32,
    inn: i32,
    steps: i32,
}

// SAFETY: the struct of cuda/embedding.cu, without padding.
unsafe impl Params for EmbeddingParams {}

#[derive(Clone, Copy)]
#[repr(C)]
struct GatherParams {
    x: u64,
    rows: u64,
    y: u64,
    row_bytes: i64,
    count: u32,
    alike: u32,
}

// SAFETY: the struct of cuda/embedding.cu, without padding.
unsafe impl Params for GatherParams {}

/// Rows `ids` `[n]` (u32) of a table, of which `table` holds those from id `first` on: `[n, hidden]` in f32. The rows of other ids
/// are zeros.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn embedding(ids: &GpuTensor, table: &GpuMatrix, first: usize) -> Result<GpuTensor> {
    const OP: &str = "embedding";
    let n = check_rows(OP, ids)?;
    // Ids are u32, so no table begins later.
    let first = u32::try_from(first)
        .map_err(|_| KernelError::shape(OP, format!("a table can not begin at id {first}")))?;
    let y = ids.gpu().empty(&[n, table.in_features()], DType::F32)?;
    let kernel = match table.format() {
        GpuFormat::F32 => "embedding_f32",
        GpuFormat::F16 => "embedding_f16",
        GpuFormat::BF16 => "embedding_bf16",
        GpuFormat::Fp8 => "embedding_fp8",
        GpuFormat::Q8 => "embedding_q8",
        GpuFormat::Q4 => "embedding_q4",
    };
    let params = EmbeddingParams {
        ids: ids.address(),
        codes: table.codes(),
        scales: table.scales(),
        y: y.address(),
        first,
        out: table.out_features() as i32,
        inn: table.in_features() as i32,
        steps: table.steps() as i32,
    };
    let grid = Grid::of_two(n, table.in_features().div_ceil(EMBEDDED), THREADS);
    // SAFETY: the kernel reads rows that the table has, and no others; the output is new.
    unsafe { ids.gpu().launch(kernel, grid, &params)? };
    Ok(y)
}

/// Rows `rows` `[m]` (u32) of `x` `[n, d]`: `[m, d]`. A row that does not exist is full of NaNs.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn gather_rows(x: &GpuTensor, rows: &GpuTensor) -> Result<GpuTensor> {
    const OP: &str = "gather_rows";
    let m = check_rows(OP, rows)?;
    let ([n, d], DType::BF16 | DType::F16 | DType::F32) = (x.dims(), x.dtype()) else {
        return Err(KernelError::shape(OP, format!("x must be [n, d] of bf16, f16 or f32, not {x:?}")));
    };
    let y = x.gpu().empty(&[m, *d], x.dtype())?;
    let row_bytes = d * x.dtype().size_in_bytes();
    let alike = row_bytes.is_multiple_of(16) && x.address().is_multiple_of(16);
    let units = row_bytes / if alike { 16 } else { 2 };
    let params = GatherParams {
        x: x.address(),
        rows: rows.address(),
        y: y.address(),
        row_bytes: row_bytes as i64,
        count: u32::try_from(*n).unwrap_or(u32::MAX),
        alike: u32::from(alike),
    };
    let grid = Grid::of_two(m, units.div_ceil(THREADS as usize), THREADS);
    // SAFETY: the kernel reads rows that `x` has, and no others; the output is new.
    unsafe { x.gpu().launch("gather_rows", grid, &params)? };
    Ok(y)
}

fn check_rows(op: &'static str, rows: &GpuTensor) -> Result<usize> {
    match (rows.dims(), rows.dtype()) {
        ([n], DType::U32) => Ok(*n),
        _ => Err(KernelError::shape(op, format!("rows are chosen by [n] of u32, not {rows:?}"))),
    }
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests {
    use super::*;
    use crate::gpu::GpuMatrixBuilder;
    use crate::gpu::testing::{DTYPES, device, ids_on_gpu, on_gpu, rounded_to, values_of};
    use crate::stored::Stored;
    use crate::testing::{noise, stored};

    #[test]
    fn rows_of_a_share_are_looked_up_and_others_are_zeros() {
        let gpu = device();
        for hidden in [8, 100, 320, 1100] {
            let numbers = noise(3, 10 * hidden);
            for (format, error) in [
                (GpuFormat::F32, 0.0),
                (GpuFormat::F16, 2f32.powi(-12)),
                (GpuFormat::BF16, 2f32.powi(-9)),
                (GpuFormat::Fp8, 0.036),
                (GpuFormat::Q8, 0.005),
                (GpuFormat::Q4, 0.13),
            ] {
                let mut table = GpuMatrixBuilder::new(&gpu, format, 10, hidden).unwrap();
                table.rows(0, Stored::F32, &stored(DType::F32, &numbers)).unwrap();
                let ids = [20, 29, 0, 19, 30, 25, u32::MAX];
                let y = embedding(&ids_on_gpu(&gpu, &ids), &table.finish().unwrap(), 20).unwrap();
                assert_eq!(y.dims(), [ids.len(), hidden]);
                let y = values_of(&y);
                for (id, found) in ids.iter().zip(y.chunks(hidden)) {
                    let zeros = vec![0.0; hidden];
                    let row = (*id as usize).wrapping_sub(20);
                    let expected = if row < 10 { &numbers[row * hidden..][..hidden] } else { &zeros };
                    for (found, expected) in found.iter().zip(expected) {
                        assert!((found - expected).abs() <= error, "{format}: {found} is not {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_picked_out_in_any_order() {
        let gpu = device();
        for dtype in DTYPES {
            for d in [16, 5, 4104] {
                let values = rounded_to(dtype, &noise(4, 6 * d));
                let rows = [5, 0, 0, 3, 6];
                let y =
                    gather_rows(&on_gpu(&gpu, &values, &[6, d], dtype), &ids_on_gpu(&gpu, &rows)).unwrap();
                let y = values_of(&y);
                for (row, found) in rows[..4].iter().zip(y.chunks(d)) {
                    assert_eq!(found, &values[*row as usize * d..][..d]);
                }
                assert!(y[4 * d..].iter().all(|x| x.is_nan()), "there is no row 6");
            }
        }
    }

    #[test]
    fn what_chooses_rows_must_be_whole_numbers() {
        let gpu = device();
        let x = on_gpu(&gpu, &[1.0; 8], &[2, 4], DType::F32);
        assert!(gather_rows(&x, &on_gpu(&gpu, &[1.0], &[1], DType::F32)).is_err());
        assert!(gather_rows(&ids_on_gpu(&gpu, &[1]), &ids_on_gpu(&gpu, &[0])).is_err());
    }
}
