// Products on warpgroups: weights of the type of activations, or of e4m3. Names say rows and tokens of a block.
// nvcc: sm_90a
#include "linear_wide.cuh"

#define WIDE_KERNELS(suffix, Format, T)                                                                                                              \
  EAGER_KERNEL(linear_wide128x128_##suffix, vlinders::LinearParams, 256) { vlinders::linear_wide<vlinders::StepOfTokens<Format, T>, 2, 128, 5>(p); } \
  EAGER_KERNEL(linear_wide128x64_##suffix, vlinders::LinearParams, 256) { vlinders::linear_wide<vlinders::StepOfTokens<Format, T>, 2, 64, 4>(p); }   \
  EAGER_KERNEL(linear_wide64x64_##suffix, vlinders::LinearParams, 128) { vlinders::linear_wide<vlinders::StepOfTokens<Format, T>, 1, 64, 4>(p); }    \
  LONE_KERNEL(linear_wide128x192_##suffix, vlinders::LinearParams, 384) { vlinders::linear_wide<vlinders::StepOfTokens<Format, T>, 2, 192, 5, true>(p); }

WIDE_KERNELS(bf16_floats, vlinders::Floats<vlinders::bf16>, vlinders::bf16)
WIDE_KERNELS(f16_floats, vlinders::Floats<vlinders::f16>, vlinders::f16)
WIDE_KERNELS(bf16_fp8, vlinders::Fp8, vlinders::bf16)
WIDE_KERNELS(f16_fp8, vlinders::Fp8, vlinders::f16)
