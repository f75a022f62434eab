// Attention for f32 queries over a cache of any type, without tensor cores: for exactness and tests, not for speed.
//
// Units, tiles, spans and their merging are those of the fast kernels. A warp has one row at a time; a lane has two positions
// of a tile for scores, and every 32nd number of a head for values.
#include "attention.cuh"

namespace vlinders {
namespace {

constexpr int kPlainThreads = 256;
constexpr int kTile = 2 * kWarp;          // positions at a time
constexpr int kPlainParts = 256 / kWarp;  // numbers of a head that a lane has, at most

template <class C>
__device__ __forceinline__ float scale_at(uint64_t scales, uint32_t row) {
  return sizeof(C) == 1 ? at<const float>(scales)[row] : 1.0f;
}

template <class C>
__device__ void plain_row(const AttentionParams& p, const uint32_t* plan, const Unit& unit, uint32_t kv_head, uint32_t local) {
  const int lane = threadIdx.x % kWarp;
  const uint32_t group = p.group, row = unit.first_row + local, token = row / group;
  const int64_t d = p.head_dim;
  const Header header = header_of(plan);
  const uint32_t position = plan[header.positions + token];
  const uint32_t begin = max(unit.begin, seen_from(position, p.window)), end = min(unit.end, position + 1);
  const uint32_t* table = plan + header.tables + unit.table;
  const int64_t head = (int64_t)token * p.heads + kv_head * group + row % group;
  const float* q = at<const float>(p.q) + head * d;
  float run[kPlainParts] = {}, run_total = 0.0f, run_max = -INFINITY;
  float sums[kPlainParts] = {}, total = 0.0f, most = -INFINITY;
  for (uint32_t tile = begin / kTile * kTile; tile < end; tile += kTile) {
    uint32_t rows[2];
    float scores[2];
    for (int half = 0; half < 2; half++) {
      const uint32_t at_position = tile + half * kWarp + lane;
      rows[half] = kNone;
      scores[half] = -INFINITY;
      if (at_position < begin || at_position >= end) continue;
      rows[half] = cache_row(p, table, at_position, kv_head);
      const C* key = at<const C>(p.keys) + rows[half] * d;
      float product = 0.0f;
      for (int i = 0; i < d; i++) product = __fmaf_rn(q[i], to_float(key[i]), product);
      product *= scale_at<C>(p.key_scales, rows[half]);
      if (p.inner != 0.0f) product = tanhf(product * p.inner);
      scores[half] = product * p.outer;
    }
    const float max = fmaxf(most, warp_max(fmaxf(scores[0], scores[1]))), base = finite_max(max);
    const float before = exp2_of(most - base);
    most = max;
    const float weights[2] = {exp2_of(scores[0] - base), exp2_of(scores[1] - base)};
    total = __fmaf_rn(total, before, warp_sum(weights[0] + weights[1]));
    for (int j = 0; j < kPlainParts; j++) sums[j] *= before;
    for (int i = 0; i < kTile; i++) {
      const uint32_t from = __shfl_sync(kFullMask, rows[i / kWarp], i % kWarp);
      float weight = __shfl_sync(kFullMask, weights[i / kWarp], i % kWarp);
      if (from == kNone) continue;
      weight *= scale_at<C>(p.value_scales, from);
      const C* value = at<const C>(p.values) + from * d;
      for (int j = 0; j < kPlainParts; j++)
        if (lane + j * kWarp < d) sums[j] = __fmaf_rn(weight, to_float(value[lane + j * kWarp]), sums[j]);
    }
    if ((tile + kTile) % kSpan != 0 && tile + kTile < end) continue;
    const Merge merge = merge_of(run_max, most);
    run_max = merge.max;
    run_total = merged(merge, run_total, total);
    for (int j = 0; j < kPlainParts; j++) run[j] = merged(merge, run[j], sums[j]), sums[j] = 0.0f;
    total = 0.0f;
    most = -INFINITY;
    if (unit.partial == kNone) continue;
    const uint32_t span = tile / kSpan - unit.begin / kSpan;
    const int64_t partial = (int64_t)(unit.partial + span * unit.num_rows + local) * p.kv_heads + kv_head;
    for (int j = 0; j < kPlainParts; j++) {
      if (lane + j * kWarp < d) at<float>(p.partials)[partial * d + lane + j * kWarp] = run[j];
      run[j] = 0.0f;
    }
    if (lane == 0) {
      at<float>(p.totals)[2 * partial] = run_max;
      at<float>(p.totals)[2 * partial + 1] = run_total;
    }
    run_total = 0.0f;
    run_max = -INFINITY;
  }
  if (unit.partial != kNone) return;
  for (int j = 0; j < kPlainParts; j++)
    if (lane + j * kWarp < d) at<float>(p.out)[head * d + lane + j * kWarp] = __fmul_rn(run[j], inverse_of(run_total));
}

template <class C>
__device__ void plain(const AttentionParams& p) {
  const uint32_t* plan = at<const uint32_t>(p.plan);
  const Header header = header_of(plan);
  const uint32_t count = (p.large ? header.num_large : header.num_small) * (uint32_t)p.kv_heads;
  for (uint32_t i = blockIdx.x; i < count; i += gridDim.x) {
    const Unit unit = unit_at(plan, p.large ? header.large_units : header.small_units, i / (uint32_t)p.kv_heads);
    for (uint32_t row = threadIdx.x / kWarp; row < unit.num_rows; row += blockDim.x / kWarp)
      plain_row<C>(p, plan, unit, i % (uint32_t)p.kv_heads, row);
  }
}

}  // namespace
}  // namespace vlinders

KERNEL(attention_f32_f32, vlinders::AttentionParams, vlinders::kPlainThreads) { vlinders::plain<float>(p); }
KERNEL(attention_f32_bf16, vlinders::AttentionParams, vlinders::kPlainThreads) { vlinders::plain<vlinders::bf16>(p); }
KERNEL(attention_f32_f16, vlinders::AttentionParams, vlinders::kPlainThreads) { vlinders::plain<vlinders::f16>(p); }
KERNEL(attention_f32_int8, vlinders::AttentionParams, vlinders::kPlainThreads) { vlinders::plain<int8_t>(p); }
