// Log-probabilities of the unmodified distribution: of the token of each row, its rank, and the most likely tokens.
//
// One block has a row, which it reads twice. Rows that do not ask cost nothing.
#include "sample/logits.cuh"
#include "sample/select.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 1024;
constexpr int kList = 4096;
constexpr int kMaxTop = 20;

struct LogprobsParams {
  uint64_t logits;    // [rows, vocab] f32
  uint64_t rows;      // [rows] SampleRow
  uint64_t drawn;     // [rows, 2]: token, what became of the row
  uint64_t logprobs;  // [rows] Logprobs
  int32_t vocab;
  int32_t unused;
};

struct Logprobs {
  float logprob;
  uint32_t rank;
  uint32_t ids[kMaxTop];  // all bits set where there are no more numbers
  float top[kMaxTop];
};

}  // namespace
}  // namespace vlinders

KERNEL(logprobs, vlinders::LogprobsParams, vlinders::kThreads) {
  using namespace vlinders;
  SHARED_BYTES(shared);
  const SampleRow& row = at<const SampleRow>(p.rows)[blockIdx.x];
  const uint32_t* drawn = at<const uint32_t>(p.drawn) + 2 * blockIdx.x;
  if (row.kind == kPadding || row.top_logprobs < 0 || drawn[1] != kDrawn) return;
  Logprobs& out = at<Logprobs>(p.logprobs)[blockIdx.x];
  const Logits logits{at<const float>(p.logits) + (int64_t)blockIdx.x * p.vocab, nullptr, 1.0f, 0.0f, 0.0f, false, p.vocab};
  Candidate* list = reinterpret_cast<Candidate*>(shared);
  Room& room = *reinterpret_cast<Room*>(shared + kList * sizeof(Candidate));
  double* sums = reinterpret_cast<double*>(shared + kList * sizeof(Candidate) + sizeof(Room));

  float own = -INFINITY;
  each_logit(logits, all_runs(p.vocab), [&](int, float x) { own = x > own ? x : own; });
  const float largest = float_of(key_at(block_max(place_of(key_of(own), 0), room.scratch)));
  const int top = min(min(row.top_logprobs, kMaxTop), p.vocab);
  // Of the largest logits of all threads, which are more than 20, the n-th is a bound for that of all logits.
  const float bound = top > 0 ? float_of(select(room, top, [&](auto g) { g(key_of(own), 1u); }).key) : INFINITY;
  const uint32_t token = drawn[0];
  const float chosen = token < (uint32_t)p.vocab && logits[token] == logits[token] ? logits[token] : -INFINITY;
  if (threadIdx.x == 0) room.count = room.digit = 0;
  __syncthreads();
  auto passes = [=](int, float x) { return top > 0 && x >= bound; };
  uint32_t above = 0;
  sum_runs(logits, all_runs(p.vocab), sums, [&](int i, float x) {
    above += x > chosen;
    if (passes(i, x)) append(list, kList, room.count, x, i);
    return exp_of(__fadd_rn(x, -largest));
  });
  atomicAdd(&room.digit, above);
  if (threadIdx.x == 0) {
    double all = 0.0;
    for (int run = 0; run < (p.vocab + kRun - 1) / kRun; run++) all = __dadd_rn(all, sums[run]);
    const bool finite = largest > -INFINITY && largest < INFINITY;
    room.target = finite ? (double)largest + log(all) : (double)largest;
  }
  __syncthreads();
  const double normaliser = room.target;
  if (threadIdx.x == 0) {
    out.logprob = (float)((double)chosen - normaliser);
    out.rank = room.digit + 1;
  }
  const Shortlist shortlist{list, (int)room.count, kList, all_runs(p.vocab)};
  uint64_t before = ~(uint64_t)0;
  for (int n = 0; n < top; n++) {
    uint64_t next = 0;
    shortlist.each(logits, passes, [&](uint32_t key, uint32_t id) {
      const uint64_t place = place_of(key, id);
      if (place < before) next = max(next, place);
    });
    before = block_max(next, room.scratch);
    if (threadIdx.x == 0) {
      out.ids[n] = id_at(before);
      out.top[n] = (float)((double)float_of(key_at(before)) - normaliser);
    }
  }
}
