// From logits to tokens: penalties, temperature, top-k, top-p, min-p, and a draw, as the CPU's sampler does it.
//
// One block has a row. The row is read once to take the best token, twice for a plain draw; filters look again at those of its
// runs alone whose largest logit may pass. It is never sorted or changed. Sums are added in the CPU's order, or are exact in any
// order, so the token does not depend on the number of threads, on other rows, or on where it was drawn.
#include "sample/logits.cuh"
#include "sample/select.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 1024;
// Eight bytes each: weights by interval, then the shortlist, then the weights of a run.
constexpr int kWide = 4096;
// Bits of a weight that tell no interval apart: 32 intervals for each power of two, up to 1.
constexpr int kIntervalShift = 18;
constexpr int kIntervals = (0x3f800000 >> kIntervalShift) + 1;
static_assert(kIntervals <= kWide && kThreads <= kWide && kRun <= kWide, "they share memory");

struct SampleParams {
  uint64_t logits;  // [rows, vocab] f32
  uint64_t rows;    // [rows] SampleRow
  uint64_t states;  // [slots, vocab] TokenState
  uint64_t drawn;   // [rows, 2]: token, what became of the row
  int32_t vocab;
  int32_t unused;
};

struct Shared {
  Room& room;
  unsigned char* wide;  // kWide * 8 bytes
  double* sums;         // of runs
  double* through;      // sums of all runs up to each
  float* largest;       // logits of runs
  uint32_t* chosen;     // runs
};

// The runs whose largest logit is as wanted. Others may follow when all threads have used them.
template <class Wanted>
__device__ Runs choose(int vocab, const Shared& s, Wanted wanted) {
  __syncthreads();
  if (threadIdx.x == 0) s.room.count = 0;
  __syncthreads();
  for (int run = threadIdx.x; run < all_runs(vocab).count; run += blockDim.x)
    if (wanted(s.largest[run])) s.chosen[atomicAdd(&s.room.count, 1u)] = (uint32_t)run;
  __syncthreads();
  const int count = (int)s.room.count;
  __syncthreads();
  if (threadIdx.x == 0) s.room.count = 0;
  __syncthreads();
  return {s.chosen, count};
}

// Which tokens are kept, and what they weigh.
struct Filter {
  float max;
  Quotient scaled;   // by temperature
  float least;       // of the top k
  float last;        // of the nucleus
  uint32_t last_id;  // among equal ones
  float min_p;

  __device__ __forceinline__ float weight(float x) const {
    return exp_of(scaled(__fadd_rn(x, -max)));
  }
  // Whether it keeps all tokens.
  __device__ __forceinline__ bool is_open() const { return least == -INFINITY && last == -INFINITY && min_p <= 0.0f; }
  __device__ __forceinline__ float operator()(int i, float x) const {
    if (!(x >= least && (x > last || (x == last && (uint32_t)i <= last_id)))) return 0.0f;
    const float w = weight(x);
    return w >= min_p ? w : 0.0f;
  }
};

// Philox4x32-10 (Salmon et al. 2011): number `index` of the stream of this seed, in [0, 1).
__device__ double uniform(uint32_t seed_low, uint32_t seed_high, uint32_t index) {
  uint32_t c0 = index, c1 = 0, c2 = 0, c3 = 0;
  for (int round = 0; round < 10; round++) {
    const uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ seed_low;
    c1 = low1;
    c2 = high0 ^ c3 ^ seed_high;
    c3 = low0;
    seed_low += 0x9E3779B9u;
    seed_high += 0xBB67AE85u;
  }
  return (double)(((uint64_t)c0 << 32 | c1) >> 11) * (1.0 / 9007199254740992.0);
}

__device__ __forceinline__ int interval_of(float weight) { return (int)(__float_as_uint(weight) >> kIntervalShift); }
// A weight as a whole number of units of its power of two.
__device__ __forceinline__ uint32_t units_of(float weight) { return (__float_as_uint(weight) & 0x7fffffu) | 0x800000u; }
__device__ __forceinline__ double power_of_two(int exponent) {
  double power;
  const uint64_t bits = (uint64_t)(exponent + 1023) << 52;
  memcpy(&power, &bits, sizeof power);
  return power;
}
// The exponent of that unit, for weights of an interval.
__device__ __forceinline__ int unit_exponent(int interval) { return (interval >> (23 - kIntervalShift)) - 127 - 23; }

// The k-th largest logit. `own` is the largest one of a thread: of these, the k-th is a bound for that of all logits, and
// not many logits reach it.
__device__ float kth_largest(const Logits& logits, uint32_t k, const Shared& s, float own) {
  uint32_t bound = 0;
  if (k <= blockDim.x) bound = select(s.room, k, [&](auto g) { g(key_of(own), 1u); }).key;
  auto passes = [=](int, float x) { return key_of(x) >= bound; };
  Candidate* list = reinterpret_cast<Candidate*>(s.wide);
  const Runs runs = choose(logits.vocab, s, [=](float largest) { return passes(0, largest); });
  each_logit(logits, runs, [&](int i, float x) {
    if (passes(i, x)) append(list, kWide, s.room.count, x, i);
  });
  __syncthreads();
  const Shortlist shortlist{list, (int)s.room.count, kWide, runs};
  return float_of(select(s.room, k, [&](auto g) {
                    shortlist.each(logits, passes, [&](uint32_t key, uint32_t) { g(key, 1u); });
                  }).key);
}

