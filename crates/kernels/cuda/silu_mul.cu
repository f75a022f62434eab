// silu(gate) * up, where both are halves of a row; computed in f32.
#include "silu.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct SiluMulParams {
  uint64_t gate_up;  // [rows, 2 width] T
  uint64_t y;        // [rows, width] T
  int32_t width;
  uint32_t alike;  // whether halves of rows begin and end at sixteen bytes
};

template <class T>
__device__ void silu_mul_rows(const SiluMulParams& p) {
  const T* gate = at<const T>(p.gate_up) + (int64_t)blockIdx.x * 2 * p.width;
  const T* up = gate + p.width;
  T* y = at<T>(p.y) + (int64_t)blockIdx.x * p.width;
  const int start = blockIdx.y * kThreads + threadIdx.x;
  if (p.alike) {
    const int i = start * Pack<T>::kCount;
    if (i >= p.width) return;
    const Pack<T> gates = load_pack(gate + i), ups = load_pack(up + i);
    Pack<T> values;
#pragma unroll
    for (int j = 0; j < Pack<T>::kCount; j++) values.values[j] = silu_mul(gates.values[j], ups.values[j]);
    let_others_follow();
    store_pack(y + i, values);
  } else if (start < p.width) {
    y[start] = silu_mul(gate[start], up[start]);
  }
}

}  // namespace
}  // namespace vlinders

KERNEL(silu_mul_bf16, vlinders::SiluMulParams, vlinders::kThreads) { vlinders::silu_mul_rows<vlinders::bf16>(p); }
KERNEL(silu_mul_f16, vlinders::SiluMulParams, vlinders::kThreads) { vlinders::silu_mul_rows<vlinders::f16>(p); }
KERNEL(silu_mul_f32, vlinders::SiluMulParams, vlinders::kThreads) { vlinders::silu_mul_rows<float>(p); }
