//! What the machine can do: bytes read a second from memory, and multiply-adds a second, with all threads.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Larger than any cache.
const BUFFER: usize = 512 << 20;
const HUGE_PAGE: usize = 2 << 20;
/// Steps of multiply-adds in one measurement: some ten milliseconds.
const STEPS: usize = 4_000_000;

/// One measurement, per second.
pub(crate) struct Measured {
    pub(crate) bandwidth: f64,
    /// Of floats.
    pub(crate) flops: f64,
    /// Of pairs of bf16; that of floats where the processor has no instruction for them.
    pub(crate) pair_flops: f64,
    /// Of eight-bit codes.
    pub(crate) code_ops: f64,
}

/// Memory to read from, and the threads to do it with.
pub(crate) struct Limits {
    threads: usize,
    buffer: HugePages,
}

/// Memory on huge pages, as weights have it: with small ones the walk through page tables would be measured too.
struct HugePages(&'static mut [f32]);

// === impl HugePages ===

impl HugePages {
    /// `len` ones, kept until the program ends.
    fn new(len: usize) -> Self {
        let layout = std::alloc::Layout::from_size_align(len * 4, HUGE_PAGE).expect("a small layout");
        // SAFETY: the layout has a size; the memory is written in full before it is read as numbers.
        unsafe {
            let start = std::alloc::alloc(layout).cast::<f32>();
            assert!(!start.is_null(), "no memory for the bench");
            #[cfg(target_os = "linux")]
            libc::madvise(start.cast(), len * 4, libc::MADV_HUGEPAGE);
            for i in 0..len {
                start.add(i).write(1.0);
            }
            Self(std::slice::from_raw_parts_mut(start, len))
        }
    }
}

// === impl Limits ===

impl Limits {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, buffer: HugePages::new(BUFFER / 4) }
    }

    pub(crate) fn measure(&self) -> Measured {
        let share = self.buffer.0.len() / self.threads;
        let seconds = self.timed(|thread| {
            black_box(read(&self.buffer.0[thread * share..(thread + 1) * share]));
        });
        let bandwidth = (share * self.threads * 4) as f64 / seconds;
        Measured {
            bandwidth,
            flops: self.rate(multiply_add),
            pair_flops: self.rate(multiply_add_pairs),
            code_ops: self.rate(multiply_add_codes),
        }
    }

    /// Operations a second of a loop that says how many multiply-adds it did.
    fn rate(&self, multiply_add: fn(usize) -> (f32, usize)) -> f64 {
        let done = AtomicUsize::new(0);
        let seconds = self.timed(|_| {
            let (sum, multiply_adds) = multiply_add(STEPS);
            black_box(sum);
            done.fetch_add(multiply_adds, Ordering::Relaxed);
        });
        2.0 * done.into_inner() as f64 / seconds
    }

    fn timed(&self, body: impl Fn(usize) + Sync) -> f64 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 1..self.threads {
                let body = &body;
                scope.spawn(move || body(thread));
            }
            body(0);
        });
        start.elapsed().as_secs_f64()
    }
}

/// Chains of multiply-adds that hide each other's latency.
const CHAINS: usize = 10;

#[cfg(target_arch = "x86_64")]
fn read(values: &[f32]) -> f32 {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f")]
    fn wide(values: &[f32]) -> f32 {
        let mut sums = [_mm512_setzero_ps(); 8];
        for chunk in values.chunks_exact(128) {
            for (sum, part) in sums.iter_mut().zip(chunk.chunks_exact(16)) {
                // SAFETY: a part has sixteen numbers; a prefetch may name any address.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().wrapping_add(AHEAD).cast());
                    *sum = _mm512_add_ps(*sum, _mm512_loadu_ps(part.as_ptr()));
                }
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }
    #[target_feature(enable = "avx2")]
    fn narrow(values: &[f32]) -> f32 {
        let mut sums = [_mm256_setzero_ps(); 8];
        for chunk in values.chunks_exact(64) {
            for (sum, part) in sums.iter_mut().zip(chunk.chunks_exact(8)) {
                // SAFETY: a part has eight numbers; a prefetch may name any address.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().wrapping_add(AHEAD).cast());
                    *sum = _mm256_add_ps(*sum, _mm256_loadu_ps(part.as_ptr()));
                }
            }
        }
        let total = sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b));
        total.map_or(0.0, |total| _mm256_cvtss_f32(total))
    }
    // SAFETY: just detected.
    if is_x86_feature_detected!("avx512f") {
        return unsafe { wide(values) };
    }
    assert!(is_x86_feature_detected!("avx2"), "the bench needs AVX2");
    // SAFETY: just detected.
    unsafe { narrow(values) }
}

