// Rows of codes, one behind the other as the host has them, into the tiles that products read.
#include "weights.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct PlaceRowsParams {
  uint64_t from;  // [rows, steps of 64 numbers]
  uint64_t codes;
  int32_t first_row;
  int32_t steps;
};

template <class Format>
__device__ void place_rows(const PlaceRowsParams& p) {
  constexpr int kWords = kStep / Format::kPerWord;
  const int row = p.first_row + blockIdx.x;
  const uint32_t* from = at<const uint32_t>(p.from) + (int64_t)blockIdx.x * p.steps * kWords;
  for (int i = threadIdx.x; i < p.steps * kWords; i += kThreads) {
    uint32_t* step = at<uint32_t>(step_of<Format>(p.codes, p.steps, row / kTileRows, i / kWords));
    step[Format::word(row % kTileRows, i % kWords * Format::kPerWord)] = from[i];
  }
}

}  // namespace
}  // namespace vlinders

KERNEL(place_rows_floats, vlinders::PlaceRowsParams, vlinders::kThreads) { vlinders::place_rows<vlinders::Floats<vlinders::f16>>(p); }
KERNEL(place_rows_bytes, vlinders::PlaceRowsParams, vlinders::kThreads) { vlinders::place_rows<vlinders::Fp8>(p); }
KERNEL(place_rows_nibbles, vlinders::PlaceRowsParams, vlinders::kThreads) { vlinders::place_rows<vlinders::Q4>(p); }
