"""Writes rope.json: inverse frequencies and attention factors for many rotary embeddings."""

import json
import pathlib

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

LLAMA_31 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}

# name, head_dim, rope_theta, max_position_embeddings, scaling, sequence lengths
CASES = [
    ("default-64", 64, 10000.0, 2048, {"rope_type": "default"}, [None]),
    ("llama-3", 128, 500000.0, 8192, {"rope_type": "default"}, [None]),
    ("llama-3.1-8b", 128, 500000.0, 131072, LLAMA_31, [None]),
    ("llama-3.2-1b", 64, 500000.0, 131072, LLAMA_31 | {"factor": 32.0}, [None]),
    ("linear", 64, 10000.0, 16384, {"rope_type": "linear", "factor": 4.0}, [None]),
    (
        "dynamic",
        64,
        10000.0,
        2048,
        {"rope_type": "dynamic", "factor": 4.0},
        [1, 2048, 2049, 3000, 8192],
    ),
    (
        "yarn-qwen",
        128,
        1000000.0,
        131072,
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        [None],
    ),
    (
        "yarn-attention-factor",
        64,
        10000.0,
        8192,
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 2048,
            "attention_factor": 0.75,
        },
        [None],
    ),
    (
        "yarn-mscale",
        64,
        10000.0,
        163840,
        {
            "rope_type": "yarn",
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 0.707,
        },
        [None],
    ),
    (
        "yarn-untruncated",
        64,
        150000.0,
        131072,
        {
            "rope_type": "yarn",
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "truncate": False,
        },
        [None],
    ),
    (
        "yarn-factor-one",
        64,
        10000.0,
        4096,
        {"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 4096},
        [None],
    ),
]


def write_rope_table(path: pathlib.Path) -> None:
    rows = []
    for name, head_dim, theta, max_positions, scaling, lengths in CASES:
        for length in lengths:
            config = LlamaConfig(
                hidden_size=head_dim * 4,
                num_attention_heads=4,
                head_dim=head_dim,
                max_position_embeddings=max_positions,
                rope_parameters=scaling | {"rope_theta": theta},
            )
            if scaling["rope_type"] == "default":
                inv_freq, factor = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
            else:
                function = ROPE_INIT_FUNCTIONS[scaling["rope_type"]]
                seq_len = None if length is None else torch.tensor(length)
                inv_freq, factor = function(config, None, seq_len=seq_len)
            rows.append(
                {
                    "name": name,
                    "head_dim": head_dim,
                    "rope_theta": theta,
                    "max_position_embeddings": max_positions,
                    "rope_scaling": scaling,
                    "seq_len": length,
                    "attention_factor": factor,
                    "inv_freq": [float(f"{x:.9g}") for x in inv_freq.tolist()],
                }
            )
    text = ",\n".join("  " + json.dumps(row) for row in rows)
    path.write_text(f"[\n{text}\n]\n")
