// Mixtures of experts: which experts a token goes to, where its copies lie among those of each expert, and their weighted sum.
//
// Nothing depends on the order of threads: copies are sorted by expert, then token, and a token's sum is added in the order of
// its experts, best first.
#include "sample/logits.cuh"

namespace vlinders {
namespace {

constexpr int kRouteThreads = 128, kSortThreads = 256, kCombineThreads = 256;
constexpr int kMaxExperts = 512;
constexpr int kEach = kMaxExperts / kWarp;
// Copies that a thread looks at before the block agrees on places.
constexpr int kRow = 8;

struct RouteParams {
  uint64_t logits;   // [tokens, experts] f32
  uint64_t experts;  // [tokens, top_k] u32
  uint64_t weights;  // [tokens, top_k] f32
  int32_t tokens;
  int32_t num_experts;
  int32_t top_k;
  int32_t renormalise;
};

struct SortCopiesParams {
  uint64_t experts;  // [copies] u32
  uint64_t offsets;  // [experts + 1] u32: first place of each expert, and how many there are
  uint64_t tokens;   // [copies] u32: the token at each place
  uint64_t places;   // [copies] u32: the place of each copy
  int32_t num_copies;
  int32_t num_experts;
  int32_t top_k;
  int32_t unused;
};

struct CombineParams {
  uint64_t x;        // [copies, width] T, by place
  uint64_t places;   // [tokens, top_k] u32
  uint64_t weights;  // [tokens, top_k] f32
  uint64_t y;        // [tokens, width] T
  int32_t width;
  int32_t top_k;
};

__device__ __forceinline__ uint64_t warp_largest(uint64_t x) {
#pragma unroll
  for (int bit = 16; bit > 0; bit /= 2) x = max(x, __shfl_xor_sync(kFullMask, x, bit));
  return x;
}

// How many there are before this thread; `all` becomes how many there are in the block. `scratch` has a number for each warp.
__device__ __forceinline__ int count_before(int own, int* scratch, int& all) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  int through = own;
#pragma unroll
  for (int by = 1; by < kWarp; by *= 2) {
    const int other = __shfl_up_sync(kFullMask, through, by);
    if (lane >= by) through += other;
  }
  if (lane == kWarp - 1) scratch[warp] = through;
  __syncthreads();
  int before = through - own;
  all = 0;
  for (int other = 0; other < warps; other++) {
    if (other < warp) before += scratch[other];
    all += scratch[other];
  }
  __syncthreads();
  return before;
}

// A block has a token. Sixteen bytes at a time, where rows can be read so.
template <class T>
__device__ void combine(const CombineParams& p) {
  const uint32_t* places = at<const uint32_t>(p.places) + (int64_t)blockIdx.x * p.top_k;
  const float* weights = at<const float>(p.weights) + (int64_t)blockIdx.x * p.top_k;
  constexpr int kCount = Pack<T>::kCount;
  const int packs = p.width % kCount == 0 ? p.width / kCount : 0;
  T* y = at<T>(p.y) + (int64_t)blockIdx.x * p.width;
  for (int i = threadIdx.x; i < packs; i += kCombineThreads) {
    float sums[kCount] = {};
    for (int k = 0; k < p.top_k; k++) {
      const Pack<T> x = load_pack(at<const T>(p.x) + (int64_t)places[k] * p.width + i * kCount);
#pragma unroll
      for (int j = 0; j < kCount; j++) sums[j] = fmaf(weights[k], to_float(x.values[j]), sums[j]);
    }
    Pack<T> sum;
#pragma unroll
    for (int j = 0; j < kCount; j++) sum.values[j] = from_float<T>(sums[j]);
    store_pack(y + i * kCount, sum);
  }
  for (int i = packs * kCount + threadIdx.x; i < p.width; i += kCombineThreads) {
    float sum = 0.0f;
    for (int k = 0; k < p.top_k; k++)
      sum = fmaf(weights[k], to_float(at<const T>(p.x)[(int64_t)places[k] * p.width + i]), sum);
    y[i] = from_float<T>(sum);
  }
}

}  // namespace
}  // namespace vlinders

