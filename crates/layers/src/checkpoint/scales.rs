//! Matrices in floats of eight bits (e4m3), whose scales stand in a tensor of their own: one, one for each row, or one for each
//! block of rows and columns. A number is its code times its scale.
//!
//! The scales of `x.weight` are called `x.weight_scale_inv` or `x.weight_scale`: the first is how DeepSeek named what divides
//! before rounding, and multiplies here as the other does. Both are F32, F16 or BF16.

use std::ops::Range;

use vlinders_kernels::Stored;

use super::method::Method;
use super::shard::Shard;
use super::{Checkpoint, TensorInfo};
use crate::{LayerError, MatrixKind, MatrixSpec, Part};

/// What is added to the name of a matrix.
const SUFFIXES: [&str; 2] = ["_scale_inv", "_scale"];

/// Where the scales of a matrix are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scales {
    /// The matrix.
    matrix: String,
    /// The tensor of scales.
    name: String,
    pub(super) shard: usize,
    offset: u64,
    stored: Stored,
    layout: Layout,
}

/// What a scale is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Matrix,
    Row,
    /// `rows` by `cols` numbers; a row of blocks has `across` of them.
    Block {
        rows: usize,
        cols: usize,
        across: usize,
    },
}

/// The scales of a run of rows.
#[derive(Debug)]
pub(super) struct RunOfScales {
    values: Vec<f32>,
    layout: Layout,
    /// The first row of the run, counted from where the first of these scales begins.
    first_row: usize,
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Where the scales of a matrix are; `None` when it is not encoded in floats of eight bits.
    pub(super) fn scales(&self, matrix: &str, info: &TensorInfo) -> Result<Option<Scales>, LayerError> {
        if info.stored != Some(Stored::F8_E4M3) {
            return Ok(None);
        }
        let file = |info: &TensorInfo| self.shards[info.shard].name.clone();
        let (Method::Fp8 { block, rows }, [out, inn]) = (self.method, &info.shape[..]) else {
            return Err(LayerError::WrongDtype {
                tensor: matrix.to_owned(),
                file: file(info),
                found: info.dtype_name.clone(),
                supported: "F32, F16 and BF16, and matrices in F8_E4M3 where the quantization_config of config.json \
                            says fp8 or compressed-tensors,",
            });
        };
        let Some((name, scales)) = self.find_scales(matrix) else {
            return Err(LayerError::MissingScales { tensor: matrix.to_owned(), file: file(info) });
        };
        let bad = |reason| LayerError::BadScales { tensor: name.clone(), file: file(scales), reason };
        let stored = match scales.stored {
            Some(stored @ (Stored::F32 | Stored::F16 | Stored::BF16)) => stored,
            _ => {
                return Err(bad(format!(
                    "are stored as {}; F32, F16 and BF16 are supported",
                    scales.dtype_name
                )));
            }
        };
        let one = scales.shape.iter().all(|size| *size == 1);
        let layout = match (&scales.shape[..], block) {
            (&[down, across], Some([rows, cols]))
                if down == out.div_ceil(rows) && across == inn.div_ceil(cols) =>
            {
                Layout::Block { rows, cols, across }
            }
            _ if rows && one => Layout::Matrix,
            (&[count] | &[count, 1], _) if rows && count == *out => Layout::Row,
            (found, _) => {
                let blocks = block.map(|[rows, cols]| {
                    let (down, across) = (out.div_ceil(rows), inn.div_ceil(cols));
                    format!("[{down}, {across}], one for each {rows} x {cols}")
                });
                let whole = rows.then(|| format!("[1], or [{out}, 1]"));
                let expected: Vec<_> = blocks.into_iter().chain(whole).collect();
                let expected = expected.join("; or ");
                let problem = format!("have shape {found:?}; a matrix of {:?} needs {expected}", info.shape);
                return Err(bad(problem));
            }
        };
        let (shard, offset) = (scales.shard, scales.offset);
        Ok(Some(Scales { matrix: matrix.to_owned(), name, shard, offset, stored, layout }))
    }

    fn find_scales(&self, matrix: &str) -> Option<(String, &TensorInfo)> {
        SUFFIXES.iter().find_map(|suffix| {
            let name = format!("{matrix}{suffix}");
            let info = self.tensors.get(&name)?;
            Some((name, info))
        })
    }

    /// The name of the tensor that holds the scales of a matrix, if it is read.
    #[must_use]
    pub fn scales_of(&self, matrix: &str) -> Option<String> {
        let info = self.tensors.get(matrix)?;
        self.scales(matrix, info).ok().flatten().map(|scales| scales.name)
    }

