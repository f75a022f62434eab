// Products with many tokens on warpgroups, for weights whose sums need no scales on the way.
//
// A block has 64 rows of w for each of its warpgroups, and all of them the same tokens. Steps of both come to shared memory by copies that
// no thread has to look after: a tile of weights is one, and so is a step of tokens, which are arranged (arranged.cuh). Products take
// weights from registers, and tokens from where they lie.
#pragma once
#include "group_mma.cuh"
#include "linear_store.cuh"

namespace vlinders {

#ifdef HAS_GROUP_MMA
template <class Format, class T, int kGroups, int kN, int kAhead>
struct Wide {
  static_assert(kAhead >= 1, "a step is asked for before its barrier");
  static constexpr int kThreads = kGroups * kGroupThreads;
  static constexpr int kM = 64 * kGroups, kTiles = kM / kTileRows;
  // Steps under way, the one that is multiplied, and the one before.
  static constexpr int kStages = kAhead + 2;
  // Asking for copies while products are under way takes no time, but registers, of which many threads have few.
  static constexpr bool kCopyFirst = kThreads > 256;
  static constexpr int kTileBytes = Format::kPieces * kPieceBytes;
  static constexpr int kTokensBytes = kN * kTokenBytes, kStageBytes = kTokensBytes + kTiles * kTileBytes;
  // Where arrivals are counted: behind steps and, later, sums.
  static constexpr int kSumBytes = kN * kStorePitch<kM> * 4;
  static constexpr int kArrivals = kStages * kStageBytes > kSumBytes ? kStages * kStageBytes : kSumBytes;

  struct Words {
    uint32_t words[4 * Format::kPieces];
  };

  const LinearParams& p;
  const int lane, warp, row_block, first_token;
  unsigned char* const stages;
  uint64_t* const arrivals;

  __device__ __forceinline__ Wide(const LinearParams& p, int row_block, int token_block, unsigned char* shared)
      : p(p),
        lane(threadIdx.x % kWarp),
        warp(threadIdx.x / kWarp),
        row_block(row_block),
        first_token(token_block * kN),
        stages(shared),
        arrivals(reinterpret_cast<uint64_t*>(shared + kArrivals)) {}

  __device__ __forceinline__ unsigned char* stage_of(int step) const { return stages + step % kStages * kStageBytes; }

  // By the first lane of each warp: the warp's rows. The first warp says how much will come. Addresses are made anew each time:
  // there are no registers to keep them in.
  __device__ __forceinline__ void load_weights(int step) const {
    if (step >= p.steps) return;
    uint64_t* counter = arrivals + step % kStages;
    if (warp == 0) expect_arrivals(counter, kStageBytes);
    const int tile = tile_of_block<kTiles>(p, row_block, warp);
    copy_to_products(stage_of(step) + kTokensBytes + warp * kTileBytes, step_of<Format>(p.codes, p.steps, tile, step), kTileBytes, counter);
  }

  // By the first thread of the last warp.
  __device__ __forceinline__ void load_tokens(int step) const {
    if (step >= p.steps) return;
    const uint64_t from = p.x + ((uint64_t)(first_token / kArranged) * p.steps + step) * (kArranged * kTokenBytes) +
                          first_token % kArranged * kTokenBytes;
    copy_to_products(stage_of(step), from, kTokensBytes, arrivals + step % kStages);
  }

  __device__ __forceinline__ void load_next(int step) const {
    if (lane == 0) load_weights(step + kAhead);
    if (threadIdx.x == kThreads - kWarp) load_tokens(step + kAhead);
  }

  // Weights of a step, once all of the step is there.
  __device__ __forceinline__ Words fetch(int step) const {
    await_arrivals(arrivals + step % kStages, step / kStages);
    const unsigned char* tile = stage_of(step) + kTokensBytes + warp * kTileBytes + lane * 16;
    Words to;
#pragma unroll
    for (int i = 0; i < Format::kPieces; i++) unpack(to.words + 4 * i, *reinterpret_cast<const uint4*>(tile + i * kPieceBytes));
    return to;
  }

  __device__ __forceinline__ void multiply_step(const Words& words, int step, bool add, float (&sums)[kN / 8][4]) const {
    Operand<Format, T> rows[2] = {{words.words, 0}, {words.words, 1}};
    hold(rows[0].numbers);
    hold(rows[1].numbers);
    begin_products();
#pragma unroll
    for (int i = 0; i < 4; i++)
      group_mma<T, kN>(sums, rows[i / 2].numbers[i % 2], tokens_at(stage_of(step), i), add || i > 0);
    commit_products();
  }

  __device__ void run() const {
    if (threadIdx.x == 0) prepare_arrivals(arrivals, kStages);
    __syncthreads();
    if (lane == 0)
      for (int step = 0; step < kAhead; step++) load_weights(step);
    follow_others();
    if (threadIdx.x == kThreads - kWarp)
      for (int step = 0; step < kAhead; step++) load_tokens(step);
    __syncthreads();
    float sums[kN / 8][4] = {}, totals[kN / 8][4] = {};
    for (int first = 0; first < p.steps; first += kStepsOfChunk) {
#pragma unroll
      for (int j = 0; j < kStepsOfChunk; j++) {
        const int step = first + j;
        if (step >= p.steps) break;
        // All are done with the step before the last; another one takes its place while this one is multiplied.
        __syncthreads();
        if (kCopyFirst) load_next(step);
        multiply_step(fetch(step), step, j > 0, sums);
        if (!kCopyFirst) load_next(step);
        // The step before is done, and its registers are free.
        if (j < kStepsOfChunk - 1) wait_products<1>();
      }
      wait_products<0>();
      hold(sums);
#pragma unroll
      for (int n = 0; n < kN / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) totals[n][i] += sums[n][i];
    }
    let_others_follow();
    __syncthreads();
    store(totals);
  }

  __device__ __forceinline__ void store(const float (&totals)[kN / 8][4]) const {
    float* tile = reinterpret_cast<float*>(stages);
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < kN / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        tile[(8 * n + 2 * t + i % 2) * kStorePitch<kM> + warp * 16 + i / 2 * 8 + g] = totals[n][i];
    __syncthreads();
    if (p.gated) {
      store_gated_tile<Format, T, kM, kN, kThreads>(p, tile, row_block, first_token);
    } else {
      store_tile<Format, T, kM, kN, kThreads>(p, tile, row_block * kM, first_token);
    }
  }
};
#endif

// Token blocks that follow each other before the next rows: what runs at once shares rows and tokens alike.
constexpr int kBand = 8;

template <class Format, class T, int kGroups, int kN, int kAhead>
__device__ __forceinline__ void linear_wide(const LinearParams& p) {
#ifdef HAS_GROUP_MMA
  WIDE_SHARED_BYTES(shared);
  using Kernel = Wide<Format, T, kGroups, kN, kAhead>;
  const int row_blocks = (p.out + Kernel::kM - 1) / Kernel::kM, token_blocks = (p.tokens + kN - 1) / kN;
  const int band = blockIdx.x / (kBand * row_blocks), in_band = blockIdx.x % (kBand * row_blocks);
  const int width = min(kBand, token_blocks - band * kBand);
  Kernel(p, in_band / width, band * kBand + in_band % width, shared).run();
#endif
}

}  // namespace vlinders
