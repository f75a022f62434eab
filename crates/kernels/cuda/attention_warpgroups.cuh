// Attention on warpgroups, for large tiles of T = bf16 or f16 over a cache of T: the bits of attention_tiles.cuh, faster.
//
// A block has 128 rows, 64 for each of two warpgroups; the warps of a third one copy keys and values. Tiles of 64 positions go
// round in a few places, keys and values apart, from unit to unit without a stop. Counters say when a place is filled, and when
// both warpgroups are done with it. Who copies waits for its own copies, and shows them to the products: warpgroups never have to,
// see `show_to_products`. While a warpgroup makes weights of the scores of a tile, its tensor cores add up weighted values of the tile
// before; while it waits for scores, those of the other warpgroup have weights to make.
//
// The order of additions is that of attention_tiles.cuh: scores by sixteen numbers of a head, sums by sixteen positions, tiles of a span,
// spans, each in their order. What the spans before had is in registers, for queries lie in shared memory. The sum of weights is
// a column of the product here too: behind the values of a tile lie ones.
//
// A tile that no row of a warpgroup sees is left out. What attention_tiles.cuh says of values that are not finite is true here of rows
// of the same warpgroup. They are kTile tokens at most, so again it is about kTile - 1 positions before.
#pragma once
#include "attention_scores.cuh"
#include "group_mma.cuh"

namespace vlinders {

// Warpgroups that have rows, and one that copies.
constexpr int kRowGroups = 2;
constexpr int kAttentionGroupThreads = (kRowGroups + 1) * kGroupThreads;

#ifdef HAS_GROUP_MMA
template <class T, int D>
struct WarpgroupAttention {
  static constexpr int kTile = 64;            // positions at a time
  static constexpr int kSpanTiles = kSpan / kTile;
  static constexpr int kGroupRows = 64;       // rows of a warpgroup
  static constexpr int kStages = 4;           // tiles that there is room for
  static constexpr int kParts = D / 16;       // of 16 numbers, in a head
  static constexpr int kColumns = D / 8 + 1;  // of eight numbers of a head, and one of ones
  static constexpr int kPieces = D / 8;       // of sixteen bytes, in a row
  static constexpr int kBatch = 4;            // rows that are looked up before they are copied: registers are few

  // Of 64 numbers of 64 rows or positions, as products read them.
  static constexpr int kHalfBytes = kTile * kTokenBytes;
  static constexpr int kKeysBytes = D / 64 * kHalfBytes, kQueryBytes = D / 64 * kHalfBytes;
  static constexpr int kStageBytes = kKeysBytes + kKeysBytes + kHalfBytes;  // keys, values, ones
  static constexpr int kStagesAt = kRowGroups * kQueryBytes, kCountersAt = kStagesAt + kStages * kStageBytes;
  // Registers of threads that have rows, and of those that copy: the block is started with 168 for each.
  static constexpr int kRowRegisters = 232, kCopyRegisters = 40;

  // Counters: for each place that keys and then values are there, and that everybody is done with them; for each warpgroup its queries.
  enum Counter { kFilled = 0, kFree = 2 * kStages, kMeetings = 4 * kStages, kCounters = kMeetings + kRowGroups };
  static_assert(kCounters * sizeof(uint64_t) == 144, "as attention/plan.rs has it");

  struct Work {
    Unit unit;
    uint32_t kv_head, begin;
    uint32_t first, last;  // tiles
  };

  const AttentionParams& p;
  unsigned char* const shared;
  uint64_t* const counters;
  const int group, lane, warp;  // this thread's warpgroup, and where it is within that
  uint32_t tiles = 0;           // that there were in units before
  uint32_t meetings = 0;        // of this warpgroup

  // Of threads that have rows.
  bool exists[2];           // this thread's rows, lane / 4 and 8 more of its warp
  uint32_t from[2], to[2];  // what they see; the same as the last row does where there is no such row
  float scores[kTile / 8][4], sums[kColumns][4], runs[2 * kParts][4];
  float most[2], run_most[2], run_total[2];
  uint32_t weights[kTile / 16][4];

  __device__ __forceinline__ WarpgroupAttention(const AttentionParams& params, unsigned char* bytes)
      : p(params),
        shared(bytes),
        counters(reinterpret_cast<uint64_t*>(bytes + kCountersAt)),
        group(same_in_warp(threadIdx.x / kGroupThreads)),
        lane(threadIdx.x % kWarp),
        warp(threadIdx.x % kGroupThreads / kWarp) {}

