// Rows of a table for token ids, as f32; and rows of activations picked out.
#include "weights.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 4;  // numbers of a thread

struct EmbeddingParams {
  uint64_t ids;     // [tokens] u32
  uint64_t codes;   // the table, as products read it
  uint64_t scales;
  uint64_t y;       // [tokens, inn] f32
  uint32_t first;   // id of the table's first row
  int32_t out;      // rows of the table
  int32_t inn;
  int32_t steps;
};

template <class Format>
__device__ void embedding(const EmbeddingParams& p) {
  // Ids below `first` wrap around to numbers beyond any table.
  const uint32_t row = at<const uint32_t>(p.ids)[blockIdx.x] - p.first;
  const bool ours = row < (uint32_t)p.out;
  float* y = at<float>(p.y) + (int64_t)blockIdx.x * p.inn;
  const int first = blockIdx.y * (kEach * kThreads) + threadIdx.x;
  float numbers[kEach] = {};
#pragma unroll
  for (int j = 0; j < kEach; j++) {
    const int k = first + j * kThreads;
    if (ours && k < p.inn) numbers[j] = weight_at<Format>(p.codes, p.scales, p.steps, (int)row, k);
  }
#pragma unroll
  for (int j = 0; j < kEach; j++) {
    const int k = first + j * kThreads;
    if (k < p.inn) y[k] = numbers[j];
  }
}

struct GatherParams {
  uint64_t x;     // [rows, row_bytes]
  uint64_t rows;  // [picked] u32
  uint64_t y;     // [picked, row_bytes]
  int64_t row_bytes;
  uint32_t count;  // rows of x
  uint32_t alike;  // whether rows begin and end at sixteen bytes
};

template <class Unit>
__device__ __forceinline__ void gather(const GatherParams& p, Unit nan) {
  const uint32_t row = at<const uint32_t>(p.rows)[blockIdx.x];
  const Unit* from = at<const Unit>(p.x + (uint64_t)row * p.row_bytes);
  Unit* to = at<Unit>(p.y + (uint64_t)blockIdx.x * p.row_bytes);
  // A row that does not exist is full of NaNs.
  const int64_t i = (int64_t)blockIdx.y * kThreads + threadIdx.x;
  if (i < p.row_bytes / (int64_t)sizeof(Unit)) to[i] = row < p.count ? from[i] : nan;
}

}  // namespace
}  // namespace vlinders

#define EMBEDDING(suffix, Format) \
  KERNEL(embedding_##suffix, vlinders::EmbeddingParams, vlinders::kThreads) { vlinders::embedding<Format>(p); }
EMBEDDING(f32, vlinders::Singles)
EMBEDDING(f16, vlinders::Floats<vlinders::f16>)
EMBEDDING(bf16, vlinders::Floats<vlinders::bf16>)
EMBEDDING(fp8, vlinders::Fp8)
EMBEDDING(q8, vlinders::Q8)
EMBEDDING(q4, vlinders::Q4)

KERNEL(gather_rows, vlinders::GatherParams, vlinders::kThreads) {
  if (p.alike) {
    vlinders::gather<uint4>(p, make_uint4(~0u, ~0u, ~0u, ~0u));
  } else {
    vlinders::gather<uint16_t>(p, 0xffff);
  }
}
