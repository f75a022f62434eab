// Weights of the type of activations.
#include "linear_kernels.cuh"

LINEAR_KERNELS(bf16_floats, vlinders::Floats<vlinders::bf16>, vlinders::bf16, 4)
LINEAR_KERNELS(f16_floats, vlinders::Floats<vlinders::f16>, vlinders::f16, 4)
LINEAR_LARGE_KERNELS(bf16_floats, vlinders::Floats<vlinders::bf16>, vlinders::bf16)
LINEAR_LARGE_KERNELS(f16_floats, vlinders::Floats<vlinders::f16>, vlinders::f16)
