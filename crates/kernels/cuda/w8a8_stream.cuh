// Products of e4m3 with few tokens, which take as long as reading the weights does, by the instruction that multiplies many.
//
// There are no more blocks than multiprocessors, and each walks over units of 16 kTiles rows of w with all tokens, so that copies of what
// comes next are under way from its first unit to its last. Its warpgroups take chunks of k in turn, all of them one in a round.
// Their sums meet in shared memory, where threads add them up in order.
#pragma once
#include "fp8_mma.cuh"
#include "linear_store.cuh"

namespace vlinders {

#ifdef HAS_GROUP_MMA
template <class T, int kTiles, int kN, int kGroups, int kStages>
struct W8A8Stream {
  static_assert(kTiles % 2 == 0 && kTiles <= 4, "a warp has a tile, or none");
  static constexpr int kThreads = kGroups * kGroupThreads;
  static constexpr int kM = kTiles * kTileRows;
  static constexpr int kStepBytes = Fp8::kPieces * kPieceBytes, kTileBytes = kStepsOfChunk * kStepBytes;
  static constexpr int kPairsOfChunk = kStepsOfChunk / kStepsOfPair;
  // What a warpgroup has of a round: tokens of its chunk, then weights.
  static constexpr int kPairBytes = kN * kTokenBytes, kTokensBytes = kPairsOfChunk * kPairBytes;
  static constexpr int kGroupBytes = kTokensBytes + kTiles * kTileBytes, kStageBytes = kGroups * kGroupBytes;
  // Sums of a chunk lie by token; four more keep lanes in banks of their own.
  static constexpr int kPitch = kM + 4, kSlot = kN * kPitch;
  static constexpr int kOwn = (kM * kN + kThreads - 1) / kThreads;
  // Behind all stages: sums of two rounds, and where arrivals are counted.
  static constexpr int kSlots = kStages * kStageBytes, kArrivals = kSlots + 2 * kGroups * kSlot * 4;

  const LinearParams& p;
  const int lane, warp, group;
  unsigned char* const stages;
  float* const slots;
  uint64_t* const arrivals;
  const int chunks, rounds;

  __device__ __forceinline__ W8A8Stream(const LinearParams& p, unsigned char* shared)
      : p(p),
        lane(threadIdx.x % kWarp),
        warp(threadIdx.x % kGroupThreads / kWarp),
        // Products stand where all of a group go.
        group(same_in_warp(threadIdx.x / kGroupThreads)),
        stages(shared),
        slots(reinterpret_cast<float*>(shared + kSlots)),
        arrivals(reinterpret_cast<uint64_t*>(shared + kArrivals)),
        chunks((p.steps + kStepsOfChunk - 1) / kStepsOfChunk),
        rounds((chunks + kGroups - 1) / kGroups) {}

  // Which rows belong to a round of this block; rounds are counted over all its units.
  __device__ __forceinline__ int unit_of(int round) const { return blockIdx.x + round / rounds * gridDim.x; }
  __device__ __forceinline__ int first_chunk(int round) const { return round % rounds * kGroups; }
  __device__ __forceinline__ unsigned char* stage_of(int round) const {
    return stages + round % kStages * kStageBytes + group * kGroupBytes;
  }

  // By the first lane of each warp, for a round that the block has. The first warp says how much will come.
  __device__ __forceinline__ void load_weights(int round) const {
    uint64_t* counter = arrivals + round % kStages;
    const int first = first_chunk(round), chunk = first + group;
    if (threadIdx.x == 0) {
      const int pairs = pairs_of(min(p.steps - first * kStepsOfChunk, kGroups * kStepsOfChunk));
      expect_arrivals(counter, pairs * (kTiles * kStepsOfPair * kStepBytes + p.tokens * kTokenBytes));
    }
    if (chunk >= chunks || warp >= kTiles) return;
    const int steps = min(p.steps - chunk * kStepsOfChunk, kStepsOfChunk);
    const int tile = tile_of_block<kTiles>(p, unit_of(round), warp);
    unsigned char* to = stage_of(round) + kTokensBytes + warp * kTileBytes;
    const uint64_t from = step_of<Fp8>(p.codes, p.steps, tile, chunk * kStepsOfChunk);
    copy_to_products(to, from, steps * kStepBytes, counter);
    // Pairs are whole: the last step comes again where there is none, and meets zeros.
    if (steps % kStepsOfPair) copy_to_products(to + steps * kStepBytes, from + (steps - 1) * kStepBytes, kStepBytes, counter);
  }

  // By the first lane of the last warp of each group. What lies where there are no tokens becomes sums that nobody looks at.
  __device__ __forceinline__ void load_tokens(int round) const {
    const int chunk = first_chunk(round) + group;
    if (chunk >= chunks) return;
    const int pairs = pairs_of(min(p.steps - chunk * kStepsOfChunk, kStepsOfChunk));
    for (int pair = 0; pair < pairs; pair++) {
      const uint64_t from = p.x + (uint64_t)(chunk * kPairsOfChunk + pair) * (kArranged * kTokenBytes);
      copy_to_products(stage_of(round) + pair * kPairBytes, from, p.tokens * kTokenBytes, arrivals + round % kStages);
    }
  }

