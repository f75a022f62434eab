// Attention on tensor cores, for T = bf16 or f16 over a cache of numbers C: T, or codes of one byte with scales.
//
// A warp has 16 rows, a block 1 to 4 warps that read the same positions; those without rows help to copy. Keys and values of a
// tile of positions come to shared memory by asynchronous copies: values while scores are made, the next keys while values are
// weighted. Numbers of a position lie together, padded by 16 bytes, so that rows of matrices are in different banks. The sum
// of weights is a column of the second product, whose values are ones: it has the same order of additions, and counts weights
// as they were rounded.
//
// A tile of which a row sees nothing leaves the row as it is, so it does not matter which rows share a warp or a block.
#pragma once
#include "attention.cuh"

namespace vlinders {

constexpr int kAttentionThreads = 128;

// Byte `i` of codes whose sign bit was turned, as a number: they are the last bits of 2^23 + code + 128.
__device__ __forceinline__ float code_at(uint32_t turned, uint32_t i) {
  return __uint_as_float(__byte_perm(turned, 0x4b000000u, 0x7650u | i)) - 8388736.0f;
}
// Four codes as two pairs: bytes `a` and `b`, bytes `c` and `d`.
template <class T, int a, int b, int c, int d>
__device__ __forceinline__ void pairs_of_codes(uint32_t (&to)[2], uint32_t codes) {
  const uint32_t turned = codes ^ 0x80808080u;
  to[0] = pair_of<T>(code_at(turned, a), code_at(turned, b));
  to[1] = pair_of<T>(code_at(turned, c), code_at(turned, d));
}

template <class T, class C, int D>
struct Attention {
  static constexpr bool kCodes = sizeof(C) == 1;
  // Positions at a time. Wide heads leave no registers for more, nor for queries.
  static constexpr int kTile = D <= 128 ? 64 : 32;
  static constexpr int kSpanTiles = kSpan / kTile;
  static constexpr bool kQueryInRegisters = D <= 128;
  static constexpr int kRowBytes = D * (int)sizeof(C) + 16;
  static constexpr int kPieces = D * (int)sizeof(C) / 16;  // of 16 bytes, in a row
  static constexpr int kSharers = kPieces & -kPieces;  // threads that copy a row: all if that is a power of two
  static constexpr int kParts = D / 16;  // of 16 numbers, in a head
  static constexpr int kUnroll = kQueryInRegisters ? kParts : 2;
  static constexpr int kQueryRow = D + 8;
  // What a warp has for itself: merged spans and queries.
  static constexpr int kSumsBytes = 2 * kParts * kWarp * (int)sizeof(float4);
  static constexpr int kWarpBytes = kSumsBytes + (kQueryInRegisters ? 0 : kRows * kQueryRow * (int)sizeof(T));

  // What is in shared memory: rows of the cache for two spans, scales, keys, values; of a warp, merged spans and queries.
  uint32_t* rows;
  float *key_scales, *value_scales;
  unsigned char *keys, *values;
  float4* merged_sums;
  T* queries;

  const AttentionParams& p;
  const uint32_t* plan;
  int lane, warp;

  // Of the unit.
  Unit unit;
  uint32_t kv_head, begin;
  bool has_rows;       // whether this warp has any
  uint32_t from[2], to[2];  // what this thread's rows see, lane / 4 and 8 more; nothing if there is no such row
  uint32_t warp_from, warp_to;

  float sums[2 * kParts][4], totals[4], most[2];
  float run_total[2], run_most[2];  // of the spans before
  uint32_t query[kQueryInRegisters ? kParts : 1][4];

  __device__ __forceinline__ Attention(const AttentionParams& params, unsigned char* shared) : p(params) {
    lane = threadIdx.x % kWarp;
    warp = threadIdx.x / kWarp;
    plan = at<const uint32_t>(p.plan);
    rows = reinterpret_cast<uint32_t*>(shared);
    key_scales = reinterpret_cast<float*>(rows + 2 * kSpan);
    value_scales = key_scales + kTile;
    keys = reinterpret_cast<unsigned char*>(value_scales + kTile);
    values = keys + kTile * kRowBytes;
    unsigned char* own = values + kTile * kRowBytes + warp * kWarpBytes;
    // Each thread has its own sums, so offsets from one to the next are constants.
    merged_sums = reinterpret_cast<float4*>(own) + lane;
    queries = reinterpret_cast<T*>(own + kSumsBytes);
  }

