//! The numbers of one block of each encoding.

use half::f16;

use super::k_quants::{Affine, Signed};

/// The f16 at `at`.
fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Bit `i` of the 32 at `at`, worth sixteen.
fn fifth_bit(bytes: &[u8], at: usize, i: usize) -> u8 {
    (bytes[at + i / 8] >> (i % 8) & 1) << 4
}

/// Number `i` of 32 in sixteen bytes of nibbles at `at`: the lower ones first, then the upper ones.
fn nibble(bytes: &[u8], at: usize, i: usize) -> u8 {
    if i < 16 { bytes[at + i] & 0x0f } else { bytes[at + i - 16] >> 4 }
}

/// Sign, four bits of exponent, three of mantissa; no infinities, and one NaN of each sign (the e4m3fn of OCP's OFP8).
pub(super) fn e4m3(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7f);
    // In the places of an f32 the exponent is 120 less; numbers below its least one stay right, since f32 has such numbers too.
    let number = f32::from_bits(magnitude << 20 | u32::from(code & 0x80) << 24) * 2f32.powi(120);
    if magnitude == 0x7f { f32::NAN } else { number }
}

/// Scale, 32 signed bytes.
pub(super) fn q8_0(b: [u8; 34]) -> [f32; 32] {
    let scale = half_at(&b, 0);
    std::array::from_fn(|i| scale * f32::from(b[2 + i].cast_signed()))
}

/// Scale, nibbles less 8.
pub(super) fn q4_0(b: [u8; 18]) -> [f32; 32] {
    let scale = half_at(&b, 0);
    std::array::from_fn(|i| scale * (f32::from(nibble(&b, 2, i)) - 8.0))
}

/// Scale, minimum, nibbles.
pub(super) fn q4_1(b: [u8; 20]) -> [f32; 32] {
    let (scale, min) = (half_at(&b, 0), half_at(&b, 2));
    std::array::from_fn(|i| scale * f32::from(nibble(&b, 4, i)) + min)
}

/// Scale, fifth bits, nibbles less 16.
pub(super) fn q5_0(b: [u8; 22]) -> [f32; 32] {
    let scale = half_at(&b, 0);
    std::array::from_fn(|i| scale * (f32::from(nibble(&b, 6, i) | fifth_bit(&b, 2, i)) - 16.0))
}

/// Scale, minimum, fifth bits, nibbles.
pub(super) fn q5_1(b: [u8; 24]) -> [f32; 32] {
    let (scale, min) = (half_at(&b, 0), half_at(&b, 2));
    std::array::from_fn(|i| scale * f32::from(nibble(&b, 8, i) | fifth_bit(&b, 4, i)) + min)
}

/// Scale, scale of minima, pairs of each 32, nibbles.
pub(super) fn q4_k(b: [u8; 144]) -> [f32; 256] {
    Affine::<false>::parse(&b).numbers()
}

/// As `q4_k`, with fifth bits.
pub(super) fn q5_k(b: [u8; 176]) -> [f32; 256] {
    Affine::<true>::parse(&b).numbers()
}

/// Numbers of six bits less 32, scales of each sixteen, scale.
pub(super) fn q6_k(b: [u8; 210]) -> [f32; 256] {
    Signed::parse(&b).numbers()
}
