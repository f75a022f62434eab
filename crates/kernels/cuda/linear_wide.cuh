// Products with many tokens on warpgroups, for weights whose sums need no scales on the way.
//
// A block has a multiprocessor to itself and walks over units: 64 rows of w for each of its warpgroups, and the same tokens for all. Four
// more warps do nothing but ask for copies, of weights and of tokens, which are arranged (arranged.cuh): all places of shared memory
// are under way at all times, from the first unit to the last, also while warpgroups store what a unit has become. Products take
// weights from registers, and tokens from where they lie.
//
// Where the numbers of tokens would be read from the second-level cache faster than that can give them, two blocks are a cluster: they have
// the same tokens and rows beside each other, and each fetches half of the tokens for both.
//
// No barrier holds warpgroups together: what they do between two steps takes as long as the products of one, so each begins when the
// one before it has given its first products, and goes on at its own pace while the others multiply or store. The place of a step is
// filled again when all warps have said that they need it no more.
#pragma once
#include "cluster.cuh"
#include "linear_store.cuh"

namespace vlinders {

#ifdef HAS_GROUP_MMA
// What a block multiplies at a time: 64 numbers of T of each token, and a step of weights, whose numbers become those of T in registers.
// W8A8 (w8a8_wide.cuh) has others, with the same members.
template <class WeightFormat, class Number>
struct StepOfTokens {
  using Format = WeightFormat;
  using T = Number;
  static constexpr int kOfChunk = kStepsOfChunk;
  // Bytes of a tile of weights.
  static constexpr int kTileBytes = Format::kPieces * kPieceBytes;

  static __device__ __forceinline__ int count(const LinearParams& p) { return p.steps; }
  static __device__ __forceinline__ void copy_weights(const LinearParams& p, int tile, int step, unsigned char* to, uint64_t* counter) {
    copy_to_products(to, step_of<Format>(p.codes, p.steps, tile, step), kTileBytes, counter);
  }
  // Start products, with weights of which the lane's first are at `weights`, and what `tokens_at` says of tokens.
  template <int kN, class Tokens>
  static __device__ __forceinline__ void multiply(const unsigned char* weights, Tokens tokens, bool add, float (&sums)[kN / 8][4]) {
    uint32_t words[4 * Format::kPieces];
#pragma unroll
    for (int i = 0; i < Format::kPieces; i++) unpack(words + 4 * i, *reinterpret_cast<const uint4*>(weights + i * kPieceBytes));
    Operand<Format, T> rows[2] = {{words, 0}, {words, 1}};
    hold(rows[0].numbers);
    hold(rows[1].numbers);
    begin_products();
#pragma unroll
    for (int i = 0; i < 4; i++) group_mma<T, kN>(sums, rows[i / 2].numbers[i % 2], further(tokens, 0, i), add || i > 0);
    commit_products();
  }
  // What sums of a token are multiplied with before all else.
  static __device__ __forceinline__ float scale_of(const LinearParams&, int) { return 1.0f; }
};

// Which place in shared memory a step has, counted over all units of a block, and for the how manieth time it is used.
template <int kStages>
struct Place {
  int stage = 0, round = 0;

  __device__ __forceinline__ void advance() {
    if (++stage == kStages) stage = 0, round++;
  }
};

template <class Step, int kGroups, int kN, int kStages, int kBlocks>
struct Wide {
  using Format = typename Step::Format;
  using T = typename Step::T;
  static constexpr int kWorkers = kGroups * kGroupThreads, kWorkingWarps = kWorkers / kWarp;
  static constexpr int kFeeders = kGroupThreads / kWarp;
  // Rows and tiles of a warpgroup.
  static constexpr int kM = 64, kTiles = kM / kTileRows;
  static_assert(kTiles == kFeeders, "a feeder has a tile of each warpgroup");
  static constexpr int kTileBytes = Step::kTileBytes;
  // Tokens of a copy, which the blocks of a cluster share, and those that a warpgroup stores at a time.
  static constexpr int kTogether = 64, kCopies = kN / kTogether, kCopyBytes = kTogether * kTokenBytes / kBlocks;
  static_assert(kCopies <= kFeeders, "a feeder has one copy of tokens");
  static constexpr int kTokensBytes = kN * kTokenBytes, kStageBytes = kTokensBytes + kGroups * kTiles * kTileBytes;
  // What is stored lies by token; sixteen bytes more keep neighbours in banks of their own.
  static constexpr int kStorePitch = kM * (int)sizeof(T) + 16, kStoreBytes = kTogether * kStorePitch;
  // Registers of threads that multiply, and of those that copy. A block of three warpgroups is started with 168 for each.
  static constexpr bool kNeedsAll = kGroups == 1 || kN > 128;
  static constexpr int kWorkRegisters = kNeedsAll ? 240 : 232, kFeedRegisters = kGroups > 1 && kNeedsAll ? 24 : 40;
  static constexpr int kStoresAt = kStages * kStageBytes, kCountersAt = kStoresAt + kGroups * kStoreBytes;