  // Numbers `first` and `first + 1` of a part of 16 are those that a thread has of a pair of columns. Codes are taken four at
  // a time, as they lie.
  __device__ __forceinline__ int pair_at(int part, int pair) const {
    const int t = lane % 4;
    return part * 16 + (kCodes ? 4 * t + 2 * pair : 8 * pair + 2 * t);
  }

  __device__ __forceinline__ void find_rows() {
    const uint32_t group = (uint32_t)(p.heads / p.kv_heads), last = unit.num_rows - 1;
    const uint32_t* positions = plan + plan[kPositions];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const uint32_t local = warp * kRows + lane / 4 + 8 * r;
      const uint32_t position = positions[(unit.first_row + min(local, last)) / group];
      from[r] = seen_from(position, p.window);
      to[r] = local <= last ? position + 1 : 0;
    }
    const uint32_t first_local = warp * kRows;
    has_rows = first_local <= last;
    warp_from = warp_to = 0;
    if (has_rows) {
      warp_from = seen_from(positions[(unit.first_row + first_local) / group], p.window);
      warp_to = positions[(unit.first_row + min(first_local + kRows - 1, last)) / group] + 1;
    }
  }

  // Where this thread's row begins among the heads of all tokens.
  __device__ __forceinline__ uint64_t head_of(int r) const {
    const uint32_t group = (uint32_t)(p.heads / p.kv_heads), row = unit.first_row + warp * kRows + lane / 4 + 8 * r;
    return ((uint64_t)(row / group) * p.heads + kv_head * group + row % group) * p.head_dim;
  }