  // Keys of a tile, by its number among all of this block, then values, then ones.
  __device__ __forceinline__ unsigned char* keys_of(uint32_t number) const {
    return shared + kStagesAt + number % kStages * kStageBytes;
  }
  template <bool values>
  __device__ __forceinline__ uint64_t* filled(uint32_t number) const {
    return counters + kFilled + (values ? kStages : 0) + number % kStages;
  }
  template <bool values>
  __device__ __forceinline__ uint64_t* free_place(uint32_t number) const {
    return counters + kFree + (values ? kStages : 0) + number % kStages;
  }

  // By all threads, before anything else.
  __device__ __forceinline__ void prepare() const {
    if (threadIdx.x == 0) {
      prepare_arrivals(counters + kFilled, 2 * kStages, 1);
      // The first lane of each warp that has rows.
      prepare_arrivals(counters + kFree, 2 * kStages, kRowGroups * kGroupThreads / kWarp);
      prepare_arrivals(counters + kMeetings, kRowGroups, kGroupThreads);
    }
    const uint32_t pair = pair_of<T>(1.0f, 1.0f);
    for (int i = threadIdx.x; i < kStages * kHalfBytes / 16; i += kAttentionGroupThreads) {
      unsigned char* ones = keys_of(i / (kHalfBytes / 16)) + 2 * kKeysBytes;
      *reinterpret_cast<uint4*>(ones + i % (kHalfBytes / 16) * 16) = make_uint4(pair, pair, pair, pair);
    }
    show_to_products();
    __syncthreads();
  }

  // Words of the plan are read where they are needed: they are in a cache then, and registers are few.
  __device__ __forceinline__ const uint32_t* list_at(PlanWord word) const {
    const uint32_t* plan = at<const uint32_t>(p.plan);
    return plan + plan[word];
  }
  __device__ __forceinline__ uint32_t position_of(const Unit& unit, uint32_t row) const {
    return list_at(kPositions)[(unit.first_row + row) / p.group];
  }
  __device__ __forceinline__ uint32_t num_works() const { return at<const uint32_t>(p.plan)[kNumLarge] * (uint32_t)p.kv_heads; }
  // What this block does in a round, if anything. Long units come first, so who had the longest of a round gets the shortest of
  // the next.
  __device__ __forceinline__ bool find_work(uint32_t round, Work& work) const {
    const uint32_t number = round * gridDim.x + (round % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    if (number >= num_works()) return false;
    work.unit = unit_at(list_at(kLargeUnits), 0, number / (uint32_t)p.kv_heads);
    work.kv_head = number % (uint32_t)p.kv_heads;
    work.begin = max(work.unit.begin, seen_from(position_of(work.unit, 0), p.window));
    // Spans before the window of all rows: nobody will ask for them.
    if (work.begin >= work.unit.end) return false;
    work.first = work.begin / kTile;
    work.last = (work.unit.end - 1) / kTile;
    return true;
  }

  // === Copies ===

  // Of four warps one half copies keys, the other one values, each of them every other tile, so that one copies while another one waits
  // for its copies.
  __device__ __forceinline__ void copy_all() {
    if (warp % 2) {
      copy_every_other<true>(warp / 2);
    } else {
      copy_every_other<false>(warp / 2);
    }
  }

  // Where positions of a tile lie in the cache, of which each lane knows two: of the positions that it copies pieces of, those with its
  // number among the lanes that do so, in the first half of them and in the second one.
  struct Places {
    uint32_t rows[2];
  };

  template <bool values>
  __device__ __forceinline__ void copy_every_other(uint32_t which) {
    Work work;
    for (uint32_t round = 0; round * gridDim.x < num_works(); round++) {
      if (!find_work(round, work)) continue;
      const uint32_t skipped = (tiles + which) % 2, end = work.last + 1;
      if (work.first + skipped < end) {
        Places places = find_places(work, work.first + skipped);
        for (uint32_t tile = work.first + skipped, number = tiles + skipped; tile < end; tile += 2, number += 2) {
          if (number >= kStages) await_arrivals(free_place<values>(number), number / kStages - 1);
          copy_tile<values>(work, tile, places, keys_of(number) + (values ? kKeysBytes : 0));
          commit_copies();
          // Meanwhile the next one.
          if (tile + 2 < end) places = find_places(work, tile + 2);
          wait_copies<0>();
          show_to_products();
          __syncwarp();
          if (lane == 0) arrive(filled<values>(number));
        }
      }
      tiles += end - work.first;
    }
  }

  __device__ __forceinline__ Places find_places(const Work& work, uint32_t tile) const {
    const uint32_t* table = list_at(kTables) + work.unit.table;
    Places places;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint32_t position = tile * kTile + lane / kPieces * (2 * kPieces) + i * kPieces + lane % kPieces;
      const bool is_read = position >= work.begin && position < work.unit.end;
      places.rows[i] = is_read ? cache_row(p, table, position, work.kv_head) : kNone;
    }
    return places;
  }

