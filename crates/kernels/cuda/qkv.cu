// From rows of queries, keys and values to attention: norms of heads, rotation, and keys and values in their slots.
//
// A warp has up to 256 numbers of one token, of as many heads as that is, two neighbouring ones a lane at a time. Everything is
// computed in f32. Norms, angles, positions and slots are older than the kernel before this one.
#include "common.cuh"

namespace vlinders {
namespace {

constexpr int kQkvThreads = 128;
constexpr int kQkvPairs = 256 / 2 / kWarp;  // pairs of numbers that a lane has

struct QkvParams {
  uint64_t qkv;             // [n, (heads + 2 kv_heads) head_dim] T
  uint64_t q_norm, k_norm;  // [head_dim] T, or 0
  uint64_t cos, sin;        // [positions, half] f32
  uint64_t positions;       // [n] u32
  uint64_t slots;           // [n] u32: block * block_size + position in it, or all bits set for none
  uint64_t q;               // [n, heads, head_dim] T
  uint64_t keys, values;    // [blocks, kv_heads, block_size, head_dim] C
  uint64_t key_scales, value_scales;  // [blocks, kv_heads, block_size] f32, or 0
  int32_t heads, kv_heads, head_dim, half, block_size;
  float eps;
};

template <class T>
struct alignas(2 * sizeof(T)) Two {
  T values[2];
};
template <class T>
__device__ __forceinline__ Two<T> load_two(const T* from) {
  return *reinterpret_cast<const Two<T>*>(from);
}
template <class T>
__device__ __forceinline__ float2 floats_of(Two<T> two) {
  return make_float2(to_float(two.values[0]), to_float(two.values[1]));
}
template <class T>
__device__ __forceinline__ void store_two(T* to, float2 x) {
  *reinterpret_cast<Two<T>*>(to) = {from_float<T>(x.x), from_float<T>(x.y)};
}

// The scale of a head's codes, as on the CPU: NaN when a number of it is not finite.
template <int kPairs>
__device__ __forceinline__ float scale_of(const float2 (&x)[kPairs]) {
  uint32_t greatest = 0;
#pragma unroll
  for (int j = 0; j < kPairs; j++)
    greatest = max(greatest, max(__float_as_uint(x[j].x) & 0x7fffffffu, __float_as_uint(x[j].y) & 0x7fffffffu));
#pragma unroll
  for (int bit = 16; bit > 0; bit /= 2) greatest = max(greatest, __shfl_xor_sync(kFullMask, greatest, bit));
  if (greatest >= 0x7f800000u) return __uint_as_float(0x7fc00000u);
  return fmaxf(__fdiv_rn(__uint_as_float(greatest), 127.0f), 1.17549435e-38f);
}
__device__ __forceinline__ int8_t code_of(float x) { return x == x ? (int8_t)__float2int_rn(x) : (int8_t)0; }

// Two neighbouring numbers of a head, and where those are that they are turned with.
struct Place {
  int i;                // of the first
  bool both;            // there are such numbers
  bool first[2];        // whether they are in the first half of what is turned
  bool turned[2];       // or in any
  bool pair;            // whether the others are neighbours, too, and lie where a pair does
  int other[2];

