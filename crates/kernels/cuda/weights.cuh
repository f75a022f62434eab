// How weight matrices lie in device memory, and how the numbers of a row become operands of tensor cores.
//
// Sixteen rows are a tile, cut into steps of 64 numbers; the last step is filled up with zeros, and what the last tile has beyond the
// last row is nobody's. A step of a tile is one or more pieces of 512 bytes, sixteen for each lane of a warp, so that a
// warp's loads are whole and a lane has operands in its registers as they come. With g = lane / 4 and t = lane % 4, a lane
// has numbers 8t .. 8t+7 of each 32, of rows g and g + 8.
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
//   kPieces: pieces of a step;
//   kScales: what is multiplied with a scale: nothing, sums of rows (f32), or sums of blocks of 32 (f16);
//   kPerWord: numbers of a word, neighbours in k;
//   word: which word of a step has number k (< 64) of row `row` (< 16);
//   number: number k of that word, exact and before scaling;
//   expand: of a lane's words of a step, left operands for half b: numbers 0 .. 3 of its eight of both rows, then 4 .. 7.

// Where the words of a lane begin.
__device__ __forceinline__ int lane_words(int row, int k) { return (row % 8 * 4 + k % 32 / 8) * 4; }

// Floats of two bytes: a piece for each operand.
template <class T>
struct Floats {
  static constexpr int kPieces = 4, kPerWord = 2;
  static constexpr Scales kScales = Scales::kNone;
  static __device__ __forceinline__ int word(int row, int k) {
    return (k / 32 * 2 + k % 8 / 4) * 128 + lane_words(row, k) + k % 4 / 2 * 2 + row / 8;
  }
  static __device__ __forceinline__ float number(uint32_t word, int k) {
    const uint16_t bits = (uint16_t)(k % 2 ? word >> 16 : word);
    return to_float(*reinterpret_cast<const T*>(&bits));
  }
  template <class Operand>
  static __device__ __forceinline__ void expand(const uint32_t (&words)[16], int b, uint32_t (&to)[2][4]) {
#pragma unroll
    for (int i = 0; i < 8; i++) to[i / 4][i % 4] = words[8 * b + i];
  }
};

// Of pairs (0, 1), (2, 3), (4, 5), (6, 7) of a row, into both operands. `high` is 1 for row g + 8.
__device__ __forceinline__ void put_pair(uint32_t (&to)[2][4], int i, int high, uint32_t pair) {
  to[i / 2][i % 2 * 2 + high] = pair;
}

// Codes of a byte: a piece for each row.
struct Bytes {
  static constexpr int kPieces = 2, kPerWord = 4;
  static __device__ __forceinline__ int word(int row, int k) {
    return row / 8 * 128 + lane_words(row, k) + k / 32 * 2 + k % 8 / 4;
  }
};

// Bytes 0 and 1 of a word, or 2 and 3, as signed numbers of sixteen bits.
template <int kFirst>
__device__ __forceinline__ uint32_t widen_pair(uint32_t word) {
#ifdef __CUDACC__
  uint32_t pair;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(pair) : "r"(word), "n"(kFirst ? 0xb3a2 : 0x9180));
  return pair;
#else
  const auto wide = [&](int i) { return (uint32_t)(uint16_t)(int16_t)(int8_t)(word >> 8 * i); };
  return wide(kFirst) | wide(kFirst + 1) << 16;
#endif
}

// e4m3 and a scale for each row.
struct Fp8 : Bytes {
  static constexpr Scales kScales = Scales::kRow;
  // Exponent and mantissa move into those of T, whose exponents are 8 or 120 less then; of the signs before them the first is left.
  // No code is a NaN.
  template <class T>
  static __device__ __forceinline__ uint32_t pair(uint32_t widened) {
    constexpr int kShift = kIsBf16<T> ? 4 : 7;
    constexpr uint32_t kMask = kIsBf16<T> ? 0x87f087f0u : 0xbf80bf80u, kPower = kIsBf16<T> ? 0x7b807b80u : 0x5c005c00u;
    return pair_times<T>(widened << kShift & kMask, kPower);
  }
  template <class T>
  static __device__ __forceinline__ void expand(const uint32_t (&words)[8], int b, uint32_t (&to)[2][4]) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const uint32_t word = words[i / 4 * 4 + 2 * b + i % 4 / 2];
      put_pair(to, i % 4, i / 4, pair<T>(i % 2 ? widen_pair<2>(word) : widen_pair<0>(word)));
    }
  }
  static __device__ __forceinline__ float number(uint32_t word, int k) {
    const uint32_t code = word >> k % 4 * 8;
    // 2^120, since exponents of f32 are 120 more.
    return __uint_as_float((code & 0x7f) << 20 | (code & 0x80) << 24) * __uint_as_float(0x7b800000u);
  }
};