  // Products of the group's chunk of a round.
  __device__ __forceinline__ void multiply(int round, int chunk, float (&sums)[kN / 8][4]) const {
    const unsigned char* tokens = stage_of(round);
    const unsigned char* tile = tokens + kTokensBytes + warp % kTiles * kTileBytes + lane * 16;
    await_arrivals(arrivals + round % kStages, round / kStages);
    uint32_t rows[kPairsOfChunk][4][4];
#pragma unroll
    for (int pair = 0; pair < kPairsOfChunk; pair++) {
      load_pair(tile + pair * (kStepsOfPair * kStepBytes), rows[pair]);
      hold(rows[pair]);
    }
    begin_products();
    multiply_pair<kN>(rows[0], tokens_at(tokens, 0), false, sums);
    if (chunk * kStepsOfChunk + kStepsOfPair < p.steps) {
      begin_products();
      multiply_pair<kN>(rows[1], tokens_at(tokens + kPairBytes, 0), true, sums);
    }
    commit_products();
    wait_products<0>();
    hold(sums);
  }

  __device__ __forceinline__ void keep(const float (&sums)[kN / 8][4], float* slot) const {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < kN / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) slot[(8 * n + 2 * t + i % 2) * kPitch + 16 * warp + i / 2 * 8 + g] = sums[n][i];
  }

  __device__ void run() const {
    const int units = (p.out + kM - 1) / kM;
    const int all = (units - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x * rounds;
    if (threadIdx.x == 0) prepare_arrivals(arrivals, kStages, 1);
    __syncthreads();
    if (lane == 0)
      for (int round = 0; round < min(kStages, all); round++) load_weights(round);
    follow_others();
    if (lane == 0 && warp == 3)
      for (int round = 0; round < min(kStages, all); round++) load_tokens(round);
    __syncthreads();
    float totals[kOwn] = {};
    for (int round = 0; round < all; round++) {
      const int first = first_chunk(round), chunk = first + group;
      float* sums_of_round = slots + round % 2 * (kGroups * kSlot);
      if (chunk < chunks) {
        float sums[kN / 8][4] = {};
        multiply(round, chunk, sums);
        if (warp < kTiles) keep(sums, sums_of_round + group * kSlot);
      }
      if (round + 1 == all) let_others_follow();
      // All are done with the stage, and with adding up the round before the last one.
      __syncthreads();
      if (lane == 0 && round + kStages < all) {
        load_weights(round + kStages);
        if (warp == 3) load_tokens(round + kStages);
      }
      const int count = min(kGroups, chunks - first);
#pragma unroll
      for (int i = 0; i < kOwn; i++) {
        const int own = threadIdx.x + i * kThreads;
        if (own < kM * kN) {
          const float* sum = sums_of_round + own / kM * kPitch + row_of(own);
          for (int slot = 0; slot < count; slot++) totals[i] += sum[slot * kSlot];
        }
      }
      if (first + kGroups >= chunks) {
        store(unit_of(round), totals);
#pragma unroll
        for (int i = 0; i < kOwn; i++) totals[i] = 0.0f;
      }
    }
  }

  // Which of the unit's rows a thread adds up: sixteen lanes have rows of its first half, the others those that they may be gates of.
  static __device__ __forceinline__ int row_of(int own) {
    return own % kM / kWarp * kTileRows + own % kTileRows + own % kWarp / kTileRows * (kM / 2);
  }

  __device__ __forceinline__ void store(int unit, const float (&totals)[kOwn]) const {
#pragma unroll
    for (int i = 0; i < kOwn; i++) {
      const int own = threadIdx.x + i * kThreads, row = row_of(own), token = own / kM;
      const float sum = own < kM * kN ? totals[i] * token_scale(p.x, p.tokens, token) : 0.0f;
      if (p.gated) {
        const float up = __shfl_down_sync(kFullMask, sum, kTileRows);
        const int out = unit * (kM / 2) + row;
        if (row < kM / 2 && out < p.out / 2 && own < kM * kN && token < p.tokens)
          at<T>(p.y)[(int64_t)token * (p.out / 2) + out] = gated<Fp8, T>(p, sum, up, out);
      } else {
        const int out = unit * kM + row;
        if (own < kM * kN && out < p.out && token < p.tokens) store_sum<Fp8, T>(p, sum, out, token);
      }
    }
  }
};
#endif

template <class T, int kTiles, int kN, int kGroups, int kStages>
__device__ __forceinline__ void linear_w8a8_stream(const LinearParams& p) {
#ifdef HAS_GROUP_MMA
  WIDE_SHARED_BYTES(shared);
  W8A8Stream<T, kTiles, kN, kGroups, kStages>(p, shared).run();
#endif
}

}  // namespace vlinders
