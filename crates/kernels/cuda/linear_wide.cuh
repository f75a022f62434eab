// Products with many tokens on warpgroups, for weights whose sums need no scales on the way.
//
// A block has 64 rows of w for each of its warpgroups, and all of them the same tokens. Steps of both come to shared memory by copies that
// no thread has to look after: a tile of weights is one, and so are 64 tokens of a step, which are arranged (arranged.cuh). Products take
// weights from registers, and tokens from where they lie.
//
// No barrier holds warpgroups together: what they do between two steps takes as long as the products of one, so each begins when the
// one before it has given its first products, and goes on at its own pace while the others multiply. The place of a step is filled
// again when all warps have said that they need it no more. Where blocks are many or small, their warps ask for copies themselves;
// a large one that has a multiprocessor for itself has four warps more, which do nothing else.
#pragma once
#include "group_mma.cuh"
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
  // Start products, with weights of which the lane's first are at `weights`.
  template <int kN>
  static __device__ __forceinline__ void multiply(const unsigned char* weights, const unsigned char* tokens, bool add,
                                                  float (&sums)[kN / 8][4]) {
    uint32_t words[4 * Format::kPieces];
#pragma unroll
    for (int i = 0; i < Format::kPieces; i++) unpack(words + 4 * i, *reinterpret_cast<const uint4*>(weights + i * kPieceBytes));
    Operand<Format, T> rows[2] = {{words, 0}, {words, 1}};
    hold(rows[0].numbers);
    hold(rows[1].numbers);
    begin_products();
#pragma unroll
    for (int i = 0; i < 4; i++) group_mma<T, kN>(sums, rows[i / 2].numbers[i % 2], tokens_at(tokens, i), add || i > 0);
    commit_products();
  }
  // What sums of a token are multiplied with before all else.
  static __device__ __forceinline__ float scale_of(const LinearParams&, int) { return 1.0f; }
};

template <class Step, int kGroups, int kN, int kStages, bool kFed>
struct Wide {
  using Format = typename Step::Format;
  using T = typename Step::T;
  static_assert(kStages >= 3, "the step that is multiplied, the one before it, and one that is under way");
  static constexpr int kWorkers = kGroups * kGroupThreads, kWorkingWarps = kWorkers / kWarp;
  static constexpr int kM = 64 * kGroups, kTiles = kM / kTileRows;
  static_assert(kTiles == kWorkingWarps, "a warp has a tile of weights");
  static constexpr int kFeeders = kGroupThreads / kWarp;
  // How many steps before their products warps ask for copies, where they do so themselves.
  static constexpr int kAhead = kStages - 2;
  static constexpr int kTileBytes = Step::kTileBytes;
  // Tokens of a copy.
  static constexpr int kTogether = 64, kCopies = kN / kTogether;
  static constexpr int kTokensBytes = kN * kTokenBytes, kStageBytes = kTokensBytes + kTiles * kTileBytes;
  static_assert(!kFed || (kTiles % kFeeders == 0 && kCopies <= kFeeders), "each feeder has its share of a step");
  // Where arrivals are counted: behind steps and, later, sums.
  static constexpr int kSumBytes = kN * kStorePitch<kM> * 4;
  static constexpr int kArrivals = kStages * kStageBytes > kSumBytes ? kStages * kStageBytes : kSumBytes;

  const LinearParams& p;
  const int lane, warp, row_block, first_token, steps;
  unsigned char* const stages;
  // Of copies to a place, of warps that have used it, of warpgroups that have begun, and of warps at the end.
  uint64_t *const arrivals, *const releases, *const beginnings, *const endings;

  __device__ __forceinline__ Wide(const LinearParams& p, int row_block, int token_block, unsigned char* shared)
      : p(p),
        lane(threadIdx.x % kWarp),
        warp(threadIdx.x / kWarp),
        row_block(row_block),
        first_token(token_block * kN),
        steps(Step::count(p)),
        stages(shared),
        arrivals(reinterpret_cast<uint64_t*>(shared + kArrivals)),
        releases(arrivals + kStages),
        beginnings(releases + kStages),
        endings(beginnings + kGroups) {}

  __device__ __forceinline__ unsigned char* stage_of(int step) const { return stages + step % kStages * kStageBytes; }

  // Tile `i` of a step. Addresses are made anew each time: there are no registers to keep them in.
  __device__ __forceinline__ void copy_weights(int step, int i) const {
    Step::copy_weights(p, tile_of_block<kTiles>(p, row_block, i), step, stage_of(step) + kTokensBytes + i * kTileBytes,
                       arrivals + step % kStages);
  }

  // Tokens number `i` of a step.
  __device__ __forceinline__ void copy_tokens(int step, int i) const {
    const int token = first_token + i * kTogether;
    const uint64_t from = p.x + ((uint64_t)(token / kArranged) * steps + step) * (kArranged * kTokenBytes) +
                          token % kArranged * kTokenBytes;
    copy_to_products(stage_of(step) + i * (kTogether * kTokenBytes), from, kTogether * kTokenBytes, arrivals + step % kStages);
  }

  // Wait until all warps have used what was in the place of a step.
  __device__ __forceinline__ void await_place(int step) const {
    if (step >= kStages) await_arrivals(releases + step % kStages, step / kStages - 1);
  }

  // By the first lane of each warp: the warp's rows, of which nobody else has anything. The first warp says how much will come.
  __device__ __forceinline__ void load_weights(int step) const {
    if (step >= steps) return;
    if (warp == 0) expect_arrivals(arrivals + step % kStages, kStageBytes);
    copy_weights(step, warp);
  }

