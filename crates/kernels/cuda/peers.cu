// Sums over ranks, and logits of all ranks on one, between devices that reach each other's memory.
//
// Numbers are added in the order of ranks, in f32, and rounded once, whichever kernel does it: a sum has the same bits for one token and
// for thousands.
#include "peers.cuh"
#include "rank_sum.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct AllReduceParams {
  PeersParams peers;
  uint64_t x;  // [packs] of sixteen bytes
  uint64_t y;
  int32_t packs;
  int32_t per_round;  // packs of a slot that are used
};

struct GatherParams {
  PeersParams peers;
  uint64_t x;  // [rows, own columns] f32
  uint64_t y;  // [rows, columns of all] f32, on the root alone
  int32_t columns[kMostPeers];
  int32_t rows;
  int32_t root;
};

constexpr int kWords = kSlotBytes / 4;

// The sum of pack `i` over all ranks: `own` is that of rank `rank`.
template <class T>
__device__ __forceinline__ Pack<T> sum_of(const Channel& channel, const PeersParams& p, const Pack<T>& own, int i) {
  // All loads are under way before the first of them is waited for.
  Pack<T> parts[kMostPeers];
#pragma unroll
  for (int r = 0; r < kMostPeers; r++)
    if (r < p.ranks) parts[r] = r == p.rank ? own : load_fresh(channel.theirs<Pack<T>>(r) + i);
  RankSum<T> sum;
#pragma unroll
  for (int r = 0; r < kMostPeers; r++)
    if (r < p.ranks) sum.add(parts[r]);
  return sum.rounded();
}

// Everybody gets everything, and adds it up: one meeting.
template <class T>
__device__ void all_reduce_at_once(const AllReduceParams& p) {
  const Pack<T>* x = at<const Pack<T>>(p.x);
  Pack<T>* y = at<Pack<T>>(p.y);
  Channel channel(p.peers);
  for (int base = blockIdx.x * p.per_round; base < p.packs; base += gridDim.x * p.per_round) {
    const int count = min(p.per_round, p.packs - base);
    for (int i = threadIdx.x; i < count; i += kThreads) {
      const Pack<T> own = x[base + i];
      for (int to = 0; to < p.peers.ranks; to++)
        if (to != p.peers.rank) channel.outgoing<Pack<T>>(to)[i] = own;
    }
    channel.meet();
    for (int i = threadIdx.x; i < count; i += kThreads) y[base + i] = sum_of(channel, p.peers, x[base + i], i);
  }
  channel.close();
}

// Each rank adds up its slice and gives it to everybody: two meetings, and each number travels twice, whatever the number of ranks.
template <class T>
__device__ void all_reduce_by_slices(const AllReduceParams& p) {
  const Pack<T>* x = at<const Pack<T>>(p.x);
  Pack<T>* y = at<Pack<T>>(p.y);
  const int ranks = p.peers.ranks, rank = p.peers.rank;
  const int piece = ranks * p.per_round;
  Channel channel(p.peers);
  for (int base = blockIdx.x * piece; base < p.packs; base += gridDim.x * piece) {
    // The slices of a piece that is not whole are as long as each other, but for the last ones.
    const int slice = (min(piece, p.packs - base) + ranks - 1) / ranks;
    const auto end = [&](int of) { return min(p.packs, base + (of + 1) * slice); };
    for (int to = 0; to < ranks; to++) {
      if (to == rank) continue;
      const int first = base + to * slice;
      for (int i = threadIdx.x; first + i < end(to); i += kThreads) channel.outgoing<Pack<T>>(to)[i] = x[first + i];
    }
    channel.meet();
    const int own = base + rank * slice;
    for (int i = threadIdx.x; own + i < end(rank); i += kThreads) {
      const Pack<T> sum = sum_of(channel, p.peers, x[own + i], i);
      y[own + i] = sum;
      for (int to = 0; to < ranks; to++)
        if (to != rank) channel.outgoing<Pack<T>>(to)[i] = sum;
    }
    channel.meet();
    for (int from = 0; from < ranks; from++) {
      if (from == rank) continue;
      const int first = base + from * slice;
      for (int i = threadIdx.x; first + i < end(from); i += kThreads) y[first + i] = load_fresh(channel.theirs<Pack<T>>(from) + i);
    }
  }
  channel.close();
}

// The columns of all ranks beside each other, on the root.
__device__ void gather(const GatherParams& p) {
  const float* x = at<const float>(p.x);
  const int rank = p.peers.rank;
  int most = 0, all = 0;
  for (int r = 0; r < p.peers.ranks; r++) {
    most = max(most, p.rows * p.columns[r]);
    all += p.columns[r];
  }
  Channel channel(p.peers);
  for (int base = blockIdx.x * kWords; base < most; base += gridDim.x * kWords) {
    const auto count = [&](int of) { return min(kWords, p.rows * p.columns[of] - base); };
    if (rank != p.root)
      for (int i = threadIdx.x; i < count(rank); i += kThreads) channel.outgoing<float>(p.root)[i] = x[base + i];
    channel.meet();
    if (rank == p.root) {
      int before = 0;
      for (int from = 0; from < p.peers.ranks; from++) {
        const int columns = p.columns[from];
        for (int i = threadIdx.x; i < count(from); i += kThreads) {
          const float value = from == rank ? x[base + i] : load_fresh(channel.theirs<float>(from) + i);
          const int row = (base + i) / columns, column = (base + i) % columns;
          at<float>(p.y)[(int64_t)row * all + before + column] = value;
        }
        before += columns;
      }
    }
  }
  channel.close();
}

}  // namespace
}  // namespace vlinders

KERNEL(all_reduce_at_once_bf16, vlinders::AllReduceParams, vlinders::kThreads) { vlinders::all_reduce_at_once<vlinders::bf16>(p); }
KERNEL(all_reduce_at_once_f16, vlinders::AllReduceParams, vlinders::kThreads) { vlinders::all_reduce_at_once<vlinders::f16>(p); }
KERNEL(all_reduce_at_once_f32, vlinders::AllReduceParams, vlinders::kThreads) { vlinders::all_reduce_at_once<float>(p); }
KERNEL(all_reduce_by_slices_bf16, vlinders::AllReduceParams, vlinders::kThreads) { vlinders::all_reduce_by_slices<vlinders::bf16>(p); }
KERNEL(all_reduce_by_slices_f16, vlinders::AllReduceParams, vlinders::kThreads) { vlinders::all_reduce_by_slices<vlinders::f16>(p); }
KERNEL(all_reduce_by_slices_f32, vlinders::AllReduceParams, vlinders::kThreads) { vlinders::all_reduce_by_slices<float>(p); }
KERNEL(gather_columns, vlinders::GatherParams, vlinders::kThreads) { vlinders::gather(p); }