// Whole numbers from -127 to 127 and a scale for each 32.
struct Q8 : Bytes {
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
  static __device__ __forceinline__ void expand(const uint32_t (&words)[8], int b, uint32_t (&to)[2][4]) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const uint32_t word = words[i / 4 * 4 + 2 * b + i % 4 / 2];
      put_pair(to, i % 4, i / 4, pair<T>(word, i % 2 ? 0x4342 : 0x4140));
    }
  }
  static __device__ __forceinline__ float number(uint32_t word, int k) { return (int8_t)(word >> k % 4 * 8); }
};

// word & mask | base: one instruction, which the compiler would make two of, since two of the three are constants.
__device__ __forceinline__ uint32_t put_bits(uint32_t word, uint32_t mask, uint32_t base) {
#ifdef __CUDACC__
  uint32_t bits;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(bits) : "r"(word), "r"(mask), "r"(base));
  return bits;
#else
  return (word & mask) | base;
#endif
}

// Whole numbers from -8 to 7 and a scale for each 32. A word has eight codes plus eight, number j in bits 4 (j/2) + 16 (j%2).
struct Q4 {
  static constexpr int kPieces = 1, kPerWord = 8;
  static constexpr Scales kScales = Scales::kBlock;
  static __device__ __forceinline__ int word(int row, int k) { return lane_words(row, k) + row / 8 * 2 + k / 32; }
  template <class T>
  static __device__ __forceinline__ void expand(const uint32_t (&words)[4], int b, uint32_t (&to)[2][4]) {
    // 128 or 1024 and the code plus eight, less both.
    constexpr uint32_t kBase = kIsBf16<T> ? 0x43004300u : 0x64006400u;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const uint32_t codes = words[i / 4 * 2 + b] >> i % 4 * 4;
      put_pair(to, i % 4, i / 4, pair_minus<T>(put_bits(codes, 0x000f000fu, kBase), kBase | 0x00080008u));
    }
  }
  static __device__ __forceinline__ float number(uint32_t word, int k) {
    return (int)(word >> (k % 8 / 2 * 4 + k % 2 * 16) & 15) - 8;
  }
};

// Weights of f32, which tensor cores never see: row by row.
struct Singles {};

constexpr int kPieceBytes = 512;
constexpr int kTileRows = 16;

// Where a step of a tile begins.
template <class Format>
__device__ __forceinline__ uint64_t step_of(uint64_t codes, int steps, int tile, int step) {
  return codes + ((uint64_t)tile * steps + step) * (Format::kPieces * kPieceBytes);
}

// Number k of row `row`. `steps` is the length of rows, `scales` what `kScales` says: scales of blocks lie in rows of whole
// chunks of eight.
template <class Format>
__device__ __forceinline__ float weight_at(uint64_t codes, uint64_t scales, int steps, int row, int k) {
  const uint32_t* words = at<const uint32_t>(step_of<Format>(codes, steps, row / kTileRows, k / kStep));
  const float number = Format::number(words[Format::word(row % kTileRows, k % kStep)], k);
  if constexpr (Format::kScales == Scales::kRow) return number * at<const float>(scales)[row];
  if constexpr (Format::kScales == Scales::kBlock)
    return number * to_float(at<const f16>(scales)[(int64_t)row * ((steps + 3) / 4 * 8) + k / kScaled]);
  return number;
}
template <>
__device__ __forceinline__ float weight_at<Singles>(uint64_t codes, uint64_t, int steps, int row, int k) {
  return at<const float>(codes)[(int64_t)row * steps * kStep + k];
}

}  // namespace vlinders
