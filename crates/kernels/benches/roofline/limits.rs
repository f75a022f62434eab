//! What the machine can do: bytes read a second from memory, and multiply-adds a second, with all threads.

use std::hint::black_box;
use std::time::Instant;

/// Larger than any cache.
const BUFFER: usize = 256 << 20;

/// One measurement, per second.
pub(crate) struct Measured {
    pub(crate) bandwidth: f64,
    pub(crate) flops: f64,
}

/// Memory to read from, and the threads to do it with.
pub(crate) struct Limits {
    threads: usize,
    buffer: Vec<f32>,
}

// === impl Limits ===

impl Limits {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, buffer: vec![1.0; BUFFER / 4] }
    }

    pub(crate) fn measure(&self) -> Measured {
        let share = self.buffer.len() / self.threads;
        let seconds = self.timed(|thread| {
            black_box(read(&self.buffer[thread * share..(thread + 1) * share]));
        });
        let bandwidth = (share * self.threads * 4) as f64 / seconds;
        let steps = 4_000_000;
        let seconds = self.timed(|_| {
            black_box(multiply_add(steps));
        });
        Measured { bandwidth, flops: (steps * FLOPS_PER_STEP * self.threads) as f64 / seconds }
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

/// Ten chains of eight lanes.
const FLOPS_PER_STEP: usize = 10 * 8 * 2;

#[cfg(target_arch = "x86_64")]
fn read(values: &[f32]) -> f32 {
    #[target_feature(enable = "avx2")]
    fn sum(values: &[f32]) -> f32 {
        let mut sums = [[0.0f32; 8]; 8];
        for chunk in values.chunks_exact(64) {
            for (sum, part) in sums.iter_mut().zip(chunk.chunks_exact(8)) {
                for (s, v) in sum.iter_mut().zip(part) {
                    *s += v;
                }
            }
        }
        sums.iter().flatten().sum()
    }
    assert!(is_x86_feature_detected!("avx2"), "the bench needs AVX2");
    // SAFETY: just detected.
    unsafe { sum(values) }
}

#[cfg(target_arch = "x86_64")]
fn multiply_add(steps: usize) -> f32 {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx2,fma")]
    fn chains(steps: usize) -> f32 {
        let by = _mm256_set1_ps(black_box(0.999_999));
        let plus = _mm256_set1_ps(black_box(1e-6));
        let mut sums = [_mm256_setzero_ps(); 10];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, by, plus);
            }
        }
        let total = sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b));
        total.map_or(0.0, |total| _mm256_cvtss_f32(total))
    }
    assert!(is_x86_feature_detected!("fma"), "the bench needs FMA");
    // SAFETY: just detected; every machine with FMA that we know of has AVX2.
    unsafe { chains(steps) }
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
fn multiply_add(steps: usize) -> f32 {
    let (by, plus) = (black_box(0.999_999_f32), black_box(1e-6_f32));
    let mut sums = [[0.0f32; 8]; 10];
    for _ in 0..steps {
        for sum in sums.as_flattened_mut() {
            *sum = sum.mul_add(by, plus);
        }
    }
    sums.as_flattened().iter().sum()
}
