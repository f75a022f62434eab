// Products of a warpgroup with tokens in shared memory: wgmma of Hopper, and what it does for the host.
//
// Four warps have 16 rows of the left operand each, in registers, as `mma` has them, or in shared memory, as tokens. Tokens are rows of
// 64 numbers in shared memory, 128 bytes each, whose pieces of sixteen bytes lie exchanged: piece i of token n at i ^ (n % 8). The first
// row is at a multiple of 1024. Numbers of tokens are what is added up, or, where products go across, tokens are.
// (PTX ISA, asynchronous warpgroup level matrix instructions: K-major and MN-major, 128-byte swizzle.)
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
// The same for 16 tokens from `x` on, a multiple of 8, and all of their numbers, of which each 64 lie `pitch` bytes behind those before.
__device__ __forceinline__ uint64_t across_at(const unsigned char* x, int pitch) {
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(x));
  return (uint64_t)(from >> 4 & 0x3fff) | (uint64_t)(pitch >> 4) << 16 | (uint64_t)(8 * kTokenBytes >> 4) << 32 | 1ull << 62;
}
// Further tokens of either kind, a multiple of 1024 bytes behind these, and `i` more times sixteen numbers: one addition.
__device__ __forceinline__ uint64_t further(uint64_t tokens, int bytes, int i = 0) {
  return (tokens & 0xffffffff00000000ull) | ((uint32_t)tokens + (bytes >> 4) + 2 * i);
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
// The same with rows of a in shared memory, those of the warpgroup as `tokens_at` has them.
template <class T, int kN>
__device__ __forceinline__ void group_mma_shared(float (&d)[kN / 8][4], uint64_t a, uint64_t b, bool add);
#define GROUP_MMA_SHARED(T, type)                                                                                      \
  template <>                                                                                                          \
  __device__ __forceinline__ void group_mma_shared<T, 64>(float (&d)[8][4], uint64_t a, uint64_t b, bool add) {        \
    asm volatile(                                                                                                      \
        "{ .reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {"        \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                       \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"                               \
        "}, %32, %33, p, 1, 1, 0, 0; }"                                                                                \
        : SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]), SUM(d[6]), SUM(d[7])                       \
        : "l"(a), "l"(b), "r"((int)add));                                                                              \
  }
GROUP_MMA_SHARED(bf16, "bf16")
GROUP_MMA_SHARED(f16, "f16")
#undef GROUP_MMA_SHARED
// The same across tokens: a has weights of sixteen of them, b is as `across_at` has it, d has their numbers.
template <class T, int kN>
__device__ __forceinline__ void group_mma_across(float (&d)[kN / 8][4], const uint32_t (&a)[4], uint64_t b, bool add);
#define GROUP_MMA_ACROSS_72(T, type)                                                                                         \
  template <>                                                                                                                \
  __device__ __forceinline__ void group_mma_across<T, 72>(float (&d)[9][4], const uint32_t (&a)[4], uint64_t b, bool add) {  \
    asm volatile(                                                                                                            \
        "{ .reg .pred p; setp.ne.b32 p, %41, 0; wgmma.mma_async.sync.aligned.m64n72k16.f32." type "." type " {"              \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                             \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35"                 \
        "}, {%36, %37, %38, %39}, %40, p, 1, 1, 1; }"                                                                        \
        : SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]), SUM(d[6]), SUM(d[7]), SUM(d[8])                  \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));                                                \
  }
#define GROUP_MMA_ACROSS_136(T, type)                                                                                        \
  template <>                                                                                                                \
  __device__ __forceinline__ void group_mma_across<T, 136>(float (&d)[17][4], const uint32_t (&a)[4], uint64_t b, bool add) { \
    asm volatile(                                                                                                            \
        "{ .reg .pred p; setp.ne.b32 p, %73, 0; wgmma.mma_async.sync.aligned.m64n136k16.f32." type "." type " {"             \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                             \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                                   \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                   \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67"                 \
        "}, {%68, %69, %70, %71}, %72, p, 1, 1, 1; }"                                                                        \
        : SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]), SUM(d[6]), SUM(d[7]),                            \
          SUM(d[8]), SUM(d[9]), SUM(d[10]), SUM(d[11]), SUM(d[12]), SUM(d[13]), SUM(d[14]), SUM(d[15]), SUM(d[16])           \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));                                                \
  }
GROUP_MMA_ACROSS_72(bf16, "bf16")
GROUP_MMA_ACROSS_72(f16, "f16")
GROUP_MMA_ACROSS_136(bf16, "bf16")
GROUP_MMA_ACROSS_136(f16, "f16")
#undef GROUP_MMA_ACROSS_72
#undef GROUP_MMA_ACROSS_136
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
// What this thread did before is seen by who waits.
__device__ __forceinline__ void arrive(uint64_t* counter) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(arrivals_at(counter)) : "memory");
}
// What this thread wrote to shared memory may be read by products, once others know of it. It waits for all loads under way.
__device__ __forceinline__ void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// By all warps of a warpgroup: give registers back, or wait for more.
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
// Four 8 x 8 matrices of two-byte numbers, as `mma` has sums of two rows of them beside two columns, to shared memory: `to` of lane
// 8 i + j is where column j of matrix i goes, sixteen bytes.
__device__ __forceinline__ void store_across(void* to, const uint32_t (&pairs)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
               : "memory");
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
// Products are done when somebody waits for them: what is read too early, or changed, gives other results.
struct Tokens {
  const unsigned char* x;
  int i;
};
inline Tokens tokens_at(const unsigned char* x, int i) {
  if (reinterpret_cast<uintptr_t>(x) % 1024) emu::fail("tokens for a warpgroup do not begin at a multiple of 1024");
  return {x, i};
}
struct Across {
  const unsigned char* x;
  int pitch;
};
inline Across across_at(const unsigned char* x, int pitch) {
  if (reinterpret_cast<uintptr_t>(x) % 1024 || pitch % 1024) emu::fail("tokens for a warpgroup do not begin at a multiple of 1024");
  return {x, pitch};
}
inline Tokens further(Tokens tokens, int bytes, int i = 0) { return {tokens.x + bytes, tokens.i + i}; }
inline Across further(Across tokens, int bytes) { return across_at(tokens.x + bytes, tokens.pitch); }
struct Left {
  uint32_t words[4];
};
// `right` gives the numbers of a thread for eight columns, `left` its rows, when the product is done.
template <class T, int kColumns, class OfLeft, class OfRight>
inline void multiply_later(float (&d)[kColumns][4], bool add, OfLeft left, OfRight right) {
  float(*to)[4] = d;
  if (!add)
    for (int i = 0; i < 4 * kColumns; i++) to[i / 4][i % 4] = NAN;
  emu::multiply_later([=] {
    const Left a = left();
    for (int n = 0; n < kColumns; n++) {
      uint32_t b[2];
      right(n, b);
      if (!add) to[n][0] = to[n][1] = to[n][2] = to[n][3] = 0.0f;
      mma<T>(reinterpret_cast<float(&)[4]>(to[n]), a.words, b);
    }
  });
}
inline auto numbers_of(Tokens b) {
  const int lane = emu::current->number % kWarp, g = lane / 4, t = lane % 4;
  return [=](int n, uint32_t(&right)[2]) {
    for (int half = 0; half < 2; half++) memcpy(&right[half], b.x + swizzled(8 * n + g, 2 * b.i + half) + 4 * t, 4);
  };
}
template <class T, int kN>
inline void group_mma(float (&d)[kN / 8][4], const uint32_t (&a)[4], Tokens b, bool add) {
  const Left own{{a[0], a[1], a[2], a[3]}};
  multiply_later<T>(d, add, [=] { return own; }, numbers_of(b));
}
template <class T, int kN>
inline void group_mma_shared(float (&d)[kN / 8][4], Tokens a, Tokens b, bool add) {
  const int number = emu::current->number, row = number / kWarp % 4 * 16 + number % kWarp / 4, t = number % 4;
  const auto left = [=] {
    Left own;
    for (int i = 0; i < 4; i++) memcpy(&own.words[i], a.x + swizzled(row + i % 2 * 8, 2 * a.i + i / 2) + 4 * t, 4);
    return own;
  };
  multiply_later<T>(d, add, left, numbers_of(b));
}
template <class T, int kN>
inline void group_mma_across(float (&d)[kN / 8][4], const uint32_t (&a)[4], Across b, bool add) {
  const Left own{{a[0], a[1], a[2], a[3]}};
  const int lane = emu::current->number % kWarp, g = lane / 4, t = lane % 4;
  const auto right = [=](int n, uint32_t(&right)[2]) {
    const unsigned char* of = b.x + n / 8 * b.pitch + 2 * g;
    for (int half = 0; half < 2; half++) {
      uint16_t pair[2];
      for (int i = 0; i < 2; i++) memcpy(&pair[i], of + swizzled(8 * half + 2 * t + i, n % 8), 2);
      right[half] = pair[0] | (uint32_t)pair[1] << 16;
    }
  };
  multiply_later<T>(d, add, [=] { return own; }, right);
}
inline void begin_products() {}
inline void commit_products() { emu::commit_products(); }
template <int pending>
inline void wait_products() {
  emu::wait_products(pending);
}
template <class Register, int kCount>
inline void hold(Register (&)[kCount][4]) {}
inline emu::Arrivals* arrivals_at(uint64_t* counter) { return reinterpret_cast<emu::Arrivals*>(counter); }
inline void prepare_arrivals(uint64_t* counters, int count, int of_each) {
  for (int i = 0; i < count; i++) emu::prepare(arrivals_at(counters + i), of_each);
}
inline void arrive(uint64_t* counter) { emu::arrive(arrivals_at(counter), 0); }
inline void show_to_products() {}
template <int kRegisters>
inline void give_registers() {}
template <int kRegisters>
inline void take_registers() {}
inline void store_across(void* to, const uint32_t (&pairs)[4]) {
  if (reinterpret_cast<uintptr_t>(to) % 16) emu::fail("a matrix is stored where sixteen bytes do not begin");
  const int lane = emu::current->number % kWarp, g = lane / 4, t = lane % 4;
  emu::show()[lane] = to;
  emu::warp_barrier(kFullMask);
  for (int i = 0; i < 4; i++)
    for (int half = 0; half < 2; half++) {
      const uint16_t number = (uint16_t)(pairs[i] >> 16 * half);
      memcpy(static_cast<unsigned char*>(emu::show()[8 * i + 2 * t + half]) + 2 * g, &number, 2);
    }
  emu::warp_barrier(kFullMask);
}
inline void expect_arrivals(uint64_t* counter, int bytes) { emu::arrive(arrivals_at(counter), bytes); }
inline void copy_to_products(void* to, uint64_t from, int bytes, uint64_t* counter) {
  if (reinterpret_cast<uintptr_t>(to) % 16 || from % 16 || bytes % 16)
    emu::fail("a copy for a warpgroup is not aligned to 16 bytes");
  emu::copy_counted(to, at<const void>(from), bytes, arrivals_at(counter));
}
inline void await_arrivals(uint64_t* counter, int round) { emu::await(arrivals_at(counter), round & 1); }
#endif

}  // namespace vlinders
