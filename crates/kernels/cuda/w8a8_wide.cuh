// Products of e4m3 with many tokens on warpgroups: linear_wide.cuh with other steps.
//
// A step of tokens is a pair of steps of weights here, whose bytes are operands as they are.
#pragma once
#include "fp8_mma.cuh"
#include "linear_wide.cuh"

namespace vlinders {

#ifdef HAS_GROUP_MMA
template <class Number>
struct PairOfTokens {
  using Format = Fp8;
  using T = Number;
  static constexpr int kOfChunk = kStepsOfChunk / kStepsOfPair;
  static constexpr int kStepBytes = Fp8::kPieces * kPieceBytes, kTileBytes = kStepsOfPair * kStepBytes;

  static __device__ __forceinline__ int count(const LinearParams& p) { return pairs_of(p.steps); }
  static __device__ __forceinline__ void copy_weights(const LinearParams& p, int tile, int pair, unsigned char* to, uint64_t* counter) {
    const int step = pair * kStepsOfPair;
    const uint64_t from = step_of<Fp8>(p.codes, p.steps, tile, step);
    if (step + kStepsOfPair <= p.steps) {
      copy_to_products(to, from, kTileBytes, counter);
    } else {
      // The last step comes again where there is none: it meets zeros.
      for (int i = 0; i < kStepsOfPair; i++) copy_to_products(to + i * kStepBytes, from, kStepBytes, counter);
    }
  }
  template <int kN, class Tokens>
  static __device__ __forceinline__ void multiply(const unsigned char* weights, Tokens tokens, bool add, float (&sums)[kN / 8][4]) {
    uint32_t rows[4][4];
    load_pair(weights, rows);
    hold(rows);
    begin_products();
    multiply_pair<kN>(rows, tokens, add, sums);
    commit_products();
  }
  static __device__ __forceinline__ float scale_of(const LinearParams& p, int token) { return token_scale(p.x, p.tokens, token); }
};
#else
template <class Number>
struct PairOfTokens {};
#endif

}  // namespace vlinders
