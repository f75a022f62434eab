// Weights of eight bits.
#include "linear_kernels.cuh"

LINEAR_KERNELS(bf16_q8, vlinders::Q8, vlinders::bf16, 3)
LINEAR_KERNELS(f16_q8, vlinders::Q8, vlinders::f16, 3)
