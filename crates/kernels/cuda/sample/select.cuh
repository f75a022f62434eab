// Which key is the largest one that has enough at or above it, found by counting: four passes over candidates, none sorted.
//
// Counts are whole numbers, so their order does not matter.
#pragma once
#include "logits.cuh"

namespace vlinders {

// A sum of numbers below 2^32 that threads add to at the same time: native atomics have 32 bits.
struct alignas(8) Tally {
  uint32_t low, high;

  __device__ __forceinline__ void add(uint32_t x) {
    const uint32_t before = atomicAdd(&low, x);
    if (before + x < before) atomicAdd(&high, 1u);
  }
  __device__ __forceinline__ uint64_t total() const { return (uint64_t)high << 32 | low; }
};

// A token that may be kept.
struct Candidate {
  uint32_t key, id;
};

constexpr int kTallies = 256;

// What the threads of a block tell each other; in shared memory.
struct Room {
  Tally tallies[kTallies];
  uint64_t scratch[kWarp];
  uint64_t wanted;
  double target;
  uint32_t digit, count, border, unused;
};
static_assert(sizeof(Room) == 2336, "the host sets so much aside");

struct Selected {
  uint32_t key;
  uint64_t wanted;  // what is wanted of this key alone, at least 1 and at most what there is
};

// `each(g)` calls g(key, weight) for all candidates, shared out among threads. Weights of keys are added from the largest key
// on until they reach `wanted` >= 1; the smallest key if they never do.
template <class Each>
__device__ Selected select(Room& room, uint64_t wanted, Each each) {
  const int lane = threadIdx.x;
  uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < kTallies; i += blockDim.x) room.tallies[i] = {0, 0};
    __syncthreads();
    const uint32_t decided = shift == 24 ? 0 : ~0u << (shift + 8);
    each([&](uint32_t key, uint32_t weight) {
      if ((key & decided) == prefix) room.tallies[key >> shift & 255].add(weight);
    });
    __syncthreads();
    if (threadIdx.x < kWarp) {
      constexpr int kEach = kTallies / kWarp;
      uint64_t own = 0;
      for (int j = 0; j < kEach; j++) own += room.tallies[kTallies - 1 - kEach * lane - j].total();
      uint64_t through = own;
#pragma unroll
      for (int by = 1; by < kWarp; by *= 2) {
        const uint64_t other = __shfl_up_sync(kFullMask, through, by);
        if (lane >= by) through += other;
      }
      const uint64_t all = __shfl_sync(kFullMask, through, kWarp - 1);
      const uint64_t sought = min(wanted, all);
      const int found = __ffs(__ballot_sync(kFullMask, through >= sought)) - 1;
      if (lane == found) {
        uint64_t left = sought - (through - own);
        int digit = kTallies - 1 - kEach * lane;
        for (; room.tallies[digit].total() < left; digit--) left -= room.tallies[digit].total();
        room.digit = (uint32_t)digit;
        room.wanted = left;
      }
    }
    __syncthreads();
    prefix |= room.digit << shift;
    wanted = room.wanted;
    __syncthreads();
  }
  return {prefix, wanted};
}

// Candidates of a block: in shared memory when they have room there, else those of the row that pass.
struct Shortlist {
  Candidate* list;
  int count, room;
  Runs runs;  // where all of them are

  __device__ __forceinline__ bool fits() const { return count <= room; }

  // g(key, id) for all of them; `passes(i, logit)` must be what the list was made with.
  template <class Passes, class G>
  __device__ __forceinline__ void each(const Logits& logits, Passes passes, G g) const {
    if (fits()) {
      for (int i = threadIdx.x; i < count; i += blockDim.x) g(list[i].key, list[i].id);
    } else {
      each_logit(logits, runs, [&](int i, float x) {
        if (passes(i, x)) g(key_of(x), (uint32_t)i);
      });
    }
  }
};

// Append to a list whose length is `count`, in shared memory; what has no room is counted alone.
__device__ __forceinline__ void append(Candidate* list, int list_room, uint32_t& count, float x, int i) {
  const uint32_t position = atomicAdd(&count, 1u);
  if (position < (uint32_t)list_room) list[position] = {key_of(x), (uint32_t)i};
}

}  // namespace vlinders