// Reduce a filter to the smallest set of most likely tokens whose weights reach `p` of all.
//
// Weights are added by interval first. The weights of one interval are multiples of one unit, so their sum is a whole number.
__device__ void keep_nucleus(const Logits& logits, Filter& filter, float p, const Shared& s) {
  Tally* tallies = reinterpret_cast<Tally*>(s.wide);
  for (int i = threadIdx.x; i < kIntervals; i += blockDim.x) tallies[i] = {0, 0};
  const Runs kept = choose(logits.vocab, s, [&](float largest) { return largest >= filter.least; });
  int lowest = kIntervals - 1;
  each_logit(logits, kept, [&](int, float x) {
    const float weight = x >= filter.least ? filter.weight(x) : 0.0f;
    if (weight > 0.0f) {
      tallies[interval_of(weight)].add(units_of(weight));
      lowest = min(lowest, interval_of(weight));
    }
  });
  lowest = kIntervals - 1 - (int)block_max((uint64_t)(kIntervals - 1 - lowest), s.room.scratch);
  double* masses = reinterpret_cast<double*>(s.wide);
  for (int i = threadIdx.x; i < kIntervals; i += blockDim.x) {
    const double mass = (double)tallies[i].total() * power_of_two(unit_exponent(i));
    masses[i] = mass;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double all = 0.0;
#pragma unroll 8
    for (int i = lowest; i < kIntervals; i++) all = __dadd_rn(all, masses[i]);
    const double wanted = __dmul_rn(all, (double)p);
    double ahead = 0.0;
    int border = lowest;
    for (int i = kIntervals - 1; i >= lowest; i--) {
      if (masses[i] == 0.0) continue;
      border = i;
      const double with = __dadd_rn(ahead, masses[i]);
      if (with >= wanted) break;
      ahead = with;
    }
    // Between one unit and more than there can be.
    const double units = ceil(__dadd_rn(wanted, -ahead) * power_of_two(-unit_exponent(border)));
    s.room.wanted = (uint64_t)fmin(fmax(units, 1.0), 1e18);
    s.room.border = (uint32_t)border;
  }
  __syncthreads();
  const int border = (int)s.room.border;
  const uint64_t wanted = s.room.wanted;
  // Most logits are so far away from the border that a rough exponent will do.
  const float from = logf(__uint_as_float((uint32_t)border << kIntervalShift)) - 1e-3f;
  const float to = logf(__uint_as_float((uint32_t)(border + 1) << kIntervalShift)) + 1e-3f;
  const float rough = filter.scaled.inverse;
  auto reaches = [=](float x) { return x >= filter.least && (x - filter.max) * rough >= from; };
  auto passes = [=](int, float x) {
    if (!reaches(x) || (x - filter.max) * rough > to) return false;
    return interval_of(filter.weight(x)) == border;
  };
  Candidate* list = reinterpret_cast<Candidate*>(s.wide);
  const Runs runs = choose(logits.vocab, s, reaches);
  each_logit(logits, runs, [&](int i, float x) {
    if (passes(i, x)) append(list, kWide, s.room.count, x, i);
  });
  __syncthreads();
  const Shortlist shortlist{list, (int)s.room.count, kWide, runs};
  const Selected last = select(s.room, wanted, [&](auto g) {
    shortlist.each(logits, passes, [&](uint32_t key, uint32_t) { g(key, units_of(filter.weight(float_of(key)))); });
  });
  // Equal logits weigh the same: so many of them are kept, by id.
  const uint32_t each = units_of(filter.weight(float_of(last.key)));
  const uint64_t ties = (last.wanted + each - 1) / each;
  const Selected id = select(s.room, ties, [&](auto g) {
    shortlist.each(logits, passes, [&](uint32_t key, uint32_t id) {
      if (key == last.key) g(~id, 1u);
    });
  });
  filter.last = float_of(last.key);
  filter.last_id = ~id.key;
}

