// The logits of one row as sampling sees them, and the arithmetic that must give the bits it gives on the CPU.
//
// The CPU's sampler is the definition: same operations, same order, nothing fused. Hence the intrinsics, which no compiler
// contracts.
#pragma once
#include "../common.cuh"

namespace vlinders {

// What a row wants; 4-byte fields alone, declared alike in Rust.
struct SampleRow {
  uint32_t seed_low, seed_high;
  uint32_t index;  // tokens that were generated before
  uint32_t kind;
  uint32_t token;  // the answer of a given row
  int32_t slot;    // whose token states change the logits, or -1
  float temperature, top_p, min_p;
  uint32_t top_k;
  float repetition, presence, frequency;
  uint32_t min_tokens;
  int32_t top_logprobs;  // -1: no log-probabilities
};
constexpr uint32_t kPadding = 0, kDraw = 1, kGiven = 2;

// What became of a row.
constexpr uint32_t kDrawn = 0, kNotNumbers = 1, kExcluded = 2, kInfinite = 3;

// What a sequence knows of a token.
struct alignas(8) TokenState {
  uint32_t said;  // how often it was generated, and the flags below
  float bias;
};
constexpr uint32_t kInPrompt = 1u << 31, kSuppressed = 1u << 30, kBiased = 1u << 29, kCount = kBiased - 1;

// The logits of a row, changed by penalties, bias and minimum length as they are read.
struct Logits {
  const float* __restrict__ values;
  const TokenState* states;  // or null
  float repetition, presence, frequency;
  bool suppress;
  int vocab;

  __device__ __forceinline__ float operator[](int i) const {
    float x = values[i];
    if (!states) return x;
    const TokenState state = states[i];
    if (state.said == 0) return x;
    const uint32_t count = state.said & kCount;
    if (repetition != 1.0f && (count || state.said & kInPrompt))
      x = x < 0.0f ? __fmul_rn(x, repetition) : __fdiv_rn(x, repetition);
    if (count && (presence != 0.0f || frequency != 0.0f))
      x = __fadd_rn(x, -__fadd_rn(presence, __fmul_rn(frequency, (float)count)));
    if (state.said & kBiased) x = __fadd_rn(x, state.bias);
    if (suppress && state.said & kSuppressed) x = -INFINITY;
    return x;
  }
};

// Reads that a thread has under way at once.
constexpr int kAhead = 8;

// f(i, logit) for every token, shared out among the threads of a block.
template <class F>
__device__ __forceinline__ void each_logit(const Logits& logits, F f) {
  for (int first = threadIdx.x; first < logits.vocab; first += kAhead * blockDim.x) {
    float x[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      const int i = first + a * (int)blockDim.x;
      x[a] = i < logits.vocab ? logits[i] : 0.0f;
    }
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      const int i = first + a * (int)blockDim.x;
      if (i < logits.vocab) f(i, x[a]);
    }
  }
}

// Whole numbers in the order of floats that are numbers; both zeros are one.
__device__ __forceinline__ uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ float float_of(uint32_t key) {
  return __uint_as_float(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}
// Larger for what comes first: larger logits, then lower ids.
__device__ __forceinline__ uint64_t place_of(uint32_t key, uint32_t id) { return (uint64_t)key << 32 | (uint32_t)~id; }
__device__ __forceinline__ uint32_t id_at(uint64_t place) { return ~(uint32_t)place; }
__device__ __forceinline__ uint32_t key_at(uint64_t place) { return (uint32_t)(place >> 32); }

// The largest number of a block, on all threads. `scratch` has room for one of each warp.
__device__ __forceinline__ uint64_t block_max(uint64_t x, uint64_t* scratch) {
  const int lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
#pragma unroll
  for (int bit = 16; bit > 0; bit /= 2) x = max(x, __shfl_xor_sync(kFullMask, x, bit));
  if (lane == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = lane < warps ? scratch[lane] : 0;
#pragma unroll
  for (int bit = 16; bit > 0; bit /= 2) x = max(x, __shfl_xor_sync(kFullMask, x, bit));
  __syncthreads();
  return x;
}

// e^x for x <= 0, within 2e-7; 0 below -87.
__device__ __forceinline__ float exp_of(float x) {
  constexpr float kRound = 12582912.0f;
  const float clamped = x > -87.0f ? x : -87.0f;
  const float shifted = __fadd_rn(__fmul_rn(clamped, 1.44269504088896340736f), kRound);
  const float n = __fadd_rn(shifted, -kRound);
  const float r = __fadd_rn(__fadd_rn(clamped, -__fmul_rn(n, 0.6933594f)), -__fmul_rn(n, -2.121944e-4f));
  float p = 1.0f / 5040.0f;
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 720.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 120.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 24.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 6.0f);
  p = __fadd_rn(__fmul_rn(p, r), 0.5f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  const float power = __uint_as_float((__float_as_uint(shifted) << 23) + 0x3f800000u);
  return x > -87.0f ? __fmul_rn(p, power) : 0.0f;
}

// Tokens that are summed at once.
constexpr int kRun = 512;

// Sums of runs of tokens of f(i, logit) >= 0. Eight threads have a run, each every eighth token of it; what is left of the
// last run behind a multiple of eight is added by itself.
template <class F>
__device__ __forceinline__ void sum_runs(const Logits& logits, double* sums, F f) {
  const int lane = threadIdx.x % 8, groups = blockDim.x / 8;
  const int runs = (logits.vocab + kRun - 1) / kRun;
  for (int first = 0; first < runs; first += groups) {
    const int run = first + threadIdx.x / 8;
    const int start = min(run * kRun, logits.vocab), end = min(start + kRun, logits.vocab);
    const int whole = start + (end - start) / 8 * 8;
    double sum = 0.0;
    for (int from = start + lane; from < whole; from += 8 * kAhead) {
      float x[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; a++) x[a] = from + 8 * a < whole ? logits[from + 8 * a] : 0.0f;
#pragma unroll
      for (int a = 0; a < kAhead; a++) {
        const float term = from + 8 * a < whole ? f(from + 8 * a, x[a]) : 0.0f;
        // Where doubles are slow, most sums are of few tokens.
        if (term > 0.0f) sum = __dadd_rn(sum, (double)term);
      }
    }
    const double rest = whole + lane < end ? (double)f(whole + lane, logits[whole + lane]) : 0.0;
    double all = 0.0, tail = 0.0;
#pragma unroll
    for (int l = 0; l < 8; l++) {
      all = __dadd_rn(all, __shfl_sync(kFullMask, sum, l, 8));
      tail = __dadd_rn(tail, __shfl_sync(kFullMask, rest, l, 8));
    }
    if (lane == 0 && run < runs) sums[run] = __dadd_rn(all, tail);
  }
  __syncthreads();
}

}  // namespace vlinders
