// Products on warpgroups: weights of the type of activations, or of e4m3. Names say rows and tokens of a block,
// or of a cluster of two.
// nvcc: sm_90a
#include "linear_wide.cuh"

#define WIDE_KERNEL(name, Format, T, kGroups, kN, kStages, kBlocks)                                \
  LONE_KERNEL(name, vlinders::LinearParams, 128 * (kGroups + 1)) {                                 \
    vlinders::linear_wide<vlinders::StepOfTokens<Format, T>, kGroups, kN, kStages, kBlocks>(p);    \
  }
#define WIDE_KERNELS(suffix, Format, T)                             \
  WIDE_KERNEL(linear_wide64x64_##suffix, Format, T, 1, 64, 12, 1)   \
  WIDE_KERNEL(linear_wide128x64_##suffix, Format, T, 2, 64, 8, 1)   \
  WIDE_KERNEL(linear_wide128x128_##suffix, Format, T, 2, 128, 6, 1) \
  WIDE_KERNEL(linear_wide128x192_##suffix, Format, T, 2, 192, 5, 1) \
  WIDE_KERNEL(linear_wide256x128_##suffix, Format, T, 2, 128, 6, 2) \
  WIDE_KERNEL(linear_wide256x192_##suffix, Format, T, 2, 192, 5, 2)

WIDE_KERNELS(bf16_floats, vlinders::Floats<vlinders::bf16>, vlinders::bf16)
WIDE_KERNELS(f16_floats, vlinders::Floats<vlinders::f16>, vlinders::f16)
WIDE_KERNELS(bf16_fp8, vlinders::Fp8, vlinders::bf16)
WIDE_KERNELS(f16_fp8, vlinders::Fp8, vlinders::f16)
