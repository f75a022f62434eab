// Attention on tensor cores, for T = bf16 or f16 over a cache of numbers C: T, or codes of one byte with scales.
//
// A warp has 16 rows, a block 1 to 8 warps that read the same positions; those without rows help to copy. Keys and values of a
// tile of positions come to shared memory by asynchronous copies. If there is room for two tiles, the next one comes while one
// is worked on. Else values come while scores are made, the next keys while values are weighted: for decoding, where
// many blocks at a time hide that each of them waits. Numbers of a position lie together, padded by 16 bytes, so that rows of
// matrices are in different banks. The sum of weights is a column of the second product, whose values are ones: it has
// the same order of additions, and counts weights as they were rounded.
//
// A tile of which a row sees nothing leaves the row as it is, so it does not matter which rows share a warp or a block.
//
// The limit of this: a weight of zero times a value that is not finite is NaN. Positions outside of [begin, end) of a unit are
// zeros in shared memory whatever the cache has, but those that other rows of the same warp see are not: an infinity or a NaN in
// values at some position makes NaNs in those rows of the same warp that end before it, in the same tile. These are earlier
// tokens of the same sequence in the same step, at most kTile - 1 positions before; they would have been finite in a step of
// their own. Finite values have no such effect, nor have keys of any kind.
#pragma once
#include "attention_scores.cuh"

namespace vlinders {

constexpr int kAttentionThreads = 256;
constexpr int kCopyThreads = 128;  // the most that copy keys, and values

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
  static constexpr int kPlaces = kTile * kSharers / kCopyThreads;  // rows that each of the most threads copies
  static constexpr int kBatch = kQueryInRegisters || kPlaces < 4 ? kPlaces : 4;  // rows at a time
  static constexpr uint32_t kWholeRow = D * sizeof(C);  // bytes of a head that fills the room for it
  static constexpr int kParts = D / 16;  // of 16 numbers, in a head
  static constexpr int kUnroll = kQueryInRegisters ? kParts : 2;
  static constexpr int kQueryRow = D + 8;
  // What a warp has for itself: merged spans and queries.
  static constexpr int kSumsBytes = 2 * kParts * kWarp * (int)sizeof(float4);
  static constexpr int kWarpBytes = kSumsBytes + (kQueryInRegisters ? 0 : kRows * kQueryRow * (int)sizeof(T));

  static constexpr int kTileBytes = kTile * kRowBytes;  // of keys or values
  static constexpr int kStageBytes = 2 * kTileBytes + 2 * kTile * (int)sizeof(float);

  // What is in shared memory: rows of the cache for two spans; for one or two tiles keys, values, scales; of a warp, merged
  // spans and queries.
  uint32_t* rows;
  unsigned char* stages;
  float4* merged_sums;
  T* queries;

  const AttentionParams& p;
  const uint32_t* plan;
  int lane, warp;
  Header header;
  int block_shift;  // the logarithm of the size of a block, if that is whole, else -1
  float factor;     // of scores in powers of two: it is left to the weights if it keeps the order of scores

  // Of the unit.
  Unit unit;
  uint32_t kv_head, begin;
  bool has_rows;       // whether this warp has any
  bool exists[2];           // this thread's rows, lane / 4 and 8 more
  uint32_t from[2], to[2];  // what they see; the same as the last row does where there is no such row, so nothing is masked for it
  uint32_t warp_from, warp_to;
  bool upper;  // whether any of the last eight rows of this warp exists

  float sums[2 * kParts][4], totals[4], most[2];
  float run_total[2], run_most[2];  // of the spans before
  uint32_t query[kQueryInRegisters ? kParts : 1][4];

  __device__ __forceinline__ Attention(const AttentionParams& params, unsigned char* shared) : p(params) {
    lane = threadIdx.x % kWarp;
    warp = threadIdx.x / kWarp;
    plan = at<const uint32_t>(p.plan);
    header = header_of(plan);
    block_shift = __popc((unsigned)p.block_size) == 1 ? __ffs(p.block_size) - 1 : -1;
    factor = factor_of(p);
    rows = reinterpret_cast<uint32_t*>(shared);
    stages = shared + 2 * kSpan * sizeof(uint32_t);
    unsigned char* own = stages + (is_doubled() ? 2 : 1) * kStageBytes + warp * kWarpBytes;
    // Each thread has its own sums, so offsets from one to the next are constants.
    merged_sums = reinterpret_cast<float4*>(own) + lane;
    queries = reinterpret_cast<T*>(own + kSumsBytes);
  }