  // Start to copy. What nobody sees is zeros: it may be anything, also NaNs, in the cache.
  template <bool values>
  __device__ __forceinline__ void copy_tile(const Work& work, uint32_t tile, const Places& places, unsigned char* to) const {
    const uint32_t piece = lane % kPieces, row_bytes = (uint32_t)p.head_dim * sizeof(T);
    const unsigned char* from = at<const unsigned char>(values ? p.values : p.keys) + 16 * piece;
    to += piece / 8 * kHalfBytes + lane / kPieces * (2 * kPieces * kTokenBytes);
    const bool is_whole = tile * kTile >= work.begin && (tile + 1) * kTile <= work.unit.end && row_bytes == D * sizeof(T);
    if (is_whole) {
#pragma unroll
      for (int i = 0; i < 2 * kPieces; i += kBatch) {
        uint32_t row[kBatch];
#pragma unroll
        for (int j = 0; j < kBatch; j++)
          row[j] = __shfl_sync(kFullMask, places.rows[(i + j) / kPieces], (i + j) % kPieces, kPieces);
#pragma unroll
        for (int j = 0; j < kBatch; j++) copy_async(to + swizzled(i + j, piece % 8), row_at<D * sizeof(T)>(from, row[j]));
      }
    } else {
#pragma unroll
      for (int half = 0; half < 2; half++) {
#pragma unroll 1
        for (int i = half * kPieces; i < (half + 1) * kPieces; i++) {
          const uint32_t row = __shfl_sync(kFullMask, places.rows[half], i % kPieces, kPieces);
          const bool valid = row != kNone && 16 * piece < row_bytes;
          copy_async(to + swizzled(i, piece % 8), from + (uint64_t)(valid ? row : 0) * row_bytes, valid);
        }
      }
    }
  }

  // === Rows ===

  __device__ __forceinline__ unsigned char* queries() const { return shared + group * kQueryBytes; }
  // A row of this thread, among those of the unit.
  __device__ __forceinline__ uint32_t local_of(int r) const { return group * kGroupRows + warp * kRows + lane / 4 + 8 * r; }
  // Where a row begins among the heads of all tokens.
  __device__ __forceinline__ uint64_t head_of(const Work& work, uint32_t local) const {
    const uint32_t row = work.unit.first_row + local;
    return ((uint64_t)(row / p.group) * p.heads + work.kv_head * p.group + row % p.group) * p.head_dim;
  }

  __device__ __forceinline__ void attend_all() {
    Work work;
    for (uint32_t round = 0; round * gridDim.x < num_works(); round++) {
      if (!find_work(round, work)) continue;
      attend(work);
      tiles += work.last - work.first + 1;
    }
  }

  // Wait until all threads of this warpgroup are here.
  __device__ __forceinline__ void meet() {
    arrive(counters + kMeetings + group);
    await_arrivals(counters + kMeetings + group, meetings++);
  }

  __device__ __forceinline__ void load_queries(const Work& work) {
    // Products are done with those of the unit before: those of other warps too, as nothing says which rows a warp reads.
    meet();
    // Two threads have a row.
    const int number = threadIdx.x % kGroupThreads, row = number / 2, first = number % 2 * (kPieces / 2);
    const uint32_t local = group * kGroupRows + row;
    const uint4* head = reinterpret_cast<const uint4*>(at<const T>(p.q) + head_of(work, local)) + first;
    uint4 numbers[kPieces / 2];
#pragma unroll
    for (int i = 0; i < kPieces / 2; i++) {
      numbers[i] = make_uint4(0, 0, 0, 0);
      if (local < work.unit.num_rows && 8 * (first + i) < p.head_dim) numbers[i] = head[i];
    }
#pragma unroll
    for (int i = 0; i < kPieces / 2; i++)
      *reinterpret_cast<uint4*>(queries() + (first + i) / 8 * kHalfBytes + swizzled(row, (first + i) % 8)) = numbers[i];
    show_to_products();
    meet();
  }

