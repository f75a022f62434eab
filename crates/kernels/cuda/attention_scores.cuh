// How scores of a tile become weights, for kernels of tensor cores: one arithmetic, whatever made the products.
//
// A thread has scores of two rows, as `mma` gives them: scores[i][j] is of position 8 i + 2 (lane % 4) + j % 2, and row j / 2.
#pragma once
#include "attention.cuh"

namespace vlinders {

// What is left to the weights of the factor of scores, in powers of two: all of it if it keeps the order of scores.
__device__ __forceinline__ float factor_of(const AttentionParams& p) { return p.inner == 0.0f && p.outer > 0.0f ? p.outer : 1.0f; }

// Products as scores up to `factor_of`.
template <int kCount>
__device__ __forceinline__ void finish_scores(const AttentionParams& p, float (&scores)[kCount][4]) {
  if (p.inner != 0.0f) {
#pragma unroll
    for (int i = 0; i < kCount; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) {
        // tanh, from one power of two.
        const float power = exp2_of(scores[i][j] * p.inner * 2.885390082f);
        scores[i][j] = (1.0f - 2.0f * inverse_of(power + 1.0f)) * p.outer;
      }
  } else if (!(p.outer > 0.0f)) {
#pragma unroll
    for (int i = 0; i < kCount; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) scores[i][j] *= p.outer;
  }
}

// Scores of what rows do not see, in a tile that begins at position `first`, are minus infinity.
template <int kCount>
__device__ __forceinline__ void hide_scores(float (&scores)[kCount][4], uint32_t first, const uint32_t (&from)[2],
                                            const uint32_t (&to)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const uint32_t position = first + 8 * i + 2 * (threadIdx.x % 4) + j % 2;
      if (position < from[j / 2] || position >= to[j / 2]) scores[i][j] = -INFINITY;
    }
}

// Scores of row `r` become weights: `most` is the greatest score of the tiles before, then of this one too. What earlier weights
// are multiplied by.
template <int kCount>
__device__ __forceinline__ float weigh_scores(float (&scores)[kCount][4], int r, float& most, float factor) {
  float max = -INFINITY;
#pragma unroll
  for (int i = 0; i < kCount; i++) max = fmaxf(max, fmaxf(scores[i][2 * r], scores[i][2 * r + 1]));
  max = fmaxf(max, __shfl_xor_sync(kFullMask, max, 1));
  max = fmaxf(max, __shfl_xor_sync(kFullMask, max, 2));
  max = fmaxf(most, __fmul_rn(max, factor));
  const float base = finite_max(max);
  // Nothing times one, when there was nothing.
  const float before = most == -INFINITY ? 1.0f : exp2_of(__fadd_rn(most, -base));
  most = max;
#pragma unroll
  for (int i = 0; i < kCount; i++)
#pragma unroll
    for (int j = 0; j < 2; j++) scores[i][2 * r + j] = exp2_of(__fmaf_rn(scores[i][2 * r + j], factor, -base));
  return before;
}

// Weights of sixteen positions, `step` of a tile, as a left operand.
template <class T, int kCount>
__device__ __forceinline__ void pack_weights(uint32_t (&to)[4], const float (&weights)[kCount][4], int step) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float* of = weights[2 * step + i / 2] + i % 2 * 2;
    to[i] = pair_of<T>(of[0], of[1]);
  }
}

}  // namespace vlinders