// A warp has a token: softmax over all experts, then the best of them, ties by lower number.
KERNEL(route, vlinders::RouteParams, vlinders::kRouteThreads) {
  using namespace vlinders;
  const int token = (int)(blockIdx.x * (kRouteThreads / kWarp) + threadIdx.x / kWarp), lane = threadIdx.x % kWarp;
  if (token >= p.tokens) return;
  const float* logits = at<const float>(p.logits) + (int64_t)token * p.num_experts;
  // 0 for experts that there are not, and those that were taken. What is no number comes last.
  uint64_t best[kEach];
  float own = -INFINITY;
#pragma unroll
  for (int i = 0; i < kEach; i++) {
    const int expert = i * kWarp + lane;
    best[i] = 0;
    if (expert < p.num_experts) {
      const float x = logits[expert];
      best[i] = place_of(key_of(x == x ? x : -INFINITY), (uint32_t)expert);
      own = fmaxf(own, x);
    }
  }
  const float largest = warp_max(own);
  float sum = 0.0f;
  for (int expert = lane; expert < p.num_experts; expert += kWarp) sum += expf(logits[expert] - largest);
  sum = warp_sum(sum);
  uint32_t expert_of_lane = 0;
  float weight_of_lane = 0.0f, taken = 0.0f;
  for (int k = 0; k < p.top_k; k++) {
    uint64_t next = 0;
#pragma unroll
    for (int i = 0; i < kEach; i++) next = max(next, best[i]);
    next = warp_largest(next);
#pragma unroll
    for (int i = 0; i < kEach; i++)
      if (best[i] == next) best[i] = 0;
    const uint32_t expert = id_at(next);
    const float weight = expf(logits[expert] - largest) / sum;
    taken += weight;
    if (lane == k) {
      expert_of_lane = expert;
      weight_of_lane = weight;
    }
  }
  if (lane < p.top_k) {
    at<uint32_t>(p.experts)[(int64_t)token * p.top_k + lane] = expert_of_lane;
    at<float>(p.weights)[(int64_t)token * p.top_k + lane] = p.renormalise ? weight_of_lane / taken : weight_of_lane;
  }
}

// A block has an expert, finds where its copies begin, and lists them.
KERNEL(sort_copies, vlinders::SortCopiesParams, vlinders::kSortThreads) {
  using namespace vlinders;
  SHARED_BYTES(shared);
  int* scratch = reinterpret_cast<int*>(shared);
  const uint32_t* experts = at<const uint32_t>(p.experts);
  const uint32_t expert = blockIdx.x;
  int own = 0, place = 0;
  for (int i = threadIdx.x; i < p.num_copies; i += kSortThreads) own += experts[i] < expert;
  count_before(own, scratch, place);
  if (threadIdx.x == 0) {
    at<uint32_t>(p.offsets)[expert] = (uint32_t)place;
    if (expert == 0) at<uint32_t>(p.offsets)[p.num_experts] = (uint32_t)p.num_copies;
  }
  for (int first = 0; first < p.num_copies; first += kSortThreads * kRow) {
    const int from = first + threadIdx.x * kRow;
    own = 0;
#pragma unroll
    for (int i = 0; i < kRow; i++) own += from + i < p.num_copies && experts[from + i] == expert;
    int all;
    int to = place + count_before(own, scratch, all);
    place += all;
    for (int i = 0; i < kRow && own > 0; i++) {
      if (from + i >= p.num_copies || experts[from + i] != expert) continue;
      at<uint32_t>(p.tokens)[to] = (uint32_t)((from + i) / p.top_k);
      at<uint32_t>(p.places)[from + i] = (uint32_t)to;
      to++;
    }
  }
}

KERNEL(combine_bf16, vlinders::CombineParams, vlinders::kCombineThreads) { vlinders::combine<vlinders::bf16>(p); }
KERNEL(combine_f16, vlinders::CombineParams, vlinders::kCombineThreads) { vlinders::combine<vlinders::f16>(p); }
KERNEL(combine_f32, vlinders::CombineParams, vlinders::kCombineThreads) { vlinders::combine<float>(p); }