  template <bool values>
  __device__ __forceinline__ void release(uint32_t number) const {
    if (lane == 0) arrive(free_place<values>(number));
  }
  // Tiles that this warpgroup does not look at. A place that is not filled yet is still the one before.
  __device__ __forceinline__ void leave_out(uint32_t first, uint32_t end) const {
#pragma unroll 1
    for (uint32_t number = first; number < end; number++) {
      await_arrivals(filled<false>(number), number / kStages);
      release<false>(number);
      await_arrivals(filled<true>(number), number / kStages);
      release<true>(number);
    }
  }

  // Products of queries and the keys of a tile, later.
  __device__ __forceinline__ void ask_for_scores(uint32_t number) {
    const auto rows = tokens_at(queries(), 0), keys = tokens_at(keys_of(same_in_warp(number)), 0);
    await_arrivals(filled<false>(number), number / kStages);
    begin_products();
#pragma unroll
    for (int part = 0; part < kParts; part++) {
      const int half = part / 4 * kHalfBytes;
      group_mma_shared<T, kTile>(scores, further(rows, half, part % 4), further(keys, half, part % 4), part > 0);
    }
    commit_products();
  }

  __device__ __forceinline__ void await_values(uint32_t number) const { await_arrivals(filled<true>(number), number / kStages); }
  // Add weighted values of a tile, which are there, to sums, or begin with them, later.
  __device__ __forceinline__ void ask_for_sums(uint32_t number, bool add) {
    const auto values = across_at(keys_of(same_in_warp(number)) + kKeysBytes, kHalfBytes);
    begin_products();
#pragma unroll
    for (int step = 0; step < kTile / 16; step++)
      group_mma_across<T, 8 * kColumns>(sums, weights[step], further(values, step * 16 * kTokenBytes), add || step > 0);
    commit_products();
  }

  // What tiles of a span before had is multiplied by `before`.
  __device__ __forceinline__ void weigh_tile(uint32_t tile, uint32_t all_from, uint32_t all_to, float (&before)[2]) {
    finish_scores(p, scores);
    if (tile * kTile < all_from || (tile + 1) * kTile > all_to) hide_scores(scores, tile * kTile, from, to);
    const float factor = factor_of(p);
#pragma unroll
    for (int r = 0; r < 2; r++) before[r] = weigh_scores(scores, r, most[r], factor);
  }

  __device__ __forceinline__ void pack() {
#pragma unroll
    for (int step = 0; step < kTile / 16; step++) pack_weights<T>(weights[step], scores, step);
    hold(weights);
  }

