//! Weight matrices in device memory: filled row by row from what files hold, or with random numbers.

mod encode;
mod staging;
#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests;

use std::sync::{Mutex, PoisonError};

use vlinders_device::{DeviceBuffer, Gpu, Grid, Params};

use self::encode::{encode, put_scaled, same};
pub use self::staging::RowStaging;
use super::WARPGROUPS;
use super::format::{GpuFormat, STEP};
use crate::error::{KernelError, Result};
use crate::stored::Stored;

const OP: &str = "weight matrix";
const THREADS: u32 = 256;

/// An `[out, in]` matrix in device memory. Clones share it.
#[derive(Clone)]
pub struct GpuMatrix {
    codes: DeviceBuffer,
    scales: Option<DeviceBuffer>,
    format: GpuFormat,
    rounds_activations: bool,
    out: usize,
    inn: usize,
}

/// A [`GpuMatrix`] while its rows arrive, in any order, each once, from any threads.
pub struct GpuMatrixBuilder {
    matrix: GpuMatrix,
    filled: Mutex<Vec<bool>>,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct RandomParams {
    words: u64,
    count: u64,
    seed: u64,
}

// SAFETY: the struct of cuda/random_weights.cu, without padding.
unsafe impl Params for RandomParams {}

#[derive(Clone, Copy)]
#[repr(C)]
struct PlaceRowsParams {
    from: u64,
    codes: u64,
    first_row: i32,
    steps: i32,
}

// SAFETY: the struct of cuda/place_rows.cu, without padding.
unsafe impl Params for PlaceRowsParams {}

// === impl GpuMatrix ===

impl GpuMatrix {
    fn allocate(gpu: &Gpu, format: GpuFormat, out: usize, inn: usize) -> Result<Self> {
        if out == 0 || inn == 0 {
            return Err(KernelError::shape(OP, format!("a matrix of shape [{out}, {inn}] has no elements")));
        }
        // Kernels count rows and numbers of a row in 32 bits.
        let countable = out < 1 << 31 && inn < 1 << 30;
        let Some(bytes) = format.num_bytes(out, inn).filter(|_| countable) else {
            return Err(KernelError::Memory { bytes: usize::MAX });
        };
        let scales = out * format.row_scale_bytes(inn);
        Ok(Self {
            codes: gpu.allocate(bytes - scales)?,
            scales: if scales > 0 { Some(gpu.allocate(scales)?) } else { None },
            format,
            rounds_activations: false,
            out,
            inn,
        })
    }

    /// A matrix of random numbers around zero of standard deviation 0.02, made on the device: for measurements.
    ///
    /// # Errors
    /// A matrix without elements, or no memory for it.
    pub fn random(gpu: &Gpu, format: GpuFormat, out: usize, inn: usize, seed: u64) -> Result<Self> {
        let matrix = Self::allocate(gpu, format, out, inn)?;
        // Scales make numbers of that deviation of the random codes; f16 twice in a word.
        let twice = |scale: f32| u64::from(half::f16::from_f32(scale).to_bits()) * 0x1_0001;
        let (kernel, scale) = match format {
            GpuFormat::F32 => ("random_f32", 0),
            GpuFormat::F16 => ("random_f16", 0),
            GpuFormat::BF16 => ("random_bf16", 0),
            GpuFormat::Fp8 => ("random_fp8", u64::from(0.0238f32.to_bits())),
            GpuFormat::Q8 => ("random_q8", twice(0.02 / 36.95)),
            GpuFormat::Q4 => ("random_q4", twice(0.02 / 4.61)),
        };
        fill(&matrix.codes, kernel, seed)?;
        if let Some(scales) = &matrix.scales {
            fill(scales, "fill_words", scale)?;
        }
        matrix.settled()
    }

    /// Itself, once it is all there: products ask for weights before kernels before them have ended.
    fn settled(self) -> Result<Self> {
        self.gpu().wait()?;
        Ok(self)
    }

    /// Let products round activations of bf16 or f16 to e4m3, with a scale for each token, and multiply in eight bits. Products with
    /// matrices of experts do not.
    ///
    /// # Errors
    /// Weights of another format than [`GpuFormat::Fp8`], and a device without such kernels.
    pub fn round_activations(&mut self) -> Result<()> {
        if self.format != GpuFormat::Fp8 {
            let problem =
                format!("{self:?} is not multiplied with activations of eight bits: weights must be fp8");
            return Err(KernelError::shape(OP, problem));
        }
        if !can_round_activations(self.gpu()) {
            let problem =
                "this device does not multiply activations of eight bits, compute capability 9.0 does";
            return Err(KernelError::shape(OP, problem.to_owned()));
        }
        self.rounds_activations = true;
        Ok(())
    }

