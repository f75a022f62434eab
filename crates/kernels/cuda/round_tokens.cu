// Activations as numbers of eight bits that warpgroups multiply: rounded.cuh says how.
#include "rounded.cuh"

namespace vlinders {
namespace {

constexpr int kMostThreads = 512;

struct RoundTokensParams {
  uint64_t x;      // [tokens, width] T, rows aligned to sixteen bytes
  uint64_t y;      // numbers; scales lie before them
  int32_t tokens;
  int32_t width;   // a multiple of eight
  int32_t pairs;
  int32_t unused;
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
// As many as one block of products takes at most where that waits for memory.
constexpr int kFewTokens = 32;
// Numbers of a thread, which are two neighbouring pieces when they are rounded.
constexpr int kSet = 32;

template <class T>
struct Set {
  Pack<T> packs[kSet / Pack<T>::kCount];

  // Numbers beyond the last are zeros.
  __device__ __forceinline__ Set(const T* row, int width, int index) {
    static_assert(Pack<T>::kCount == 8, "numbers have two bytes");
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int k = index * kSet + 8 * i;
      if (k < width) {
        packs[i] = load_pack(row + k);
      } else {
#pragma unroll
        for (int j = 0; j < 8; j++) packs[i].values[j] = from_float<T>(0.0f);
      }
    }
  }
  // The bits of the greatest magnitude as f32: they have the order of magnitudes, infinity and NaN being the greatest.
  __device__ __forceinline__ uint32_t most() const {
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 8; j++) most = max(most, __float_as_uint(to_float(packs[i].values[j])) & 0x7fffffffu);
    return most;
  }
  // Four neighbours of each eight.
  __device__ __forceinline__ uint4 rounded(int first, float by) const {
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float of[4];
#pragma unroll
      for (int j = 0; j < 4; j++) of[j] = __fmul_rn(to_float(packs[i].values[first + j]), by);
      words[i] = e4m3_of(of[0], of[1], of[2], of[3]);
    }
    return {words[0], words[1], words[2], words[3]};
  }
};
#endif

// A block has a token.
template <class T>
__device__ __forceinline__ void round_token(const RoundTokensParams& p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
  SHARED_BYTES(shared);
  uint32_t* scratch = reinterpret_cast<uint32_t*>(shared);
  const int token = blockIdx.x, sets = p.pairs * (kTokenBytes / kSet), threads = blockDim.x;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const T* row = at<const T>(p.x) + (int64_t)token * p.width;
  // A product with few tokens may begin to ask for weights: blocks here are fewer than multiprocessors.
  if (gridDim.x <= kFewTokens) let_others_follow();
  // The first set stays in registers, and in most models there is no other.
  const Set<T> own(row, p.width, threadIdx.x);
  uint32_t most = own.most();
  for (int index = threadIdx.x + threads; index < sets; index += threads) most = max(most, Set<T>(row, p.width, index).most());
#pragma unroll
  for (int bit = kWarp / 2; bit > 0; bit /= 2) most = max(most, __shfl_xor_sync(kFullMask, most, bit));
  if (lane == 0) scratch[warp] = most;
  __syncthreads();
  most = lane < threads / kWarp ? scratch[lane] : 0;
#pragma unroll
  for (int bit = kWarp / 2; bit > 0; bit /= 2) most = max(most, __shfl_xor_sync(kFullMask, most, bit));

  const bool is_finite = most < 0x7f800000u;
  const float greatest = fmaxf(__uint_as_float(most), kLeastMagnitude);
  const float by = is_finite ? __fdiv_rn(kMostE4m3, greatest) : 0.0f;
  if (threadIdx.x == 0)
    at<float>(scales_before(p.y, p.tokens))[token] = is_finite ? __fdiv_rn(greatest, kMostE4m3) : __uint_as_float(0x7fffffffu);
  const auto put = [&](const Set<T>& set, int index) {
#pragma unroll
    for (int half = 0; half < 2; half++)
      *at<uint4>(p.y + arranged(token, index / 4, p.pairs, index % 4 * 2 + half)) = set.rounded(4 * half, by);
  };
  if ((int)threadIdx.x < sets) put(own, threadIdx.x);
  for (int index = threadIdx.x + threads; index < sets; index += threads) put(Set<T>(row, p.width, index), index);
#endif
}

}  // namespace
}  // namespace vlinders

KERNEL(round_tokens_bf16, vlinders::RoundTokensParams, vlinders::kMostThreads) { vlinders::round_token<vlinders::bf16>(p); }
KERNEL(round_tokens_f16, vlinders::RoundTokensParams, vlinders::kMostThreads) { vlinders::round_token<vlinders::f16>(p); }
