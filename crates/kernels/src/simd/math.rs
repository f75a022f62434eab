//! Transcendental functions of sixteen lanes, ours so that they give the same bits on every machine.

use super::Lanes;

// ln 2 in two parts: the upper has few enough bits that its product with a small whole number is exact.
const LN_2_UPPER: f32 = 0.693_359_4;
const LN_2_LOWER: f32 = -2.121_944_4e-4;
/// Added and taken away again, this rounds to a whole number, ties to even: 1.5 * 2^23.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// e^x to about one unit in the last place; 0 below -104, infinite above 88.72, NaN for NaN, and 1 for 0.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, then the Taylor series of e^r to the seventh power times 2^n.
///
/// # Safety
/// The instruction set of `L` must be there.
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let x = L::splat(89.0).min(x);
        let x = L::splat(-105.0).max(x);
        let rounder = L::splat(ROUNDER);
        let n = x.fma(L::splat(std::f32::consts::LOG2_E), rounder).sub(rounder);
        let r = n.fma(L::splat(-LN_2_UPPER), x);
        let r = n.fma(L::splat(-LN_2_LOWER), r);
        let mut p = L::splat(1.0 / 5040.0);
        for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p.fma(r, L::splat(factor));
        }
        p.scale_by_power(n)
    }
}

/// tanh x as 1 - 2 / (e^2x + 1): good to about 1e-7 absolute, which is what a cap on scores needs.
///
/// # Safety
/// The instruction set of `L` must be there.
#[inline(always)]
pub(crate) unsafe fn tanh<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let one = L::splat(1.0);
        let e = exp(x.add(x));
        one.sub(L::splat(2.0).div(e.add(one)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Isa, multiversion};
    use super::*;

    unsafe fn exp16<L: Lanes>(x: *const f32, y: *mut f32) {
        // SAFETY: the caller gives sixteen elements each.
        unsafe { exp(L::load(x)).store(y) }
    }
    multiversion! { unsafe fn exp_of(x: *const f32, y: *mut f32) = exp16 }

    unsafe fn tanh16<L: Lanes>(x: *const f32, y: *mut f32) {
        // SAFETY: the caller gives sixteen elements each.
        unsafe { tanh(L::load(x)).store(y) }
    }
    multiversion! { unsafe fn tanh_of(x: *const f32, y: *mut f32) = tanh16 }

    fn inputs() -> Vec<f32> {
        let mut x: Vec<f32> = (-110_000..=95_000).map(|i| i as f32 * 1e-3).collect();
        x.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-30, -1e-30, 1e30, -1e30]);
        x.resize(x.len().next_multiple_of(16), 0.5);
        x
    }

    #[test]
    fn exp_is_close_and_the_same_on_every_instruction_set() {
        let inputs = inputs();
        for (isa, x) in Isa::all().iter().flat_map(|isa| inputs.chunks_exact(16).map(move |x| (*isa, x))) {
            let (mut fast, mut plain) = ([0.0; 16], [0.0; 16]);
            // SAFETY: both arrays have sixteen elements.
            unsafe {
                exp_of(isa, x.as_ptr(), fast.as_mut_ptr());
                exp_of(Isa::Portable, x.as_ptr(), plain.as_mut_ptr());
            }
            for i in 0..16 {
                if x[i].is_nan() {
                    assert!(fast[i].is_nan() && plain[i].is_nan());
                    continue;
                }
                assert_eq!(fast[i].to_bits(), plain[i].to_bits(), "exp({})", x[i]);
                let exact = f64::from(x[i]).exp();
                if exact > f64::from(f32::MAX) {
                    assert_eq!(fast[i], f32::INFINITY, "exp({})", x[i]);
                    continue;
                }
                let bound = exact * 1.5e-7 + 1.5e-45;
                assert!(
                    (f64::from(fast[i]) - exact).abs() <= bound,
                    "exp({}) = {}, not {exact}",
                    x[i],
                    fast[i]
                );
            }
        }
    }

    #[test]
    fn tanh_is_close_and_bounded() {
        for x in inputs().chunks_exact(16) {
            let mut y = [0.0; 16];
            // SAFETY: both arrays have sixteen elements.
            unsafe { tanh_of(Isa::detect(), x.as_ptr(), y.as_mut_ptr()) };
            for i in 0..16 {
                if x[i].is_nan() {
                    assert!(y[i].is_nan());
                } else {
                    assert!((f64::from(y[i]) - f64::from(x[i]).tanh()).abs() < 2e-7, "tanh({})", x[i]);
                }
            }
        }
    }
}
