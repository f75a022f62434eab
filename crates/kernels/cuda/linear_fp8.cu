// Weights of e4m3.
#include "linear_kernels.cuh"

LINEAR_KERNELS(bf16_fp8, vlinders::Fp8, vlinders::bf16, 4)
LINEAR_KERNELS(f16_fp8, vlinders::Fp8, vlinders::f16, 4)
LINEAR_LARGE_KERNELS(bf16_fp8, vlinders::Fp8, vlinders::bf16)
LINEAR_LARGE_KERNELS(f16_fp8, vlinders::Fp8, vlinders::f16)
