// How devices that reach each other's memory exchange data inside of kernels: boxes, channels, rounds.
//
// Each rank has a box that all ranks write to. Block b of a kernel is channel b: it meets block b of the same kernel on the other
// ranks and nobody else, so all ranks launch grids of one size in one order. In a round, a block puts what it has for another rank into a
// slot of that rank's box, `meet`s the others, and reads what they put into its own. Slots are used by turns: whoever has met
// all in this round knows that they have read what was put two rounds ago. Rounds are counted in the box, over all kernels, so
// that a captured graph can be launched again.
#pragma once
#include "common.cuh"

namespace vlinders {

// As in src/gpu/peers.rs.
constexpr int kMostPeers = 8;
constexpr int kMostChannels = 64;
constexpr int kSlotBytes = 16 << 10;
constexpr int kFlagsAt = kMostChannels * 4;
constexpr int kSlotsAt = 4096;
// Looks at a flag between two at memory of the host, which takes as long as a meeting.
constexpr unsigned kLooks = 256;
static_assert(kFlagsAt + kMostChannels * kMostPeers * 4 <= kSlotsAt, "counters and flags lie before the slots");

struct PeersParams {
  uint64_t boxes[kMostPeers];  // of each rank, as this one reaches it
  uint64_t broken;             // u32 in memory of the host: nobody waits any more
  int32_t rank;
  int32_t ranks;
};

// A flag at another device, behind everything that this block has written.
__device__ __forceinline__ void raise_flag(uint32_t* flag, uint32_t value) {
#ifdef __CUDACC__
  asm volatile("fence.acq_rel.sys;\n\tst.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
#else
  __atomic_store_n(flag, value, __ATOMIC_RELEASE);
#endif
}
__device__ __forceinline__ uint32_t read_flag(const uint32_t* flag) {
#ifdef __CUDACC__
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
#else
  return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
#endif
}
// What others have written: never from a cache that does not see them.
template <class T>
__device__ __forceinline__ Pack<T> load_fresh(const Pack<T>* from) {
#ifdef __CUDACC__
  const uint4 bits = __ldcv(reinterpret_cast<const uint4*>(from));
  return *reinterpret_cast<const Pack<T>*>(&bits);
#else
  return *from;
#endif
}
__device__ __forceinline__ float load_fresh(const float* from) {
#ifdef __CUDACC__
  return __ldcv(from);
#else
  return *from;
#endif
}
// Between two looks at a flag.
__device__ __forceinline__ void look_away() {
#ifdef __CUDACC__
  __nanosleep(32);
#else
  emu::let_other_devices_go_on();
#endif
}

// One block, over the rounds of a kernel. All threads of the block make the same calls.
class Channel {
 public:
  __device__ __forceinline__ explicit Channel(const PeersParams& p)
      : p_(p), round_(*at<const uint32_t>(p.boxes[p.rank] + blockIdx.x * 4)) {}

  // Where this rank puts what is for rank `to`.
  template <class T>
  __device__ __forceinline__ T* outgoing(int to) const {
    return at<T>(slot(round_, to, p_.rank));
  }
  // From here on `theirs` has what the others have put for this rank, until the next meeting.
  __device__ void meet() {
    __syncthreads();
    if (threadIdx.x < kWarp) {
      const int other = threadIdx.x;
      const bool is_other = other < p_.ranks && other != p_.rank;
      if (is_other) raise_flag(flag(other, p_.rank), round_ + 1);
      __syncwarp();
      if (is_other) await(flag(p_.rank, other), round_ + 1);
    }
    __syncthreads();
    round_++;
  }
  // What rank `from` had put here when all met.
  template <class T>
  __device__ __forceinline__ const T* theirs(int from) const {
    return at<const T>(slot(round_ - 1, p_.rank, from));
  }

  // For the next kernel.
  __device__ __forceinline__ void close() const {
    if (threadIdx.x == 0) *at<uint32_t>(p_.boxes[p_.rank] + blockIdx.x * 4) = round_;
  }

 private:
  // Until the flag is at `value`, or nobody waits any more. Counters go round: what counts is their distance.
  __device__ __forceinline__ void await(const uint32_t* flag, uint32_t value) const {
    for (unsigned looks = 1; (int32_t)(read_flag(flag) - value) < 0; looks++) {
      if (looks % kLooks == 0 && *at<const volatile uint32_t>(p_.broken)) return;
      look_away();
    }
  }
  __device__ __forceinline__ uint32_t* flag(int of, int from) const {
    return at<uint32_t>(p_.boxes[of] + kFlagsAt + (blockIdx.x * kMostPeers + from) * 4);
  }
  __device__ __forceinline__ uint64_t slot(uint32_t round, int of, int from) const {
    return p_.boxes[of] + kSlotsAt + (uint64_t)((blockIdx.x * 2 + round % 2) * p_.ranks + from) * kSlotBytes;
  }

  const PeersParams& p_;
  uint32_t round_;
};

}  // namespace vlinders
