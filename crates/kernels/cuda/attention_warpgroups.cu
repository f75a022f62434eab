// Attention of many tokens on warpgroups, over a cache that has the type of the activations.
// nvcc: sm_90a
#include "attention_warpgroups.cuh"

#define ATTENTION_WARPGROUPS(name, T, D)                                           \
  LONE_KERNEL(name, vlinders::AttentionParams, vlinders::kAttentionGroupThreads) { \
    vlinders::attention_warpgroups<T, D>(p);                                       \
  }

ATTENTION_WARPGROUPS(attention_warpgroups_bf16_64, vlinders::bf16, 64)
ATTENTION_WARPGROUPS(attention_warpgroups_bf16_128, vlinders::bf16, 128)
ATTENTION_WARPGROUPS(attention_warpgroups_f16_64, vlinders::f16, 64)
ATTENTION_WARPGROUPS(attention_warpgroups_f16_128, vlinders::f16, 128)
