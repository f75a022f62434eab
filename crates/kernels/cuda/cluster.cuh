// What blocks of a cluster do for each other: copies to all of them, and arrivals at counters of others.
//
// Counters and places of copies lie in shared memory, at the same address in each block. No block may touch those of another before they
// have met, or when the other has ended: so a cluster meets when counters are prepared, and again at its end.
#pragma once
#include "group_mma.cuh"

namespace vlinders {

#if defined(__CUDACC__) && defined(HAS_GROUP_MMA)
// Which block of its cluster this one is, and how many there are.
__device__ __forceinline__ int cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ int cluster_size() {
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
// By the thread that has prepared counters, before the cluster meets.
__device__ __forceinline__ void show_arrivals_to_cluster() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// By all threads of all blocks, by whole warps: what each did before is seen by all.
__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Arrive at this counter of block `rank`, which may be the own one, by who has only read what it stands for: nothing that this thread wrote is
// shown, which would hold it as long as that takes to reach all of the device.
__device__ __forceinline__ void release_in(uint64_t* counter, int rank) {
  asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(
                   arrivals_at(counter)),
               "r"(rank)
               : "memory");
}
// `copy_to_products` to the same place in all blocks whose bits are set, each of which counts all of the bytes.
__device__ __forceinline__ void copy_to_all(void* to, uint64_t from, int bytes, uint64_t* counter, uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(
          static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(from), "r"(bytes), "r"(arrivals_at(counter)), "h"(blocks)
      : "memory");
}
#elif !defined(__CUDACC__)
inline int cluster_rank() { return emu::cluster_rank; }
inline int cluster_size() { return emu::cluster_size; }
inline void show_arrivals_to_cluster() { emu::show_to_cluster(); }
inline void meet_cluster() { emu::cluster_barrier(); }
inline void release_in(uint64_t* counter, int rank) { arrive(static_cast<uint64_t*>(emu::in_block(counter, rank))); }
// Each block gets the bytes when they arrive there.
inline void copy_to_all(void* to, uint64_t from, int bytes, uint64_t* counter, uint16_t blocks) {
  if (blocks == 0) emu::fail("a copy goes to no block of the cluster");
  for (int rank = 0; rank < 16; rank++)
    if (blocks >> rank & 1)
      copy_to_products(emu::in_block(to, rank), from, bytes, static_cast<uint64_t*>(emu::in_block(counter, rank)));
}
#endif

}  // namespace vlinders
