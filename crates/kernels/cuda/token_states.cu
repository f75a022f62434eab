// What sampling knows of a sequence and its tokens between steps, and the tokens that the next step begins with.
#include "sample/logits.cuh"

namespace vlinders {
namespace {

constexpr int kThreads = 256;

struct ClearStatesParams {
  uint64_t states;  // [count] TokenState
  int32_t count;
  int32_t unused;
};

struct MarkTokensParams {
  uint64_t states;  // [vocab] TokenState
  uint64_t tokens;  // [count] u32; those beyond the vocabulary do not matter
  uint64_t biases;  // [count] f32, or 0
  int32_t count;
  int32_t vocab;
  uint32_t flag;  // what is true of them; 0: they were generated
  uint32_t unused;
};

struct NextTokensParams {
  uint64_t drawn;    // [rows, 2]: token, what became of the row
  uint64_t sources;  // [count] i32: a row, or -1
  uint64_t tokens;   // [count] u32
  int32_t count;
  int32_t unused;
};

__device__ __forceinline__ int own_index() { return (int)(blockIdx.x * blockDim.x + threadIdx.x); }

}  // namespace
}  // namespace vlinders

KERNEL(clear_states, vlinders::ClearStatesParams, vlinders::kThreads) {
  using namespace vlinders;
  const int i = own_index();
  if (i < p.count) at<TokenState>(p.states)[i] = {0, 0.0f};
}

KERNEL(mark_tokens, vlinders::MarkTokensParams, vlinders::kThreads) {
  using namespace vlinders;
  const int i = own_index();
  if (i >= p.count) return;
  const uint32_t token = at<const uint32_t>(p.tokens)[i];
  if (token >= (uint32_t)p.vocab) return;
  TokenState& state = at<TokenState>(p.states)[token];
  if (p.flag) atomicOr(&state.said, p.flag);
  else atomicAdd(&state.said, 1u);
  if (p.biases) state.bias = at<const float>(p.biases)[i];
}

KERNEL(next_tokens, vlinders::NextTokensParams, vlinders::kThreads) {
  using namespace vlinders;
  const int i = own_index();
  if (i >= p.count) return;
  const int source = at<const int32_t>(p.sources)[i];
  if (source >= 0) at<uint32_t>(p.tokens)[i] = at<const uint32_t>(p.drawn)[2 * source];
}
