// Where numbers of activations lie that warpgroups multiply: steps of 128 tokens, each as shared memory has it, are neighbours.
//
// Left operands have numbers 8t .. 8t+3 of each 32 in a first product and 8t+4 .. 8t+7 in a second one, t = 0 .. 3, and of each four
// the first two among their first eight. So words 4t + i of sixteen go to places 4i + t. What a row lacks to whole steps is zeros.
#pragma once
#include "weights.cuh"

namespace vlinders {

constexpr int kTokenBytes = 128;
// Tokens that lie together.
constexpr int kArranged = 128;

// Where piece `i` of sixteen bytes of a token lies among those of a step.
__device__ __forceinline__ int swizzled(int token, int i) { return token * kTokenBytes + (i ^ (token & 7)) * 16; }

// Where it lies among all.
__device__ __forceinline__ uint64_t arranged(int token, int step, int steps, int i) {
  return ((uint64_t)(token / kArranged) * steps + step) * (kArranged * kTokenBytes) + swizzled(token % kArranged, i);
}

}  // namespace vlinders
