// What device code needs of CUDA, for the host: threads are fibers, blocks run one after another, those of a cluster at once.
//
// A barrier or a warp primitive is where a thread stops and others go on, in an order that tests choose; in shuffled ones warps fall behind
// by chance. Not here: races
// between blocks, the memory model, speed. Static __shared__ does not exist on purpose: dynamic shared memory is filled with
// NaNs before each block, and ends where the mapping ends.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) alignas(n)
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
};
struct uint2 {
  alignas(8) unsigned x;
  unsigned y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }

struct __nv_bfloat16 {
  uint16_t bits;
};
struct __half {
  uint16_t bits;
};

namespace emu {

// The thread that runs.
struct Thread {
  dim3 index;
  unsigned number;
};
extern thread_local const Thread* current;
extern thread_local dim3 block_index, block_size, grid_size;
extern thread_local unsigned cluster_rank, cluster_size;
extern thread_local unsigned char* shared_memory;

// Stop until all threads of the block are here.
void block_barrier();
// Stop until all threads of all blocks of the cluster are here.
void cluster_barrier();
// Stop until all lanes of `mask` are here.
void warp_barrier(unsigned mask);
// A place of eight bytes for each lane of this warp.
uint64_t* exchange();
// Places for what one lane shows to others in a collective instruction.
void** show();
// Say what is wrong, and run nothing any more.
[[noreturn]] void fail(const char* format, ...);

// For whoever waits for another device, which is another thread of the host.
void let_other_devices_go_on();

// Copies that have been started by this thread and are not waited for.
void copy_later(void* to, const void* from, size_t bytes, size_t zeros);
void commit_copies();
void wait_copies(unsigned pending);

// Products of a warpgroup that this thread has asked for and does not wait for: they are done when it does.
void multiply_later(std::function<void()> product);
void commit_products();
void wait_products(unsigned pending);

// A counter of what arrives at a place in shared memory: a round is over when so many threads and all bytes have arrived.
struct Arrivals {
  uint64_t threads : 12, missing : 12, is_odd : 1;
  int64_t bytes : 32;
};
static_assert(sizeof(Arrivals) == 8, "as a device has it");
void prepare(Arrivals* counter, unsigned threads);
void arrive(Arrivals* counter, int bytes_to_come);
// Start to copy what is counted there, whether a thread waits for it or not.
void copy_counted(void* to, const void* from, size_t bytes, Arrivals* counter);
// Stop until a round is over, odd or even, and the other kind has begun.
void await(const Arrivals* counter, bool is_odd);

// From here on others of the cluster that meet this block may arrive at the counters that it has prepared.
void show_to_cluster();
// Where block `rank` of the cluster has what this one has at `place` in shared memory, to arrive or copy there.
void* in_block(const void* place, unsigned rank);

struct Register {
  Register(const char* name, size_t bytes, unsigned threads, void (*run)(const void*));
};

template <class T>
inline T shuffle(unsigned mask, T value, unsigned from) {
  static_assert(sizeof(T) <= 8, "a shuffle moves eight bytes at most");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  exchange()[current->number % 32] = bits;
  warp_barrier(mask);
  if (!(mask >> (from & 31) & 1)) fail("a shuffle reads lane %u, which the mask %08x leaves out", from & 31, mask);
  bits = exchange()[from & 31];
  T result;
  memcpy(&result, &bits, sizeof result);
  warp_barrier(mask);
  return result;
}

}  // namespace emu

#define threadIdx (emu::current->index)
#define blockIdx (emu::block_index)
#define blockDim (emu::block_size)
#define gridDim (emu::grid_size)

inline void __syncthreads() { emu::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emu::warp_barrier(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  unsigned lane = emu::current->number % 32;
  return emu::shuffle(mask, value, lane / width * width + (unsigned)from % width);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  (void)width;
  return emu::shuffle(mask, value, emu::current->number % 32 ^ (unsigned)bits);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  unsigned lane = emu::current->number % 32;
  return emu::shuffle(mask, value, lane % width + by < (unsigned)width ? lane + by : lane);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  unsigned lane = emu::current->number % 32;
  return emu::shuffle(mask, value, lane % width >= by ? lane - by : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  emu::exchange()[emu::current->number % 32] = predicate != 0;
  emu::warp_barrier(mask);
  unsigned all = 0;
  for (unsigned lane = 0; lane < 32; lane++)
    if (mask >> lane & 1) all |= (unsigned)(emu::exchange()[lane] != 0) << lane;
  emu::warp_barrier(mask);
  return all;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

// Threads of all blocks take turns, so these need no locks.
template <class T>
inline T atomicAdd(T* at, T value) {
  T before = *at;
  *at = (T)(before + value);
  return before;
}
template <class T>
inline T atomicMax(T* at, T value) {
  T before = *at;
  *at = std::max(before, value);
  return before;
}
template <class T>
inline T atomicMin(T* at, T value) {
  T before = *at;
  *at = std::min(before, value);
  return before;
}
template <class T>
inline T atomicExch(T* at, T value) {
  T before = *at;
  *at = value;
  return before;
}
template <class T>
inline T atomicCAS(T* at, T expected, T value) {
  T before = *at;
  if (before == expected) *at = value;
  return before;
}
template <class T>
inline T atomicOr(T* at, T value) {
  T before = *at;
  *at |= value;
  return before;
}

template <class T>
inline T __ldg(const T* at) {
  return *at;
}
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline int __float_as_int(float x) { return (int)__float_as_uint(x); }
inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
inline float __int_as_float(int bits) { return __uint_as_float((unsigned)bits); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
// Byte i of the result is the one of a's and b's eight bytes that nibble i of `selector` names.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t both = (uint64_t)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) result |= (unsigned)(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
using std::max;
using std::min;

inline float __bfloat162float(__nv_bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }
inline __nv_bfloat16 __float2bfloat16(float x) {
  unsigned bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  bits += 0x7fffu + (bits >> 16 & 1);
  return {(uint16_t)(bits >> 16)};
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __float2bfloat16(x); }
inline float __half2float(__half x) {
  _Float16 half;
  memcpy(&half, &x.bits, 2);
  return (float)half;
}
inline __half __float2half(float x) {
  _Float16 half = (_Float16)x;
  __half result;
  memcpy(&result.bits, &half, 2);
  return result;
}
inline __half __float2half_rn(float x) { return __float2half(x); }