// The token at which the running sum of weights passes `uniform` of their total, on thread 0.
__device__ uint32_t draw(const Logits& logits, const Filter& filter, double uniform, const Shared& s, uint32_t& token) {
  const int runs = all_runs(logits.vocab).count;
  if (filter.is_open()) {
    sum_runs(logits, all_runs(logits.vocab), s.sums, [&](int, float x) { return filter.weight(x); });
  } else {
    for (int run = threadIdx.x; run < runs; run += blockDim.x) s.sums[run] = 0.0;
    const float least = fmaxf(filter.least, filter.last);
    sum_runs(logits, choose(logits.vocab, s, [=](float largest) { return largest >= least; }), s.sums, filter);
  }
  if (threadIdx.x == 0) {
    double all = 0.0;
#pragma unroll 8
    for (int run = 0; run < runs; run++) s.through[run] = all = __dadd_rn(all, s.sums[run]);
    const double target = __dmul_rn(uniform, all);
    int low = 0, high = runs;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (s.through[middle] > target) high = middle;
      else low = middle + 1;
    }
    s.room.target = target;
    if (low == runs) {
      // Rounding left the target behind the very last token: then it is that one.
      for (low = runs - 1; low > 0 && s.sums[low] == 0.0; low--) {}
      s.room.target = INFINITY;
    }
    s.room.border = (uint32_t)low;
  }
  __syncthreads();
  const int run = (int)s.room.border, start = run * kRun, length = min(kRun, logits.vocab - start);
  double* weights = reinterpret_cast<double*>(s.wide);
  for (int i = threadIdx.x; i < kRun; i += blockDim.x)
    weights[i] = i < length ? (double)filter(start + i, logits[start + i]) : 0.0;
  __syncthreads();
  if (threadIdx.x != 0) return kDrawn;
  const double target = s.room.target;
  double before = run > 0 ? s.through[run - 1] : 0.0;
  int last = -1;
  for (int first = 0; first < kRun && !(before > target); first += kAhead) {
    double ahead[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; a++) ahead[a] = weights[first + a];
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      if (ahead[a] > 0.0 && !(before > target)) {
        before = __dadd_rn(before, ahead[a]);
        last = first + a;
      }
    }
  }
  token = (uint32_t)(start + last);
  return last < 0 ? kExcluded : kDrawn;
}

// What becomes of a row; status and `token` are those of thread 0.
__device__ uint32_t sample(const SampleRow& row, const Logits& logits, const Shared& s, uint32_t& token) {
  float own = -INFINITY;
  int own_id = 0;
  bool numbers = true;
  float of_run = -INFINITY;
  each_run(
      logits, all_runs(logits.vocab),
      [&](int i, float x) {
        numbers = numbers && x == x;
        of_run = fmaxf(of_run, x);
        if (x > own) {
          own = x;
          own_id = i;
        }
      },
      [&](int run) {
        of_run = warp_max(of_run);
        if (threadIdx.x % kWarp == 0) s.largest[run] = of_run;
        of_run = -INFINITY;
      });
  const uint64_t best = block_max(numbers ? place_of(key_of(own), (uint32_t)own_id) : ~(uint64_t)0, s.room.scratch);
  if (best == ~(uint64_t)0) return kNotNumbers;
  const float max = float_of(key_at(best));
  if (max == -INFINITY) return kExcluded;
  if (max == INFINITY) return kInfinite;
  token = id_at(best);
  if (row.temperature == 0.0f) return kDrawn;
  Filter filter{max, Quotient(row.temperature), -INFINITY, -INFINITY, 0xffffffffu, row.min_p};
  if (row.top_k > 0 && row.top_k < (uint32_t)logits.vocab) filter.least = kth_largest(logits, row.top_k, s, own);
  if (row.top_p < 1.0f) keep_nucleus(logits, filter, row.top_p, s);
  return draw(logits, filter, uniform(row.seed_low, row.seed_high, row.index), s, token);
}

}  // namespace
}  // namespace vlinders

KERNEL(sample, vlinders::SampleParams, vlinders::kThreads) {
  using namespace vlinders;
  SHARED_BYTES(shared);
  const SampleRow row = at<const SampleRow>(p.rows)[blockIdx.x];
  uint32_t* drawn = at<uint32_t>(p.drawn) + 2 * blockIdx.x;
  if (row.kind != kDraw) {
    if (threadIdx.x == 0) {
      drawn[0] = row.kind == kGiven ? row.token : 0;
      drawn[1] = kDrawn;
    }
    return;
  }
  TokenState* states = row.slot < 0 ? nullptr : at<TokenState>(p.states) + (int64_t)row.slot * p.vocab;
  const Logits logits{at<const float>(p.logits) + (int64_t)blockIdx.x * p.vocab,
                      states,
                      row.repetition,
                      row.presence,
                      row.frequency,
                      row.index < row.min_tokens,
                      p.vocab};
  const int runs = all_runs(p.vocab).count;
  double* sums = reinterpret_cast<double*>(shared + kWide * 8 + sizeof(Room));
  float* largest = reinterpret_cast<float*>(sums + 2 * runs);
  const Shared s{*reinterpret_cast<Room*>(shared + kWide * 8), shared, sums, sums + runs, largest,
                 reinterpret_cast<uint32_t*>(largest + runs)};
  uint32_t token = 0;
  const uint32_t status = sample(row, logits, s, token);
  if (threadIdx.x == 0) {
    drawn[0] = status == kDrawn ? token : 0;
    drawn[1] = status;
    // All threads have read what they will. The next row of this sequence sees that the token was said.
    if (status == kDrawn && states) states[token].said += 1;
  }
}
