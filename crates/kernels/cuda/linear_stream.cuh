// Products with few tokens, which take as long as reading the weights does.
//
// A block has 16 kRows rows of w and all tokens. Its warps take chunks of k in turn; weights go from device memory straight to
// registers, those of some groups of steps being under way at any time. x comes through the first-level cache. Sums of chunks meet in
// shared memory, where threads add them up in order.
#pragma once
#include "linear_store.cuh"

namespace vlinders {

constexpr int kStreamThreads = 256;

// `kEager`: the first weights are asked for before the kernels before this one have ended.
// With `kParts` of two, half of the warps have tiles of their own: those of gates, and those that are gated.
template <class Format, class T, int kRows, int kTokens, int kParts, bool kEager>
struct Stream {
  // That share the chunks of a tile.
  static constexpr int kWarps = kStreamThreads / kWarp / kParts;
  static constexpr int kPieces = Format::kPieces;
  // Steps whose weights are loaded together: for a lane 64 bytes of a tile, or of all tiles if that is more.
  static constexpr int kGroup = 4 / kPieces > kRows ? 4 / kPieces / kRows : 1;
  static constexpr int kGroups = kStepsOfChunk / kGroup;
  // Groups under way, and chunks that have as many together. More of them leave room for fewer blocks, which is worse.
  static constexpr int kRing = 2, kTurn = kRing > kGroups ? kRing / kGroups : 1;
  static constexpr int kM = 16 * kRows * kParts, kN = 8 * kTokens;
  // Sums of a chunk lie by token; four more keep lanes in banks of their own.
  static constexpr int kPitch = kM + 4, kSlot = kN * kPitch;
  static constexpr int kOwn = (kM * kN + kStreamThreads - 1) / kStreamThreads;

  struct Group {
    uint32_t words[kGroup][kRows][4 * kPieces];
    // Two scales of each step, of both rows.
    uint32_t scales[kGroup][kRows][2];
  };

  const LinearParams& p;
  const int lane, g, t, row_block, warp, part;

  __device__ __forceinline__ Stream(const LinearParams& p, int row_block)
      : p(p),
        lane(threadIdx.x % kWarp),
        g(lane / 4),
        t(lane % 4),
        row_block(row_block),
        warp(threadIdx.x / kWarp % kWarps),
        part(threadIdx.x / kWarp / kWarps) {}

  // The first step of group `j` of a chunk, or of one that comes later to the same warp.
  static __device__ __forceinline__ int step_at(int chunk, int j) {
    return (chunk + j / kGroups * kWarps) * kStepsOfChunk + j % kGroups * kGroup;
  }

  __device__ __forceinline__ void load(Group& group, int step) const {
#pragma unroll
    for (int m = 0; m < kRows; m++) {
      const int tile = tile_of_block<kRows * kParts>(p, row_block, part * kRows + m);
      const uint64_t codes = step_of<Format>(p.codes, p.steps, tile, step) + lane * 16;
#pragma unroll
      for (int s = 0; s < kGroup; s++) {
        if (step + s >= p.steps) continue;
#pragma unroll
        for (int i = 0; i < kPieces; i++)
          load_piece(group.words[s][m] + 4 * i, codes + (s * kPieces + i) * kPieceBytes);
        if constexpr (Format::kScales == Scales::kBlock) {
          const int64_t pitch = (p.steps + kStepsOfChunk - 1) / kStepsOfChunk * kStepsOfChunk;
#pragma unroll
          for (int half = 0; half < 2; half++) {
            const int row = min(tile * kTileRows + 8 * half + g, p.out - 1);
            group.scales[s][m][half] = __ldg(at<const uint32_t>(p.scales) + row * pitch + step + s);
          }
        }
      }
    }
  }

