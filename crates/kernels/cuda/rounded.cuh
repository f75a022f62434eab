// Activations of eight bits: e4m3, a scale for each token, in the order in which warpgroups multiply them.
//
// A token's scale is its greatest magnitude / 448, and its numbers are multiplied with 448 / that magnitude before they are rounded to
// e4m3. A token with a number that is not finite has the scale NaN, since it must not vanish. Pairs of steps, 128 numbers, lie as steps
// of numbers of two bytes do (arranged.cuh), but for their order: left operands have numbers 8t .. 8t+3 of each 32, then
// 8t+4 .. 8t+7, t = 0 .. 3, so the first pieces of sixteen bytes have those, and the second ones these. Scales lie before all.
#pragma once
#include "arranged.cuh"

namespace vlinders {

// Steps of weights whose numbers a token has in 128 bytes.
constexpr int kStepsOfPair = kTokenBytes / kStep;
// The greatest number of e4m3.
constexpr float kMostE4m3 = 448.0f;
// Tokens whose numbers are all smaller count as if this were the greatest: what scales are divided by has a reciprocal.
constexpr float kLeastMagnitude = 0x1p-100f;

__device__ __forceinline__ int pairs_of(int steps) { return (steps + kStepsOfPair - 1) / kStepsOfPair; }

// Scales take so many bytes, and lie before the numbers.
__device__ __forceinline__ int scale_bytes(int tokens) { return (tokens * 4 + kTokenBytes - 1) / kTokenBytes * kTokenBytes; }
// Where those are, in f32, whose numbers lie at `numbers`.
__device__ __forceinline__ uint64_t scales_before(uint64_t numbers, int tokens) { return numbers - scale_bytes(tokens); }

// What sums of token `token` are multiplied with before all else; of one that there is not, anything.
__device__ __forceinline__ float token_scale(uint64_t numbers, int tokens, int token) {
  return at<const float>(scales_before(numbers, tokens))[min(token, tokens - 1)];
}

// Four numbers, the first in the lowest byte, to the nearest e4m3, to even when there are two; what is greater than all becomes the
// greatest.
#if !defined(__CUDACC__)
inline uint32_t e4m3_of(float x) {
  if (x != x) return 0x7f;
  const float magnitude = std::min(std::fabs(x), kMostE4m3);
  int exponent = -6;
  while (exponent < 8 && magnitude >= std::ldexp(1.0f, exponent + 1)) exponent++;
  // A mantissa of four bits, the first one being implied unless the exponent is the least.
  const int mantissa = (int)std::nearbyint(std::ldexp(magnitude, 3 - exponent));
  return (std::signbit(x) ? 0x80 : 0) | (uint32_t)((exponent + 7) * 8 + mantissa - 8);
}
inline uint32_t e4m3_of(float a, float b, float c, float d) {
  return e4m3_of(a) | e4m3_of(b) << 8 | e4m3_of(c) << 16 | e4m3_of(d) << 24;
}
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
__device__ __forceinline__ uint32_t e4m3_of(float a, float b, float c, float d) {
  uint32_t all;
  asm("{ .reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, %2, %1; cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;"
      " mov.b32 %0, {low, high}; }"
      : "=r"(all)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return all;
}
#endif

}  // namespace vlinders