    /// Whether products round activations.
    #[must_use]
    pub fn rounds_activations(&self) -> bool {
        self.rounds_activations
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        self.codes.gpu()
    }

    /// How its numbers lie in memory.
    #[must_use]
    pub fn format(&self) -> GpuFormat {
        self.format
    }

    /// Rows.
    #[must_use]
    pub fn out_features(&self) -> usize {
        self.out
    }

    /// Numbers of a row.
    #[must_use]
    pub fn in_features(&self) -> usize {
        self.inn
    }

    /// Bytes of device memory.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.codes.num_bytes() + self.scales.as_ref().map_or(0, DeviceBuffer::num_bytes)
    }

    /// Where its codes are, as kernels know it.
    pub(crate) fn codes(&self) -> u64 {
        self.codes.address()
    }

    /// Where its scales are, or zero.
    pub(crate) fn scales(&self) -> u64 {
        self.scales.as_ref().map_or(0, DeviceBuffer::address)
    }

    /// Length of a row in steps.
    pub(crate) fn steps(&self) -> usize {
        self.inn.div_ceil(STEP)
    }

    /// Bytes of the codes of a row, and of its scales.
    fn row_bytes(&self) -> (usize, usize) {
        (self.format.row_bytes(self.inn).unwrap_or(0), self.format.row_scale_bytes(self.inn))
    }

    /// The kernel that puts rows of codes where they belong, unless they lie in rows.
    fn placed_by(&self) -> Option<&'static str> {
        match self.format {
            GpuFormat::F32 => None,
            GpuFormat::F16 | GpuFormat::BF16 => Some("place_rows_floats"),
            GpuFormat::Fp8 | GpuFormat::Q8 => Some("place_rows_bytes"),
            GpuFormat::Q4 => Some("place_rows_nibbles"),
        }
    }

    /// Put `count` rows of codes, which `from` begins with, where they belong.
    fn place(&self, kernel: &'static str, from: &DeviceBuffer, first_row: usize, count: usize) -> Result<()> {
        let params = PlaceRowsParams {
            from: from.address(),
            codes: self.codes.address(),
            first_row: first_row as i32,
            steps: self.steps() as i32,
        };
        // SAFETY: the rows were claimed, so they are in the matrix and nobody else's, and `from` has the codes of as many.
        unsafe { self.gpu().launch(kernel, Grid::of(count, THREADS), &params)? };
        Ok(())
    }
}

impl std::fmt::Debug for GpuMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rounding = if self.rounds_activations { " by activations of eight bits" } else { "" };
        write!(f, "GpuMatrix([{}, {}] {}{rounding})", self.out, self.inn, self.format)
    }
}

/// Whether there are kernels that multiply activations of eight bits on this device.
#[must_use]
pub fn can_round_activations(gpu: &Gpu) -> bool {
    gpu.properties().capability == WARPGROUPS
}

/// Write every word of a buffer.
fn fill(buffer: &DeviceBuffer, kernel: &'static str, seed: u64) -> Result<()> {
    let gpu = buffer.gpu();
    let count = buffer.num_bytes() / size_of::<u32>();
    let blocks = count.div_ceil(THREADS as usize).min(16 * gpu.properties().multiprocessors as usize);
    let params = RandomParams { words: buffer.address(), count: count as u64, seed };
    // SAFETY: the buffer has that many words, and nobody else knows it yet.
    unsafe { gpu.launch(kernel, Grid::of(blocks, THREADS), &params)? };
    Ok(())
}

// === impl GpuMatrixBuilder ===

impl GpuMatrixBuilder {
    /// Room for an `[out, inn]` matrix.
    ///
    /// # Errors
    /// A matrix without elements, or no memory for it.
    pub fn new(gpu: &Gpu, format: GpuFormat, out: usize, inn: usize) -> Result<Self> {
        let matrix = GpuMatrix::allocate(gpu, format, out, inn)?;
        Ok(Self { matrix, filled: Mutex::new(vec![false; out]) })
    }

    /// Fill rows `first_row..` with whole rows, encoded as `stored`; what the format can not hold is rounded.
    ///
    /// # Errors
    /// A number of columns that the encoding has no blocks for, bytes that are not whole rows, rows beyond the last,
    /// and rows that were filled before.
    pub fn rows(&mut self, first_row: usize, stored: Stored, bytes: &[u8]) -> Result<()> {
        self.rows_through(&mut RowStaging::default(), first_row, stored, bytes)
    }

