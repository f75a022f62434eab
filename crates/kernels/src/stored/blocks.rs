//! The numbers of one block of each encoding.

use half::f16;

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

/// Scale and minimum of each 32 in a block of 256, six bits each: those of the first four lie in the lower bits of
/// bytes 0 to 3 and 4 to 7, the others in the nibbles of bytes 8 to 11 with their two upper bits in the first eight.
pub(super) fn six_bit_pairs(b: &[u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|i| match i {
        0..4 => (b[i] & 63, b[i + 4] & 63),
        _ => (b[i + 4] & 15 | b[i - 4] >> 6 << 4, b[i + 4] >> 4 | b[i] >> 6 << 4),
    })
}

/// Nibble `i` of 256 in 128 bytes at `at`: each 32 bytes hold 64, the lower nibbles first.
pub(super) fn nibble_of_256(bytes: &[u8], at: usize, i: usize) -> u8 {
    let byte = bytes[at + i / 64 * 32 + i % 32];
    if i % 64 < 32 { byte & 15 } else { byte >> 4 }
}

/// Scale, scale of minima, pairs of each 32, nibbles.
pub(super) fn q4_k(b: [u8; 144]) -> [f32; 256] {
    affine_256(&b, |i| nibble_of_256(&b, 16, i))
}

/// As `q4_k`, with the fifth bits of number `i` in bit `i / 32` of byte `i % 32` before the nibbles.
pub(super) fn q5_k(b: [u8; 176]) -> [f32; 256] {
    affine_256(&b, |i| nibble_of_256(&b, 48, i) | (b[16 + i % 32] >> (i / 32) & 1) << 4)
}

fn affine_256(b: &[u8], code: impl Fn(usize) -> u8) -> [f32; 256] {
    let (scale, min) = (half_at(b, 0), half_at(b, 2));
    let mut packed = [0; 12];
    packed.copy_from_slice(&b[4..16]);
    let pairs = six_bit_pairs(&packed);
    std::array::from_fn(|i| {
        let (s, m) = pairs[i / 32];
        scale * f32::from(s) * f32::from(code(i)) - min * f32::from(m)
    })
}

/// 128 bytes of lower nibbles, 64 of upper pairs of bits, sixteen signed scales, scale; numbers less 32.
pub(super) fn q6_k(b: [u8; 210]) -> [f32; 256] {
    let scale = half_at(&b, 208);
    std::array::from_fn(|i| {
        // Each half of 128 numbers has 64 bytes of nibbles and 32 of pairs.
        let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
        let byte = b[half * 64 + quarter % 2 * 32 + at];
        let lower = if quarter < 2 { byte & 15 } else { byte >> 4 };
        let upper = b[128 + half * 32 + at] >> (2 * quarter) & 3;
        let of_sixteen = f32::from(b[192 + i / 16].cast_signed());
        scale * of_sixteen * (f32::from(lower | upper << 4) - 32.0)
    })
}
