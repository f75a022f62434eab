//! Rows of files as rows of codes, which `cuda/place_rows.cu` puts where products read them.
//!
//! Codes are in the order of numbers, those of four bits in words of eight: see `cuda/weights.cuh`.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::error::Result;
use crate::format::Format;
use crate::gpu::format::{GpuFormat, SCALED};
use crate::pool::parallel_for;
use crate::quant::round_rows;
use crate::stored::Stored;
use crate::tensor::Shared;

/// Where the codes and the scales of rows go.
struct Encoded<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [u8],
}

/// The greatest number of e4m3.
const FP8_MOST: f32 = 448.0;

/// Whether numbers of this encoding are those of the format.
pub(super) fn same(format: GpuFormat, stored: Stored) -> bool {
    match format {
        GpuFormat::F32 => stored == Stored::F32,
        GpuFormat::F16 => stored == Stored::F16,
        GpuFormat::BF16 => stored == Stored::BF16,
        GpuFormat::Fp8 | GpuFormat::Q8 | GpuFormat::Q4 => false,
    }
}

/// Whole rows of `inn` numbers, which `bytes` hold as `stored`, as rows of codes, each in whole steps, and of scales.
pub(super) fn encode(
    format: GpuFormat,
    stored: Stored,
    inn: usize,
    bytes: &[u8],
    codes: &mut [u8],
    scales: &mut [u8],
) -> Result<()> {
    let to = Encoded { codes, scales };
    match format {
        _ if same(format, stored) => {
            to.each_row(stored, inn, bytes, |row, codes, _| codes[..row.len()].copy_from_slice(row))
        }
        GpuFormat::F32 => to.decoded(stored, inn, bytes, |numbers, codes, _| {
            put(numbers, codes, f32::to_le_bytes);
        }),
        GpuFormat::F16 => to.decoded(stored, inn, bytes, |numbers, codes, _| {
            put(numbers, codes, |x| f16::from_f32(x).to_le_bytes());
        }),
        GpuFormat::BF16 => to.decoded(stored, inn, bytes, |numbers, codes, _| {
            put(numbers, codes, |x| bf16::from_f32(x).to_le_bytes());
        }),
        GpuFormat::Fp8 => to.decoded(stored, inn, bytes, fp8_row),
        GpuFormat::Q8 => {
            let (inn, blocks) = blocks_of(Format::Q8, stored, inn, bytes)?;
            to.each_row(Stored::Q8_0, inn, &blocks, q8_row)
        }
        GpuFormat::Q4 => {
            let (inn, blocks) = blocks_of(Format::Q4, stored, inn, bytes)?;
            to.each_row(Stored::Q4_0, inn, &blocks, q4_row)
        }
    }
}

/// Rows of `inn` codes of fp8, and the scale of each, to rows of codes in whole steps, and of scales.
pub(super) fn put_scaled(
    codes: &[u8],
    scales: &[f32],
    inn: usize,
    to_codes: &mut [u8],
    to_scales: &mut [u8],
) {
    let row_bytes = to_codes.len() / scales.len().max(1);
    for (row, to) in codes.chunks_exact(inn).zip(to_codes.chunks_exact_mut(row_bytes.max(1))) {
        let (codes, padding) = to.split_at_mut(inn);
        codes.copy_from_slice(row);
        padding.fill(0);
    }
    put(scales, to_scales, f32::to_le_bytes);
}

// === impl Encoded ===

impl Encoded<'_> {
    /// Give each row to `row`, with room for its codes and its scales, which are zeros.
    fn each_row(
        self,
        stored: Stored,
        inn: usize,
        bytes: &[u8],
        row: impl Fn(&[u8], &mut [u8], &mut [u8]) + Sync,
    ) -> Result<()> {
        let from = stored.row_bytes(inn).unwrap_or(1);
        let count = bytes.len() / from;
        let (code_bytes, scale_bytes) = (self.codes.len() / count.max(1), self.scales.len() / count.max(1));
        let (to_codes, to_scales) =
            (Shared::new(self.codes.as_mut_ptr()), Shared::new(self.scales.as_mut_ptr()));
        parallel_for(count, &|index| {
            // SAFETY: both have room for all rows and are borrowed mutably; this chunk alone touches row `index`.
            let (codes, scales) = unsafe {
                (
                    std::slice::from_raw_parts_mut(to_codes.get().add(index * code_bytes), code_bytes),
                    std::slice::from_raw_parts_mut(to_scales.get().add(index * scale_bytes), scale_bytes),
                )
            };
            codes.fill(0);
            scales.fill(0);
            row(&bytes[index * from..][..from], codes, scales);
        })
    }

    /// [`each_row`](Self::each_row), as numbers.
    fn decoded(
        self,
        stored: Stored,
        inn: usize,
        bytes: &[u8],
        row: impl Fn(&[f32], &mut [u8], &mut [u8]) + Sync,
    ) -> Result<()> {
        self.each_row(stored, inn, bytes, |bytes, codes, scales| {
            let mut numbers = vec![0.0; inn];
            stored.decode(bytes, &mut numbers);
            row(&numbers, codes, scales);
        })
    }
}