  const LinearParams& p;
  const int lane, warp, group;
  unsigned char* const shared;
  // Of copies to a place, of warps that have used it, of warpgroups that have begun, and of warps of a group that store.
  uint64_t *const arrivals, *const releases, *const beginnings, *const meetings;

  __device__ __forceinline__ Wide(const LinearParams& p, unsigned char* shared)
      : p(p),
        lane(threadIdx.x % kWarp),
        warp(threadIdx.x % kGroupThreads / kWarp),
        group(same_in_warp(threadIdx.x / kGroupThreads)),
        shared(shared),
        arrivals(reinterpret_cast<uint64_t*>(shared + kCountersAt)),
        releases(arrivals + kStages),
        beginnings(releases + kStages),
        meetings(beginnings + kGroups) {}

  // What a block has at a time. Those of a cluster have neighbours.
  struct Unit {
    int row_block, first_token;
  };
  // Registers are few: these are made anew each time.
  __device__ __forceinline__ int num_steps() const { return Step::count(p); }
  __device__ __forceinline__ int num_rows() const { return (p.out + kBlocks * kGroups * kM - 1) / (kBlocks * kGroups * kM); }
  __device__ __forceinline__ int num_token_blocks() const { return (p.tokens + kN - 1) / kN; }
  __device__ __forceinline__ int num_units() const { return num_rows() * num_token_blocks(); }
  static __device__ __forceinline__ int rank() { return blockIdx.x % kBlocks; }
  static __device__ __forceinline__ int first_unit() { return blockIdx.x / kBlocks; }
  static __device__ __forceinline__ int further_units() { return gridDim.x / kBlocks; }
  // Some token blocks follow each other before the next rows: what runs at once shares rows and tokens alike.
  __device__ __forceinline__ Unit unit_at(int number) const {
    constexpr int kBand = 8;
    const int of_band = kBand * num_rows(), band = number / of_band, in_band = number % of_band;
    const int width = min(kBand, num_token_blocks() - band * kBand);
    return {in_band / width * kBlocks + rank(), (band * kBand + in_band % width) * kN};
  }
  // A warpgroup's tile of the matrix: with gates, it has some and those that they are gates of.
  __device__ __forceinline__ int tile_at(const Unit& unit, int of_group, int i) const {
    return tile_of_block<kTiles>(p, unit.row_block * kGroups + of_group, i);
  }

  __device__ void run() const {
    if (threadIdx.x == 0) {
      prepare_arrivals(arrivals, kStages, 1);
      prepare_arrivals(releases, kStages, kBlocks * kWorkingWarps);
      prepare_arrivals(beginnings, kGroups, 1);
      prepare_arrivals(meetings, kGroups, kTiles);
      if (kBlocks > 1) show_arrivals_to_cluster();
    }
    meet_all();
    if (group == kGroups) {
      give_registers<kFeedRegisters>();
      if (lane == 0) feed_all(warp);
      if constexpr (kBlocks > 1) __syncwarp();
    } else {
      take_registers<kWorkRegisters>();
      follow_others();
      multiply_all();
    }
    // The other block may still say that it needs a place no more.
    if (kBlocks > 1) meet_cluster();
  }
  __device__ __forceinline__ void meet_all() const {
    if constexpr (kBlocks > 1) {
      meet_cluster();
    } else {
      __syncthreads();
    }
  }

  // === Copies, by the first lanes of four warps, since each is asked for by itself ===

  __device__ __forceinline__ void feed_all(int feeder) const {
    // Weights of the first steps do not wait for the kernels before this one.
    const int early = min(kStages, num_steps());
    const Unit first = unit_at(first_unit());
#pragma unroll 1
    for (int step = 0; step < early; step++) copy_weights(first, step, step, feeder);
    follow_others();
    Place<kStages> place;
#pragma unroll 1
    for (int number = first_unit(); number < num_units(); number += further_units()) {
      const Unit unit = unit_at(number);
#pragma unroll 1
      for (int step = 0; step < num_steps(); step++) {
        if (place.round > 0) await_arrivals(releases + place.stage, place.round - 1);
        if (number != first_unit() || step >= early) copy_weights(unit, step, place.stage, feeder);
        if (feeder < kCopies) copy_tokens(unit, step, place.stage, feeder);
        place.advance();
      }
    }
  }

