// Products of a warpgroup in e4m3: wgmma with 32 numbers of each row, and what it does for the host.
//
// With g = lane / 4 and t = lane % 4, a lane has in its four words what weights.cuh puts there: numbers 8t .. 8t+3 of rows g and g + 8,
// then 8t+4 .. 8t+7 of both. The instruction takes them for its numbers 4t .. and 16 + 4t .., and so it does with tokens, which
// lie in that order (rounded.cuh). Sums are those of `group_mma`.
#pragma once
#include "group_mma.cuh"
#include "rounded.cuh"

namespace vlinders {

#if defined(__CUDACC__) && defined(HAS_GROUP_MMA)
// d += a b, or d = a b, later, as `group_mma` does.
template <int kN>
__device__ __forceinline__ void fp8_mma(float (&d)[kN / 8][4], const uint32_t (&a)[4], uint64_t b, bool add);
#define SUM(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define FP8_MMA(n, d_names, a_names, b_name, add_name, ...)                                                          \
  template <>                                                                                                        \
  __device__ __forceinline__ void fp8_mma<n>(float (&d)[n / 8][4], const uint32_t (&a)[4], uint64_t b, bool add) {   \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " add_name ", 0; wgmma.mma_async.sync.aligned.m64n" #n              \
                 "k32.f32.e4m3.e4m3 {" d_names "}, {" a_names "}, " b_name ", p, 1, 1; }"                            \
                 : __VA_ARGS__                                                                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));                               \
  }
#define NAMES_4 "%0, %1, %2, %3"
#define NAMES_8 NAMES_4 ", %4, %5, %6, %7"
#define NAMES_16 NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_32 NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                   \
  NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "    \
           "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_96                                                                                   \
  NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "    \
           "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
FP8_MMA(8, NAMES_4, "%4, %5, %6, %7", "%8", "%9", SUM(d[0]))
FP8_MMA(16, NAMES_8, "%8, %9, %10, %11", "%12", "%13", SUM(d[0]), SUM(d[1]))
FP8_MMA(32, NAMES_16, "%16, %17, %18, %19", "%20", "%21", SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]))
FP8_MMA(64, NAMES_32, "%32, %33, %34, %35", "%36", "%37", SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]),
        SUM(d[6]), SUM(d[7]))
FP8_MMA(128, NAMES_64, "%64, %65, %66, %67", "%68", "%69", SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]),
        SUM(d[6]), SUM(d[7]), SUM(d[8]), SUM(d[9]), SUM(d[10]), SUM(d[11]), SUM(d[12]), SUM(d[13]), SUM(d[14]), SUM(d[15]))
FP8_MMA(192, NAMES_96, "%96, %97, %98, %99", "%100", "%101", SUM(d[0]), SUM(d[1]), SUM(d[2]), SUM(d[3]), SUM(d[4]), SUM(d[5]),
        SUM(d[6]), SUM(d[7]), SUM(d[8]), SUM(d[9]), SUM(d[10]), SUM(d[11]), SUM(d[12]), SUM(d[13]), SUM(d[14]), SUM(d[15]),
        SUM(d[16]), SUM(d[17]), SUM(d[18]), SUM(d[19]), SUM(d[20]), SUM(d[21]), SUM(d[22]), SUM(d[23]))
#undef NAMES_96
#undef NAMES_64
#undef NAMES_32
#undef NAMES_16
#undef NAMES_8
#undef NAMES_4
#undef FP8_MMA
#undef SUM
#elif !defined(__CUDACC__)
inline float number_of_e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  if ((code & 0x7f) == 0x7f) return NAN;
  const float magnitude = exponent ? std::ldexp((float)(8 + mantissa), exponent - 10) : std::ldexp((float)mantissa, -9);
  return code & 0x80 ? -magnitude : magnitude;
}
inline const float* numbers_of_e4m3() {
  struct Table {
    float numbers[256];
    Table() {
      for (int code = 0; code < 256; code++) numbers[code] = number_of_e4m3((uint8_t)code);
    }
  };
  static const Table table;
  return table.numbers;
}
template <int kN>
inline void fp8_mma(float (&d)[kN / 8][4], const uint32_t (&a)[4], Tokens b, bool add) {
  if (reinterpret_cast<uintptr_t>(b.x) % 1024) emu::fail("tokens for a warpgroup do not begin at a multiple of 1024");
  struct Operands {
    float (*d)[4];
    const uint32_t* a;
  } own{d, a};
  const int lane = emu::current->number % kWarp;
  emu::show()[lane] = &own;
  emu::warp_barrier(kFullMask);
  if (lane == 0) {
    const float* numbers = numbers_of_e4m3();
    float left[16][32];
    for (int from = 0; from < kWarp; from++) {
      const Operands& of = *static_cast<Operands*>(emu::show()[from]);
      for (int r = 0; r < 4; r++)
        for (int byte = 0; byte < 4; byte++)
          left[from / 4 + r % 2 * 8][r / 2 * 16 + from % 4 * 4 + byte] = numbers[of.a[r] >> 8 * byte & 0xff];
    }
    for (int token = 0; token < kN; token++) {
      float right[32];
      for (int k = 0; k < 32; k++) right[k] = numbers[b.x[swizzled(token, 2 * b.i + k / 16) + k % 16]];
      for (int row = 0; row < 16; row++) {
        const Operands& of = *static_cast<Operands*>(emu::show()[row % 8 * 4 + token % 8 / 2]);
        float& sum = of.d[token / 8][row / 8 * 2 + token % 2];
        if (!add) sum = 0.0f;
        for (int k = 0; k < 32; k++) sum += left[row][k] * right[k];
      }
    }
  }
  emu::warp_barrier(kFullMask);
}
#endif

#ifdef HAS_GROUP_MMA
// Left operands of a pair of steps. `weights` is where the lane's first piece is. Operands are no neighbours there, so that they are
// moved: step by step, which takes the fewest registers.
__device__ __forceinline__ void load_pair(const unsigned char* weights, uint32_t (&to)[4][4]) {
#pragma unroll
  for (int step = 0; step < kStepsOfPair; step++) {
    const uint4 low = *reinterpret_cast<const uint4*>(weights + 2 * step * kPieceBytes);
    const uint4 high = *reinterpret_cast<const uint4*>(weights + (2 * step + 1) * kPieceBytes);
    uint32_t halves[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
    hold(halves);
#pragma unroll
    for (int i = 0; i < 8; i++) to[2 * step + i / 4][i % 4] = halves[i / 4][i % 4];
  }
}
// Start products of a pair of steps.
template <int kN, class Tokens>
__device__ __forceinline__ void multiply_pair(const uint32_t (&a)[4][4], Tokens tokens, bool add, float (&sums)[kN / 8][4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) fp8_mma<kN>(sums, a[i], further(tokens, 0, i), add || i > 0);
}
#endif

}  // namespace vlinders
