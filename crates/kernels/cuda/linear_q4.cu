// Weights of four bits.
#include "linear_kernels.cuh"

LINEAR_KERNELS(bf16_q4, vlinders::Q4, vlinders::bf16, 2)
LINEAR_KERNELS(f16_q4, vlinders::Q4, vlinders::f16, 2)
