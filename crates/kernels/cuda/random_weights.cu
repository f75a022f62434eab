// Weights nobody trained, of standard deviation 0.02, for measurements: each word is a hash of where it is.
#include "common.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct RandomParams {
  uint64_t words;  // of codes, or of scales
  uint64_t count;
  uint64_t seed;   // or what every word becomes
};

__device__ __forceinline__ uint64_t hash(uint64_t x) {
  // The finaliser of splitmix64.
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// Uniform between -0.02 sqrt(3) and that.
__device__ __forceinline__ float uniform(uint32_t bits) { return ((int)(bits >> 8) - (1 << 23)) * (0.0346410162f / (1 << 23)); }

template <class Word>
__device__ __forceinline__ void each(const RandomParams& p, Word word) {
  const uint64_t stride = (uint64_t)gridDim.x * kThreads;
  for (uint64_t i = (uint64_t)blockIdx.x * kThreads + threadIdx.x; i < p.count; i += stride)
    at<uint32_t>(p.words)[i] = word(hash(p.seed * 0x9e3779b97f4a7c15u + i));
}

}  // namespace
}  // namespace vlinders

#define RANDOM(suffix, word)                                                                 \
  KERNEL(random_##suffix, vlinders::RandomParams, vlinders::kThreads) {                      \
    vlinders::each(p, [](uint64_t bits) -> uint32_t { return word; });                       \
  }
RANDOM(f32, __float_as_uint(vlinders::uniform((uint32_t)bits)))
RANDOM(f16, vlinders::pair_of<vlinders::f16>(vlinders::uniform((uint32_t)bits), vlinders::uniform((uint32_t)(bits >> 32))))
RANDOM(bf16, vlinders::pair_of<vlinders::bf16>(vlinders::uniform((uint32_t)bits), vlinders::uniform((uint32_t)(bits >> 32))))
// Signs, mantissas, and exponents of 1/8 to 1: no code is a NaN.
RANDOM(fp8, ((uint32_t)bits & 0x9f9f9f9fu) + 0x20202020u)
// Whole numbers from -64 to 63, and from -8 to 7.
RANDOM(q8, ((uint32_t)bits & 0x7f7f7f7fu) | ((uint32_t)bits & 0x40404040u) << 1)
RANDOM(q4, (uint32_t)bits)

// Scales, which are all alike.
KERNEL(fill_words, vlinders::RandomParams, vlinders::kThreads) {
  const uint64_t stride = (uint64_t)gridDim.x * vlinders::kThreads;
  for (uint64_t i = (uint64_t)blockIdx.x * vlinders::kThreads + threadIdx.x; i < p.count; i += stride)
    vlinders::at<uint32_t>(p.words)[i] = (uint32_t)p.seed;
}