  __device__ __forceinline__ void attend(const Work& work) {
    const uint32_t group_first = group * kGroupRows, last_row = work.unit.num_rows - 1, end = tiles + work.last - work.first + 1;
    if (group_first > last_row) return leave_out(tiles, end);
    const uint32_t first_position = position_of(work.unit, group_first);
    const uint32_t last_position = position_of(work.unit, min(group_first + kGroupRows - 1, last_row));
    // What some rows see, and what all do.
    const uint32_t any_from = max(work.begin, seen_from(first_position, p.window)), any_to = min(work.unit.end, last_position + 1);
    const uint32_t all_from = seen_from(last_position, p.window), all_to = first_position + 1;
    if (any_from >= any_to) return leave_out(tiles, end);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const uint32_t position = position_of(work.unit, min(local_of(r), last_row));
      exists[r] = local_of(r) <= last_row;
      from[r] = seen_from(position, p.window);
      to[r] = position + 1;
      most[r] = run_most[r] = -INFINITY;
      run_total[r] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < 2 * kParts; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) runs[i][j] = 0.0f;
    load_queries(work);
    const uint32_t first = any_from / kTile, last = (any_to - 1) / kTile;
    leave_out(tiles, tiles + first - work.first);
    uint32_t number = tiles + first - work.first;
    float before[2];
    ask_for_scores(number);
    wait_products<0>();
    hold(scores);
    release<false>(number);
    weigh_tile(first, all_from, all_to, before);
    pack();
    await_values(number);
    bool add = false;
    for (uint32_t tile = first; tile < last; tile++, number++) {
      ask_for_scores(number + 1);
      ask_for_sums(number, add);
      const bool ends = tile % kSpanTiles == kSpanTiles - 1;
      const float most_of_span[2] = {most[0], most[1]};
      if (ends) most[0] = most[1] = -INFINITY;
      wait_products<1>();
      hold(scores);
      release<false>(number + 1);
      weigh_tile(tile + 1, all_from, all_to, before);
      // All of it now, and not when sums are there: a compiler would move it, but not over a loop.
      hold(scores);
      await_values(number + 1);
      wait_products<0>();
      hold(sums);
      release<true>(number);
      if (ends) {
        end_span(work, tile / kSpanTiles, most_of_span);
      } else if (__any_sync(kFullMask, before[0] != 1.0f || before[1] != 1.0f)) {
        // Times one is nothing to do.
#pragma unroll
        for (int i = 0; i < kColumns; i++)
#pragma unroll
          for (int j = 0; j < 4; j++) sums[i][j] *= before[j / 2];
      }
      add = !ends;
      hold(sums);
      pack();
    }
    ask_for_sums(number, add);
    wait_products<0>();
    hold(sums);
    release<true>(number);
    end_span(work, last / kSpanTiles, most);
    leave_out(number + 1, end);
    if (work.unit.partial == kNone) write_out(work);
  }

  __device__ __forceinline__ void end_span(const Work& work, uint32_t span, const float (&most_of_span)[2]) {
    if (work.unit.partial != kNone) {
      write_partial(work, work.unit.partial + (span - work.unit.begin / kSpan) * work.unit.num_rows, most_of_span);
      return;
    }
    Merge merge[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      merge[r] = merge_of(run_most[r], most_of_span[r]);
      run_most[r] = merge[r].max;
      run_total[r] = merged(merge[r], run_total[r], sums[kColumns - 1][2 * r]);
    }
#pragma unroll
    for (int i = 0; i < 2 * kParts; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) runs[i][j] = merged(merge[j / 2], runs[i][j], sums[i][j]);
  }

  __device__ __forceinline__ void write_partial(const Work& work, uint32_t partial, const float (&most_of_span)[2]) const {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (!exists[r]) continue;
      const uint64_t row = (uint64_t)(partial + local_of(r)) * p.kv_heads + work.kv_head;
      float* sums_to = at<float>(p.partials) + row * p.head_dim;
#pragma unroll
      for (int i = 0; i < 2 * kParts; i++) {
        const int number = 8 * i + 2 * (lane % 4);
        if (number < p.head_dim) *reinterpret_cast<float2*>(sums_to + number) = make_float2(sums[i][2 * r], sums[i][2 * r + 1]);
      }
      if (lane % 4 == 0)
        *reinterpret_cast<float2*>(at<float>(p.totals) + 2 * row) = make_float2(most_of_span[r], sums[kColumns - 1][2 * r]);
    }
  }

  __device__ __forceinline__ void write_out(const Work& work) const {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (!exists[r]) continue;
      const float inverse = inverse_of(run_total[r]);
      T* out = at<T>(p.out) + head_of(work, local_of(r));
#pragma unroll
      for (int i = 0; i < 2 * kParts; i++) {
        const int number = 8 * i + 2 * (lane % 4);
        if (number < p.head_dim)
          *reinterpret_cast<uint32_t*>(out + number) =
              pair_of<T>(__fmul_rn(runs[i][2 * r], inverse), __fmul_rn(runs[i][2 * r + 1], inverse));
      }
    }
  }
};
#endif

template <class T, int D>
__device__ __forceinline__ void attention_warpgroups(const AttentionParams& p) {
#ifdef HAS_GROUP_MMA
  WIDE_SHARED_BYTES(shared);
  using Kernel = WarpgroupAttention<T, D>;
  follow_others();
  Kernel attention(p, shared);
  attention.prepare();
  if (attention.group == kRowGroups) {
    give_registers<Kernel::kCopyRegisters>();
    attention.copy_all();
  } else {
    take_registers<Kernel::kRowRegisters>();
    attention.attend_all();
  }
#endif
}

}  // namespace vlinders