/// Numbers that are fetched ahead of the one that is read.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 1024;

/// Multiply-adds of `steps` steps; gives a number that depends on all of them, and how many there were.
#[cfg(target_arch = "x86_64")]
fn multiply_add(steps: usize) -> (f32, usize) {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f")]
    fn wide(steps: usize) -> f32 {
        let by = _mm512_set1_ps(black_box(0.999_999));
        let plus = _mm512_set1_ps(black_box(1e-6));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, by, plus);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }
    #[target_feature(enable = "avx2,fma")]
    fn narrow(steps: usize) -> f32 {
        let by = _mm256_set1_ps(black_box(0.999_999));
        let plus = _mm256_set1_ps(black_box(1e-6));
        let mut sums = [_mm256_setzero_ps(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, by, plus);
            }
        }
        let total = sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b));
        total.map_or(0.0, |total| _mm256_cvtss_f32(total))
    }
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: just detected.
        return (unsafe { wide(steps) }, steps * CHAINS * 16);
    }
    assert!(is_x86_feature_detected!("fma"), "the bench needs FMA");
    // SAFETY: just detected; every machine with FMA that we know of has AVX2.
    (unsafe { narrow(steps) }, steps * CHAINS * 8)
}

/// The same for dot products of two bf16.
#[cfg(target_arch = "x86_64")]
fn multiply_add_pairs(steps: usize) -> (f32, usize) {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn wide(steps: usize) -> f32 {
        let by = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, by, by);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }
    if is_x86_feature_detected!("avx512bf16") {
        // SAFETY: just detected.
        return (unsafe { wide(steps) }, steps * CHAINS * 32);
    }
    multiply_add(steps)
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add_pairs(steps: usize) -> (f32, usize) {
    multiply_add(steps)
}

/// The same for dot products of four bytes.
#[cfg(target_arch = "x86_64")]
fn multiply_add_codes(steps: usize) -> (f32, usize) {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn wide(steps: usize) -> i32 {
        let (w, x) = (_mm512_set1_epi32(black_box(0x0102_0304)), _mm512_set1_epi32(black_box(0x0102_0304)));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, w, x);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_epi32(sum)).fold(0, i32::wrapping_add)
    }
    #[target_feature(enable = "avx2")]
    fn narrow(steps: usize) -> i32 {
        let (w, x) = (_mm256_set1_epi32(black_box(0x0102_0304)), _mm256_set1_epi32(black_box(0x0102_0304)));
        let one = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                // The sum goes in, so that the product is not computed once for all.
                let pairs = _mm256_maddubs_epi16(_mm256_xor_si256(w, *sum), x);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, one));
            }
        }
        let total = sums.into_iter().reduce(|a, b| _mm256_add_epi32(a, b));
        total.map_or(0, |total| _mm256_extract_epi32::<0>(total))
    }
    if is_x86_feature_detected!("avx512vnni") {
        // SAFETY: just detected.
        return (unsafe { wide(steps) } as f32, steps * CHAINS * 64);
    }
    assert!(is_x86_feature_detected!("avx2"), "the bench needs AVX2");
    // SAFETY: just detected.
    (unsafe { narrow(steps) } as f32, steps * CHAINS * 32)
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add_codes(steps: usize) -> (f32, usize) {
    let (w, x) = (black_box([1i8; 64]), black_box([2i8; 64]));
    let mut sums = [0i32; 16];
    for _ in 0..steps {
        for (sum, (w, x)) in sums.iter_mut().zip(w.as_chunks::<4>().0.iter().zip(x.as_chunks::<4>().0)) {
            *sum += w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum::<i32>();
        }
    }
    (sums.iter().sum::<i32>() as f32, steps * 64)
}

#[cfg(not(target_arch = "x86_64"))]
fn read(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 64];
    for chunk in values.chunks_exact(64) {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += v;
        }
    }
    sums.iter().sum()
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add(steps: usize) -> (f32, usize) {
    let (by, plus) = (black_box(0.999_999_f32), black_box(1e-6_f32));
    let mut sums = [[0.0f32; 8]; CHAINS];
    for _ in 0..steps {
        for sum in sums.as_flattened_mut() {
            *sum = sum.mul_add(by, plus);
        }
    }
    (sums.as_flattened().iter().sum(), steps * CHAINS * 8)
}
