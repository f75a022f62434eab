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
    return states ? changed(values[i], states[i]) : values[i];
  }
  __device__ __forceinline__ float changed(float x, TokenState state) const {
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
// Tokens that are neighbours and are summed at once.
constexpr int kRun = 512;

// Runs of tokens: so many of a list, or so many from the first on.
struct Runs {
  const uint32_t* list;
  int count;

  __device__ __forceinline__ int operator[](int j) const { return list ? (int)list[j] : j; }
};
__device__ __forceinline__ Runs all_runs(int vocab) { return {nullptr, (vocab + kRun - 1) / kRun}; }

// f(i, logit) for every token of some runs, shared out among the threads of a block: a warp has a run, and `then(run)` behind it.
template <class F, class Then>
__device__ __forceinline__ void each_run(const Logits& logits, Runs runs, F f, Then then) {
  constexpr int kEach = kRun / kWarp;
  const int lane = threadIdx.x % kWarp;
  const bool fours = logits.vocab % 4 == 0 && reinterpret_cast<uintptr_t>(logits.values) % 16 == 0;
  for (int j = threadIdx.x / kWarp; j < runs.count; j += blockDim.x / kWarp) {
    const int run = runs[j];
    // Four neighbours at a time.
    float x[kEach];
    auto id = [&](int a) { return run * kRun + a / 4 * (4 * kWarp) + 4 * lane + a % 4; };
    if (fours) {
#pragma unroll
      for (int a = 0; a < kEach; a += 4) {
        float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (id(a) < logits.vocab) four = *reinterpret_cast<const float4*>(logits.values + id(a));
        x[a] = four.x;
        x[a + 1] = four.y;
        x[a + 2] = four.z;
        x[a + 3] = four.w;
      }
    } else {
#pragma unroll
      for (int a = 0; a < kEach; a++) x[a] = id(a) < logits.vocab ? logits.values[id(a)] : 0.0f;
    }
    if (logits.states) {
#pragma unroll
      for (int a = 0; a < kEach; a++)
        if (id(a) < logits.vocab) x[a] = logits.changed(x[a], logits.states[id(a)]);
    }
#pragma unroll
    for (int a = 0; a < kEach; a++)
      if (id(a) < logits.vocab) f(id(a), x[a]);
    then(run);
  }
}
template <class F>
__device__ __forceinline__ void each_logit(const Logits& logits, Runs runs, F f) {
  each_run(logits, runs, f, [](int) {});
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

// Numbers divided by one, rounded as division is.
struct Quotient {
  float by, inverse;
  bool usual;

  // Far from where numbers end, the nearest quotient follows from the nearest inverse: with a quotient off by no more than the
  // last bit, what the exact remainder adds is rounded right (Markstein 1990). Those so small that a remainder is lost, or
  // beyond all numbers, have powers of one and zero anyway.
  __device__ __forceinline__ explicit Quotient(float by)
      : by(by), inverse(__frcp_rn(by)), usual(by > 1e-3f && by < 1e3f) {}
  __device__ __forceinline__ float operator()(float x) const {
    if (!usual) return __fdiv_rn(x, by);
    float quotient = __fmul_rn(x, inverse);
    quotient = __fmaf_rn(__fmaf_rn(-quotient, by, x), inverse, quotient);
    return __fmaf_rn(__fmaf_rn(-quotient, by, x), inverse, quotient);
  }
};

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

// Sums of some runs of f(i, logit) >= 0. Eight threads have a run, each every eighth token of it; what is left of the last run
// behind a multiple of eight is added by itself.
template <class F>
__device__ __forceinline__ void sum_runs(const Logits& logits, Runs runs, double* sums, F f) {
  const int lane = threadIdx.x % 8, groups = blockDim.x / 8;
  for (int first = 0; first < runs.count; first += groups) {
    const int j = first + threadIdx.x / 8;
    const int start = j < runs.count ? runs[j] * kRun : logits.vocab, end = min(start + kRun, logits.vocab);
    const int whole = start + (end - start) / 8 * 8;
    double sum = 0.0;
    for (int from = start + lane; from < whole; from += 8 * kAhead) {
      float x[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; a++) x[a] = from + 8 * a < whole ? logits.values[from + 8 * a] : 0.0f;
      if (logits.states) {
#pragma unroll
        for (int a = 0; a < kAhead; a++)
          if (from + 8 * a < whole) x[a] = logits.changed(x[a], logits.states[from + 8 * a]);
      }
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
    if (lane == 0 && j < runs.count) sums[runs[j]] = __dadd_rn(all, tail);
  }
  __syncthreads();
}

}  // namespace vlinders
