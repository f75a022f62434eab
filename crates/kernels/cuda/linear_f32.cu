// Products with activations of f32 and any weights, for exactness: without tensor cores, not made to be fast.
//
// A warp has a row of w and four tokens. Lane l adds up numbers l, l + 32, ... of k; the lanes' sums are added in pairs.
#include "grouped.cuh"
#include "linear.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 4;

template <class Format>
__device__ void linear_f32(const LinearParams& p, int first) {
  const int out = blockIdx.x * (kThreads / kWarp) + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (out >= p.out) return;
  const int tokens = min(kTokens, p.tokens - first);
  float sums[kTokens] = {};
  for (int k = lane; k < p.inn; k += kWarp) {
    const float w = weight_at<Format>(p.codes, p.scales, p.steps, out, k);
#pragma unroll
    for (int n = 0; n < kTokens; n++)
      if (n < tokens) sums[n] = fmaf(w, at<const float>(p.x)[(int64_t)(first + n) * p.inn + k], sums[n]);
  }
#pragma unroll
  for (int n = 0; n < kTokens; n++) {
    const float sum = warp_sum(sums[n]);
    if (lane == 0 && n < tokens)
      at<float>(p.y)[(int64_t)(first + n) * p.out + out] = sum + (p.bias ? at<const float>(p.bias)[out] : 0.0f);
  }
}

template <class Format>
__device__ void grouped_f32(const GroupedParams& p) {
  LinearParams group;
  if (find_group(p, blockIdx.y, kTokens, group)) linear_f32<Format>(group, 0);
}

}  // namespace
}  // namespace vlinders

#define LINEAR_F32(suffix, Format)                                                                               \
  KERNEL(linear_f32_##suffix, vlinders::LinearParams, vlinders::kThreads) {                                      \
    vlinders::linear_f32<Format>(p, blockIdx.y * vlinders::kTokens);                                             \
  }                                                                                                              \
  KERNEL(grouped_f32_##suffix, vlinders::GroupedParams, vlinders::kThreads) { vlinders::grouped_f32<Format>(p); }
LINEAR_F32(f32, vlinders::Singles)
LINEAR_F32(f16, vlinders::Floats<vlinders::f16>)
LINEAR_F32(bf16, vlinders::Floats<vlinders::bf16>)
LINEAR_F32(fp8, vlinders::Fp8)
LINEAR_F32(q8, vlinders::Q8)
LINEAR_F32(q4, vlinders::Q4)