fn put<const B: usize>(numbers: &[f32], codes: &mut [u8], bytes: impl Fn(f32) -> [u8; B]) {
    for (number, code) in numbers.iter().zip(codes.as_chunks_mut::<B>().0) {
        *code = bytes(*number);
    }
}

/// Where number `k` of a row lies among codes of four bits: the byte, and the bit in it.
fn place_of_nibble(k: usize) -> (usize, usize) {
    let bit = k % 8 / 2 * 4 + k % 2 * 16;
    (k / 8 * 4 + bit / 8, bit % 8)
}

/// The greatest number of a row becomes that of e4m3. A row with a number that is not finite has a scale that is no number:
/// such a weight must not vanish.
fn fp8_row(numbers: &[f32], codes: &mut [u8], scales: &mut [u8]) {
    let poison: f32 = numbers.iter().map(|x| x * 0.0).sum();
    let greatest = numbers.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let scale = if poison.is_nan() { f32::NAN } else { greatest / FP8_MOST };
    scales.copy_from_slice(&scale.to_le_bytes());
    if scale > 0.0 {
        put(numbers, codes, |x| [e4m3(x / scale)]);
    }
}

/// The nearest number of e4m3, to even when there are two.
fn e4m3(x: f32) -> u8 {
    let magnitude = x.abs().min(FP8_MOST);
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-6);
    // A mantissa of four bits, the first one being implied unless the exponent is the least.
    let mantissa = (magnitude * 2f32.powi(3 - exponent)).round_ties_even() as i32;
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    sign | ((exponent + 7) * 8 + mantissa - 8) as u8
}

/// Rows in the blocks of `format`, and how many numbers they have: what does not fill a block is filled up with zeros.
fn blocks_of(format: Format, stored: Stored, inn: usize, bytes: &[u8]) -> Result<(usize, Cow<'_, [u8]>)> {
    if stored == format.stored() {
        return Ok((inn, Cow::Borrowed(bytes)));
    }
    if inn.is_multiple_of(SCALED) {
        return Ok((inn, Cow::Owned(round_rows(format, stored, inn, bytes)?)));
    }
    let padded = inn.next_multiple_of(SCALED);
    let mut numbers = vec![0.0f32; padded];
    let mut all = Vec::new();
    for row in bytes.chunks_exact(stored.row_bytes(inn).unwrap_or(1)) {
        stored.decode(row, &mut numbers[..inn]);
        all.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    }
    Ok((padded, Cow::Owned(round_rows(format, Stored::F32, padded, &all)?)))
}

fn q8_row(blocks: &[u8], codes: &mut [u8], scales: &mut [u8]) {
    for (index, block) in blocks.chunks_exact(Stored::Q8_0.block_bytes()).enumerate() {
        scales[2 * index..][..2].copy_from_slice(&block[..2]);
        codes[index * SCALED..][..SCALED].copy_from_slice(&block[2..]);
    }
}

fn q4_row(blocks: &[u8], codes: &mut [u8], scales: &mut [u8]) {
    for (index, block) in blocks.chunks_exact(Stored::Q4_0.block_bytes()).enumerate() {
        scales[2 * index..][..2].copy_from_slice(&block[..2]);
        for i in 0..SCALED {
            // Files have the first sixteen in the lower halves of bytes.
            let code = if i < 16 { block[2 + i] & 15 } else { block[2 + i - 16] >> 4 };
            let (byte, bit) = place_of_nibble(index * SCALED + i);
            codes[byte] |= code << bit;
        }
    }
}