  // One tile of each warpgroup. The first feeder says how much will come.
  __device__ __forceinline__ void copy_weights(const Unit& unit, int step, int stage, int feeder) const {
    if (feeder == 0) expect_arrivals(arrivals + stage, kStageBytes);
    unsigned char* to = shared + stage * kStageBytes + kTokensBytes + feeder * kTileBytes;
#pragma unroll
    for (int i = 0; i < kGroups; i++)
      Step::copy_weights(p, tile_at(unit, i, feeder), step, to + i * (kTiles * kTileBytes), arrivals + stage);
  }

  // Tokens number `i` of a step: this block's share of them, for all of the cluster. Places are free there too, and what is not expected
  // there yet may come nevertheless.
  __device__ __forceinline__ void copy_tokens(const Unit& unit, int step, int stage, int i) const {
    const int token = unit.first_token + i * kTogether;
    const uint64_t from = p.x + ((uint64_t)(token / kArranged) * num_steps() + step) * (kArranged * kTokenBytes) +
                          token % kArranged * kTokenBytes;
    unsigned char* to = shared + stage * kStageBytes + i * (kTogether * kTokenBytes) + rank() * kCopyBytes;
    if constexpr (kBlocks > 1) {
      copy_to_all(to, from + rank() * kCopyBytes, kCopyBytes, arrivals + stage, (1 << kBlocks) - 1);
    } else {
      copy_to_products(to, from, kCopyBytes, arrivals + stage);
    }
  }

  // === Products ===

  // This warp needs a place no more, as all blocks are told that fill it.
  __device__ __forceinline__ void release(int stage) const {
    if constexpr (kBlocks > 1) {
      if (lane < kBlocks) release_in(releases + stage, lane);
    } else {
      if (lane == 0) arrive(releases + stage);
    }
  }

  // Start the products of a step, once all of it is there.
  __device__ __forceinline__ void multiply_step(const Place<kStages>& place, bool add, float (&sums)[kN / 8][4]) const {
    await_arrivals(arrivals + place.stage, place.round);
    const unsigned char* weights = shared + kTokensBytes + (group * kTiles + warp) * kTileBytes + lane * 16;
    const int stage = place.stage * kStageBytes;
    Step::template multiply<kN>(weights + stage, further(tokens_at(shared, 0), stage), add, sums);
  }

  __device__ __forceinline__ void multiply_all() const {
    Place<kStages> place;
    int met = 0;
    if (group > 0) await_arrivals(beginnings + group - 1, 0);
    for (int number = first_unit(); number < num_units(); number += further_units()) {
      float sums[kN / 8][4] = {}, totals[kN / 8][4] = {};
      for (int first = 0; first < num_steps(); first += Step::kOfChunk) {
        int before = 0;
#pragma unroll
        for (int j = 0; j < Step::kOfChunk; j++) {
          if (first + j >= num_steps()) break;
          multiply_step(place, j > 0, sums);
          if (first + j == 0 && number == first_unit() && threadIdx.x % kGroupThreads == 0) arrive(beginnings + group);
          if (j > 0) {
            // The step before is done, and its registers are free.
            wait_products<1>();
            release(before);
          }
          before = place.stage;
          place.advance();
        }
        wait_products<0>();
        release(before);
        hold(sums);
#pragma unroll
        for (int n = 0; n < kN / 8; n++)
#pragma unroll
          for (int i = 0; i < 4; i++) totals[n][i] += sums[n][i];
      }
      if (number + further_units() >= num_units()) let_others_follow();
      store(unit_at(number), totals, met);
    }
  }

  // === Outputs ===

  // Where the warps of this group meet, for the time number `met`.
  __device__ __forceinline__ void meet(int& met) const {
    __syncwarp();
    if (lane == 0) arrive(meetings + group);
    await_arrivals(meetings + group, met++);
  }

