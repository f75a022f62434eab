// Products of a warpgroup with tokens in shared memory: wgmma of Hopper, and what it does for the host.
//
// Four warps have 16 rows of the left operand each, in registers, as `mma` has them. Tokens are rows of 64 numbers in shared memory,
// 128 bytes each, whose pieces of sixteen bytes lie exchanged: piece i of token n at i ^ (n % 8). The first row is at a multiple of 1024.
// (PTX ISA, asynchronous warpgroup level matrix instructions: K-major, 128-byte swizzle.)
#pragma once
#include "arranged.cuh"

// Instructions that only the code for sm_90a has.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAS_GROUP_MMA 1
#endif

namespace vlinders {

constexpr int kGroupThreads = 128;
#if defined(__CUDACC__) && defined(HAS_GROUP_MMA)
// What the instruction takes for tokens from `x` on, and numbers 16 i of each.
__device__ __forceinline__ uint64_t tokens_at(const unsigned char* x, int i) {
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(x)) + 32 * i;
  return (uint64_t)(from >> 4 & 0x3fff) | 1ull << 16 | (uint64_t)(8 * kTokenBytes >> 4) << 32 | 1ull << 62;
}
// d += a b, or d = a b, later: until `wait_products` says so, neither d nor a may be touched.
template <class T, int kN>
__device__ __forceinline__ void group_mma(float (&d)[kN / 8][4], const uint32_t (&a)[4], uint64_t b, bool add);
#define SUM(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define GROUP_MMA_64(T, type)                                                                                        \
  template <>                                                                                                        \
  __device__ __forceinline__ void group_mma<T, 64>(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b, bool add) { \
    asm volatile(                                                                                                    \
        "{ .reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {"      \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                     \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"                             \
        "}, {%32, %33, %34, %35}, %36, p, 1, 1, 0; }"                                                                \
        : SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]), SUM(d[6]), SUM(d[7])                     \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));                                        \
  }
#define GROUP_MMA_128(T, type)                                                                                         \
  template <>                                                                                                          \
  __device__ __forceinline__ void group_mma<T, 128>(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b, bool add) { \
    asm volatile(                                                                                                      \
        "{ .reg .pred p; setp.ne.b32 p, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {"       \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                       \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                             \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                             \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"                               \
        "}, {%64, %65, %66, %67}, %68, p, 1, 1, 0; }"                                                                  \
        : SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]), SUM(d[6]), SUM(d[7]),                      \
          SUM(d[8]), SUM(d[9]), SUM(d[10]), SUM(d[11]), SUM(d[12]), SUM(d[13]), SUM(d[14]), SUM(d[15])                 \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));                                          \
  }
#define GROUP_MMA_192(T, type)                                                                                         \
  template <>                                                                                                          \
  __device__ __forceinline__ void group_mma<T, 192>(float (&d)[24][4], const uint32_t (&a)[4], uint64_t b, bool add) { \
    asm volatile(                                                                                                      \
        "{ .reg .pred p; setp.ne.b32 p, %101, 0; wgmma.mma_async.sync.aligned.m64n192k16.f32." type "." type " {"      \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                       \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                             \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                             \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                             \
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                             \
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"                               \
        "}, {%96, %97, %98, %99}, %100, p, 1, 1, 0; }"                                                                 \
        : SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]), SUM(d[6]), SUM(d[7]),                      \
          SUM(d[8]), SUM(d[9]), SUM(d[10]), SUM(d[11]), SUM(d[12]), SUM(d[13]), SUM(d[14]), SUM(d[15]),                \
          SUM(d[16]), SUM(d[17]), SUM(d[18]), SUM(d[19]), SUM(d[20]), SUM(d[21]), SUM(d[22]), SUM(d[23])               \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));                                          \
  }