  // Whether shared memory holds two tiles: not of wide heads.
  __device__ __forceinline__ bool is_doubled() const { return kQueryInRegisters && p.tiles == 2; }
  __device__ __forceinline__ unsigned char* keys_of(uint32_t tile) const {
    return stages + (is_doubled() && tile % 2 ? kStageBytes : 0);
  }
  // Scales of keys, then those of values.
  __device__ __forceinline__ float* scales_of(uint32_t tile) const {
    return reinterpret_cast<float*>(keys_of(tile) + 2 * kTileBytes);
  }

  // Numbers `first` and `first + 1` of a part of 16 are those that a thread has of a pair of columns. Codes are taken four at
  // a time, as they lie.
  __device__ __forceinline__ int pair_at(int part, int pair) const {
    const int t = lane % 4;
    return part * 16 + (kCodes ? 4 * t + 2 * pair : 8 * pair + 2 * t);
  }

  __device__ __forceinline__ void find_rows() {
    const uint32_t group = p.group, last = unit.num_rows - 1;
    const uint32_t* positions = plan + header.positions;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const uint32_t local = warp * kRows + lane / 4 + 8 * r;
      const uint32_t position = positions[(unit.first_row + min(local, last)) / group];
      exists[r] = local <= last;
      from[r] = seen_from(position, p.window);
      to[r] = position + 1;
    }
    const uint32_t first_local = warp * kRows;
    has_rows = first_local <= last;
    upper = first_local + 8 <= last;
    warp_from = warp_to = 0;
    if (has_rows) {
      warp_from = seen_from(positions[(unit.first_row + first_local) / group], p.window);
      warp_to = positions[(unit.first_row + min(first_local + kRows - 1, last)) / group] + 1;
    }
  }

  // Where this thread's row begins among the heads of all tokens.
  __device__ __forceinline__ uint64_t head_of(int r) const {
    const uint32_t group = p.group, row = unit.first_row + warp * kRows + lane / 4 + 8 * r;
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
        if (exists[r] && number < p.head_dim) pair = *reinterpret_cast<const uint32_t*>(head + number);
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

  // The blocks of the cache in which positions of a span lie: asked for early, and kept as rows when they are there.
  struct Blocks {
    uint32_t of[kSpan / kWarp];
  };
  __device__ __forceinline__ bool is_read(uint32_t position) const { return position >= begin && position < unit.end; }
  __device__ __forceinline__ Blocks blocks_of(uint32_t span) const {
    const uint32_t* table = plan + header.tables + unit.table;
    Blocks blocks;
#pragma unroll
    for (uint32_t i = 0; i < kSpan / kWarp; i++) {
      const uint32_t place = threadIdx.x + i * blockDim.x, position = span * kSpan + place;
      blocks.of[i] = place < kSpan && is_read(position) ? __ldg(table + block_of(position)) : kNone;
    }
    return blocks;
  }
  __device__ __forceinline__ void keep_rows(uint32_t span, const Blocks& blocks) {
#pragma unroll
    for (uint32_t i = 0; i < kSpan / kWarp; i++) {
      const uint32_t place = threadIdx.x + i * blockDim.x, position = span * kSpan + place;
      if (place >= kSpan) break;
      const uint32_t block = blocks.of[i], size = (uint32_t)p.block_size;
      const uint32_t row = (block * (uint32_t)p.kv_heads + kv_head) * size + position - block_of(position) * size;
      rows[span % 2 * kSpan + place] = block != kNone ? row : kNone;
    }
  }
  // Sizes of blocks are nearly always powers of two.
  __device__ __forceinline__ uint32_t block_of(uint32_t position) const {
    return block_shift >= 0 ? position >> block_shift : position / (uint32_t)p.block_size;
  }

  // Start to copy the keys or values of a tile. What nobody sees is zeros: it may be anything, also NaNs, in the cache.
  template <bool values>
  __device__ __forceinline__ void load(uint32_t tile) {
    const uint64_t cache = values ? p.values : p.keys, scales = values ? p.value_scales : p.key_scales;
    unsigned char* to = keys_of(tile) + (values ? kTileBytes : 0);
    float* scales_to = scales_of(tile) + (values ? kTile : 0);
    // Neighbouring places for each thread: their distance in shared memory is a constant. Of many threads, the first half
    // copies keys, the other half values.
    const int worker = (int)(blockDim.x > kCopyThreads && values ? threadIdx.x ^ kCopyThreads : threadIdx.x);
    const int places = kTile * kSharers / min((int)blockDim.x, kCopyThreads);
    const int first = worker / kSharers * places;
    const uint32_t* of = rows + tile * kTile % (2 * kSpan);
    const uint32_t* of_own = of + first;
    const uint32_t column = 16 * (threadIdx.x % kSharers), row_bytes = (uint32_t)p.head_dim * sizeof(C);
    const unsigned char* own = at<const unsigned char>(cache) + column;
    unsigned char* own_to = to + column + first * kRowBytes;
    if (worker >= kCopyThreads) {
    } else if (tile * kTile >= begin && (tile + 1) * kTile <= unit.end && row_bytes == kWholeRow) {
      // Nothing to leave out, so a copy is two instructions. Rows are read before, all at once.
#pragma unroll 1
      for (int i = 0; i < places; i += kBatch) {
        uint32_t row[kBatch];
        if constexpr (kBatch % 4 == 0) {
#pragma unroll
          for (int j = 0; j < kBatch; j += 4) {
            const uint4 four = *reinterpret_cast<const uint4*>(of_own + j);
            row[j] = four.x, row[j + 1] = four.y, row[j + 2] = four.z, row[j + 3] = four.w;
          }
        } else {
#pragma unroll
          for (int j = 0; j < kBatch; j++) row[j] = of_own[j];
        }
#pragma unroll
        for (int j = 0; j < kBatch; j++) {
          const unsigned char* from = row_at<kWholeRow>(own, row[j]);
#pragma unroll
          for (int piece = 0; piece < kPieces; piece += kSharers)
            copy_async(own_to + j * kRowBytes + 16 * piece, from + 16 * piece);
        }
        of_own += kBatch;
        own_to += kBatch * kRowBytes;
      }
    } else {
#pragma unroll 2
      for (int i = 0; i < places; i++) {
        const uint32_t row = of_own[i];
        const unsigned char* from = own + (uint64_t)(row != kNone ? row : 0) * row_bytes;
#pragma unroll
        for (int piece = 0; piece < kPieces; piece += kSharers) {
          const bool valid = row != kNone && 16 * piece + column < row_bytes;
          copy_async(own_to + i * kRowBytes + 16 * piece, from + 16 * piece, valid);
        }
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

  // Products of 16 queries and the keys of a tile, as scores up to `factor`; those that a row does not see are
  // minus infinity.
  __device__ __forceinline__ void score(uint32_t tile, float (&scores)[kTile / 8][4]) const {
    const unsigned char* keys = keys_of(tile);
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
    if constexpr (kCodes) {
#pragma unroll
      for (int i = 0; i < kTile / 8; i++) {
        const float2 scale = *reinterpret_cast<const float2*>(scales_of(tile) + 8 * i + 2 * (lane % 4));
#pragma unroll
        for (int j = 0; j < 4; j++) scores[i][j] *= j % 2 ? scale.y : scale.x;
      }
    }
    finish_scores(p, scores);
    const uint32_t first = tile * kTile;
    if (first >= max(from[0], from[1]) && first + kTile <= min(to[0], to[1])) return;
    hide_scores(scores, first, from, to);
  }

  // Turn scores into weights, and add weighted values to the sums.
  __device__ __forceinline__ void weigh(uint32_t tile, float (&scores)[kTile / 8][4]) {
    const unsigned char* values = keys_of(tile) + kTileBytes;
    float before[2] = {1.0f, 1.0f};
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (r == 1 && !upper) break;  // these rows may become anything
      before[r] = weigh_scores(scores, r, most[r], factor);
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
      pack_weights<T>(a, scores, step);
      mma<T>(totals, a, ones);
      if constexpr (kCodes) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float* of = scores[2 * step + i / 2] + i % 2 * 2;
          const float* scale = scales_of(tile) + kTile + 16 * step + i / 2 * 8 + 2 * (lane % 4);
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
  __device__ __forceinline__ void end_span(uint32_t span, bool first, bool last) {
    if (unit.partial != kNone) {
      write_partial(unit.partial + (span - unit.begin / kSpan) * unit.num_rows);
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

  __device__ __forceinline__ void write_partial(uint32_t partial) const {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (!exists[r]) continue;
      const uint64_t row = (uint64_t)(partial + warp * kRows + lane / 4 + 8 * r) * p.kv_heads + kv_head;
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
        if (!exists[r] || number >= p.head_dim) continue;
        const float2 left = r ? make_float2(runs[0].z, runs[0].w) : make_float2(runs[0].x, runs[0].y);
        const float2 right = r ? make_float2(runs[1].z, runs[1].w) : make_float2(runs[1].x, runs[1].y);
        const float2 own = kCodes ? (pair ? make_float2(left.y, right.y) : make_float2(left.x, right.x)) : (pair ? right : left);
        *reinterpret_cast<uint32_t*>(out[r] + number) =
            pair_of<T>(__fmul_rn(own.x, inverse[r]), __fmul_rn(own.y, inverse[r]));
      }
    }
  }

  __device__ __forceinline__ void attend(uint32_t number) {
    unit = unit_at(plan, p.large ? header.large_units : header.small_units, number / (uint32_t)p.kv_heads);
    kv_head = number % (uint32_t)p.kv_heads;
    begin = unit.begin;
    if (p.window != 0) {
      const uint32_t first_token = unit.first_row / p.group;
      begin = max(begin, seen_from(plan[header.positions + first_token], p.window));
    }
    // Spans before the window of all rows: nobody will ask for them.
    if (begin >= unit.end) return;
    const uint32_t first = begin / kTile, last = (unit.end - 1) / kTile;
    {
      const uint32_t span = begin / kSpan;
      const Blocks blocks = blocks_of(span), next = blocks_of(span + 1);
      keep_rows(span, blocks);
      keep_rows(span + 1, next);
    }
    __syncthreads();
    load<false>(first);
    load<true>(first);
    if (is_doubled() && first < last) {
      load<false>(first + 1);
      load<true>(first + 1);
    }
    find_rows();
    if (has_rows) load_query();
    run_most[0] = run_most[1] = -INFINITY;
    run_total[0] = run_total[1] = 0.0f;
    for (uint32_t tile = first; tile <= last;) {
      const uint32_t span = tile / kSpanTiles, end = min(last, span * kSpanTiles + kSpanTiles - 1);
      begin_span();
      for (; tile <= end; tile++) {
        // Some row of this warp may see some of it.
        const bool sees = has_rows && tile * kTile < warp_to && (tile + 1) * kTile > warp_from;
        const bool is_first = tile == first, is_last = tile == last;
        // What else was asked for at the beginning may come later.
        if (is_first && is_doubled() && !is_last) {
          wait_copies<2>();
        } else if (is_first && !is_doubled()) {
          wait_copies<1>();
        } else {
          wait_copies<0>();
        }
        // Here all are done with the tile before, and with rows of the span before.
        __syncthreads();
        if (!is_first && is_doubled() && !is_last) load<false>(tile + 1);
        if (!is_first && !(is_doubled() && is_last)) load<true>(tile + (is_doubled() ? 1 : 0));
        const bool look_on = tile == span * kSpanTiles && !is_first && tile + kSpanTiles <= last;
        Blocks next;
        if (look_on && kQueryInRegisters) next = blocks_of(span + 1);
        float scores[kTile / 8][4];
        if (sees) score(tile, scores);
        if (look_on) keep_rows(span + 1, kQueryInRegisters ? next : blocks_of(span + 1));
        if (!is_doubled()) {
          wait_copies<0>();
          __syncthreads();
          if (!is_last) load<false>(tile + 1);
        }
        if (sees) weigh(tile, scores);
      }
      if (has_rows) end_span(span, span == first / kSpanTiles, end == last);
    }
    __syncthreads();
  }
};

template <class T, class C, int D>
__device__ __forceinline__ void attention(const AttentionParams& p) {
  SHARED_BYTES(shared);
  Attention<T, C, D> attention(p, shared);
  const uint32_t units = p.large ? attention.header.num_large : attention.header.num_small;
  const uint32_t count = units * (uint32_t)p.kv_heads;
  // Long units come first, so who had the longest of a round gets the shortest of the next.
  for (uint32_t round = 0; round * gridDim.x < count; round++) {
    const uint32_t number = round * gridDim.x + (round % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    if (number < count) attention.attend(number);
  }
}

}  // namespace vlinders

#define ATTENTION(name, T, C, D)                                                   \
  EAGER_KERNEL(name, vlinders::AttentionParams, vlinders::kAttentionThreads) {     \
    vlinders::follow_others();                                                     \
    vlinders::attention<T, C, D>(p);                                               \
  }