  __device__ __forceinline__ Place(int i, int d, int half) : i(i), both(i < d), pair(half % 2 == 0) {
#pragma unroll
    for (int k = 0; k < 2; k++) {
      first[k] = i + k < half;
      turned[k] = i + k < 2 * half;
      other[k] = !turned[k] ? i + k : first[k] ? i + k + half : i + k - half;
    }
  }
  // Of a head or its norm.
  template <class T>
  __device__ __forceinline__ Two<T> others(const T* of) const {
    return pair ? load_two(of + other[0]) : Two<T>{of[other[0]], of[other[1]]};
  }
  // Of a row of angles; `rest` for numbers that are not turned.
  __device__ __forceinline__ float2 angles(const float* of, float rest) const {
    const int at[2] = {first[0] ? i : other[0], first[1] ? i + 1 : other[1]};
    if (pair) return turned[0] ? floats_of(load_two(of + at[0])) : make_float2(rest, rest);
    return make_float2(turned[0] ? of[at[0]] : rest, turned[1] ? of[at[1]] : rest);
  }
};

// `kPairs`: pairs of one head that a lane has.
template <class T, class C, int kPairs>
__device__ __forceinline__ void qkv(const QkvParams& p) {
  constexpr int kHeads = kQkvPairs / kPairs;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, d = p.head_dim, all = p.heads + 2 * p.kv_heads;
  const int token = blockIdx.x, head = (blockIdx.y * (kQkvThreads / kWarp) + warp) * kHeads;
  const uint32_t slot = at<const uint32_t>(p.slots)[token];
  const int64_t angle = (int64_t)at<const uint32_t>(p.positions)[token] * p.half;
  float2 c[kPairs], s[kPairs];
#pragma unroll
  for (int j = 0; j < kPairs; j++) {
    const Place place(2 * (lane + j * kWarp), d, p.half);
    c[j] = place.angles(at<const float>(p.cos) + angle, 1.0f);
    s[j] = place.angles(at<const float>(p.sin) + angle, 0.0f);
    if (place.first[0]) s[j].x = -s[j].x;
    if (place.first[1]) s[j].y = -s[j].y;
  }
  // The norm of a head, or null.
  auto weight_of = [&](int h) {
    const uint64_t norms = head + h < p.heads ? p.q_norm : head + h < p.heads + p.kv_heads ? p.k_norm : 0;
    return at<const T>(norms);
  };
  Two<T> own[kHeads][kPairs] = {}, other[kHeads][kPairs] = {};
  if (p.q_norm) {
#pragma unroll
    for (int h = 0; h < kHeads; h++) {
#pragma unroll
      for (int j = 0; j < kPairs; j++) {
        const Place place(2 * (lane + j * kWarp), d, p.half);
        if (!weight_of(h) || !place.both) continue;
        own[h][j] = load_two(weight_of(h) + place.i);
        other[h][j] = place.others(weight_of(h));
      }
    }
  }
  const uint32_t block = slot / (uint32_t)p.block_size, offset = slot % (uint32_t)p.block_size;
  follow_others();

  const T* from = at<const T>(p.qkv) + ((int64_t)token * all + head) * d;
  float2 x[kHeads][kPairs], with[kHeads][kPairs];
#pragma unroll
  for (int h = 0; h < kHeads; h++) {
#pragma unroll
    for (int j = 0; j < kPairs; j++) {
      const Place place(2 * (lane + j * kWarp), d, p.half);
      const bool there = head + h < all && place.both;
      x[h][j] = there ? floats_of(load_two(from + h * d + place.i)) : make_float2(0.0f, 0.0f);
      with[h][j] = there ? floats_of(place.others(from + h * d)) : make_float2(0.0f, 0.0f);
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; h++) {
    if (head + h >= all) return;
    const bool is_query = head + h < p.heads, is_value = head + h >= p.heads + p.kv_heads;
    if (!is_value) {
      if (weight_of(h)) {
        float squares = 0.0f;
#pragma unroll
        for (int j = 0; j < kPairs; j++)
          squares = __fmaf_rn(x[h][j].x, x[h][j].x, __fmaf_rn(x[h][j].y, x[h][j].y, squares));
        const float scale = rsqrtf(warp_sum(squares) / d + p.eps);
#pragma unroll
        for (int j = 0; j < kPairs; j++) {
          const float2 by = floats_of(own[h][j]), with_by = floats_of(other[h][j]);
          x[h][j] = make_float2(x[h][j].x * scale * by.x, x[h][j].y * scale * by.y);
          with[h][j] = make_float2(with[h][j].x * scale * with_by.x, with[h][j].y * scale * with_by.y);
        }
      }
#pragma unroll
      for (int j = 0; j < kPairs; j++)
        x[h][j] = make_float2(__fmaf_rn(x[h][j].x, c[j].x, __fmul_rn(with[h][j].x, s[j].x)),
                              __fmaf_rn(x[h][j].y, c[j].y, __fmul_rn(with[h][j].y, s[j].y)));
    }
    let_others_follow();
    auto store = [&](auto* to) {
#pragma unroll
      for (int j = 0; j < kPairs; j++) {
        const int i = 2 * (lane + j * kWarp);
        if (i < d) store_two(to + i, x[h][j]);
      }
    };
    if (is_query) {
      store(at<T>(p.q) + ((int64_t)token * p.heads + head + h) * d);
      continue;
    }
    if (slot == 0xffffffffu) continue;
    const int kv_head = head + h - p.heads - (is_value ? p.kv_heads : 0);
    const int64_t row = ((int64_t)block * p.kv_heads + kv_head) * p.block_size + offset;
    C* to = at<C>(is_value ? p.values : p.keys) + row * d;
    if constexpr (sizeof(C) == 1) {
      const float scale = scale_of(x[h]), by = __frcp_rn(scale);
      if (lane == 0) at<float>(is_value ? p.value_scales : p.key_scales)[row] = scale;
#pragma unroll
      for (int j = 0; j < kPairs; j++) {
        const int i = 2 * (lane + j * kWarp);
        if (i < d) *reinterpret_cast<Two<C>*>(to + i) = {code_of(x[h][j].x * by), code_of(x[h][j].y * by)};
      }
    } else {
      store(to);
    }
  }
}

template <class T, class C>
__device__ __forceinline__ void qkv(const QkvParams& p) {
  if (p.head_dim <= 2 * kWarp) qkv<T, C, 1>(p);
  else if (p.head_dim <= 4 * kWarp) qkv<T, C, 2>(p);
  else qkv<T, C, 4>(p);
}

}  // namespace
}  // namespace vlinders

#define QKV(name, T, C) \
  EAGER_KERNEL(name, vlinders::QkvParams, vlinders::kQkvThreads) { vlinders::qkv<T, C>(p); }
QKV(qkv_bf16_bf16, vlinders::bf16, vlinders::bf16)
QKV(qkv_bf16_int8, vlinders::bf16, int8_t)
QKV(qkv_f16_f16, vlinders::f16, vlinders::f16)
QKV(qkv_f16_int8, vlinders::f16, int8_t)
QKV(qkv_f32_f32, float, float)
QKV(qkv_f32_bf16, float, vlinders::bf16)
QKV(qkv_f32_f16, float, vlinders::f16)
QKV(qkv_f32_int8, float, int8_t)
