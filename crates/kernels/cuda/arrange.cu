// Activations in the order in which warpgroups multiply them: arranged.cuh says which.
#include "arranged.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct ArrangeParams {
  uint64_t x;       // [tokens, width] of two bytes each, rows aligned to sixteen bytes
  uint64_t y;       // arranged
  int64_t pieces;   // of sixteen bytes in y that are written
  int32_t tokens;
  int32_t width;    // a multiple of eight
  int32_t steps;
  int32_t unused;
};

// A thread writes a piece of sixteen bytes; four of them have 32 numbers.
__device__ __forceinline__ void arrange_piece(const ArrangeParams& p) {
  const int64_t index = (int64_t)blockIdx.x * kThreads + threadIdx.x;
  const int piece = index % 8, t = index % 4;
  const int64_t row = index / 8 / p.steps;
  const int step = (int)(index / 8 % p.steps);
  const int k = step * kStep + piece * 8;
  uint4 words = {0, 0, 0, 0};
  if (row < p.tokens && k < p.width) words = *at<const uint4>(p.x + (uint64_t)(row * p.width + k) * 2);
  const uint32_t own[4] = {words.x, words.y, words.z, words.w};
  uint32_t to[4];
#pragma unroll
  for (int from = 0; from < 4; from++) {
    // Lane t wants word t of each of the four.
    const uint32_t given[4] = {__shfl_sync(kFullMask, own[0], from, 4), __shfl_sync(kFullMask, own[1], from, 4),
                               __shfl_sync(kFullMask, own[2], from, 4), __shfl_sync(kFullMask, own[3], from, 4)};
    to[from] = t == 0 ? given[0] : t == 1 ? given[1] : t == 2 ? given[2] : given[3];
  }
  if (index < p.pieces) *at<uint4>(p.y + arranged((int)row, step, p.steps, piece)) = {to[0], to[1], to[2], to[3]};
}

}  // namespace
}  // namespace vlinders

KERNEL(arrange, vlinders::ArrangeParams, vlinders::kThreads) { vlinders::arrange_piece(p); }
