//! The fields of blocks of 256 numbers, whose scales are whole multiples of a common one: taken apart and put together.

use half::f16;

/// Numbers of a block.
pub(crate) const LEN: usize = 256;
/// Numbers that share a pair of an [`Affine`] block.
pub(crate) const PER_PAIR: usize = 32;
/// Numbers that share a scale of a [`Signed`] block.
pub(crate) const PER_SCALE: usize = 16;

/// `Q4_K` and, with `FIVE` bits, `Q5_K`: number `i` is `scale * s * code - min * m`, with a pair `(s, m)` for each 32.
///
/// Bytes: `scale`, `min`, twelve of pairs, with five bits 32 of upper bits (number `i` has bit `i / 32` of byte
/// `i % 32`), 128 of nibbles.
pub(crate) struct Affine<const FIVE: bool> {
    pub(crate) scale: f16,
    pub(crate) min: f16,
    /// Six bits each.
    pub(crate) pairs: [(u8, u8); LEN / PER_PAIR],
    /// Four bits, or five.
    pub(crate) codes: [u8; LEN],
}

/// `Q6_K`: number `i` is `scale * s * (code - 32)`, with a signed `s` for each sixteen.
///
/// Bytes: 128 of nibbles, 64 of upper pairs of bits, sixteen scales, `scale`.
pub(crate) struct Signed {
    pub(crate) scale: f16,
    pub(crate) scales: [i8; LEN / PER_SCALE],
    /// Six bits.
    pub(crate) codes: [u8; LEN],
}

fn half_at(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

// === impl Affine ===

impl<const FIVE: bool> Affine<FIVE> {
    /// Where nibbles begin.
    const NIBBLES: usize = if FIVE { 48 } else { 16 };
    /// Bytes of a block.
    pub(crate) const BYTES: usize = Self::NIBBLES + LEN / 2;

    /// The fields of a block of [`Self::BYTES`].
    #[inline(always)]
    pub(crate) fn parse(b: &[u8]) -> Self {
        let mut codes = [0; LEN];
        let (runs, _) = codes.as_chunks_mut::<PER_PAIR>();
        for (i, run) in runs.iter_mut().enumerate() {
            let bytes = &b[Self::NIBBLES + i / 2 * PER_PAIR..][..PER_PAIR];
            for (k, code) in run.iter_mut().enumerate() {
                let upper = if FIVE { (b[16 + k] >> i & 1) << 4 } else { 0 };
                *code = bytes[k] >> (i % 2 * 4) & 15 | upper;
            }
        }
        Self { scale: half_at(b, 0), min: half_at(b, 2), pairs: pairs(&b[4..16]), codes }
    }

    /// The block of these fields.
    #[inline(always)]
    pub(crate) fn store(&self, b: &mut [u8]) {
        b[..2].copy_from_slice(&self.scale.to_le_bytes());
        b[2..4].copy_from_slice(&self.min.to_le_bytes());
        store_pairs(&self.pairs, &mut b[4..16]);
        b[16..Self::BYTES].fill(0);
        for (i, run) in self.codes.as_chunks::<PER_PAIR>().0.iter().enumerate() {
            for (k, code) in run.iter().enumerate() {
                b[Self::NIBBLES + i / 2 * PER_PAIR + k] |= (code & 15) << (i % 2 * 4);
                if FIVE {
                    b[16 + k] |= (code >> 4) << i;
                }
            }
        }
    }

    /// The numbers of the block.
    #[inline(always)]
    pub(crate) fn numbers(&self) -> [f32; LEN] {
        let (scale, min) = (self.scale.to_f32(), self.min.to_f32());
        let mut numbers = [0.0; LEN];
        for (i, number) in numbers.iter_mut().enumerate() {
            let (s, m) = self.pairs[i / PER_PAIR];
            *number = scale * f32::from(s) * f32::from(self.codes[i]) - min * f32::from(m);
        }
        numbers
    }
}

/// Six bits each: those of the first four lie in the lower bits of bytes 0 to 3 and 4 to 7, the others in the nibbles of
/// bytes 8 to 11 with their two upper bits in the first eight.
fn pairs(b: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|i| match i {
        0..4 => (b[i] & 63, b[i + 4] & 63),
        _ => (b[i + 4] & 15 | b[i - 4] >> 6 << 4, b[i + 4] >> 4 | b[i] >> 6 << 4),
    })
}

fn store_pairs(pairs: &[(u8, u8); 8], b: &mut [u8]) {
    for i in 0..4 {
        let ((s, m), (later_s, later_m)) = (pairs[i], pairs[i + 4]);
        b[i] = s | later_s >> 4 << 6;
        b[i + 4] = m | later_m >> 4 << 6;
        b[i + 8] = later_s & 15 | later_m << 4;
    }
}

// === impl Signed ===

impl Signed {
    /// Where the lower four bits of number `i` are, and by how much they are moved up; the same of the upper two.
    ///
    /// Each half of 128 numbers has 64 bytes of nibbles and 32 of pairs.
    #[inline(always)]
    fn places(i: usize) -> ((usize, usize), (usize, usize)) {
        let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
        let lower = (half * 64 + quarter % 2 * 32 + at, quarter / 2 * 4);
        (lower, (128 + half * 32 + at, 2 * quarter))
    }

    /// The fields of a block of 210 bytes.
    #[inline(always)]
    pub(crate) fn parse(b: &[u8]) -> Self {
        let mut codes = [0; LEN];
        for (i, code) in codes.iter_mut().enumerate() {
            let ((lower, by), (upper, upper_by)) = Self::places(i);
            *code = b[lower] >> by & 15 | (b[upper] >> upper_by & 3) << 4;
        }
        let scales = std::array::from_fn(|i| b[192 + i].cast_signed());
        Self { scale: half_at(b, 208), scales, codes }
    }

    /// The block of these fields.
    #[inline(always)]
    pub(crate) fn store(&self, b: &mut [u8]) {
        b[..192].fill(0);
        for (i, code) in self.codes.iter().enumerate() {
            let ((lower, by), (upper, upper_by)) = Self::places(i);
            b[lower] |= (code & 15) << by;
            b[upper] |= (code >> 4) << upper_by;
        }
        b[192..208].copy_from_slice(&self.scales.map(i8::cast_unsigned));
        b[208..210].copy_from_slice(&self.scale.to_le_bytes());
    }

    /// The numbers of the block.
    #[inline(always)]
    pub(crate) fn numbers(&self) -> [f32; LEN] {
        let scale = self.scale.to_f32();
        let mut numbers = [0.0; LEN];
        for (i, number) in numbers.iter_mut().enumerate() {
            let of_sixteen = f32::from(self.scales[i / PER_SCALE]);
            *number = scale * of_sixteen * (f32::from(self.codes[i]) - 32.0);
        }
        numbers
    }
}
