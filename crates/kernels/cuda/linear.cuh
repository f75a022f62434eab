// y = x w^T + bias: the one order in which products are added, whatever kernel does it.
//
// k is cut into chunks of 256. A chunk is added up from zero by tensor cores, 16 products at a time, ascending but for the
// places of numbers among their 32: first the numbers 0 .. 3 of each run of eight, then 4 .. 7. Where blocks of 32 have scales
// their sums begin at zero too and are multiplied before they join that of the chunk. Chunks are added in f32, ascending; the scale of
// a row and the bias come last. Rows of w are always those of the left operand, tokens the columns of the right one.
#pragma once
#include "weights.cuh"

namespace vlinders {

constexpr int kStepsOfChunk = 4;

struct LinearParams {
  uint64_t x;       // [tokens, inn] T, rows aligned to 16 bytes
  uint64_t codes;   // tiles of sixteen rows, in steps of 64
  uint64_t scales;  // f32 [out], or f16 [out, chunks of eight]
  uint64_t bias;    // [out] T, or 0
  uint64_t y;       // [tokens, out] T or f32
  int32_t tokens;
  int32_t inn;  // a multiple of eight
  int32_t out;
  int32_t steps;
  int32_t y_is_f32;
  int32_t slots;  // chunks whose sums fit shared memory together, where that matters
  int32_t gated;  // whether y is [tokens, out / 2] T, silu of the first half of outputs times the second; halves are whole tiles
  int32_t unused;  // so that the struct has no padding
};

// Which tile of w is number `i` of a block of kTiles. With gates, half of them are in the first half of w, and the others the ones that
// belong to these in the second half. Beyond the last tile it is read again: nobody looks at what becomes of it.
template <int kTiles>
__device__ __forceinline__ int tile_of_block(const LinearParams& p, int block, int i) {
  int tile = block * kTiles + i;
  if (kTiles % 2 == 0 && p.gated) {
    constexpr int kHalf = kTiles / 2;
    tile = block * kHalf + (i < kHalf ? i : i - kHalf + p.out / 2 / kTileRows);
  }
  return min(tile, (p.out - 1) / kTileRows);
}

// Half b of a step of a tile, as left operands. `words` are the lane's; the words of scales (those of rows lane / 4 and
// 8 + lane / 4) have those of half 0 in their low halves.
template <class Format, class T>
struct Operand {
  uint32_t numbers[2][4];
  float scales[2];

  __device__ __forceinline__ Operand(const uint32_t (&words)[4 * Format::kPieces], int b) {
    Format::template expand<T>(words, b, numbers);
  }
  __device__ __forceinline__ void set_scales(uint32_t low, uint32_t high, int b) {
    const uint32_t words[2] = {low, high};
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint16_t bits = (uint16_t)(b ? words[i] >> 16 : words[i]);
      scales[i] = to_float(*reinterpret_cast<const f16*>(&bits));
    }
  }
  // Add the products with eight tokens. `x` has the lane's eight numbers of token lane / 4.
  __device__ __forceinline__ void multiply(const uint32_t (&x)[4], float (&sums)[4]) const {
    if constexpr (Format::kScales == Scales::kBlock) {
      float block[4] = {};
      products(x, block);
#pragma unroll
      for (int i = 0; i < 4; i++) sums[i] = fmaf(scales[i / 2], block[i], sums[i]);
    } else {
      products(x, sums);
    }
  }

 private:
  __device__ __forceinline__ void products(const uint32_t (&x)[4], float (&sums)[4]) const {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint32_t b[2] = {x[2 * half], x[2 * half + 1]};
      mma<T>(sums, numbers[half], b);
    }
  }
};

// What becomes of sums of all chunks of an output.
template <class Format, class T>
struct Finish {
  float scale, bias;

  __device__ __forceinline__ Finish(const LinearParams& p, int out)
      : scale(Format::kScales == Scales::kRow ? at<const float>(p.scales)[out] : 1.0f),
        bias(p.bias ? to_float(at<const T>(p.bias)[out]) : 0.0f) {}
  __device__ __forceinline__ float of(float sum) const {
    return Format::kScales == Scales::kRow ? fmaf(sum, scale, bias) : sum + bias;
  }
};
template <class Format, class T>
__device__ __forceinline__ float finish(const LinearParams& p, float sum, int out) {
  return Finish<Format, T>(p, out).of(sum);
}

// Four words of weights. These are read once: they should not push anything else out of the first-level cache.
__device__ __forceinline__ void load_piece(uint32_t* to, uint64_t from) {
#ifdef __CUDACC__
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "l"(from));
#else
  memcpy(to, at<const uint4>(from), 16);
#endif
}

// Sixteen bytes of activations, or zeros.
__device__ __forceinline__ void load_if(bool valid, uint32_t (&to)[4], const void* from) {
#ifdef __CUDACC__
  asm volatile(
      "{ .reg .pred valid; setp.ne.b32 valid, %5, 0; mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0;"
      " @valid ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4]; }"
      : "=&r"(to[0]), "=&r"(to[1]), "=&r"(to[2]), "=&r"(to[3])
      : "l"(from), "r"((int)valid));
#else
  memset(to, 0, 16);
  if (valid) memcpy(to, static_cast<const uint4*>(from), 16);
#endif
}

__device__ __forceinline__ void unpack(uint32_t* to, uint4 words) {
  to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
}

}  // namespace vlinders
