// Products of e4m3 with many tokens on warpgroups.
//
// As in linear_wide.cuh a block has 64 rows of w for each of its warpgroups, all of them the same tokens, and both come to shared memory by
// copies that no thread looks after. A step of tokens is a pair of steps of weights here, whose bytes are operands as they are.
#pragma once
#include "fp8_mma.cuh"
#include "linear_store.cuh"

namespace vlinders {

#ifdef HAS_GROUP_MMA
template <class T, int kGroups, int kN, int kAhead>
struct W8A8Wide {
  static_assert(kAhead >= 1, "a pair is asked for before its barrier");
  static_assert(kN % 64 == 0 && kN <= kArranged + 64, "tokens lie in two places at most");
  static constexpr int kThreads = kGroups * kGroupThreads;
  static constexpr int kM = 64 * kGroups, kTiles = kM / kTileRows;
  // Pairs under way, the one that is multiplied, and the one before.
  static constexpr int kStages = kAhead + 2;
  static constexpr int kPairsOfChunk = kStepsOfChunk / kStepsOfPair;
  static constexpr int kStepBytes = Fp8::kPieces * kPieceBytes, kTileBytes = kStepsOfPair * kStepBytes;
  static constexpr int kTokensBytes = kN * kTokenBytes, kStageBytes = kTokensBytes + kTiles * kTileBytes;
  // Where arrivals are counted: behind pairs and, later, sums.
  static constexpr int kSumBytes = kN * kStorePitch<kM> * 4;
  static constexpr int kArrivals = kStages * kStageBytes > kSumBytes ? kStages * kStageBytes : kSumBytes;

  const LinearParams& p;
  const int lane, warp, row_block, first_token, pairs;
  unsigned char* const stages;
  uint64_t* const arrivals;

  __device__ __forceinline__ W8A8Wide(const LinearParams& p, int row_block, int token_block, unsigned char* shared)
      : p(p),
        lane(threadIdx.x % kWarp),
        warp(threadIdx.x / kWarp),
        row_block(row_block),
        first_token(token_block * kN),
        pairs(pairs_of(p.steps)),
        stages(shared),
        arrivals(reinterpret_cast<uint64_t*>(shared + kArrivals)) {}

  __device__ __forceinline__ unsigned char* stage_of(int pair) const { return stages + pair % kStages * kStageBytes; }

  // By the first lane of each warp: the warp's rows. The first warp says how much will come.
  __device__ __forceinline__ void load_weights(int pair) const {
    if (pair >= pairs) return;
    uint64_t* counter = arrivals + pair % kStages;
    if (warp == 0) expect_arrivals(counter, kStageBytes);
    const int tile = tile_of_block<kTiles>(p, row_block, warp), step = pair * kStepsOfPair;
    unsigned char* to = stage_of(pair) + kTokensBytes + warp * kTileBytes;
    const uint64_t from = step_of<Fp8>(p.codes, p.steps, tile, step);
    if (step + kStepsOfPair <= p.steps) {
      copy_to_products(to, from, kTileBytes, counter);
    } else {
      // The last step comes again where there is none: it meets zeros.
      for (int i = 0; i < kStepsOfPair; i++) copy_to_products(to + i * kStepBytes, from, kStepBytes, counter);
    }
  }

  // By the first thread of the last warp.
  __device__ __forceinline__ void load_tokens(int pair) const {
    if (pair >= pairs) return;
    uint64_t* counter = arrivals + pair % kStages;
    const int in_first = min(kN, kArranged - first_token % kArranged);
    copy_to_products(stage_of(pair), tokens_from(pair, first_token), in_first * kTokenBytes, counter);
    if (kN > kArranged)
      copy_to_products(stage_of(pair) + in_first * kTokenBytes, tokens_from(pair, first_token + in_first),
                       (kN - in_first) * kTokenBytes, counter);
  }
  // Where a pair of a token, and of those with which it lies, is.
  __device__ __forceinline__ uint64_t tokens_from(int pair, int token) const {
    return p.x + ((uint64_t)(token / kArranged) * pairs + pair) * (kArranged * kTokenBytes) + token % kArranged * kTokenBytes;
  }

  __device__ __forceinline__ void load_next(int pair) const {
    if (lane == 0) load_weights(pair + kAhead);
    if (threadIdx.x == kThreads - kWarp) load_tokens(pair + kAhead);
  }

  // Start the products of a pair, once all of it is there.
  __device__ __forceinline__ void multiply(int pair, bool add, float (&sums)[kN / 8][4]) const {
    await_arrivals(arrivals + pair % kStages, pair / kStages);
    uint32_t rows[4][4];
    load_pair(stage_of(pair) + kTokensBytes + warp * kTileBytes + lane * 16, rows);
    hold(rows);
    begin_products();
    multiply_pair<kN>(rows, stage_of(pair), add, sums);
    commit_products();
  }

  __device__ void run() const {
    if (threadIdx.x == 0) prepare_arrivals(arrivals, kStages, 1);
    __syncthreads();
    if (lane == 0)
      for (int pair = 0; pair < kAhead; pair++) load_weights(pair);
    follow_others();
    if (threadIdx.x == kThreads - kWarp)
      for (int pair = 0; pair < kAhead; pair++) load_tokens(pair);
    __syncthreads();
    float sums[kN / 8][4] = {}, totals[kN / 8][4] = {};
    for (int first = 0; first < pairs; first += kPairsOfChunk) {
#pragma unroll
      for (int j = 0; j < kPairsOfChunk; j++) {
        const int pair = first + j;
        if (pair >= pairs) break;
        // All are done with the pair before the last; another one takes its place while this one is multiplied.
        __syncthreads();
        multiply(pair, j > 0, sums);
        load_next(pair);
        // The pair before is done, and its registers are free.
        if (j < kPairsOfChunk - 1) wait_products<1>();
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
      for (int i = 0; i < 4; i++) {
        const int token = 8 * n + 2 * t + i % 2;
        tile[token * kStorePitch<kM> + warp * 16 + i / 2 * 8 + g] = totals[n][i] * token_scale(p.x, p.tokens, first_token + token);
      }
    __syncthreads();
    if (p.gated) {
      store_gated_tile<Fp8, T, kM, kN, kThreads>(p, tile, row_block, first_token);
    } else {
      store_tile<Fp8, T, kM, kN, kThreads>(p, tile, row_block * kM, first_token);
    }
  }
};
#endif

// Token blocks that follow each other before the next rows: what runs at once shares rows and tokens alike.
constexpr int kTokenBand = 8;

template <class T, int kGroups, int kN, int kAhead>
__device__ __forceinline__ void linear_w8a8_wide(const LinearParams& p) {
#ifdef HAS_GROUP_MMA
  WIDE_SHARED_BYTES(shared);
  using Kernel = W8A8Wide<T, kGroups, kN, kAhead>;
  const int row_blocks = (p.out + Kernel::kM - 1) / Kernel::kM, token_blocks = (p.tokens + kN - 1) / kN;
  const int band = blockIdx.x / (kTokenBand * row_blocks), in_band = blockIdx.x % (kTokenBand * row_blocks);
  const int width = min(kTokenBand, token_blocks - band * kTokenBand);
  Kernel(p, in_band / width, band * kTokenBand + in_band % width, shared).run();
#endif
}

}  // namespace vlinders
