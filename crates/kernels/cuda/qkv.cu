// From rows of queries, keys and values to attention: norms of heads, rotation, and keys and values in their slots.
//
// A warp has one head of one token, two neighbouring numbers a lane. Everything is computed in f32.
#include "common.cuh"

namespace vlinders {
namespace {

constexpr int kQkvThreads = 256;
constexpr int kQkvPairs = 256 / 2 / kWarp;  // pairs of numbers that a lane has, at most

struct QkvParams {
  uint64_t qkv;             // [n, (heads + 2 kv_heads) head_dim] T
  uint64_t q_norm, k_norm;  // [head_dim] T, or 0
  uint64_t cos, sin;        // [positions, half] f32
  uint64_t positions;       // [n] u32
  uint64_t slots;           // [n] u32: block * block_size + position in it, or all bits set for none
  uint64_t q;               // [n, heads, head_dim] T
  uint64_t keys, values;    // [blocks, kv_heads, block_size, head_dim] C
  uint64_t key_scales, value_scales;  // [blocks, kv_heads, block_size] f32, or 0
  int32_t tokens, heads, kv_heads, head_dim, half, block_size;
  float eps;
  uint32_t unused;
};

template <class T>
struct alignas(2 * sizeof(T)) Two {
  T values[2];
};
template <class T>
__device__ __forceinline__ float2 load_two(const T* from) {
  const Two<T> two = *reinterpret_cast<const Two<T>*>(from);
  return make_float2(to_float(two.values[0]), to_float(two.values[1]));
}
template <class T>
__device__ __forceinline__ void store_two(T* to, float2 x) {
  *reinterpret_cast<Two<T>*>(to) = {from_float<T>(x.x), from_float<T>(x.y)};
}

// The scale of a head's codes, as on the CPU: NaN when a number of it is not finite.
__device__ __forceinline__ float scale_of(const float2 (&x)[kQkvPairs]) {
  uint32_t greatest = 0;
#pragma unroll
  for (int j = 0; j < kQkvPairs; j++)
    greatest = max(greatest, max(__float_as_uint(x[j].x) & 0x7fffffffu, __float_as_uint(x[j].y) & 0x7fffffffu));
#pragma unroll
  for (int bit = 16; bit > 0; bit /= 2) greatest = max(greatest, __shfl_xor_sync(kFullMask, greatest, bit));
  if (greatest >= 0x7f800000u) return __uint_as_float(0x7fc00000u);
  return fmaxf(__fdiv_rn(__uint_as_float(greatest), 127.0f), 1.17549435e-38f);
}
__device__ __forceinline__ int8_t code_of(float x) { return x == x ? (int8_t)__float2int_rn(x) : (int8_t)0; }

template <class T, class C>
__device__ void qkv(const QkvParams& p) {
  const int lane = threadIdx.x % kWarp, d = p.head_dim, heads = p.heads + 2 * p.kv_heads;
  const int64_t number = (int64_t)blockIdx.x * (kQkvThreads / kWarp) + threadIdx.x / kWarp;
  if (number >= (int64_t)p.tokens * heads) return;
  const int token = (int)(number / heads), head = (int)(number % heads);
  const bool is_query = head < p.heads, is_value = head >= p.heads + p.kv_heads;
  const T* from = at<const T>(p.qkv) + number * d;
  float2 x[kQkvPairs];
#pragma unroll
  for (int j = 0; j < kQkvPairs; j++) {
    const int i = 2 * (lane + j * kWarp);
    x[j] = i < d ? load_two(from + i) : make_float2(0.0f, 0.0f);
  }
  if (!is_value) {
    const T* weight = at<const T>(is_query ? p.q_norm : p.k_norm);
    float scale = 1.0f;
    if (weight) {
      float squares = 0.0f;
#pragma unroll
      for (int j = 0; j < kQkvPairs; j++) squares = __fmaf_rn(x[j].x, x[j].x, __fmaf_rn(x[j].y, x[j].y, squares));
      scale = rsqrtf(warp_sum(squares) / d + p.eps);
    }
    const int64_t angle = (int64_t)at<const uint32_t>(p.positions)[token] * p.half;
    // What a number is before its rotation, wherever it is.
    auto plain = [&](int i, float raw) { return weight ? raw * scale * to_float(weight[i]) : raw; };
    auto turned = [&](int i, float raw) {
      const float own = plain(i, raw);
      if (i >= 2 * p.half) return own;
      const bool first = i < p.half;
      const int other = first ? i + p.half : i - p.half;
      const float c = at<const float>(p.cos)[angle + (first ? i : other)];
      const float s = at<const float>(p.sin)[angle + (first ? i : other)];
      const float with = plain(other, to_float(from[other]));
      return first ? own * c - with * s : own * c + with * s;
    };
#pragma unroll
    for (int j = 0; j < kQkvPairs; j++) {
      const int i = 2 * (lane + j * kWarp);
      if (i < d) x[j] = make_float2(turned(i, x[j].x), turned(i + 1, x[j].y));
    }
  }
  if (is_query) {
    T* to = at<T>(p.q) + ((int64_t)token * p.heads + head) * d;
#pragma unroll
    for (int j = 0; j < kQkvPairs; j++) {
      const int i = 2 * (lane + j * kWarp);
      if (i < d) store_two(to + i, x[j]);
    }
    return;
  }
  const uint32_t slot = at<const uint32_t>(p.slots)[token];
  if (slot == 0xffffffffu) return;
  const int64_t block = slot / (uint32_t)p.block_size, offset = slot % (uint32_t)p.block_size;
  const int64_t row = (block * p.kv_heads + (head - p.heads) % p.kv_heads) * p.block_size + offset;
  C* to = at<C>(is_value ? p.values : p.keys) + row * d;
  if constexpr (sizeof(C) == 1) {
    const float scale = scale_of(x), by = __frcp_rn(scale);
    if (lane == 0) at<float>(is_value ? p.value_scales : p.key_scales)[row] = scale;
#pragma unroll
    for (int j = 0; j < kQkvPairs; j++) {
      const int i = 2 * (lane + j * kWarp);
      if (i < d) *reinterpret_cast<Two<C>*>(to + i) = {code_of(x[j].x * by), code_of(x[j].y * by)};
    }
  } else {
#pragma unroll
    for (int j = 0; j < kQkvPairs; j++) {
      const int i = 2 * (lane + j * kWarp);
      if (i < d) store_two(to + i, x[j]);
    }
  }
}

}  // namespace
}  // namespace vlinders

#define QKV(name, T, C) \
  KERNEL(name, vlinders::QkvParams, vlinders::kQkvThreads) { vlinders::qkv<T, C>(p); }
QKV(qkv_bf16_bf16, vlinders::bf16, vlinders::bf16)
QKV(qkv_bf16_int8, vlinders::bf16, int8_t)
QKV(qkv_f16_f16, vlinders::f16, vlinders::f16)
QKV(qkv_f16_int8, vlinders::f16, int8_t)
QKV(qkv_f32_f32, float, float)
QKV(qkv_f32_bf16, float, vlinders::bf16)
QKV(qkv_f32_f16, float, vlinders::f16)
QKV(qkv_f32_int8, float, int8_t)