    /// The encoding that a matrix can keep of what it takes of a part. Numbers with scales for blocks are rounded again, to eight bits;
    /// and what chooses experts, as ever, is not.
    pub(super) fn kept(&self, spec: &MatrixSpec, part: &Part) -> Stored {
        let Some(info) = self.tensors.get(&part.tensor) else { return Stored::F32 };
        let scales = self.scales(&part.tensor, info).ok().flatten();
        match (scales, info.stored) {
            (Some(_), _) if spec.kind == MatrixKind::Router => Stored::F32,
            (Some(scales), _) if !scales.are_of_rows() => Stored::Q8_0,
            (_, stored) => spec.kept(stored.unwrap_or(Stored::F32)),
        }
    }
}

// === impl Scales ===

impl Scales {
    /// Whether all numbers of a row have the same one.
    pub(super) fn are_of_rows(&self) -> bool {
        !matches!(self.layout, Layout::Block { .. })
    }

    /// Those of rows `rows`.
    pub(super) fn read(&self, shard: &Shard, rows: Range<usize>) -> Result<RunOfScales, LayerError> {
        let (first, count, first_row) = match self.layout {
            Layout::Matrix => (0, 1, 0),
            Layout::Row => (rows.start, rows.len(), 0),
            Layout::Block { rows: of, across, .. } => {
                let blocks = rows.start / of..rows.end.div_ceil(of);
                (blocks.start * across, blocks.len() * across, rows.start % of)
            }
        };
        let bytes = self.stored.block_bytes();
        let mut buffer = Vec::new();
        let read = shard.read(self.offset + (first * bytes) as u64, count * bytes, &mut buffer)?;
        let mut values = vec![0.0; count];
        self.stored.decode(&read, &mut values);
        if let Some(at) = values.iter().position(|scale| !scale.is_finite()) {
            return Err(LayerError::BadScales {
                tensor: self.name.clone(),
                file: shard.name.clone(),
                reason: format!("are no finite numbers: number {} is {}", first + at, values[at]),
            });
        }
        Ok(RunOfScales { values, layout: self.layout, first_row })
    }

    /// Refuse codes that are no number.
    pub(super) fn check_codes(&self, shard: &Shard, codes: &[u8]) -> Result<(), LayerError> {
        let is_nan = |code: &u8| code & 0x7f == 0x7f;
        // Counting has no way out in the middle, and so is done for many at once.
        if codes.iter().filter(|code| is_nan(code)).count() == 0 {
            return Ok(());
        }
        Err(LayerError::NotANumber { tensor: self.matrix.clone(), file: shard.name.clone() })
    }
}

// === impl RunOfScales ===

impl RunOfScales {
    /// The scale of each of `count` rows, where rows have one.
    pub(super) fn of_rows(&self, count: usize) -> Option<Vec<f32>> {
        match self.layout {
            Layout::Matrix => Some(vec![*self.values.first()?; count]),
            Layout::Row => Some(self.values.clone()),
            Layout::Block { .. } => None,
        }
    }

    /// The numbers of rows of codes, which are columns `cols` of theirs, as bytes of f32.
    pub(super) fn numbers(&self, codes: &[u8], cols: Range<usize>) -> Vec<u8> {
        let (mut numbers, mut bytes) = (vec![0.0f32; cols.len()], vec![0; 4 * codes.len()]);
        let width = cols.len().max(1);
        for ((row, codes), to) in codes.chunks_exact(width).enumerate().zip(bytes.chunks_exact_mut(4 * width))
        {
            Stored::F8_E4M3.decode(codes, &mut numbers);
            self.each_scale(row, cols.clone(), |range, scale| {
                numbers[range].iter_mut().for_each(|number| *number *= scale);
            });
            to.as_chunks_mut::<4>().0.iter_mut().zip(&numbers).for_each(|(to, x)| *to = x.to_le_bytes());
        }
        bytes
    }

    /// The scales of row `row` of the run, each with the numbers among columns `cols` that it is for.
    fn each_scale(&self, row: usize, cols: Range<usize>, mut take: impl FnMut(Range<usize>, f32)) {
        match self.layout {
            Layout::Matrix => take(0..cols.len(), self.values[0]),
            Layout::Row => take(0..cols.len(), self.values[row]),
            Layout::Block { rows, cols: width, across } => {
                let scales = &self.values[(self.first_row + row) / rows * across..][..across];
                let mut begin = cols.start;
                for scale in &scales[cols.start / width..cols.end.div_ceil(width)] {
                    let end = cols.end.min((begin / width + 1) * width);
                    take(begin - cols.start..end - cols.start, *scale);
                    begin = end;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
