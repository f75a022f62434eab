//! Mixtures of experts: which experts a token goes to, and the sum of what they say: `cuda/moe.cu`.
//!
//! Each token has `top_k` copies, one for each of its experts; copy `token * top_k + k` goes to its k-th best one. Copies are
//! put in an order in which those of an expert lie side by side, by token.

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

use super::for_dtype;
use crate::error::{KernelError, Result};

const ROUTE_THREADS: usize = 128;
const SORT_THREADS: u32 = 256;
const COMBINE_THREADS: u32 = 256;
const WARP: usize = 32;
/// A lane of a warp has sixteen of them.
const MAX_EXPERTS: usize = 512;
const COMBINE: [&str; 3] = ["combine_bf16", "combine_f16", "combine_f32"];

/// Where tokens go: `expert_linear(gather_rows(x, tokens), w, offsets)` is what experts say, by place.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Experts of each token, best first: `[tokens, top_k]` u32.
    pub experts: GpuTensor,
    /// What is multiplied with their outputs: `[tokens, top_k]` f32.
    pub weights: GpuTensor,
    /// The first place of each expert, and the number of places: `[experts + 1]` u32.
    pub offsets: GpuTensor,
    /// The token at each place: `[tokens * top_k]` u32.
    pub tokens: GpuTensor,
    /// The place of each copy: `[tokens, top_k]` u32.
    pub places: GpuTensor,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct RouteParams {
    logits: u64,
    experts: u64,
    weights: u64,
    tokens: i32,
    num_experts: i32,
    top_k: i32,
    renormalise: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct SortCopiesParams {
    experts: u64,
    offsets: u64,
    tokens: u64,
    places: u64,
    num_copies: i32,
    num_experts: i32,
    top_k: i32,
    unused: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct CombineParams {
    x: u64,
    places: u64,
    weights: u64,
    y: u64,
    width: i32,
    top_k: i32,
}

// SAFETY: the struct of cuda/moe.cu, without padding.
unsafe impl Params for RouteParams {}
// SAFETY: the struct of cuda/moe.cu, without padding.
unsafe impl Params for SortCopiesParams {}
// SAFETY: the struct of cuda/moe.cu, without padding.
unsafe impl Params for CombineParams {}

/// Route tokens by the router's `logits` `[tokens, experts]` in f32: softmax over all experts, then the `top_k` most likely
/// ones, ties by lower number. Their probabilities are the weights; with `renormalise`, divided by their sum (Mixtral, and
/// `norm_topk_prob` of Qwen3-MoE).
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn route(logits: &GpuTensor, top_k: usize, renormalise: bool) -> Result<Routing> {
    const OP: &str = "route";
    let (tokens, num_experts) = match *logits.dims() {
        [tokens, experts] if experts <= MAX_EXPERTS && logits.dtype() == DType::F32 => (tokens, experts),
        _ => {
            let problem = format!("logits are {logits:?}, they must be [tokens, experts <= 512] of f32");
            return Err(KernelError::shape(OP, problem));
        }
    };
    if top_k == 0 || top_k > num_experts.min(WARP) {
        let problem = format!("a token can not go to {top_k} of {num_experts} experts; 32 are the most");
        return Err(KernelError::shape(OP, problem));
    }
    let gpu = logits.gpu();
    let num_copies = tokens * top_k;
    let routing = Routing {
        experts: gpu.empty(&[tokens, top_k], DType::U32)?,
        weights: gpu.empty(&[tokens, top_k], DType::F32)?,
        offsets: gpu.empty(&[num_experts + 1], DType::U32)?,
        tokens: gpu.empty(&[num_copies], DType::U32)?,
        places: gpu.empty(&[tokens, top_k], DType::U32)?,
    };
    let params = RouteParams {
        logits: logits.address(),
        experts: routing.experts.address(),
        weights: routing.weights.address(),
        tokens: tokens as i32,
        num_experts: num_experts as i32,
        top_k: top_k as i32,
        renormalise: i32::from(renormalise),
    };
    let grid = Grid::of(tokens.div_ceil(ROUTE_THREADS / WARP), ROUTE_THREADS as u32);
    // SAFETY: the shapes were checked, and the outputs are new.
    unsafe { gpu.launch("route", grid, &params)? };
    let params = SortCopiesParams {
        experts: routing.experts.address(),
        offsets: routing.offsets.address(),
        tokens: routing.tokens.address(),
        places: routing.places.address(),
        num_copies: num_copies as i32,
        num_experts: num_experts as i32,
        top_k: top_k as i32,
        unused: 0,
    };
    let scratch = SORT_THREADS as usize / WARP * size_of::<i32>();
    // SAFETY: `route` writes experts that there are, and the outputs are new.
    unsafe { gpu.launch("sort_copies", Grid::of(num_experts, SORT_THREADS).with_shared(scratch), &params)? };
    Ok(routing)
}

/// For each token the weighted sum of what its experts say, added in f32, best expert first. `x` is `[tokens * top_k, d]`, by
/// place; the result `[tokens, d]` has its type.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn combine(x: &GpuTensor, routing: &Routing) -> Result<GpuTensor> {
    const OP: &str = "combine";
    let (tokens, top_k, width) = match (x.dims(), routing.places.dims()) {
        (&[copies, width], &[tokens, top_k]) if copies == tokens * top_k => (tokens, top_k, width),
        _ => {
            let problem = format!("x is {x:?}, it must be a row for each place of {:?}", routing.places);
            return Err(KernelError::shape(OP, problem));
        }
    };
    let kernel = for_dtype(OP, x.dtype(), COMBINE)?;
    let y = x.gpu().empty(&[tokens, width], x.dtype())?;
    let params = CombineParams {
        x: x.address(),
        places: routing.places.address(),
        weights: routing.weights.address(),
        y: y.address(),
        width: width as i32,
        top_k: top_k as i32,
    };
    // SAFETY: the shapes were checked, places are those of `route`, and the output is new.
    unsafe { x.gpu().launch(kernel, Grid::of(tokens, COMBINE_THREADS), &params)? };
    Ok(y)
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests {
    use super::*;
    use crate::gpu::testing::{DTYPES, assert_near, device, devices, on_gpu, rounded_to, values_of};
    use crate::testing::noise;

    fn words_of(tensor: &GpuTensor) -> Vec<u32> {
        tensor.to_cpu().unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Experts and weights of a token, plainly.
    fn reference(logits: &[f32], top_k: usize, renormalise: bool) -> Vec<(u32, f64)> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = logits.iter().map(|x| f64::from(x - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
        order.truncate(top_k);
        let taken: f64 = order.iter().map(|&expert| weights[expert]).sum();
        let divisor = if renormalise { taken } else { total };
        order.iter().map(|&expert| (expert as u32, weights[expert] / divisor)).collect()
    }

    /// Router logits, some of which are equal.
    fn router_logits(seed: u64, len: usize) -> Vec<f32> {
        noise(seed, len).iter().map(|x| (x * 12.0).round() * 0.5).collect()
    }

    #[test]
    fn tokens_go_to_their_best_experts_and_copies_are_sorted() {
        for gpu in devices() {
            for (seed, (tokens, num_experts, top_k)) in
                [(1, 8, 2), (7, 4, 4), (33, 60, 4), (300, 8, 2), (600, 128, 8), (2, 512, 10)]
                    .into_iter()
                    .enumerate()
            {
                let logits = router_logits(seed as u64, tokens * num_experts);
                let renormalise = seed % 2 == 0;
                let routing =
                    route(&on_gpu(&gpu, &logits, &[tokens, num_experts], DType::F32), top_k, renormalise)
                        .unwrap();
                let expected: Vec<(u32, f64)> =
                    logits.chunks(num_experts).flat_map(|row| reference(row, top_k, renormalise)).collect();
                let experts: Vec<u32> = expected.iter().map(|(expert, _)| *expert).collect();
                assert_eq!(words_of(&routing.experts), experts);
                let weights: Vec<f64> = expected.iter().map(|(_, weight)| *weight).collect();
                assert_near(DType::F32, &values_of(&routing.weights), &weights);

                let mut copies: Vec<u32> = (0..experts.len() as u32).collect();
                copies.sort_by_key(|&copy| experts[copy as usize]);
                let by_place: Vec<u32> = copies.iter().map(|copy| copy / top_k as u32).collect();
                assert_eq!(words_of(&routing.tokens), by_place);
                let mut places = vec![0; copies.len()];
                copies.iter().enumerate().for_each(|(place, &copy)| places[copy as usize] = place as u32);
                assert_eq!(words_of(&routing.places), places);
                let offsets: Vec<u32> = (0..=num_experts as u32)
                    .map(|expert| experts.iter().filter(|other| **other < expert).count() as u32)
                    .collect();
                assert_eq!(words_of(&routing.offsets), offsets);
            }
        }
    }

    #[test]
    fn what_experts_say_is_added_by_weight() {
        let gpu = device();
        for (tokens, top_k, width) in [(1, 2, 64), (5, 8, 36), (3, 1, 4096), (9, 4, 1000)] {
            let logits = router_logits(3, tokens * 16);
            let routing = route(&on_gpu(&gpu, &logits, &[tokens, 16], DType::F32), top_k, true).unwrap();
            let (places, weights) = (words_of(&routing.places), values_of(&routing.weights));
            let x = noise(4, tokens * top_k * width);
            for dtype in DTYPES {
                let x = rounded_to(dtype, &x);
                let expected: Vec<f64> = (0..tokens * width)
                    .map(|i| {
                        let (token, column) = (i / width, i % width);
                        (token * top_k..(token + 1) * top_k)
                            .map(|copy| {
                                f64::from(weights[copy])
                                    * f64::from(x[places[copy] as usize * width + column])
                            })
                            .sum()
                    })
                    .collect();
                let y = combine(&on_gpu(&gpu, &x, &[tokens * top_k, width], dtype), &routing).unwrap();
                assert_eq!((y.dims(), y.dtype()), (&[tokens, width][..], dtype));
                assert_near(dtype, &values_of(&y), &expected);
            }
        }
    }

    #[test]
    fn a_token_has_the_same_bits_alone_and_among_others() {
        let gpu = device();
        let (tokens, num_experts, top_k, width) = (6, 60, 4, 96);
        let logits = router_logits(5, tokens * num_experts);
        // What an expert says about a token depends on both.
        let said = |token: usize, expert: u32| noise((token as u64 + 1) * 1000 + u64::from(expert), width);
        let run = |first: usize, count: usize| -> Vec<f32> {
            let logits = &logits[first * num_experts..][..count * num_experts];
            let routing =
                route(&on_gpu(&gpu, logits, &[count, num_experts], DType::F32), top_k, false).unwrap();
            let offsets = words_of(&routing.offsets);
            let x: Vec<f32> = (0u32..)
                .zip(words_of(&routing.tokens))
                .flat_map(|(place, token)| {
                    let expert = offsets.iter().filter(|first| **first <= place).count() as u32 - 1;
                    said(first + token as usize, expert)
                })
                .collect();
            values_of(&combine(&on_gpu(&gpu, &x, &[count * top_k, width], DType::BF16), &routing).unwrap())
        };
        let all = run(0, tokens);
        for token in 0..tokens {
            assert_eq!(run(token, 1), all[token * width..][..width]);
        }
    }

    #[test]
    fn logits_that_are_no_numbers_still_choose_experts() {
        let gpu = device();
        let mut logits = vec![0.5; 3 * 8];
        logits[8..16].fill(f32::NAN);
        let routing = route(&on_gpu(&gpu, &logits, &[3, 8], DType::F32), 2, true).unwrap();
        assert_eq!(words_of(&routing.experts), [0, 1, 0, 1, 0, 1]);
        let weights = values_of(&routing.weights);
        assert!(weights[2].is_nan() && weights[3].is_nan(), "the token is spoilt");
        assert_near(DType::F32, &[weights[0], weights[1], weights[4], weights[5]], &[0.5; 4]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let gpu = device();
        let logits = on_gpu(&gpu, &[0.0; 8], &[2, 4], DType::F32);
        assert!(route(&logits, 0, true).is_err());
        assert!(route(&logits, 5, true).is_err());
        assert!(route(&on_gpu(&gpu, &[0.0; 8], &[2, 4], DType::BF16), 2, true).is_err());
        let routing = route(&logits, 2, true).unwrap();
        assert!(combine(&logits, &routing).is_err());
    }
}
