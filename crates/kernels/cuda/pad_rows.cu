// Rows of two-byte numbers, each filled up with zeros to a length whose bytes are a multiple of sixteen.
#include "common.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct PadRowsParams {
  uint64_t x;  // [rows, width]
  uint64_t y;  // [rows, padded]
  int32_t width;
  int32_t padded;
};

}  // namespace
}  // namespace vlinders

KERNEL(pad_rows, vlinders::PadRowsParams, vlinders::kThreads) {
  using namespace vlinders;
  const uint16_t* x = at<const uint16_t>(p.x) + (int64_t)blockIdx.x * p.width;
  uint16_t* y = at<uint16_t>(p.y) + (int64_t)blockIdx.x * p.padded;
  for (int i = threadIdx.x; i < p.padded; i += kThreads) y[i] = i < p.width ? x[i] : 0;
}
