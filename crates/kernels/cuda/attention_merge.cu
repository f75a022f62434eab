// The end of attention for rows whose spans had a block each: the results of the spans, merged in their order.
//
// A block has one token and one head of keys and values. Rows that pad a batch become zeros. The plan is older than the kernels
// of its step, so it is read before they have ended.
#include "attention.cuh"

namespace vlinders {
namespace {

constexpr int kMergeThreads = 128;
// Spans that a thread has under way at once.
constexpr uint32_t kMergeAhead = 8;

template <class T>
__device__ void merge(const AttentionParams& p) {
  const uint32_t token = blockIdx.x, kv_head = blockIdx.y;
  const uint32_t* plan = at<const uint32_t>(p.plan);
  const uint32_t* of = plan + plan[kPartialsOf] + 2 * token;
  const uint32_t* positions = plan + plan[kPositions];
  const uint32_t first = of[0], stride = of[1], position = first < kPadding ? positions[token] : 0;
  const uint32_t group = (uint32_t)(p.heads / p.kv_heads), d = (uint32_t)p.head_dim;
  T* out = at<T>(p.out) + ((uint64_t)token * p.heads + kv_head * group) * d;
  const uint32_t from = seen_from(position, p.window) / kSpan, last = position / kSpan;
  uint32_t i = 4 * threadIdx.x, row = i / d, column = i % d;
  follow_others();
  if (first == kNone) return;
  for (; i < group * d; i += 4 * kMergeThreads, row = i / d, column = i % d) {
    float sums[4] = {}, total = first == kPadding ? 1.0f : 0.0f, max = -INFINITY;
    for (uint32_t span = from; first != kPadding && span <= last; span += kMergeAhead) {
      float4 next[kMergeAhead];
      float2 of_span[kMergeAhead];
#pragma unroll
      for (uint32_t a = 0; a < kMergeAhead; a++) {
        if (span + a > last) continue;
        const uint64_t partial = (uint64_t)(first + (span + a) * stride + row) * p.kv_heads + kv_head;
        next[a] = *reinterpret_cast<const float4*>(at<const float>(p.partials) + partial * d + column);
        of_span[a] = *reinterpret_cast<const float2*>(at<const float>(p.totals) + partial * 2);
      }
#pragma unroll
      for (uint32_t a = 0; a < kMergeAhead; a++) {
        if (span + a > last) continue;
        const Merge merge = merge_of(max, of_span[a].x);
        max = merge.max;
        total = merged(merge, total, of_span[a].y);
        sums[0] = merged(merge, sums[0], next[a].x);
        sums[1] = merged(merge, sums[1], next[a].y);
        sums[2] = merged(merge, sums[2], next[a].z);
        sums[3] = merged(merge, sums[3], next[a].w);
      }
    }
    struct alignas(4 * sizeof(T)) Four {
      T values[4];
    } four;
#pragma unroll
    for (int j = 0; j < 4; j++) four.values[j] = from_float<T>(__fmul_rn(sums[j], inverse_of(total)));
    let_others_follow();
    *reinterpret_cast<Four*>(out + i) = four;
  }
}

}  // namespace
}  // namespace vlinders

EAGER_KERNEL(attention_merge_bf16, vlinders::AttentionParams, vlinders::kMergeThreads) { vlinders::merge<vlinders::bf16>(p); }
EAGER_KERNEL(attention_merge_f16, vlinders::AttentionParams, vlinders::kMergeThreads) { vlinders::merge<vlinders::f16>(p); }
EAGER_KERNEL(attention_merge_f32, vlinders::AttentionParams, vlinders::kMergeThreads) { vlinders::merge<float>(p); }
