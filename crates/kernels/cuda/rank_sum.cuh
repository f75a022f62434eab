// How numbers of ranks become one: added in the order of ranks, in f32, and rounded once.
#pragma once
#include "common.cuh"

namespace vlinders {

// Sixteen bytes of a sum.
template <class T>
class RankSum {
 public:
  __device__ __forceinline__ RankSum() {
    // To which any number can be added without a change, zeros of both signs included.
#pragma unroll
    for (int j = 0; j < Pack<T>::kCount; j++) sum_[j] = -0.0f;
  }
  // What the next rank has.
  __device__ __forceinline__ void add(const Pack<T>& pack) {
#pragma unroll
    for (int j = 0; j < Pack<T>::kCount; j++) sum_[j] += to_float(pack.values[j]);
  }
  __device__ __forceinline__ Pack<T> rounded() const {
    Pack<T> pack;
#pragma unroll
    for (int j = 0; j < Pack<T>::kCount; j++) pack.values[j] = from_float<T>(sum_[j]);
    return pack;
  }

 private:
  float sum_[Pack<T>::kCount];
};

}  // namespace vlinders
