// Blocks of a cluster that fetch parts of rows for each other and write what they see, right or with one mistake. For tests alone.
// nvcc: sm_90a
#include "cluster.cuh"

namespace vlinders {

struct ClusterCopiesParams {
  // Each cluster has rows of one part for each of its blocks, and each block writes all rows of its cluster.
  uint64_t x, y;
  uint32_t rows;
  // Bytes of a part.
  uint32_t part;
  // Whether a block copies its part for itself by a copy of its own.
  uint32_t alone;
  uint32_t mistake;
};

// As tests number them.
enum Mistake {
  kNone,
  kNoReleaseAwaited,
  kNoArrivalAwaited,
  kCopyLeftOut,
  kReleaseLeftOut,
  kNotShown,
  kNotMetAtFirst,
  kNotMetAtLast,
  kThreadStaysAway,
};

#ifdef HAS_GROUP_MMA
struct ClusterCopies {
  static constexpr int kSlots = 3;

  const ClusterCopiesParams& p;
  const int rank, size, bytes, lane, warp, readers;
  unsigned char* const slots;
  uint64_t *const arrivals, *const releases;

  __device__ __forceinline__ ClusterCopies(const ClusterCopiesParams& p, unsigned char* shared)
      : p(p),
        rank(cluster_rank()),
        size(cluster_size()),
        bytes(size * p.part),
        lane(threadIdx.x % kWarp),
        warp(threadIdx.x / kWarp),
        readers(blockDim.x / kWarp - 1),
        slots(shared),
        arrivals(reinterpret_cast<uint64_t*>(shared + kSlots * bytes)),
        releases(arrivals + kSlots) {}

  __device__ __forceinline__ uint64_t block() const { return (uint64_t)blockIdx.y * gridDim.x + blockIdx.x; }

  // By one thread.
  __device__ void fetch() const {
    const uint16_t all = (1 << size) - 1, others = all & ~(1 << rank);
    for (int row = 0; row < (int)p.rows; row++) {
      const int slot = row % kSlots;
      if (row >= kSlots && p.mistake != kNoReleaseAwaited) await_arrivals(releases + slot, row / kSlots - 1);
      expect_arrivals(arrivals + slot, bytes);
      if (p.mistake == kCopyLeftOut && rank == size - 1 && row + 1 == (int)p.rows) continue;
      unsigned char* to = slots + slot * bytes + rank * p.part;
      const uint64_t from = p.x + (block() / size * p.rows + row) * bytes + rank * p.part;
      if (!p.alone) {
        copy_to_all(to, from, p.part, arrivals + slot, all);
      } else {
        copy_to_products(to, from, p.part, arrivals + slot);
        if (others != 0) copy_to_all(to, from, p.part, arrivals + slot, others);
      }
    }
  }

  // By warps.
  __device__ void read() const {
    for (int row = 0; row < (int)p.rows; row++) {
      const int slot = row % kSlots;
      if (p.mistake != kNoArrivalAwaited) await_arrivals(arrivals + slot, row / kSlots);
      const uint4* from = reinterpret_cast<const uint4*>(slots + slot * bytes);
      uint4* to = at<uint4>(p.y + (block() * p.rows + row) * bytes);
      for (int i = threadIdx.x; i < bytes / 16; i += readers * kWarp) to[i] = from[i];
      __syncwarp();
      if (p.mistake == kReleaseLeftOut && rank == 0 && warp == 0 && row == 1) continue;
      if (lane < size) release_in(releases + slot, lane);
    }
  }

  __device__ void run() const {
    if (threadIdx.x == 0) {
      prepare_arrivals(arrivals, kSlots, 1);
      prepare_arrivals(releases, kSlots, size * readers);
      if (p.mistake != kNotShown) show_arrivals_to_cluster();
    }
    if (p.mistake == kNotMetAtFirst) {
      __syncthreads();
    } else {
      meet_cluster();
    }
    if (warp < readers) {
      read();
    } else if (lane == 0) {
      fetch();
    }
    __syncwarp();
    if (p.mistake == kNotMetAtLast || (p.mistake == kThreadStaysAway && block() == 0 && threadIdx.x == 0)) return;
    meet_cluster();
  }
};
#endif

}  // namespace vlinders

KERNEL(cluster_copies, vlinders::ClusterCopiesParams, 384) {
#ifdef HAS_GROUP_MMA
  SHARED_BYTES(shared);
  vlinders::ClusterCopies(p, shared).run();
#endif
}
