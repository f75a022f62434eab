// How sums of all chunks become outputs.
#pragma once
#include "linear.cuh"
#include "silu.cuh"

namespace vlinders {

template <class Format, class T>
__device__ __forceinline__ void store_sum(const LinearParams& p, float sum, int out, int token) {
  const float y = finish<Format, T>(p, sum, out);
  const int64_t place = (int64_t)token * p.out + out;
  if (p.y_is_f32) {
    at<float>(p.y)[place] = y;
  } else {
    at<T>(p.y)[place] = from_float<T>(y);
  }
}

// Numbers from one token to the next in shared memory; four more keep lanes in banks of their own.
template <int kM>
constexpr int kStorePitch = kM + 4;

template <class Format, class T, class Y, int kM, int kN, int kThreads>
__device__ __forceinline__ void store_tile_as(const LinearParams& p, const float* tile, int first_row, int first_token) {
  constexpr int kCount = Pack<Y>::kCount;
  const int tokens = min(kN, p.tokens - first_token), rows = min(kM, p.out - first_row);
  const bool whole = p.out % kCount == 0;
  for (int index = threadIdx.x; index < tokens * (kM / kCount); index += kThreads) {
    const int token = index / (kM / kCount), row = index % (kM / kCount) * kCount;
    if (row >= rows) continue;
    Y* to = at<Y>(p.y) + (int64_t)(first_token + token) * p.out + first_row + row;
    Pack<Y> pack;
#pragma unroll
    for (int i = 0; i < kCount; i++)
      if (row + i < rows)
        pack.values[i] = from_float<Y>(finish<Format, T>(p, tile[token * kStorePitch<kM> + row + i], first_row + row + i));
    if (whole) {
      store_pack(to, pack);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; i++)
        if (row + i < rows) to[i] = pack.values[i];
    }
  }
}

// Outputs `gate` and half of all further, as one.
template <class Format, class T>
__device__ __forceinline__ T gated(const LinearParams& p, float gate_sum, float up_sum, int gate) {
  const T x = from_float<T>(finish<Format, T>(p, gate_sum, gate));
  return silu_mul(x, from_float<T>(finish<Format, T>(p, up_sum, gate + p.out / 2)));
}

// Sums of kM rows and kN tokens, by token: what is beyond the last row or token is left out.
template <class Format, class T, int kM, int kN, int kThreads>
__device__ __forceinline__ void store_tile(const LinearParams& p, const float* tile, int first_row, int first_token) {
  if (p.y_is_f32) {
    store_tile_as<Format, T, float, kM, kN, kThreads>(p, tile, first_row, first_token);
  } else {
    store_tile_as<Format, T, T, kM, kN, kThreads>(p, tile, first_row, first_token);
  }
}

}  // namespace vlinders