  __device__ __forceinline__ void load_query() {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const T* head = at<const T>(p.q) + head_of(r);
#pragma unroll
      for (int i = 0; i < 2 * kParts; i++) {
        const int number = pair_at(i / 2, i % 2);
        uint32_t pair = 0;
        if (to[r] != 0 && number < p.head_dim) pair = *reinterpret_cast<const uint32_t*>(head + number);
        if constexpr (kQueryInRegisters) {
          query[i / 2][2 * (i % 2) + r] = pair;
        } else {
          T* row = queries + (lane / 4 + 8 * r) * kQueryRow;
          *reinterpret_cast<uint32_t*>(row + number) = pair;
        }
      }
    }
  }

  __device__ __forceinline__ void query_of(uint32_t (&a)[4], int part) const {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if constexpr (kQueryInRegisters) {
        a[i] = query[part][i];
      } else {
        // What this thread wrote.
        const T* from = queries + (lane / 4 + 8 * (i % 2)) * kQueryRow + pair_at(part, i / 2);
        a[i] = *reinterpret_cast<const uint32_t*>(from);
      }
    }
  }

  // Where the positions of a span lie.
  __device__ __forceinline__ void find_span(uint32_t span) {
    const uint32_t* table = plan + plan[kTables] + unit.table;
    uint32_t* to = rows + span % 2 * kSpan;
    for (uint32_t i = threadIdx.x; i < kSpan; i += blockDim.x) {
      const uint32_t position = span * kSpan + i;
      to[i] = position >= begin && position < unit.end ? cache_row(p, table, position, kv_head) : kNone;
    }
  }

  // Start to copy the keys or values of a tile. What nobody sees is zeros: it may be anything, also NaNs, in the cache.
  __device__ __forceinline__ void load(uint64_t cache, uint64_t scales, uint32_t tile, unsigned char* to, float* scales_to) {
    const uint32_t* of = rows + tile * kTile % (2 * kSpan);
    const uint32_t row_bytes = (uint32_t)p.head_dim * sizeof(C);
    const int step = blockDim.x / kSharers;
    const unsigned char* own = at<const unsigned char>(cache) + 16 * (threadIdx.x % kSharers);
    unsigned char* own_to = to + 16 * (threadIdx.x % kSharers);
#pragma unroll 8
    for (int place = threadIdx.x / kSharers; place < kTile; place += step) {
      const uint32_t row = of[place];
      const unsigned char* from = own + (uint64_t)(row != kNone ? row : 0) * row_bytes;
#pragma unroll
      for (int piece = 0; piece < kPieces; piece += kSharers) {
        const bool valid = row != kNone && 16 * (piece + threadIdx.x % kSharers) < row_bytes;
        copy_async(own_to + place * kRowBytes + 16 * piece, from + 16 * piece, valid);
      }
    }
    if constexpr (kCodes) {
      for (int place = threadIdx.x; place < kTile; place += blockDim.x) {
        const uint32_t row = of[place];
        copy_word_async(scales_to + place, at<const float>(scales) + (row != kNone ? row : 0), row != kNone);
      }
    }
    commit_copies();
  }

  // Products of 16 queries and the keys of a tile, as scores; those that a row does not see are minus infinity.
  __device__ __forceinline__ void score(uint32_t tile, float (&scores)[kTile / 8][4]) const {
#pragma unroll
    for (int i = 0; i < kTile / 8; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) scores[i][j] = 0.0f;
    constexpr int kStep = kCodes ? 2 : 1;  // parts of a head in one load
#pragma unroll(kUnroll)
    for (int part = 0; part < kParts; part += kStep) {
      uint32_t a[kStep][4];
#pragma unroll
      for (int s = 0; s < kStep; s++) query_of(a[s], part + s);
#pragma unroll
      for (int pair = 0; pair < kTile / 16; pair++) {
        const unsigned char* row = keys + (16 * pair + lane / 16 * 8 + lane % 8) * kRowBytes +
                                   part * 16 * (int)sizeof(C) + lane / 8 % 2 * 16;
        uint32_t b[4];
        load_matrices<false>(b, row);
        if constexpr (kCodes) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            uint32_t codes[2];
            pairs_of_codes<T, 0, 1, 2, 3>(codes, b[i]);
            mma<T>(scores[2 * pair + i / 2], a[i % kStep], codes);
          }
        } else {
          const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
          mma<T>(scores[2 * pair], a[0], left);
          mma<T>(scores[2 * pair + 1], a[0], right);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kTile / 8; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) {
        float score = scores[i][j];
        if (kCodes) score *= key_scales[8 * i + 2 * (lane % 4) + j % 2];
        // tanh, from one power of two.
        if (p.inner != 0.0f) score = 1.0f - 2.0f * inverse_of(exp2_of(score * p.inner * 2.885390082f) + 1.0f);
        scores[i][j] = score * p.outer;
      }
    const uint32_t first = tile * kTile;
    if (first >= max(from[0], from[1]) && first + kTile <= min(to[0], to[1])) return;
#pragma unroll
    for (int i = 0; i < kTile / 8; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const uint32_t position = first + 8 * i + 2 * (lane % 4) + j % 2;
        if (position < from[j / 2] || position >= to[j / 2]) scores[i][j] = -INFINITY;
      }
  }

  // Turn scores into weights, and add weighted values to the sums.
  __device__ __forceinline__ void weigh(float (&scores)[kTile / 8][4]) {
    float before[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float max = most[r];
#pragma unroll
      for (int i = 0; i < kTile / 8; i++) max = fmaxf(max, fmaxf(scores[i][2 * r], scores[i][2 * r + 1]));
      max = fmaxf(max, __shfl_xor_sync(kFullMask, max, 1));
      max = fmaxf(max, __shfl_xor_sync(kFullMask, max, 2));
      const float base = finite_max(max);
      // Nothing times one, when there was nothing: rows that do not exist would ask for it each time.
      before[r] = most[r] == -INFINITY ? 1.0f : exp2_of(most[r] - base);
      most[r] = max;
#pragma unroll
      for (int i = 0; i < kTile / 8; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) scores[i][2 * r + j] = exp2_of(scores[i][2 * r + j] - base);
    }
    // Times one is nothing to do, and the common case.
    if (__any_sync(kFullMask, before[0] != 1.0f || before[1] != 1.0f)) {
#pragma unroll
      for (int i = 0; i < 2 * kParts; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] *= before[j / 2];
#pragma unroll
      for (int j = 0; j < 4; j++) totals[j] *= before[j / 2];
    }
    const uint32_t ones[2] = {pair_of<T>(1.0f, 1.0f), pair_of<T>(1.0f, 1.0f)};
#pragma unroll
    for (int step = 0; step < kTile / 16; step++) {
      uint32_t a[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float* of = scores[2 * step + i / 2] + i % 2 * 2;
        a[i] = pair_of<T>(of[0], of[1]);
      }
      mma<T>(totals, a, ones);
      if constexpr (kCodes) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float* of = scores[2 * step + i / 2] + i % 2 * 2;
          const float* scale = value_scales + 16 * step + i / 2 * 8 + 2 * (lane % 4);
          a[i] = pair_of<T>(of[0] * scale[0], of[1] * scale[1]);
        }
      }
      const unsigned char* row = values + (16 * step + lane / 8 % 2 * 8 + lane % 8) * kRowBytes + lane / 16 * 16;
      constexpr int kStep = kCodes ? 2 : 1;  // parts of a head in one load
