// What ranks do with parts that others have sent: add them up in the order of ranks, or put columns beside each other.
#include "rank_sum.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct AddRanksParams {
  uint64_t own;    // [packs] of sixteen bytes, of this rank
  uint64_t parts;  // [ranks, stride] packs; the part of this rank is not read
  uint64_t y;      // [packs]
  int64_t packs;
  int64_t stride;
  int32_t rank;
  int32_t ranks;
};

template <class T>
__device__ void add_ranks(const AddRanksParams& p) {
  const int64_t i = (int64_t)blockIdx.x * kThreads + threadIdx.x;
  if (i >= p.packs) return;
  RankSum<T> sum;
  for (int r = 0; r < p.ranks; r++)
    sum.add(r == p.rank ? at<const Pack<T>>(p.own)[i] : at<const Pack<T>>(p.parts)[r * p.stride + i]);
  at<Pack<T>>(p.y)[i] = sum.rounded();
}

struct PlaceColumnsParams {
  uint64_t x;  // [rows, columns] f32
  uint64_t y;  // [rows, all] f32
  int32_t columns;
  int32_t first;  // column of y
  int32_t all;
  int32_t rows;
};

__device__ void put_beside(const PlaceColumnsParams& p) {
  const int column = blockIdx.y * kThreads + threadIdx.x;
  const int row = blockIdx.x;
  if (column >= p.columns || row >= p.rows) return;
  at<float>(p.y)[(int64_t)row * p.all + p.first + column] = at<const float>(p.x)[(int64_t)row * p.columns + column];
}

}  // namespace
}  // namespace vlinders

KERNEL(add_ranks_bf16, vlinders::AddRanksParams, vlinders::kThreads) { vlinders::add_ranks<vlinders::bf16>(p); }
KERNEL(add_ranks_f16, vlinders::AddRanksParams, vlinders::kThreads) { vlinders::add_ranks<vlinders::f16>(p); }
KERNEL(add_ranks_f32, vlinders::AddRanksParams, vlinders::kThreads) { vlinders::add_ranks<float>(p); }
KERNEL(place_columns, vlinders::PlaceColumnsParams, vlinders::kThreads) { vlinders::put_beside(p); }
