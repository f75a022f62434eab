// What all kernels share: types, conversions, 16-byte accesses, reductions in a fixed order, tensor cores, asynchronous copies.
//
// Each file compiles for devices with nvcc and for the host with emulation/emu.h. Instructions that have no C++ form stand in
// small functions with a twin for the host. Kernels take one struct, declared alike in Rust.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cstdint>
#include <type_traits>
#define SHARED_BYTES(name) extern __shared__ __align__(16) unsigned char name[]
// Aligned for products of warpgroups.
#define WIDE_SHARED_BYTES(name) extern __shared__ __align__(1024) unsigned char name[]
// `extern "C"` and the parameters of a kernel of at most `threads` threads a block, which calls `follow_others` itself, in all
// blocks, before it writes or reads anything but its parameters and what was there before the step began: weights, tables, and what
// the host says of the step.
#define EAGER_KERNEL(name, Params, threads) \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p)
// The same with so few registers that `blocks` fit a multiprocessor.
#define CROWDED_KERNEL(name, Params, threads, blocks) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Params p)
// The same for a block that has a multiprocessor to itself, so that warps may give registers to each other.
#define LONE_KERNEL(name, Params, threads) \
  extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ Params p)
#else
#include "emulation/emu.h"
#define SHARED_BYTES(name) unsigned char* const name = emu::shared_memory
#define WIDE_SHARED_BYTES(name) SHARED_BYTES(name)
#define EAGER_KERNEL(name, Params, threads)                                                  \
  extern "C" void name(const Params& p);                                                     \
  static emu::Register register_##name(#name, sizeof(Params), threads,                       \
                                       [](const void* p) { name(*(const Params*)p); });      \
  extern "C" void name(const Params& p)
#define CROWDED_KERNEL(name, Params, threads, blocks) EAGER_KERNEL(name, Params, threads)
#define LONE_KERNEL EAGER_KERNEL
#endif
// A kernel that follows others as a whole.
#define KERNEL(name, Params, threads)                                   \
  static __device__ __forceinline__ void name##_after(const Params& p); \
  EAGER_KERNEL(name, Params, threads) {                                 \
    vlinders::follow_others();                                          \
    name##_after(p);                                                    \
  }                                                                     \
  static __device__ __forceinline__ void name##_after(const Params& p)

namespace vlinders {

// Blocks of a kernel may start while the one before it ends, where the host asks for it: wait until its results are there, and
// those of all before.
__device__ __forceinline__ void follow_others() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The next kernel may start as soon as all blocks are here, or at their ends. Later is better: blocks that start while others are at
// work share what multiprocessors are free, and leave those that become free to nobody. Behind `follow_others`.
__device__ __forceinline__ void let_others_follow() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
typedef __nv_bfloat16 bf16;
typedef __half f16;

constexpr unsigned kFullMask = 0xffffffffu;
constexpr int kWarp = 32;

// Device memory as addresses, which is how the host knows it.
template <class T>
__device__ __forceinline__ T* at(uint64_t address) {
  return reinterpret_cast<T*>(address);
}

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) { return __float2half_rn(x); }

// Sixteen bytes of numbers: one access.
template <class T>
struct alignas(16) Pack {
  static constexpr int kCount = 16 / sizeof(T);
  T values[kCount];
};
template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T>*>(from);
}
template <class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T>& pack) {
  *reinterpret_cast<Pack<T>*>(to) = pack;
}

// What all lanes of a warp have, as the compiler is to know: what is made of it is made once for a warp.
__device__ __forceinline__ int same_in_warp(int number) { return __shfl_sync(kFullMask, number, 0); }

// The sum over a warp, on all lanes, always added in the same order.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int bit = 16; bit > 0; bit /= 2) x += __shfl_xor_sync(kFullMask, x, bit);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int bit = 16; bit > 0; bit /= 2) x = fmaxf(x, __shfl_xor_sync(kFullMask, x, bit));
  return x;
}

// The sum over a block, on all threads. `scratch` has room for one number of each warp, which is not to be written again before
// another barrier; the block has whole warps.
__device__ __forceinline__ float block_sum(float x, float* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  x = warp_sum(x);
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}

// Two numbers in one register, the first in the low half.
template <class T>
__device__ __forceinline__ uint32_t pair_of(float low, float high);
#ifdef __CUDACC__
template <>
__device__ __forceinline__ uint32_t pair_of<bf16>(float low, float high) {
  __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&both);
}
template <>
__device__ __forceinline__ uint32_t pair_of<f16>(float low, float high) {
  __half2 both = __floats2half2_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&both);
}
#else
template <>
inline uint32_t pair_of<bf16>(float low, float high) {
  return __float2bfloat16(low).bits | (uint32_t)__float2bfloat16(high).bits << 16;
}
template <>
inline uint32_t pair_of<f16>(float low, float high) {
  return __float2half(low).bits | (uint32_t)__float2half(high).bits << 16;
}
#endif

