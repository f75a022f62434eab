// Root-mean-square normalisation of rows, alone or of the sum with the residual stream.
//
// The residual stream is f32. One block has a row, a thread four numbers of each stretch of it; what is added up where depends
// on the width alone.
#include "common.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 1024;  // at most
constexpr int kEach = 4;
constexpr int kKept = 2;  // stretches that stay in registers; others are read once more

struct RmsNormParams {
  uint64_t x;         // [rows, width]: f32 without a residual, T with one
  uint64_t residual;  // [rows, width] f32, or 0
  uint64_t weight;    // [width] T
  uint64_t normed;    // [rows, width] T
  uint64_t sum;       // [rows, width] f32, when there is a residual; may be `residual`
  int32_t width;
  float eps;
  uint32_t alike;  // whether rows begin and end where four numbers do
  uint32_t unused;
};

template <class T>
struct alignas(kEach * sizeof(T)) Four {
  T values[kEach];
};

template <class T>
__device__ void rms_norm(const RmsNormParams& p) {
  SHARED_BYTES(shared);
  const int64_t start = (int64_t)blockIdx.x * p.width;
  const int first = kEach * threadIdx.x, stretch = kEach * blockDim.x;
  // Numbers i .. i+3 of a row, zeros beyond its end.
  auto load = [&](auto* row, int i) {
    Four<std::remove_cv_t<std::remove_pointer_t<decltype(row)>>> numbers = {};
    if (p.alike) {
      if (i < p.width) numbers = *reinterpret_cast<const decltype(numbers)*>(row + i);
    } else {
#pragma unroll
      for (int j = 0; j < kEach; j++)
        if (i + j < p.width) numbers.values[j] = row[i + j];
    }
    return numbers;
  };
  auto store = [&](auto* row, int i, const auto& numbers) {
    if (p.alike) {
      if (i < p.width) *reinterpret_cast<std::remove_cv_t<std::remove_reference_t<decltype(numbers)>>*>(row + i) = numbers;
    } else {
#pragma unroll
      for (int j = 0; j < kEach; j++)
        if (i + j < p.width) row[i + j] = numbers.values[j];
    }
  };
  const T* weight = at<const T>(p.weight);
  Four<T> weights[kKept];
#pragma unroll
  for (int n = 0; n < kKept; n++) weights[n] = load(weight, first + n * stretch);
  follow_others();

  float squares = 0.0f;
  auto add = [&](const Four<float>& numbers) {
#pragma unroll
    for (int j = 0; j < kEach; j++) squares = __fmaf_rn(numbers.values[j], numbers.values[j], squares);
  };
  Four<float> kept[kKept];
  const float* summed = at<const float>(p.residual ? p.sum : p.x) + start;
  if (p.residual) {
    const T* x = at<const T>(p.x) + start;
    const float* residual = at<const float>(p.residual) + start;
    float* sum = at<float>(p.sum) + start;
    auto plus = [&](Four<float> numbers, const Four<T>& others) {
#pragma unroll
      for (int j = 0; j < kEach; j++) numbers.values[j] += to_float(others.values[j]);
      return numbers;
    };
    Four<T> added[kKept];
#pragma unroll
    for (int n = 0; n < kKept; n++) {
      kept[n] = load(residual, first + n * stretch);
      added[n] = load(x, first + n * stretch);
    }
#pragma unroll
    for (int n = 0; n < kKept; n++) {
      kept[n] = plus(kept[n], added[n]);
      store(sum, first + n * stretch, kept[n]);
      add(kept[n]);
    }
    for (int i = first + kKept * stretch; i < p.width; i += stretch) {
      const Four<float> numbers = plus(load(residual, i), load(x, i));
      store(sum, i, numbers);
      add(numbers);
    }
  } else {
#pragma unroll
    for (int n = 0; n < kKept; n++) kept[n] = load(summed, first + n * stretch);
#pragma unroll
    for (int n = 0; n < kKept; n++) add(kept[n]);
    for (int i = first + kKept * stretch; i < p.width; i += stretch) add(load(summed, i));
  }

  const float scale = rsqrtf(block_sum(squares, reinterpret_cast<float*>(shared)) / p.width + p.eps);
  let_others_follow();
  T* normed = at<T>(p.normed) + start;
  auto write = [&](int i, const Four<float>& numbers, const Four<T>& weights) {
    Four<T> results;
#pragma unroll
    for (int j = 0; j < kEach; j++)
      results.values[j] = from_float<T>(numbers.values[j] * scale * to_float(weights.values[j]));
    store(normed, i, results);
  };
#pragma unroll
  for (int n = 0; n < kKept; n++) write(first + n * stretch, kept[n], weights[n]);
  for (int i = first + kKept * stretch; i < p.width; i += stretch) write(i, load(summed, i), load(weight, i));
}

}  // namespace
}  // namespace vlinders

EAGER_KERNEL(rms_norm_bf16, vlinders::RmsNormParams, vlinders::kThreads) { vlinders::rms_norm<vlinders::bf16>(p); }
EAGER_KERNEL(rms_norm_f16, vlinders::RmsNormParams, vlinders::kThreads) { vlinders::rms_norm<vlinders::f16>(p); }
EAGER_KERNEL(rms_norm_f32, vlinders::RmsNormParams, vlinders::kThreads) { vlinders::rms_norm<float>(p); }
