// How weight matrices lie in device memory, and how the numbers of a row become operands of tensor cores.
//
// A row is cut into steps of 64 numbers, the last one filled up with zeros. Lane t of four takes numbers 8t .. 8t+7 of each 32,
// so the codes of a step that a lane needs lie side by side: floats as they are; of eight bits 16t + 8b + j is number j of the
// lane's eight of half b; of four bits word 2t + b holds eight codes plus eight, number j in bits 4 (j/2) + 16 (j%2).
#pragma once
#include "common.cuh"

namespace vlinders {

constexpr int kStep = 64;
// Numbers that share a scale where blocks have scales.
constexpr int kScaled = 32;

enum class Scales { kNone, kRow, kBlock };

// Half-wise a - b and a b.
template <class T>
__device__ __forceinline__ uint32_t pair_minus(uint32_t a, uint32_t b);
template <class T>
__device__ __forceinline__ uint32_t pair_times(uint32_t a, uint32_t b);
#ifdef __CUDACC__
template <class Pair, class Op>
__device__ __forceinline__ uint32_t pair_apply(uint32_t a, uint32_t b, Op op) {
  Pair result = op(*reinterpret_cast<Pair*>(&a), *reinterpret_cast<Pair*>(&b));
  return *reinterpret_cast<uint32_t*>(&result);
}
template <>
__device__ __forceinline__ uint32_t pair_minus<bf16>(uint32_t a, uint32_t b) {
  return pair_apply<__nv_bfloat162>(a, b, [](__nv_bfloat162 a, __nv_bfloat162 b) { return __hsub2(a, b); });
}
template <>
__device__ __forceinline__ uint32_t pair_minus<f16>(uint32_t a, uint32_t b) {
  return pair_apply<__half2>(a, b, [](__half2 a, __half2 b) { return __hsub2(a, b); });
}
template <>
__device__ __forceinline__ uint32_t pair_times<bf16>(uint32_t a, uint32_t b) {
  return pair_apply<__nv_bfloat162>(a, b, [](__nv_bfloat162 a, __nv_bfloat162 b) { return __hmul2(a, b); });
}
template <>
__device__ __forceinline__ uint32_t pair_times<f16>(uint32_t a, uint32_t b) {
  return pair_apply<__half2>(a, b, [](__half2 a, __half2 b) { return __hmul2(a, b); });
}
#else
template <class T>
inline uint32_t pair_minus(uint32_t a, uint32_t b) {
  return pair_of<T>(half_of<T>(a, 0) - half_of<T>(b, 0), half_of<T>(a, 1) - half_of<T>(b, 1));
}
template <class T>
inline uint32_t pair_times(uint32_t a, uint32_t b) {
  return pair_of<T>(half_of<T>(a, 0) * half_of<T>(b, 0), half_of<T>(a, 1) * half_of<T>(b, 1));
}
#endif

template <class T>
constexpr bool kIsBf16 = false;
template <>
constexpr bool kIsBf16<bf16> = true;

// Each format says
//   kWords: words that a lane needs of a row and a step;
//   kScales: what is multiplied with a scale: nothing, sums of rows (f32), or sums of blocks of 32 (f16);
//   expand: the lane's eight numbers of half b, exact in T, as four pairs;
//   number: number k of the row that begins at `row`, before scaling.

// Floats of the type of activations, or f32 where these are.
template <class T>
struct Floats {
  static constexpr int kWords = 8;
  static constexpr int kStepBytes = kStep * sizeof(T);
  static constexpr Scales kScales = Scales::kNone;
  template <class Operand>
  static __device__ __forceinline__ void expand(const uint32_t (&words)[8], int b, uint32_t (&pairs)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = words[4 * b + i];
  }
  static __device__ __forceinline__ float number(uint64_t row, int k) { return to_float(at<const T>(row)[k]); }
};

__device__ __forceinline__ int place_of_byte(int k) { return k / kStep * kStep + k % 32 / 8 * 16 + k % kStep / 32 * 8 + k % 8; }

// e4m3 and a scale for each row.
struct Fp8 {
  static constexpr int kWords = 4;
  static constexpr int kStepBytes = kStep;
  static constexpr Scales kScales = Scales::kRow;
  // Exponent and mantissa move into those of T, whose exponents are 8 or 120 less then. No code is a NaN.
  template <class T>
  static __device__ __forceinline__ uint32_t pair(uint32_t high_bytes) {
    constexpr int kShift = kIsBf16<T> ? 4 : 1;
    constexpr uint32_t kMask = kIsBf16<T> ? 0x07f007f0u : 0x3f803f80u, kPower = kIsBf16<T> ? 0x7b807b80u : 0x5c005c00u;
    return pair_times<T>((high_bytes >> kShift & kMask) | (high_bytes & 0x80008000u), kPower);
  }
  template <class T>
  static __device__ __forceinline__ void expand(const uint32_t (&words)[4], int b, uint32_t (&pairs)[4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      pairs[2 * i] = pair<T>(__byte_perm(words[2 * b + i], 0, 0x1404));
      pairs[2 * i + 1] = pair<T>(__byte_perm(words[2 * b + i], 0, 0x3424));
    }
  }
  static __device__ __forceinline__ float number(uint64_t row, int k) {
    const uint32_t code = at<const uint8_t>(row)[place_of_byte(k)];
    // 2^120, since exponents of f32 are 120 more.
    return __uint_as_float((code & 0x7f) << 20 | (code & 0x80) << 24) * __uint_as_float(0x7b800000u);
  }
};

// Whole numbers from -127 to 127 and a scale for each 32.
struct Q8 {
  static constexpr int kWords = 4;
  static constexpr int kStepBytes = kStep;
  static constexpr Scales kScales = Scales::kBlock;
  template <class T>
  static __device__ __forceinline__ uint32_t pair(uint32_t word, uint32_t selector) {
    if constexpr (kIsBf16<T>) {
      // 128 + low seven bits, less 128 or (with the sign bit, which is that of the exponent) 256.
      const uint32_t both = __byte_perm(word, 0x43434343u, selector);
      return pair_minus<T>(both & 0xff7fff7fu, both & 0xff80ff80u);
    } else {
      // 1024 + 128 + code, less 1152.
      return pair_minus<T>(__byte_perm(word ^ 0x80808080u, 0x64646464u, selector), 0x64806480u);
    }
  }
  template <class T>
  static __device__ __forceinline__ void expand(const uint32_t (&words)[4], int b, uint32_t (&pairs)[4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      pairs[2 * i] = pair<T>(words[2 * b + i], 0x4140);
      pairs[2 * i + 1] = pair<T>(words[2 * b + i], 0x4342);
    }
  }
  static __device__ __forceinline__ float number(uint64_t row, int k) { return at<const int8_t>(row)[place_of_byte(k)]; }
};

// Whole numbers from -8 to 7 and a scale for each 32.
struct Q4 {
  static constexpr int kWords = 2;
  static constexpr int kStepBytes = kStep / 2;
  static constexpr Scales kScales = Scales::kBlock;
  template <class T>
  static __device__ __forceinline__ void expand(const uint32_t (&words)[2], int b, uint32_t (&pairs)[4]) {
    // 128 or 1024 and the code plus eight, less both.
    constexpr uint32_t kBase = kIsBf16<T> ? 0x43004300u : 0x64006400u;
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = pair_minus<T>((words[b] >> 4 * i & 0x000f000fu) | kBase, kBase | 0x00080008u);
  }
  static __device__ __forceinline__ float number(uint64_t row, int k) {
    const uint32_t word = at<const uint32_t>(row)[k / kStep * 8 + k % 32 / 8 * 2 + k % kStep / 32];
    return (int)(word >> (k % 8 / 2 * 4 + k % 2 * 16) & 15) - 8;
  }
};

// Number k of row `row`. `steps` is the length of rows, `scales` what `kScales` says: scales of blocks lie in rows of whole
// chunks of eight.
template <class Format>
__device__ __forceinline__ float weight_at(uint64_t codes, uint64_t scales, int steps, int row, int k) {
  const float number = Format::number(codes + (uint64_t)row * steps * Format::kStepBytes, k);
  if constexpr (Format::kScales == Scales::kRow) return number * at<const float>(scales)[row];
  if constexpr (Format::kScales == Scales::kBlock)
    return number * to_float(at<const f16>(scales)[(int64_t)row * ((steps + 3) / 4 * 8) + k / kScaled]);
  return number;
}

}  // namespace vlinders
