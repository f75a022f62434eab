// Attention over a cache that has the type of the activations: see attention_tiles.cuh.
#include "attention_tiles.cuh"

ATTENTION(attention_bf16_bf16_64, vlinders::bf16, vlinders::bf16, 64)
ATTENTION(attention_bf16_bf16_96, vlinders::bf16, vlinders::bf16, 96)
ATTENTION(attention_bf16_bf16_128, vlinders::bf16, vlinders::bf16, 128)
ATTENTION(attention_bf16_bf16_256, vlinders::bf16, vlinders::bf16, 256)
ATTENTION(attention_f16_f16_64, vlinders::f16, vlinders::f16, 64)
ATTENTION(attention_f16_f16_96, vlinders::f16, vlinders::f16, 96)
ATTENTION(attention_f16_f16_128, vlinders::f16, vlinders::f16, 128)
ATTENTION(attention_f16_f16_256, vlinders::f16, vlinders::f16, 256)
