// Products of rows with the matrix of the expert they belong to: which rows a block has, and as what the kernels of one matrix
// see them.
//
// Rows lie sorted by expert, those of each divided into groups. A product is added up as linear.cuh says, so a row gets the
// same bits whatever rows it is grouped with.
#pragma once
#include "linear.cuh"

namespace vlinders {

struct GroupedParams {
  LinearParams all;      // rows of all experts; the matrices of experts lie one behind the other; no bias
  uint64_t offsets;      // [experts + 1] u32: first row of each expert, and the number of rows
  int64_t codes_bytes;   // of a matrix
  int64_t scales_bytes;  // of its scales
  int32_t experts;
  int32_t activation_bytes;  // of a number of x, and of y unless that is f32
};

// Make of `all` what group `number` of at most `most` rows is. Says whether there is such a group. Called by whole warps.
__device__ __forceinline__ bool find_group(const GroupedParams& p, int number, int most, LinearParams& group) {
  const int lane = threadIdx.x % kWarp;
  const uint32_t* offsets = at<const uint32_t>(p.offsets);
  for (int from = 0; from < p.experts; from += kWarp) {
    const int expert = from + lane;
    const int first = expert < p.experts ? (int)offsets[expert] : 0;
    const int rows = expert < p.experts ? (int)offsets[expert + 1] - first : 0;
    const int own = (rows + most - 1) / most;
    int through = own;
#pragma unroll
    for (int by = 1; by < kWarp; by *= 2) {
      const int other = __shfl_up_sync(kFullMask, through, by);
      if (lane >= by) through += other;
    }
    const unsigned reached = __ballot_sync(kFullMask, through > number);
    const int all = __shfl_sync(kFullMask, through, kWarp - 1);
    if (reached == 0) {
      number -= all;
      continue;
    }
    const int found = __ffs(reached) - 1;
    const int before = (number - __shfl_sync(kFullMask, through - own, found)) * most;
    const int64_t row = __shfl_sync(kFullMask, first, found) + before;
    const int64_t matrix = from + found;
    group = p.all;
    group.tokens = min(most, __shfl_sync(kFullMask, rows, found) - before);
    group.x += (uint64_t)(row * p.all.inn * p.activation_bytes);
    group.codes += (uint64_t)(matrix * p.codes_bytes);
    group.scales += (uint64_t)(matrix * p.scales_bytes);
    group.bias = 0;
    group.y += (uint64_t)(row * p.all.out * (p.all.y_is_f32 ? 4 : p.activation_bytes));
    return true;
  }
  return false;
}

}  // namespace vlinders
