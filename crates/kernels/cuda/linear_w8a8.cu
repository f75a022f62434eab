// Products of weights and activations of eight bits, on warpgroups for any number of tokens. Names say tokens, or rows and tokens, of
// a block.
// nvcc: sm_90a
#include "w8a8_stream.cuh"
#include "w8a8_wide.cuh"

#define W8A8_WIDE(name, T, kGroups, kN, kStages)                                    \
  LONE_KERNEL(name, vlinders::LinearParams, 128 * (kGroups + 1)) {                  \
    vlinders::linear_wide<vlinders::PairOfTokens<T>, kGroups, kN, kStages>(p);      \
  }
#define W8A8_KERNELS(suffix, T)                                                                                                   \
  EAGER_KERNEL(linear_w8a8_stream8_##suffix, vlinders::LinearParams, 512) { vlinders::linear_w8a8_stream<T, 2, 8, 4, 4>(p); }     \
  EAGER_KERNEL(linear_w8a8_stream16_##suffix, vlinders::LinearParams, 256) { vlinders::linear_w8a8_stream<T, 4, 16, 2, 4>(p); }   \
  EAGER_KERNEL(linear_w8a8_stream32_##suffix, vlinders::LinearParams, 256) { vlinders::linear_w8a8_stream<T, 4, 32, 2, 3>(p); }   \
  W8A8_WIDE(linear_w8a8_wide64x64_##suffix, T, 1, 64, 12)                                                                         \
  W8A8_WIDE(linear_w8a8_wide128x64_##suffix, T, 2, 64, 8)                                                                         \
  W8A8_WIDE(linear_w8a8_wide128x128_##suffix, T, 2, 128, 6)                                                                       \
  W8A8_WIDE(linear_w8a8_wide128x192_##suffix, T, 2, 192, 5)

W8A8_KERNELS(bf16, vlinders::bf16)
W8A8_KERNELS(f16, vlinders::f16)
