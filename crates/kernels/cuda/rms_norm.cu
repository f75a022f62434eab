// Root-mean-square normalisation of rows, alone or of the sum with the residual stream.
//
// The residual stream is f32. One block has a row; what a thread adds up depends on the width alone.
#include "common.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct RmsNormParams {
  uint64_t x;         // [rows, width]: f32 without a residual, T with one
  uint64_t residual;  // [rows, width] f32, or 0
  uint64_t weight;    // [width] T
  uint64_t normed;    // [rows, width] T
  uint64_t sum;       // [rows, width] f32, when there is a residual; may be `residual`
  int32_t width;
  float eps;
};

template <class T>
__device__ void rms_norm(const RmsNormParams& p) {
  SHARED_BYTES(shared);
  float* scratch = reinterpret_cast<float*>(shared);
  float* row = scratch + kWarp;
  const int64_t start = (int64_t)blockIdx.x * p.width;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < p.width; i += kThreads) {
    float value;
    if (p.residual) {
      value = at<const float>(p.residual)[start + i] + to_float(at<const T>(p.x)[start + i]);
      at<float>(p.sum)[start + i] = value;
    } else {
      value = at<const float>(p.x)[start + i];
    }
    row[i] = value;
    squares += value * value;
  }
  const float scale = rsqrtf(block_sum(squares, scratch) / p.width + p.eps);
  for (int i = threadIdx.x; i < p.width; i += kThreads)
    at<T>(p.normed)[start + i] = from_float<T>(row[i] * scale * to_float(at<const T>(p.weight)[i]));
}

}  // namespace
}  // namespace vlinders

KERNEL(rms_norm_bf16, vlinders::RmsNormParams, vlinders::kThreads) { vlinders::rms_norm<vlinders::bf16>(p); }
KERNEL(rms_norm_f16, vlinders::RmsNormParams, vlinders::kThreads) { vlinders::rms_norm<vlinders::f16>(p); }
KERNEL(rms_norm_f32, vlinders::RmsNormParams, vlinders::kThreads) { vlinders::rms_norm<float>(p); }