#pragma unroll
      for (int part = 0; part < kParts; part += kStep) {
        uint32_t b[4];
        load_matrices<true>(b, row + part * 16 * (int)sizeof(C));
        if constexpr (kCodes) {
#pragma unroll
          for (int s = 0; s < 2; s++) {
            // A register holds two numbers of each of two positions: they belong to different columns.
            uint32_t low[2], high[2], even[2], odd[2];
            pairs_of_codes<T, 0, 2, 1, 3>(low, b[2 * s]);
            pairs_of_codes<T, 0, 2, 1, 3>(high, b[2 * s + 1]);
            even[0] = low[0], even[1] = high[0], odd[0] = low[1], odd[1] = high[1];
            mma<T>(sums[2 * (part + s)], a, even);
            mma<T>(sums[2 * (part + s) + 1], a, odd);
          }
        } else {
          const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
          mma<T>(sums[2 * part], a, left);
          mma<T>(sums[2 * part + 1], a, right);
        }
      }
    }
  }

  __device__ __forceinline__ void begin_span() {
#pragma unroll
    for (int i = 0; i < 2 * kParts; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) sums[i][j] = 0.0f;
#pragma unroll
    for (int j = 0; j < 4; j++) totals[j] = 0.0f;
    most[0] = most[1] = -INFINITY;
  }

  // The two neighbouring numbers that this thread has of row r, pair and part as `pair_at` has them.
  __device__ __forceinline__ float2 pair_of_sums(int part, int pair, int r) const {
    return kCodes ? make_float2(sums[2 * part][2 * r + pair], sums[2 * part + 1][2 * r + pair])
                  : make_float2(sums[2 * part + pair][2 * r], sums[2 * part + pair][2 * r + 1]);
  }

  // Sums are left alone here, or the compiler would keep a second set of them.
  __device__ __forceinline__ void end_span(bool first, bool last) {
    if (unit.partial != kNone) {
      write_partial();
      return;
    }
    Merge merge[2];
    float inverse[2];
    T* out[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      merge[r] = merge_of(run_most[r], most[r]);
      run_most[r] = merge[r].max;
      run_total[r] = merged(merge[r], run_total[r], totals[2 * r]);
      inverse[r] = inverse_of(run_total[r]);
      out[r] = at<T>(p.out) + head_of(r);
    }
#pragma unroll
    for (int part = 0; part < kParts; part++) {
      float4 runs[2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float4& place = merged_sums[(2 * part + i) * kWarp];
        const float(&sum)[4] = sums[2 * part + i];
        const float4 before = first ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : place;
        runs[i] = make_float4(merged(merge[0], before.x, sum[0]), merged(merge[0], before.y, sum[1]),
                              merged(merge[1], before.z, sum[2]), merged(merge[1], before.w, sum[3]));
        if (!last) place = runs[i];
      }
      if (last) write_out(part, runs, inverse, out);
    }
  }

  __device__ __forceinline__ void write_partial() const {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (to[r] == 0) continue;
      const uint64_t row = (uint64_t)(unit.partial + warp * kRows + lane / 4 + 8 * r) * p.kv_heads + kv_head;
      float* sums_to = at<float>(p.partials) + row * p.head_dim;
#pragma unroll
      for (int i = 0; i < 2 * kParts; i++) {
        const int number = pair_at(i / 2, i % 2);
        if (number < p.head_dim) *reinterpret_cast<float2*>(sums_to + number) = pair_of_sums(i / 2, i % 2, r);
      }
      if (lane % 4 == 0)
        *reinterpret_cast<float2*>(at<float>(p.totals) + 2 * row) = make_float2(most[r], totals[2 * r]);
    }
  }

  __device__ __forceinline__ void write_out(int part, const float4 (&runs)[2], const float (&inverse)[2],
                                            T* const (&out)[2]) const {
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
      for (int pair = 0; pair < 2; pair++) {
        const int number = pair_at(part, pair);
        if (to[r] == 0 || number >= p.head_dim) continue;
        const float2 left = r ? make_float2(runs[0].z, runs[0].w) : make_float2(runs[0].x, runs[0].y);
        const float2 right = r ? make_float2(runs[1].z, runs[1].w) : make_float2(runs[1].x, runs[1].y);
        const float2 own = kCodes ? (pair ? make_float2(left.y, right.y) : make_float2(left.x, right.x)) : (pair ? right : left);
        *reinterpret_cast<uint32_t*>(out[r] + number) =
            pair_of<T>(__fmul_rn(own.x, inverse[r]), __fmul_rn(own.y, inverse[r]));
      }
    }
  }

  __device__ __forceinline__ void attend(uint32_t number) {
    unit = unit_at(plan, p.large, number / (uint32_t)p.kv_heads);
    kv_head = number % (uint32_t)p.kv_heads;
    const uint32_t first_token = unit.first_row / (uint32_t)(p.heads / p.kv_heads);
    begin = max(unit.begin, seen_from(plan[plan[kPositions] + first_token], p.window));
    // A span before the window of all rows: nobody will ask for it.
    if (begin >= unit.end) return;
    const uint32_t first = begin / kTile, last = (unit.end - 1) / kTile;
    find_rows();
    find_span(begin / kSpan);
    __syncthreads();
    load(p.keys, p.key_scales, first, keys, key_scales);
    if (has_rows) load_query();
    run_most[0] = run_most[1] = -INFINITY;
    run_total[0] = run_total[1] = 0.0f;
    for (uint32_t tile = first; tile <= last;) {
      const uint32_t span = tile / kSpanTiles, end = min(last, span * kSpanTiles + kSpanTiles - 1);
      begin_span();
      for (; tile <= end; tile++) {
        // Some row of this warp may see some of it.
        const bool sees = has_rows && tile * kTile < warp_to && (tile + 1) * kTile > warp_from;
        wait_copies<0>();
        __syncthreads();
        load(p.values, p.value_scales, tile, values, value_scales);
        if (tile == end && tile < last) find_span(span + 1);
        float scores[kTile / 8][4];
        if (sees) score(tile, scores);
        wait_copies<0>();
        __syncthreads();
        if (tile < last) load(p.keys, p.key_scales, tile + 1, keys, key_scales);
        if (sees) weigh(scores);
      }
      if (has_rows) end_span(span == first / kSpanTiles, end == last);
    }
    __syncthreads();
  }
};

template <class T, class C, int D>
__device__ __forceinline__ void attention(const AttentionParams& p) {
  SHARED_BYTES(shared);
  Attention<T, C, D> attention(p, shared);
  const uint32_t count = attention.plan[p.large ? kNumLarge : kNumSmall] * (uint32_t)p.kv_heads;
  for (uint32_t number = blockIdx.x; number < count; number += gridDim.x) attention.attend(number);
}

}  // namespace vlinders

#define ATTENTION(name, T, C, D) \
  KERNEL(name, vlinders::AttentionParams, vlinders::kAttentionThreads) { vlinders::attention<T, C, D>(p); }
