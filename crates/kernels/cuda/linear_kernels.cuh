// The kernels of one format of weights: by the type of activations how many tokens there are, and
// whether all have one matrix.
#pragma once
#include "grouped.cuh"
#include "linear_stream.cuh"
#include "linear_tile.cuh"

namespace vlinders {

template <class Format, class T, int kRows, int kTokens, int kParts = 1>
__device__ void linear_stream(const LinearParams& p) {
  Stream<Format, T, kRows, kTokens, kParts, true>(p, blockIdx.x).run();
}

template <class Format, class T, int kM, int kN, int kWarpsM, int kWarpsN, int kStages>
__device__ void linear_tile(const LinearParams& p) {
  SHARED_BYTES(shared);
  Tile<Format, T, kM, kN, kWarpsM, kWarpsN, kStages, true>(p, blockIdx.y, blockIdx.x, shared).run();
}

template <class Format, class T, int kRows, int kTokens>
__device__ void grouped_stream(const GroupedParams& p) {
  LinearParams group;
  if (find_group(p, blockIdx.x, 8 * kTokens, group)) Stream<Format, T, kRows, kTokens, 1, false>(group, blockIdx.y).run();
}

template <class Format, class T, int kM, int kN, int kWarpsM, int kWarpsN, int kStages>
__device__ void grouped_tile(const GroupedParams& p) {
  SHARED_BYTES(shared);
  LinearParams group;
  if (find_group(p, blockIdx.x, kN, group))
    Tile<Format, T, kM, kN, kWarpsM, kWarpsN, kStages, false>(group, blockIdx.y, 0, shared).run();
}

}  // namespace vlinders

// `blocks` with few tokens fit a multiprocessor: as many as there are registers for.
#define LINEAR_KERNELS(suffix, Format, T, blocks)                                                                             \
  CROWDED_KERNEL(linear_stream8_##suffix, vlinders::LinearParams, 256, blocks) { vlinders::linear_stream<Format, T, 1, 1>(p); }    \
  CROWDED_KERNEL(linear_gated8_##suffix, vlinders::LinearParams, 256, blocks) { vlinders::linear_stream<Format, T, 1, 1, 2>(p); }  \
  EAGER_KERNEL(linear_stream16_##suffix, vlinders::LinearParams, 256) { vlinders::linear_stream<Format, T, 1, 2>(p); }             \
  EAGER_KERNEL(linear_stream32_##suffix, vlinders::LinearParams, 256) { vlinders::linear_stream<Format, T, 2, 4>(p); }             \
  EAGER_KERNEL(linear_tile32_##suffix, vlinders::LinearParams, 256) { vlinders::linear_tile<Format, T, 128, 32, 8, 1, 4>(p); }     \
  EAGER_KERNEL(linear_tile64_##suffix, vlinders::LinearParams, 256) { vlinders::linear_tile<Format, T, 128, 64, 4, 2, 4>(p); }     \
  EAGER_KERNEL(linear_small64_##suffix, vlinders::LinearParams, 128) { vlinders::linear_tile<Format, T, 64, 64, 2, 2, 4>(p); }       \
  KERNEL(grouped_stream8_##suffix, vlinders::GroupedParams, 256) { vlinders::grouped_stream<Format, T, 1, 1>(p); }             \
  KERNEL(grouped_tile32_##suffix, vlinders::GroupedParams, 256) { vlinders::grouped_tile<Format, T, 128, 32, 8, 1, 4>(p); }    \
  KERNEL(grouped_tile64_##suffix, vlinders::GroupedParams, 256) { vlinders::grouped_tile<Format, T, 128, 64, 4, 2, 4>(p); }

// Where no block of 32 has sums of its own, registers are left for larger tiles.
#define LINEAR_LARGE_KERNELS(suffix, Format, T)                                                                                \
  EAGER_KERNEL(linear_tile128_##suffix, vlinders::LinearParams, 256) { vlinders::linear_tile<Format, T, 128, 128, 2, 4, 3>(p); }     \
  KERNEL(grouped_tile128_##suffix, vlinders::GroupedParams, 256) { vlinders::grouped_tile<Format, T, 128, 128, 2, 4, 3>(p); }
