// Products of weights and activations of eight bits, on warpgroups for any number of tokens. Names say tokens, or rows and tokens, of
// a block.
// nvcc: sm_90a
#include "w8a8_stream.cuh"
#include "w8a8_wide.cuh"

#define W8A8_WIDE(name, T, kGroups, kN, kStages, kBlocks)                                    \
  LONE_KERNEL(name, vlinders::LinearParams, 128 * (kGroups + 1)) {                           \
    vlinders::linear_wide<vlinders::PairOfTokens<T>, kGroups, kN, kStages, kBlocks>(p);      \
  }
#define W8A8_KERNELS(suffix, T)                                                                                                 \
  EAGER_KERNEL(linear_w8a8_stream8_##suffix, vlinders::LinearParams, 512) { vlinders::linear_w8a8_stream<T, 2, 8, 4, 4>(p); }   \
  W8A8_WIDE(linear_w8a8_wide64x64_##suffix, T, 1, 64, 12, 1)                                                                    \
  W8A8_WIDE(linear_w8a8_wide128x64_##suffix, T, 2, 64, 8, 1)                                                                    \
  W8A8_WIDE(linear_w8a8_wide128x128_##suffix, T, 2, 128, 6, 1)                                                                  \
  W8A8_WIDE(linear_w8a8_wide128x192_##suffix, T, 2, 192, 5, 1)                                                                  \
  W8A8_WIDE(linear_w8a8_wide256x128_##suffix, T, 2, 128, 6, 2)                                                                  \
  W8A8_WIDE(linear_w8a8_wide256x192_##suffix, T, 2, 192, 5, 2)

W8A8_KERNELS(bf16, vlinders::bf16)
W8A8_KERNELS(f16, vlinders::f16)
