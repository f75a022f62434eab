// The end of attention for rows whose spans had a block each: the results of the spans, merged in their order.
//
// A block has one token and one head of keys and values. Rows that pad a batch become zeros.
#include "attention.cuh"

namespace vlinders {
namespace {

constexpr int kMergeThreads = 128;

template <class T>
__device__ void merge(const AttentionParams& p) {
  const uint32_t token = blockIdx.x, kv_head = blockIdx.y;
  const uint32_t* plan = at<const uint32_t>(p.plan);
  const uint32_t* of = plan + plan[kPartialsOf] + 2 * token;
  const uint32_t first = of[0], stride = of[1];
  if (first == kNone) return;
  const uint32_t group = (uint32_t)(p.heads / p.kv_heads), d = (uint32_t)p.head_dim;
  T* out = at<T>(p.out) + ((uint64_t)token * p.heads + kv_head * group) * d;
  const uint32_t position = first == kPadding ? 0 : plan[plan[kPositions] + token];
  const uint32_t from = seen_from(position, p.window) / kSpan, last = position / kSpan;
  for (uint32_t i = 4 * threadIdx.x; i < group * d; i += 4 * kMergeThreads) {
    float sums[4] = {}, total = 0.0f, max = -INFINITY;
    if (first != kPadding) {
#pragma unroll 4
      for (uint32_t span = from; span <= last; span++) {
        const uint64_t row = (uint64_t)(first + span * stride + i / d) * p.kv_heads + kv_head;
        const float4 next = *reinterpret_cast<const float4*>(at<const float>(p.partials) + row * d + i % d);
        const float2 of_span = *reinterpret_cast<const float2*>(at<const float>(p.totals) + row * 2);
        const Merge merge = merge_of(max, of_span.x);
        max = merge.max;
        total = merged(merge, total, of_span.y);
        sums[0] = merged(merge, sums[0], next.x);
        sums[1] = merged(merge, sums[1], next.y);
        sums[2] = merged(merge, sums[2], next.z);
        sums[3] = merged(merge, sums[3], next.w);
      }
    } else {
      total = 1.0f;
    }
    for (int j = 0; j < 4; j++) out[i + j] = from_float<T>(__fmul_rn(sums[j], inverse_of(total)));
  }
}

}  // namespace
}  // namespace vlinders

KERNEL(attention_merge_bf16, vlinders::AttentionParams, vlinders::kMergeThreads) { vlinders::merge<vlinders::bf16>(p); }
KERNEL(attention_merge_f16, vlinders::AttentionParams, vlinders::kMergeThreads) { vlinders::merge<vlinders::f16>(p); }
KERNEL(attention_merge_f32, vlinders::AttentionParams, vlinders::kMergeThreads) { vlinders::merge<float>(p); }
