// What the kernels of attention share: the plan of a step, spans of positions, and how the results of spans are merged.
//
// Positions of a sequence are read in spans of kSpan at absolute multiples of it. For each span a row (a token and one of its
// heads) gets the greatest score, the sum of weights and the weighted values, starting from nothing; spans are merged in their
// order, by one formula. So a row has the same bits whether one block walks all of its spans or each has a block of its own.
// What may be compiled more than once uses instructions that the compiler does not contract.
#pragma once
#include "common.cuh"

namespace vlinders {

constexpr int kSpan = 128;                // positions of a span
constexpr int kRows = 16;                 // rows of a warp
constexpr uint32_t kNone = 0xffffffffu;   // no partial result, no place in the cache
constexpr uint32_t kPadding = 0xfffffffeu;

struct AttentionParams {
  uint64_t q;             // [n, heads, head_dim] T
  uint64_t keys, values;  // [blocks, kv_heads, block_size, head_dim]
  uint64_t key_scales;    // [blocks, kv_heads, block_size] f32, or 0
  uint64_t value_scales;
  uint64_t plan;      // u32, see below
  uint64_t out;       // [n, heads * head_dim] T
  uint64_t partials;  // [partial rows, kv_heads, head_dim] f32: results of spans
  uint64_t totals;    // [partial rows, kv_heads, 2] f32: their greatest scores and sums of weights
  int32_t heads, kv_heads, head_dim, block_size;
  uint32_t window;  // how many positions a token sees, 0 for all
  uint32_t large;   // which of the two lists of units
  uint32_t tiles;   // for how many tiles there is shared memory: 1 or 2
  uint32_t group;   // heads / kv_heads
  float inner;      // with a soft cap (inner not 0), scores are tanh(q k * inner) * outer, else q k * outer: in powers of two
  float outer;
};

// A plan begins with these words: how many units there are, and where things begin, in words.
enum PlanWord { kNumSmall, kNumLarge, kSmallUnits, kLargeUnits, kPositions, kPartialsOf, kTables };

// Rows of neighbouring tokens of one sequence, at consecutive positions, and the positions [begin, end) that they are
// confronted with. Row r is head r % group of token r / group. If there is a partial result, each span has one, of num_rows
// rows, the first one at `partial`.
struct Unit {
  uint32_t first_row, num_rows, table, begin, end, partial;
};
constexpr int kUnitWords = 6;

// The first words of a plan, all read at once.
struct Header {
  uint32_t num_small, num_large, small_units, large_units, positions, partials_of, tables;
};
__device__ __forceinline__ Header header_of(const uint32_t* plan) {
  return {plan[kNumSmall],  plan[kNumLarge],   plan[kSmallUnits], plan[kLargeUnits],
          plan[kPositions], plan[kPartialsOf], plan[kTables]};
}

__device__ __forceinline__ Unit unit_at(const uint32_t* plan, uint32_t units, uint32_t number) {
  const uint32_t* words = plan + units + number * kUnitWords;
  return {words[0], words[1], words[2], words[3], words[4], words[5]};
}

// The first position that a token at `position` sees.
__device__ __forceinline__ uint32_t seen_from(uint32_t position, uint32_t window) {
  return window != 0 && position >= window ? position - window + 1 : 0;
}

// The row of the cache in which a position lies.
__device__ __forceinline__ uint32_t cache_row(const AttentionParams& p, const uint32_t* table, uint32_t position,
                                              uint32_t kv_head) {
  const uint32_t block = table[position / (uint32_t)p.block_size], offset = position % (uint32_t)p.block_size;
  return (block * (uint32_t)p.kv_heads + kv_head) * (uint32_t)p.block_size + offset;
}

// Row `row` of `bytes` behind `base`: one instruction, where the compiler would add the parts of `base` anew.
template <uint32_t bytes>
__device__ __forceinline__ const unsigned char* row_at(const unsigned char* base, uint32_t row) {
#ifdef __CUDACC__
  const unsigned char* at;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(at) : "r"(row), "n"(bytes), "l"(base));
  return at;
#else
  return base + (uint64_t)row * bytes;
#endif
}

// 2^x.
__device__ __forceinline__ float exp2_of(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

// 1 / x, without the branch that exact division has for numbers that sums of weights never are.
__device__ __forceinline__ float inverse_of(float x) {
#ifdef __CUDACC__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

// What is subtracted from scores: their greatest, or 0 when all of them are minus infinity.
__device__ __forceinline__ float finite_max(float max) { return max == -INFINITY ? 0.0f : max; }

// Results of earlier spans are multiplied by `before`, those of the next one by `next`. An empty one changes nothing.
struct Merge {
  float before, next, max;
};
__device__ __forceinline__ Merge merge_of(float before, float next) {
  const float max = fmaxf(before, next), base = finite_max(max);
  return {exp2_of(__fadd_rn(before, -base)), exp2_of(__fadd_rn(next, -base)), max};
}
__device__ __forceinline__ float merged(const Merge& merge, float before, float next) {
  return __fmaf_rn(next, merge.next, __fmul_rn(before, merge.before));
}

}  // namespace vlinders