GROUP_MMA_64(bf16, "bf16")
GROUP_MMA_64(f16, "f16")
GROUP_MMA_128(bf16, "bf16")
GROUP_MMA_128(f16, "f16")
GROUP_MMA_192(bf16, "bf16")
GROUP_MMA_192(f16, "f16")
#undef GROUP_MMA_64
#undef GROUP_MMA_128
#undef GROUP_MMA_192
#undef SUM
// Registers were written by this thread before; products may read them now.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Wait until all groups but the last `pending` are done.
template <int pending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// Results are not looked at, nor operands changed, before this.
template <int kCount>
__device__ __forceinline__ void hold(float (&d)[kCount][4]) {
#pragma unroll
  for (int i = 0; i < kCount; i++)
    asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
}
template <int kCount>
__device__ __forceinline__ void hold(uint32_t (&a)[kCount][4]) {
#pragma unroll
  for (int i = 0; i < kCount; i++)
    asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}
// Of four warps, all of which say so: each thread needs no more than so many registers, or takes so many when others have given them.
template <int count>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
// Arrivals at a place in shared memory are counted, by one counter for each place: of copies, or of warps that need it no more.
__device__ __forceinline__ uint32_t arrivals_at(const uint64_t* counter) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(counter));
}
// By one thread, before a barrier and any copy. `of_each` threads arrive in a round, whatever copies bring.
__device__ __forceinline__ void prepare_arrivals(uint64_t* counters, int count, int of_each) {
  for (int i = 0; i < count; i++)
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(arrivals_at(counters + i)), "r"(of_each) : "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void arrive(uint64_t* counter) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(arrivals_at(counter)) : "memory");
}
// By one thread, before the copies that fill a place: how many bytes they have.
__device__ __forceinline__ void expect_arrivals(uint64_t* counter, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(arrivals_at(counter)), "r"(bytes) : "memory");
}
// Start to copy neighbouring bytes, a multiple of sixteen, to where products read them.
__device__ __forceinline__ void copy_to_products(void* to, uint64_t from, int bytes, uint64_t* counter) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(bytes), "r"(arrivals_at(counter))
               : "memory");
}
// Wait until round number `round` is over. Nobody asks for it when the next one is over too.
__device__ __forceinline__ void await_arrivals(uint64_t* counter, int round) {
  asm volatile(
      "{ .reg .pred p; again%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @p bra arrived%=; bra again%=; arrived%=: }" ::"r"(
          arrivals_at(counter)),
      "r"(round & 1)
      : "memory");
}
#elif !defined(__CUDACC__)
struct Tokens {
  const unsigned char* x;
  int i;
};
inline Tokens tokens_at(const unsigned char* x, int i) { return {x, i}; }
template <class T, int kN>
inline void group_mma(float (&d)[kN / 8][4], const uint32_t (&a)[4], Tokens b, bool add) {
  if (reinterpret_cast<uintptr_t>(b.x) % 1024) emu::fail("tokens for a warpgroup do not begin at a multiple of 1024");
  const int lane = emu::current->number % kWarp, g = lane / 4, t = lane % 4;
  for (int n = 0; n < kN / 8; n++) {
    uint32_t right[2];
    for (int half = 0; half < 2; half++) memcpy(&right[half], b.x + swizzled(8 * n + g, 2 * b.i + half) + 4 * t, 4);
    if (!add) d[n][0] = d[n][1] = d[n][2] = d[n][3] = 0.0f;
    mma<T>(d[n], a, right);
  }
}
inline void begin_products() {}
inline void commit_products() {}
template <int pending>
inline void wait_products() {}
template <int count>
inline void give_registers() {}
template <int count>
inline void take_registers() {}
template <class Register, int kCount>
inline void hold(Register (&)[kCount][4]) {}
inline void prepare_arrivals(uint64_t* counters, int count, int of_each) {
  for (int i = 0; i < count; i++) emu::prepare_counter(counters + i, of_each);
}
inline void arrive(uint64_t* counter) { emu::arrive(counter, 0); }
inline void expect_arrivals(uint64_t* counter, int bytes) { emu::arrive(counter, bytes); }
inline void copy_to_products(void* to, uint64_t from, int bytes, uint64_t* counter) {
  if (reinterpret_cast<uintptr_t>(to) % 16 || from % 16 || bytes % 16)
    emu::fail("a copy for a warpgroup is not aligned to 16 bytes");
  emu::copy_counted(to, at<const void>(from), bytes, counter);
}
inline void await_arrivals(uint64_t* counter, int round) { emu::await_round(counter, round & 1); }
#endif

}  // namespace vlinders