  __device__ __forceinline__ void store(const Unit& unit, float (&totals)[kN / 8][4], int& met) const {
    const int first_row = tile_at(unit, group, warp) * kTileRows + lane / 4;
    const Finish<Format, T> rows[2] = {{p, min(first_row, p.out - 1)}, {p, min(first_row + 8, p.out - 1)}};
#pragma unroll
    for (int n = 0; n < kN / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        totals[n][i] = rows[i / 2].of(totals[n][i] * Step::scale_of(p, unit.first_token + 8 * n + 2 * (lane % 4) + i % 2));
    if (p.y_is_f32) {
      store_singles(unit, totals);
      return;
    }
    unsigned char* own = shared + kStoresAt + group * kStoreBytes;
#pragma unroll
    for (int part = 0; part < kCopies; part++) {
      const int first_token = unit.first_token + part * kTogether;
      if (first_token >= p.tokens) break;
      // Those before are read.
      meet(met);
#pragma unroll
      for (int n = 0; n < kTogether / 8; n += 2) {
        const float(&low)[4] = totals[part * (kTogether / 8) + n], (&high)[4] = totals[part * (kTogether / 8) + n + 1];
        const uint32_t pairs[4] = {pair_of<T>(low[0], low[1]), pair_of<T>(low[2], low[3]), pair_of<T>(high[0], high[1]),
                                   pair_of<T>(high[2], high[3])};
        // Lanes say where rows of eight outputs go: two of each token of sixteen.
        unsigned char* to = own + (8 * n + lane / 16 * 8 + lane % 8) * kStorePitch + (warp * kTileRows + lane / 8 % 2 * 8) * (int)sizeof(T);
        store_across(to, pairs);
      }
      meet(met);
      if (p.gated) {
        store_gated(unit, own, first_token);
      } else {
        store_plain(unit, own, first_token);
      }
    }
  }

  // Eight outputs at a time.
  __device__ __forceinline__ void store_plain(const Unit& unit, const unsigned char* own, int first_token) const {
    constexpr int kCount = Pack<T>::kCount, kPacks = kM / kCount;
    const int first_row = (unit.row_block * kGroups + group) * kM, tokens = min(kTogether, p.tokens - first_token);
    const bool whole = p.out % kCount == 0;
#pragma unroll
    for (int i = 0; i < kTogether * kPacks / kGroupThreads; i++) {
      const int index = threadIdx.x % kGroupThreads + i * kGroupThreads, token = index / kPacks, row = first_row + index % kPacks * kCount;
      if (token >= tokens || row >= p.out) continue;
      const Pack<T> pack = load_pack(reinterpret_cast<const T*>(own + token * kStorePitch + index % kPacks * 16));
      T* to = at<T>(p.y) + (int64_t)(first_token + token) * p.out + row;
      if (whole) {
        store_pack(to, pack);
      } else {
#pragma unroll
        for (int j = 0; j < kCount; j++)
          if (row + j < p.out) to[j] = pack.values[j];
      }
    }
  }

  // The first half of a group's rows are gates.
  __device__ __forceinline__ void store_gated(const Unit& unit, const unsigned char* own, int first_token) const {
    constexpr int kCount = Pack<T>::kCount, kPacks = kM / 2 / kCount;
    // A half is whole tiles, so packs are whole.
    const int width = p.out / 2, first_row = (unit.row_block * kGroups + group) * (kM / 2), tokens = min(kTogether, p.tokens - first_token);
#pragma unroll
    for (int i = 0; i < kTogether * kPacks / kGroupThreads; i++) {
      const int index = threadIdx.x % kGroupThreads + i * kGroupThreads, token = index / kPacks, row = first_row + index % kPacks * kCount;
      if (token >= tokens || row >= width) continue;
      const T* gates = reinterpret_cast<const T*>(own + token * kStorePitch + index % kPacks * 16);
      const Pack<T> gate = load_pack(gates), up = load_pack(gates + kM / 2);
      Pack<T> pack;
#pragma unroll
      for (int j = 0; j < kCount; j++) pack.values[j] = silu_mul(gate.values[j], up.values[j]);
      store_pack(at<T>(p.y) + (int64_t)(first_token + token) * width + row, pack);
    }
  }

  // Eight lanes have neighbours.
  __device__ __forceinline__ void store_singles(const Unit& unit, const float (&totals)[kN / 8][4]) const {
    const int first_row = (unit.row_block * kGroups + group) * kM + warp * kTileRows + lane / 4;
#pragma unroll
    for (int n = 0; n < kN / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int token = unit.first_token + 8 * n + 2 * (lane % 4) + i % 2, row = first_row + i / 2 * 8;
        if (token < p.tokens && row < p.out) at<float>(p.y)[(int64_t)token * p.out + row] = totals[n][i];
      }
  }
};
#else
template <class Format, class T>
struct StepOfTokens {};
#endif

template <class Step, int kGroups, int kN, int kStages, int kBlocks>
__device__ __forceinline__ void linear_wide(const LinearParams& p) {
#ifdef HAS_GROUP_MMA
  WIDE_SHARED_BYTES(shared);
  Wide<Step, kGroups, kN, kStages, kBlocks>(p, shared).run();
#endif
}

}  // namespace vlinders