// d += a b on tensor cores: a is 16 x 16, b 16 x 8, d 16 x 8 in f32, spread over a warp.
// With g = lane / 4 and t = lane % 4, a register holds two neighbours along k:
//   a[0] = A[g][2t, 2t+1]    a[1] = A[g+8][2t, 2t+1]    a[2] = A[g][2t+8, 2t+9]    a[3] = A[g+8][2t+8, 2t+9]
//   b[0] = B[2t, 2t+1][g]    b[1] = B[2t+8, 2t+9][g]
//   d[0], d[1] = D[g][2t, 2t+1]    d[2], d[3] = D[g+8][2t, 2t+1]
// (PTX ISA, matrix fragments for mma.m16n8k16.)
template <class T>
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
#ifdef __CUDACC__
template <>
__device__ __forceinline__ void mma<bf16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma<f16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
template <class T>
inline float half_of(uint32_t pair, int which) {
  T number;
  number.bits = (uint16_t)(which ? pair >> 16 : pair);
  return to_float(number);
}
template <class T>
inline void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Operands {
    float* d;
    const uint32_t *a, *b;
  } own{d, a, b};
  const unsigned lane = emu::current->number % kWarp;
  emu::show()[lane] = &own;
  emu::warp_barrier(kFullMask);
  if (lane == 0) {
    float left[16][16], right[16][8];
    for (int from = 0; from < kWarp; from++) {
      const Operands& of = *static_cast<Operands*>(emu::show()[from]);
      const int g = from / 4, t = from % 4;
      for (int r = 0; r < 4; r++)
        for (int half = 0; half < 2; half++)
          left[g + r % 2 * 8][2 * t + r / 2 * 8 + half] = half_of<T>(of.a[r], half);
      for (int r = 0; r < 2; r++)
        for (int half = 0; half < 2; half++) right[2 * t + r * 8 + half][g] = half_of<T>(of.b[r], half);
    }
    for (int to = 0; to < kWarp; to++) {
      const Operands& of = *static_cast<Operands*>(emu::show()[to]);
      const int g = to / 4, t = to % 4;
      for (int r = 0; r < 4; r++) {
        const int row = g + r / 2 * 8, col = 2 * t + r % 2;
        float sum = of.d[r];
        for (int k = 0; k < 16; k++) sum += left[row][k] * right[k][col];
        of.d[r] = sum;
      }
    }
  }
  emu::warp_barrier(kFullMask);
}
#endif

// Four 8 x 8 matrices of two-byte numbers from shared memory, one register of each. Lanes 8i .. 8i+7 give the addresses of the
// rows of matrix i, 16 bytes each. Lane l gets numbers 2 (l % 4) and the next of row l / 4; with `transposed`, of column l / 4.
template <bool transposed>
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const void* row) {
#ifdef __CUDACC__
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  }
#else
  const unsigned lane = emu::current->number % kWarp;
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) emu::fail("a row of a matrix is not aligned to 16 bytes");
  emu::show()[lane] = const_cast<void*>(row);
  emu::warp_barrier(kFullMask);
  for (unsigned i = 0; i < 4; i++) {
    uint16_t halves[2];
    for (unsigned half = 0; half < 2; half++) {
      const unsigned along = 2 * (lane % 4) + half, across = lane / 4;
      const unsigned from_row = transposed ? along : across, column = transposed ? across : along;
      halves[half] = static_cast<const uint16_t*>(emu::show()[8 * i + from_row])[column];
    }
    to[i] = halves[0] | (uint32_t)halves[1] << 16;
  }
  emu::warp_barrier(kFullMask);
#endif
}

// Sixteen bytes from device to shared memory while the thread goes on; zeros unless `valid`, and then `from` is not read.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
#ifdef __CUDACC__
  const uint32_t shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(bytes) : "memory");
#else
  if (reinterpret_cast<uintptr_t>(to) % 16 || (valid && reinterpret_cast<uintptr_t>(from) % 16))
    emu::fail("a copy to shared memory is not aligned to 16 bytes");
  emu::copy_later(to, from, valid ? 16 : 0, valid ? 0 : 16);
#endif
}
// The same where it is known to be valid: less to do.
__device__ __forceinline__ void copy_async(void* to, const void* from) {
#ifdef __CUDACC__
  const uint32_t shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
#else
  copy_async(to, from, true);
#endif
}
// The same for four bytes.
__device__ __forceinline__ void copy_word_async(void* to, const void* from, bool valid) {
#ifdef __CUDACC__
  const uint32_t shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(from), "r"(bytes) : "memory");
#else
  if (reinterpret_cast<uintptr_t>(to) % 4 || (valid && reinterpret_cast<uintptr_t>(from) % 4))
    emu::fail("a copy to shared memory is not aligned to 4 bytes");
  emu::copy_later(to, from, valid ? 4 : 0, valid ? 0 : 4);
#endif
}
// The copies of this thread so far are one group.
__device__ __forceinline__ void commit_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  emu::commit_copies();
#endif
}
// Wait until all groups of this thread but the last `pending` have arrived. Other threads see them after a barrier.
template <int pending>
__device__ __forceinline__ void wait_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#else
  emu::wait_copies(pending);
#endif
}

}  // namespace vlinders