  // By the first lane of the last warp, whose group is the last to begin and so seldom waits for others.
  __device__ __forceinline__ void load_tokens(int step) const {
    if (step >= steps) return;
    await_place(step);
    for (int i = 0; i < kCopies; i++) copy_tokens(step, i);
  }

  // The place was used two steps ago.
  __device__ __forceinline__ void load_next(int step) const {
    __syncwarp();
    if (lane == 0) load_weights(step + kAhead);
    if (threadIdx.x == kWorkers - kWarp) load_tokens(step + kAhead);
  }

  // All copies, by the first lanes of four warps, since each is asked for by itself.
  __device__ __forceinline__ void feed(int feeder) const {
    const int first = min(kStages, steps);
    for (int step = 0; step < first; step++) ask_for_weights(step, feeder);
    follow_others();
    for (int step = 0; step < first; step++) ask_for_tokens(step, feeder);
    for (int step = first; step < steps; step++) {
      await_place(step);
      ask_for_weights(step, feeder);
      ask_for_tokens(step, feeder);
    }
  }
  __device__ __forceinline__ void ask_for_weights(int step, int feeder) const {
    if (feeder == 0) expect_arrivals(arrivals + step % kStages, kStageBytes);
#pragma unroll
    for (int i = 0; i < kTiles; i += kFeeders) copy_weights(step, i + feeder);
  }
  __device__ __forceinline__ void ask_for_tokens(int step, int feeder) const {
    if (feeder < kCopies) copy_tokens(step, feeder);
  }

  // This warp needs the place of a step no more.
  __device__ __forceinline__ void release(int step) const {
    if (lane == 0) arrive(releases + step % kStages);
  }

  // Start the products of a step, once all of it is there.
  __device__ __forceinline__ void multiply_step(int step, bool add, float (&sums)[kN / 8][4]) const {
    await_arrivals(arrivals + step % kStages, step / kStages);
    const unsigned char* stage = stage_of(step);
    Step::template multiply<kN>(stage + kTokensBytes + warp * kTileBytes + lane * 16, stage, add, sums);
  }

  // Where all warps that multiply meet, for the time number `round`.
  __device__ __forceinline__ void meet(int round) const {
    if constexpr (kFed) {
      __syncwarp();
      if (lane == 0) arrive(endings);
      await_arrivals(endings, round);
    } else {
      __syncthreads();
    }
  }

  __device__ void run() const {
    if (threadIdx.x == 0) {
      prepare_arrivals(arrivals, kStages, 1);
      prepare_arrivals(releases, kStages, kWorkingWarps);
      prepare_arrivals(beginnings, kGroups, 1);
      prepare_arrivals(endings, 1, kWorkingWarps);
    }
    __syncthreads();
    if constexpr (kFed) {
      if (threadIdx.x >= kWorkers) {
        give_registers<24>();
        if (lane == 0) feed(warp - kWorkingWarps);
        return;
      }
      take_registers<240>();
      follow_others();
    } else {
      if (lane == 0)
        for (int step = 0; step < kAhead; step++) load_weights(step);
      follow_others();
      if (threadIdx.x == kWorkers - kWarp)
        for (int step = 0; step < kAhead; step++) load_tokens(step);
    }
    work();
  }

  __device__ __forceinline__ void work() const {
    float sums[kN / 8][4] = {}, totals[kN / 8][4] = {};
    const int group = warp / 4;
    if (group > 0) await_arrivals(beginnings + group - 1, 0);
    for (int first = 0; first < steps; first += Step::kOfChunk) {
#pragma unroll
      for (int j = 0; j < Step::kOfChunk; j++) {
        const int step = first + j;
        if (step >= steps) break;
        multiply_step(step, j > 0, sums);
        if constexpr (!kFed) load_next(step);
        if (step == 0 && threadIdx.x % kGroupThreads == 0) arrive(beginnings + group);
        if (j == 0) continue;
        // The step before is done, and its registers are free.
        wait_products<1>();
        release(step - 1);
      }
      wait_products<0>();
      release(min(first + Step::kOfChunk, steps) - 1);
      hold(sums);
#pragma unroll
      for (int n = 0; n < kN / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) totals[n][i] += sums[n][i];
    }
    let_others_follow();
    meet(0);
    store(totals);
  }

  __device__ __forceinline__ void store(const float (&totals)[kN / 8][4]) const {
    float* tile = reinterpret_cast<float*>(stages);
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < kN / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int token = 8 * n + 2 * t + i % 2;
        tile[token * kStorePitch<kM> + warp * 16 + i / 2 * 8 + g] = totals[n][i] * Step::scale_of(p, first_token + token);
      }
    meet(1);
    if (p.gated) {
      store_gated_tile<Format, T, kM, kN, kWorkers>(p, tile, row_block, first_token);
    } else {
      store_tile<Format, T, kM, kN, kWorkers>(p, tile, row_block * kM, first_token);
    }
  }
};
#else
template <class Format, class T>
struct StepOfTokens {};
#endif

// Token blocks that follow each other before the next rows: what runs at once shares rows and tokens alike.
constexpr int kBand = 8;

template <class Step, int kGroups, int kN, int kStages, bool kFed = false>
__device__ __forceinline__ void linear_wide(const LinearParams& p) {
#ifdef HAS_GROUP_MMA
  WIDE_SHARED_BYTES(shared);
  using Kernel = Wide<Step, kGroups, kN, kStages, kFed>;
  const int row_blocks = (p.out + Kernel::kM - 1) / Kernel::kM, token_blocks = (p.tokens + kN - 1) / kN;
  const int band = blockIdx.x / (kBand * row_blocks), in_band = blockIdx.x % (kBand * row_blocks);
  const int width = min(kBand, token_blocks - band * kBand);
  Kernel(p, in_band / width, band * kBand + in_band % width, shared).run();
#endif
}

}  // namespace vlinders
