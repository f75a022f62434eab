//! The random stream of a request: one number for each generated token, found by its index.
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) is a function of key and
//! counter without state, so a draw does not depend on what else is in the batch, and a recomputed
//! sequence draws the same tokens.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// A number in [0, 1), uniform over multiples of 2^-53: number `index` of the stream that `seed` begins.
pub(super) fn uniform(seed: u64, index: u32) -> f64 {
    let [a, b, _, _] = philox([index, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    bits as f64 * (1.0 / (1u64 << 53) as f64)
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let product = |i: usize, x: u32| {
            let wide = u64::from(MULTIPLIERS[i]) * u64::from(x);
            ((wide >> 32) as u32, wide as u32)
        };
        let (high_0, low_0) = product(0, counter[0]);
        let (high_1, low_1) = product(1, counter[2]);
        counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_paper() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        assert_eq!(philox([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn neighbouring_seeds_and_indices_are_unrelated() {
        let mut buckets = [0u32; 16];
        for seed in 0..64 {
            for index in 0..64 {
                buckets[(uniform(seed, index) * 16.0) as usize] += 1;
            }
        }
        // 4096 draws, 256 expected in each: chi-square of 15 degrees of freedom, 0.999 quantile 37.7
        let chi: f64 = buckets.iter().map(|&n| (f64::from(n) - 256.0).powi(2) / 256.0).sum();
        assert!(chi < 37.7, "chi-square {chi}");
    }
}