    /// The same through memory that others pass through, too.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn rows_through(
        &self,
        staging: &mut RowStaging,
        first_row: usize,
        stored: Stored,
        bytes: &[u8],
    ) -> Result<()> {
        let count = self.claim(first_row, stored, bytes.len())?;
        let (codes, scales) = self.matrix.row_bytes();
        let room = staging.bytes_mut(self.matrix.gpu(), count * (codes + scales))?;
        let (codes, scales) = room.split_at_mut(count * codes);
        encode(self.matrix.format, stored, self.matrix.inn, bytes, codes, scales)?;
        staging.send(&self.matrix, first_row, count)
    }

    /// How its numbers will lie in memory.
    #[must_use]
    pub fn format(&self) -> GpuFormat {
        self.matrix.format
    }

    /// Whether rows that are encoded as `stored` are what the matrix holds, so that they may be read to [`stage`](Self::stage).
    #[must_use]
    pub fn holds(&self, stored: Stored) -> bool {
        same(self.matrix.format, stored) && self.matrix.inn.is_multiple_of(STEP)
    }

    /// Memory for a run of so many bytes, with anything in it. Waits until the device has taken what last left from there.
    ///
    /// # Errors
    /// When there is not so much memory, or the device fails.
    pub fn stage<'a>(&self, staging: &'a mut RowStaging, bytes: usize) -> Result<&'a mut [u8]> {
        staging.bytes_mut(self.matrix.gpu(), bytes)
    }

    /// Fill rows `first_row..` with the `bytes` that were last written to [`stage`](Self::stage), which the matrix
    /// [`holds`](Self::holds) as they are.
    ///
    /// # Errors
    /// As [`rows`](Self::rows), and another encoding.
    pub fn staged_rows(
        &self,
        staging: &mut RowStaging,
        first_row: usize,
        stored: Stored,
        bytes: usize,
    ) -> Result<()> {
        if !self.holds(stored) {
            let problem = format!("rows of {stored:?} are not what {:?} holds", self.matrix);
            return Err(KernelError::shape(OP, problem));
        }
        let count = self.claim(first_row, stored, bytes)?;
        staging.send(&self.matrix, first_row, count)
    }

    /// Fill rows `first_row..` of a matrix in fp8 with `codes` of e4m3, `[rows, in]`, none of which is a NaN, and the scale of each
    /// row. Nothing is rounded.
    ///
    /// # Errors
    /// As [`rows`](Self::rows), and when the matrix has another format, or there is not one scale for each row.
    pub fn scaled_rows(
        &self,
        staging: &mut RowStaging,
        first_row: usize,
        codes: &[u8],
        scales: &[f32],
    ) -> Result<()> {
        let inn = self.matrix.inn;
        if self.matrix.format != GpuFormat::Fp8 || codes.len() != scales.len().saturating_mul(inn) {
            let (codes, scales) = (codes.len(), scales.len());
            let problem =
                format!("{codes} codes of fp8 and {scales} scales are no rows of {:?}", self.matrix);
            return Err(KernelError::shape(OP, problem));
        }
        let count = self.claim(first_row, Stored::F8_E4M3, codes.len())?;
        let (row, scale) = self.matrix.row_bytes();
        let room = staging.bytes_mut(self.matrix.gpu(), count * (row + scale))?;
        let (to_codes, to_scales) = room.split_at_mut(count * row);
        put_scaled(codes, scales, inn, to_codes, to_scales);
        staging.send(&self.matrix, first_row, count)
    }

    /// How many rows so many bytes are; from here on they count as filled.
    fn claim(&self, first_row: usize, stored: Stored, bytes: usize) -> Result<usize> {
        let GpuMatrix { out, inn, .. } = self.matrix;
        let row_bytes = stored.row_bytes(inn).ok_or_else(|| {
            let len = stored.block_len();
            KernelError::shape(OP, format!("rows of {inn} numbers are no whole blocks of {len} ({stored:?})"))
        })?;
        if !bytes.is_multiple_of(row_bytes) {
            let problem = format!("{bytes} bytes are not whole rows of {row_bytes} bytes");
            return Err(KernelError::shape(OP, problem));
        }
        let count = bytes / row_bytes;
        let last_row = first_row.saturating_add(count);
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(filled) = filled.get_mut(first_row..last_row) else {
            let problem = format!("rows {first_row}..{last_row} given, the matrix has {out}");
            return Err(KernelError::shape(OP, problem));
        };
        if let Some(twice) = filled.iter().position(|f| *f) {
            return Err(KernelError::shape(OP, format!("row {} given twice", first_row + twice)));
        }
        filled.fill(true);
        Ok(count)
    }

    /// The finished matrix.
    ///
    /// # Errors
    /// A row that was never filled, or a failing device.
    pub fn finish(self) -> Result<GpuMatrix> {
        let filled = self.filled.into_inner().unwrap_or_else(PoisonError::into_inner);
        match filled.iter().position(|f| !f) {
            Some(row) => {
                Err(KernelError::shape(OP, format!("row {row} of {} was never given", self.matrix.out)))
            }
            None => self.matrix.settled(),
        }
    }
}
