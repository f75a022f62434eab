"""Which tiny checkpoints exist: their config.json, and which config fields must matter.

Every entry is small enough to commit and shaped so that a common mistake changes its logits:
query and key/value head counts differ, norms are not one, attention is far from uniform, sizes
are not all powers of two, and some prompts are longer than the window or the original context.
"""

from dataclasses import dataclass, field


@dataclass
class Tiny:
    """One checkpoint: a config as it stands on disk and how to store and probe it."""

    name: str
    config: dict
    seed: int
    # dtype of the weights on disk
    dtype: str = "float32"
    shards: int = 1
    # config changes that must move the logits, by name; proves that the golden can see a fault
    must_matter: dict = field(default_factory=dict)
    # config changes that must not move the logits at all
    must_not_matter: dict = field(default_factory=dict)
    # take the weights of this other checkpoint
    weights_of: str | None = None
    # scales of linear maps that are stored in eight-bit floats: "tensor", "channel" or "block"
    fp8: str | None = None


def llama(**changes) -> dict:
    """A Llama config with the fields that published checkpoints carry."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 56,
        "max_position_embeddings": 128,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "transformers_version": "4.44.0",
        "use_cache": True,
        "vocab_size": 128,
    }
    return without_none_marks(config | changes)


def mistral(**changes) -> dict:
    """A Mistral config."""
    config = llama(
        architectures=["MistralForCausalLM"],
        model_type="mistral",
        attention_bias=ABSENT,
        mlp_bias=ABSENT,
        pretraining_tp=ABSENT,
        rope_scaling=ABSENT,
    )
    return without_none_marks(config | changes)


def qwen2(**changes) -> dict:
    """A Qwen2 config: biases on q, k and v are a fact of the architecture, not a field."""
    config = mistral(
        architectures=["Qwen2ForCausalLM"],
        model_type="qwen2",
        bos_token_id=1,
        max_window_layers=1,
        rms_norm_eps=1e-06,
        rope_theta=1000000.0,
        sliding_window=8,
        tie_word_embeddings=True,
        use_sliding_window=False,
    )
    return without_none_marks(config | changes)


def qwen3(**changes) -> dict:
    """A Qwen3 config."""
    config = qwen2(
        architectures=["Qwen3ForCausalLM"],
        model_type="qwen3",
        attention_bias=False,
        head_dim=16,
        sliding_window=None,
        tie_word_embeddings=False,
    )
    return without_none_marks(config | changes)


def qwen3_moe(**changes) -> dict:
    """A Qwen3-MoE config: experts in each layer but one."""
    config = qwen3(
        architectures=["Qwen3MoeForCausalLM"],
        model_type="qwen3_moe",
        decoder_sparse_step=1,
        mlp_only_layers=[1],
        moe_intermediate_size=32,
        norm_topk_prob=True,
        num_experts=6,
        num_experts_per_tok=2,
        num_hidden_layers=3,
        output_router_logits=False,
        router_aux_loss_coef=0.001,
    )
    return without_none_marks(config | changes)


def mixtral(**changes) -> dict:
    """A Mixtral config: experts in every layer, whose weights always add up to one."""
    config = mistral(
        architectures=["MixtralForCausalLM"],
        model_type="mixtral",
        intermediate_size=64,
        num_experts_per_tok=2,
        num_local_experts=5,
        output_router_logits=False,
        router_aux_loss_coef=0.02,
        sliding_window=None,
    )
    return without_none_marks(config | changes)


# a field to leave out of config.json
ABSENT = object()


def without_none_marks(config: dict) -> dict:
    """Drops the fields marked as absent; JSON null stays."""
    return {key: value for key, value in config.items() if value is not ABSENT}


LLAMA3_SCALING = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 32,
    "rope_type": "llama3",
}

MODELS = [
    Tiny(
        "llama-tiny",
        llama(),
        seed=1,
        must_matter={
            "base of the rotary embedding": {"rope_theta": 9000.0},
            "norm epsilon": {"rms_norm_eps": 1e-2},
        },
    ),
    Tiny(
        "qwen3-tiny",
        # transformers 5 spelling
        qwen3(
            rope_theta=ABSENT,
            torch_dtype=ABSENT,
            dtype="float32",
            rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"},
            layer_types=["full_attention", "full_attention"],
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=136,
        ),
        seed=2,
        must_matter={
            "base of the rotary embedding": {
                "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}
            }
        },
        must_not_matter={"window when it is off": {"sliding_window": 4}},
    ),
    Tiny(
        "qwen3-moe-tiny",
        qwen3_moe(),
        seed=31,
        must_matter={
            "weights of experts that add up to one": {"norm_topk_prob": False},
            "experts of a token": {"num_experts_per_tok": 3},
        },
    ),
    Tiny(
        "mixtral-tiny",
        mixtral(sliding_window=12),
        seed=32,
        must_matter={
            "sliding window": {"sliding_window": None},
            "experts of a token": {"num_experts_per_tok": 1},
        },
    ),
    Tiny(
        "llama-tied-bias-tiny",
        llama(
            attention_bias=True,
            head_dim=24,
            hidden_size=40,
            mlp_bias=True,
            rms_norm_eps=0.01,
            tie_word_embeddings=True,
            vocab_size=120,
        ),
        seed=3,
        must_matter={"norm epsilon": {"rms_norm_eps": 1e-5}},
    ),
    Tiny(
        "llama3-rope-tiny",
        llama(head_dim=16, num_key_value_heads=1, rope_scaling=LLAMA3_SCALING),
        seed=4,
        must_matter={
            "scaling": {"rope_scaling": None},
            "original length": {
                "rope_scaling": LLAMA3_SCALING | {"original_max_position_embeddings": 64}
            },
            "smooth band": {"rope_scaling": LLAMA3_SCALING | {"high_freq_factor": 2.0}},
        },
    ),
    Tiny(
        "llama3-rope-params-tiny",
        llama(
            head_dim=16,
            num_key_value_heads=1,
            rope_scaling=ABSENT,
            rope_theta=ABSENT,
            torch_dtype=ABSENT,
            dtype="float32",
            transformers_version="5.0.0",
            rope_parameters=LLAMA3_SCALING | {"rope_theta": 10000.0},
        ),
        seed=4,
        weights_of="llama3-rope-tiny",
    ),
    Tiny(
        "llama-linear-tiny",
        # the oldest spelling: `type` where later files say `rope_type`
        llama(num_attention_heads=2, rope_scaling={"type": "linear", "factor": 2.5}),
        seed=5,
        must_matter={"scaling": {"rope_scaling": None}},
    ),
    Tiny(
        "llama-dynamic-tiny",
        llama(
            head_dim=16,
            max_position_embeddings=32,
            rope_scaling={"rope_type": "dynamic", "factor": 4.0},
        ),
        seed=6,
        must_matter={"scaling": {"rope_scaling": None}},
    ),
    Tiny(
        "llama-yarn-tiny",
        llama(
            head_dim=16,
            rope_scaling={
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "rope_type": "yarn",
            },
            rope_theta=500.0,
        ),
        seed=7,
        must_matter={
            "scaling": {"rope_scaling": None},
            "attention factor": {
                "rope_scaling": {
                    "attention_factor": 1.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                    "rope_type": "yarn",
                }
            },
        },
    ),
    Tiny(
        "llama-yarn-mscale-tiny",
        llama(
            head_dim=16,
            rope_scaling=ABSENT,
            rope_theta=ABSENT,
            torch_dtype=ABSENT,
            dtype="float32",
            rope_parameters={
                "beta_fast": 3.0,
                "beta_slow": 0.5,
                "factor": 4.0,
                "mscale": 1.4,
                "mscale_all_dim": 0.6,
                "original_max_position_embeddings": 32,
                "rope_theta": 500.0,
                "rope_type": "yarn",
                "truncate": False,
            },
        ),
        seed=8,
        must_matter={
            "truncation and mscale": {
                "rope_parameters": {
                    "beta_fast": 3.0,
                    "beta_slow": 0.5,
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                    "rope_theta": 500.0,
                    "rope_type": "yarn",
                }
            },
        },
    ),
    Tiny(
        "mistral-tiny",
        mistral(head_dim=16, sliding_window=8),
        seed=9,
        must_matter={
            "window": {"sliding_window": None},
            "window off by one, short": {"sliding_window": 7},
            "window off by one, long": {"sliding_window": 9},
        },
    ),
    Tiny(
        "qwen2-tiny",
        qwen2(),
        seed=10,
        must_not_matter={"window when it is off": {"sliding_window": None}},
    ),
    Tiny(
        "qwen2-window-tiny",
        # layer 0 sees everything, layers 1 and 2 the last 8 positions
        qwen2(
            intermediate_size=40,
            num_hidden_layers=3,
            use_sliding_window=True,
            tie_word_embeddings=False,
            vocab_size=96,
        ),
        seed=11,
        must_matter={
            "window": {"use_sliding_window": False},
            "first windowed layer": {"max_window_layers": 2},
        },
    ),
    Tiny(
        # as llm-compressor writes it
        "llama-fp8-channel-tiny",
        llama(
            torch_dtype="bfloat16",
            quantization_config={
                "config_groups": {
                    "group_0": {
                        "format": "float-quantized",
                        "input_activations": {
                            "dynamic": True,
                            "num_bits": 8,
                            "strategy": "token",
                            "symmetric": True,
                            "type": "float",
                        },
                        "output_activations": None,
                        "targets": ["Linear"],
                        "weights": {
                            "block_structure": None,
                            "dynamic": False,
                            "group_size": None,
                            "num_bits": 8,
                            "strategy": "channel",
                            "symmetric": True,
                            "type": "float",
                        },
                    }
                },
                "format": "float-quantized",
                "ignore": ["lm_head"],
                "kv_cache_scheme": None,
                "quant_method": "compressed-tensors",
                "quantization_status": "compressed",
            },
        ),
        seed=41,
        dtype="bfloat16",
        fp8="channel",
    ),
    Tiny(
        # as Qwen publishes it; blocks are ragged in rows (160, 136) and in columns (160, 136)
        "qwen3-fp8-block-tiny",
        qwen3(
            head_dim=40,
            hidden_size=48,
            intermediate_size=136,
            num_hidden_layers=1,
            torch_dtype="bfloat16",
            vocab_size=96,
            quantization_config={
                "activation_scheme": "dynamic",
                "fmt": "e4m3",
                "modules_to_not_convert": ["lm_head", "model.embed_tokens"],
                "quant_method": "fp8",
                "weight_block_size": [128, 128],
            },
        ),
        seed=42,
        dtype="bfloat16",
        fp8="block",
    ),
    Tiny(
        # one scale for each matrix, and one for activations, which is left aside
        "mixtral-fp8-tensor-tiny",
        mixtral(
            torch_dtype="bfloat16",
            quantization_config={
                "activation_scheme": "static",
                "ignored_layers": ["lm_head"],
                "quant_method": "fp8",
            },
        ),
        seed=43,
        dtype="bfloat16",
        fp8="tensor",
    ),
    Tiny("llama-sharded-tiny", llama(), seed=12, shards=3),
    Tiny(
        "llama-bf16-tiny",
        llama(torch_dtype="bfloat16"),
        seed=13,
        dtype="bfloat16",
    ),
    Tiny(
        "llama-f16-tiny",
        llama(torch_dtype="float16"),
        seed=14,
        dtype="float16",
    ),
]
