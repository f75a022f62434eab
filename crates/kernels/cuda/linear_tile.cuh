// Products with many tokens, which take as long as the multiplications do.
//
// A block has a tile of w's rows and of tokens, and goes through k in steps of 64 that arrive in shared memory while earlier
// ones are multiplied. Warps share the tile. Odd tokens have the halves of their 128 bytes exchanged, so that eight lanes, which
// read 64 bytes of two tokens each, meet all banks.
#pragma once
#include "linear_store.cuh"

namespace vlinders {

// `kEager`: the first weights are asked for before the kernels before this one have ended.
template <class Format, class T, int kM, int kN, int kWarpsM, int kWarpsN, int kStages, bool kEager>
struct Tile {
  static constexpr int kThreads = kWarpsM * kWarpsN * kWarp;
  static constexpr int kRows = kM / kWarpsM / 16, kTokens = kN / kWarpsN / 8;
  static constexpr int kTileBytes = Format::kPieces * kPieceBytes;
  static constexpr int kCodeBytes = kM / kTileRows * kTileBytes, kXBytes = kN * kStep * 2;
  static constexpr int kStageBytes = kCodeBytes + kXBytes;
  // Scales of the blocks of a chunk of each row; those of the next chunk come while this one's are in use.
  static constexpr int kScaleBytes = kM * 16;

  const LinearParams& p;
  const int lane, g, t, warp_row, warp_token, first_row, first_token;
  unsigned char* const stages;
  unsigned char* const scales;

  __device__ __forceinline__ Tile(const LinearParams& p, int row_block, int token_block, unsigned char* shared)
      : p(p),
        lane(threadIdx.x % kWarp),
        g(lane / 4),
        t(lane % 4),
        warp_row(threadIdx.x / kWarp / kWarpsN * (kM / kWarpsM)),
        warp_token(threadIdx.x / kWarp % kWarpsN * (kN / kWarpsN)),
        first_row(row_block * kM),
        first_token(token_block * kN),
        stages(shared),
        scales(shared + kStages * kStageBytes) {}

  // Where sixteen bytes of a token lie.
  static __device__ __forceinline__ int place(int token, int eight) { return token * 128 + (eight ^ (token & 1) << 2) * 16; }

  __device__ __forceinline__ void load_weights(int step) const {
    if (step >= p.steps) return;
    unsigned char* stage = stages + step % kStages * kStageBytes;
#pragma unroll
    for (int i = 0; i < (kCodeBytes / 16 + kThreads - 1) / kThreads; i++) {
      const int index = threadIdx.x + i * kThreads;
      if (kCodeBytes / 16 % kThreads != 0 && index >= kCodeBytes / 16) break;
      // Beyond the last tile it is read again: nobody looks at what becomes of it.
      const int tile = min(first_row / kTileRows + index * 16 / kTileBytes, (p.out - 1) / kTileRows);
      const uint64_t from = step_of<Format>(p.codes, p.steps, tile, step) + index * 16 % kTileBytes;
      copy_async(stage + index * 16, at<const char>(from), true);
    }
    if (Format::kScales == Scales::kBlock && step % kStepsOfChunk == 0 && threadIdx.x < kM) {
      const int64_t chunks = (p.steps + kStepsOfChunk - 1) / kStepsOfChunk, chunk = step / kStepsOfChunk;
      const int64_t from = min(first_row + (int)threadIdx.x, p.out - 1) * chunks + chunk;
      copy_async(scales + chunk % 2 * kScaleBytes + threadIdx.x * 16, at<const char>(p.scales + from * 16), true);
    }
  }

  __device__ __forceinline__ void load_tokens(int step) const {
    if (step >= p.steps) return;
    unsigned char* stage = stages + step % kStages * kStageBytes;
#pragma unroll
    for (int i = 0; i < kN * 8 / kThreads; i++) {
      const int index = threadIdx.x + i * kThreads, token = index / 8, eight = index % 8;
      const int k = step * kStep + eight * 8;
      const bool valid = first_token + token < p.tokens && k < p.inn;
      const T* from = at<const T>(p.x) + (valid ? (int64_t)(first_token + token) * p.inn + k : 0);
      copy_async(stage + kCodeBytes + place(token, eight), from, valid);
    }
  }

  __device__ __forceinline__ void multiply(int step, float (&sums)[kRows][kTokens][4]) const {
    const unsigned char* codes = stages + step % kStages * kStageBytes;
    const unsigned char* x_tile = codes + kCodeBytes;
#pragma unroll
    for (int b = 0; b < 2; b++) {
      uint32_t x[kTokens][4];
#pragma unroll
      for (int n = 0; n < kTokens; n++)
        unpack(x[n], *reinterpret_cast<const uint4*>(x_tile + place(warp_token + 8 * n + g, 4 * b + t)));
#pragma unroll
      for (int m = 0; m < kRows; m++) {
        uint32_t words[4 * Format::kPieces];
        const unsigned char* tile = codes + (warp_row / kTileRows + m) * kTileBytes + lane * 16;
#pragma unroll
        for (int i = 0; i < Format::kPieces; i++)
          unpack(words + 4 * i, *reinterpret_cast<const uint4*>(tile + i * kPieceBytes));
        Operand<Format, T> rows(words, b);
        if constexpr (Format::kScales == Scales::kBlock) {
          const uint32_t* of_step = reinterpret_cast<const uint32_t*>(scales + step / kStepsOfChunk % 2 * kScaleBytes);
          of_step += step % kStepsOfChunk + (warp_row + 16 * m + g) * 4;
          rows.set_scales(of_step[0], of_step[8 * 4], b);
        }
#pragma unroll
        for (int n = 0; n < kTokens; n++) rows.multiply(x[n], sums[m][n]);
      }
    }
  }

  __device__ void run() const {
    float sums[kRows][kTokens][4] = {}, totals[kRows][kTokens][4] = {};
#pragma unroll
    for (int step = 0; step < kStages - 1; step++) load_weights(step);
    if (kEager) follow_others();
#pragma unroll
    for (int step = 0; step < kStages - 1; step++) {
      load_tokens(step);
      commit_copies();
    }
    for (int step = 0; step < p.steps; step++) {
      wait_copies<kStages - 2>();
      // Step `step` is here for all, and all are done with the one before it, whose place is free now.
      __syncthreads();
      load_weights(step + kStages - 1);
      load_tokens(step + kStages - 1);
      commit_copies();
      multiply(step, sums);
      if (step % kStepsOfChunk == kStepsOfChunk - 1 || step == p.steps - 1) {
#pragma unroll
        for (int m = 0; m < kRows; m++)
#pragma unroll
          for (int n = 0; n < kTokens; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
              totals[m][n][i] += sums[m][n][i];
              sums[m][n][i] = 0.0f;
            }
      }
    }
    let_others_follow();
    wait_copies<0>();
    __syncthreads();
    store(totals);
  }

  // Through shared memory, by token, so that stores are of neighbours.
  __device__ __forceinline__ void store(const float (&totals)[kRows][kTokens][4]) const {
    float* tile = reinterpret_cast<float*>(stages);
#pragma unroll
    for (int m = 0; m < kRows; m++)
#pragma unroll
      for (int n = 0; n < kTokens; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
          tile[(warp_token + 8 * n + 2 * t + i % 2) * kStorePitch<kM> + warp_row + 16 * m + i / 2 * 8 + g] = totals[m][n][i];
    __syncthreads();
    store_tile<Format, T, kM, kN, kThreads>(p, tile, first_row, first_token);
  }
};

}  // namespace vlinders