  __device__ __forceinline__ void multiply(const Group& group, int step, float (&sums)[kRows][kTokens][4]) const {
#pragma unroll
    for (int s = 0; s < kGroup; s++) {
      if (step + s >= p.steps) break;
#pragma unroll
      for (int b = 0; b < 2; b++) {
        const int k = (step + s) * kStep + b * 32 + 8 * t;
        uint32_t x[kTokens][4];
#pragma unroll
        for (int n = 0; n < kTokens; n++) {
          const int token = 8 * n + g;
          const bool valid = token < p.tokens && k < p.inn;
          const T* from = at<const T>(p.x) + (int64_t)token * p.inn + k;
          load_if(valid, x[n], from);
        }
#pragma unroll
        for (int m = 0; m < kRows; m++) {
          Operand<Format, T> rows(group.words[s][m], b);
          if constexpr (Format::kScales == Scales::kBlock)
            rows.set_scales(group.scales[s][m][0], group.scales[s][m][1], b);
#pragma unroll
          for (int n = 0; n < kTokens; n++) rows.multiply(x[n], sums[m][n]);
        }
      }
    }
  }

  __device__ __forceinline__ void keep(const float (&sums)[kRows][kTokens][4], float* slot) const {
#pragma unroll
    for (int m = 0; m < kRows; m++)
#pragma unroll
      for (int n = 0; n < kTokens; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) slot[(8 * n + 2 * t + i % 2) * kPitch + 16 * (part * kRows + m) + i / 2 * 8 + g] = sums[m][n][i];
  }

  __device__ void run() const {
    SHARED_BYTES(shared);
    float* slots = reinterpret_cast<float*>(shared);
    const int chunks = (p.steps + kStepsOfChunk - 1) / kStepsOfChunk;
    float totals[kOwn] = {};
    Group ring[kRing] = {};
#pragma unroll
    for (int i = 0; i < kRing; i++) load(ring[i], step_at(warp, i));
    if (kEager) follow_others();
    for (int base = 0; base < chunks; base += p.slots) {
      const int count = min(p.slots, chunks - base);
      for (int first = warp; first < count; first += kTurn * kWarps) {
#pragma unroll
        for (int turn = 0; turn < kTurn; turn++) {
          const int slot = first + turn * kWarps;
          // Only the last round has no whole turns: p.slots is a multiple of the chunks of all warps.
          if (slot >= count) break;
          float sums[kRows][kTokens][4] = {};
#pragma unroll
          for (int j = 0; j < kGroups; j++) {
            Group& group = ring[(turn * kGroups + j) % kRing];
            multiply(group, step_at(base + slot, j), sums);
            load(group, step_at(base + slot, j + kRing));
          }
          keep(sums, slots + slot * kSlot);
        }
      }
      if (kEager && base + count == chunks) let_others_follow();
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kOwn; i++) {
        const int own = threadIdx.x + i * kStreamThreads;
        if (own < kM * kN) {
          const float* sum = slots + own / kM * kPitch + own % kM;
          for (int slot = 0; slot < count; slot++) totals[i] += sum[slot * kSlot];
        }
      }
      __syncthreads();
    }
    if constexpr (kParts == 2) {
      if (p.gated) {
        store_gated(totals);
        return;
      }
    }
#pragma unroll
    for (int i = 0; i < kOwn; i++) {
      const int own = threadIdx.x + i * kStreamThreads;
      const int out = row_block * kM + own % kM, token = own / kM;
      if (own < kM * kN && out < p.out && token < p.tokens) store_sum<Format, T>(p, totals[i], out, token);
    }
  }

  // A lane has a gate or, 16 lanes further, what is gated.
  __device__ __forceinline__ void store_gated(const float (&totals)[kOwn]) const {
    static_assert(kParts != 2 || (kM == kWarp && kM * kN % kStreamThreads == 0), "a warp has both halves of a token");
#pragma unroll
    for (int i = 0; i < kOwn; i++) {
      const float up = __shfl_down_sync(kFullMask, totals[i], kTileRows);
      const int out = row_block * kTileRows + lane, token = (threadIdx.x + i * kStreamThreads) / kM;
      if (lane < kTileRows && token < p.tokens) at<T>(p.y)[(int64_t)token * (p.out / 2) + out] = gated<Format, T>(p, totals[i], up, out);
    }
  }
};

}  // namespace vlinders
