// silu(gate) * up, in f32, rounded once.
#pragma once
#include "common.cuh"

namespace vlinders {

template <class T>
__device__ __forceinline__ T silu_mul(T gate, T up) {
  const float x = to_float(gate);
  return from_float<T>(__fdividef(x, 1.0f + __expf(-x)) * to_float(up));
}

}  // namespace vlinders
