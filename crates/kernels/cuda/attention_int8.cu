// Attention over a cache of codes of eight bits: see attention_tiles.cuh.
#include "attention_tiles.cuh"

ATTENTION(attention_bf16_int8_64, vlinders::bf16, int8_t, 64)
ATTENTION(attention_bf16_int8_96, vlinders::bf16, int8_t, 96)
ATTENTION(attention_bf16_int8_128, vlinders::bf16, int8_t, 128)
ATTENTION(attention_bf16_int8_256, vlinders::bf16, int8_t, 256)
ATTENTION(attention_f16_int8_64, vlinders::f16, int8_t, 64)
ATTENTION(attention_f16_int8_96, vlinders::f16, int8_t, 96)
ATTENTION(attention_f16_int8_128, vlinders::f16, int8_t, 128)
ATTENTION(attention_f16_int8_256, vlinders::f16, int8_t, 256)
