"""Writes the tiny checkpoints and their golden logits to crates/testkit/golden/.

Weights come from a fixed seed, logits and greedy tokens from Hugging Face transformers in
float32 with eager attention. `crates/testkit/golden/README.md` describes the files.

    python tools/golden/make_models.py            # all
    python tools/golden/make_models.py llama-tiny # some
"""

import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from rope_table import write_rope_table
from tiny_models import MODELS, Tiny

ROOT = pathlib.Path(__file__).resolve().parents[2] / "crates" / "testkit" / "golden"
PROMPT_LENGTHS = [1, 7, 16, 21, 45]
GREEDY_TOKENS = 24
MIN_MARGIN = 5e-3
MIN_DISTINCT = 6
TOLERANCE = 1e-4


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    wanted = sys.argv[1:]
    for tiny in MODELS:
        if not wanted or tiny.name in wanted:
            make(tiny)
    write_rope_table(ROOT / "rope.json")


def make(tiny: Tiny) -> None:
    folder = ROOT / tiny.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", tiny.config)
    weights = make_weights(tiny)
    stored, numbers = rounded_to_fp8(tiny, weights) if tiny.fp8 else (weights, None)
    write_weights(folder, stored, tiny.shards)
    with tempfile.TemporaryDirectory() as other:
        # what is in eight bits is given to the reference as the numbers that it stands for
        source = folder if numbers is None else plain_copy(pathlib.Path(other), tiny, numbers)
        golden, tensors = reference(tiny, source)
    write_json(folder / "golden.json", golden)
    save_file(tensors, folder / "golden.safetensors", metadata={"format": "pt"})
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir()) // 1024
    worst = min(prompt["greedy_min_margin"] for prompt in golden["prompts"])
    print(
        f"{tiny.name:26} {size:4} KiB  max |logit| {golden['max_abs_logit']:6.2f}"
        f"  f32 noise {golden['float32_noise']:.1e}  min greedy margin {worst:.4f}"
        f"  {golden['sensitivity']}"
    )


# === weights ===


def make_weights(tiny: Tiny) -> dict[str, torch.Tensor]:
    """Random weights under the names and shapes that transformers gives this config."""
    source = next(m for m in MODELS if m.name == (tiny.weights_of or tiny.name))
    with tempfile.TemporaryDirectory() as empty:
        plain = {key: value for key, value in source.config.items() if key != "quantization_config"}
        write_json(pathlib.Path(empty) / "config.json", plain)
        config = AutoConfig.from_pretrained(empty)
    with torch.device("meta"):
        shapes = AutoModelForCausalLM.from_config(config).state_dict()
    shapes = published({name: tuple(tensor.shape) for name, tensor in shapes.items()}, config.model_type)
    random = np.random.default_rng(source.seed)
    dtype = getattr(torch, tiny.dtype)
    weights = {}
    for name in sorted(shapes):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        shape = shapes[name]
        values = random.standard_normal(shape, dtype=np.float32) * spread(name, shape, config)
        if name.endswith("norm.weight"):
            values += 1.0
        weights[name] = torch.from_numpy(values).to(dtype).contiguous()
    return weights


def published(shapes: dict, model_type: str) -> dict:
    """Names and shapes as checkpoints have them: transformers keeps the experts of a layer in two tensors."""
    mixtral = model_type == "mixtral"
    gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    result = {}
    for name, shape in shapes.items():
        if mixtral:
            name = name.replace(".mlp.", ".block_sparse_moe.")
        layer, _, part = name.rpartition(".")
        if part == "gate_up_proj":
            for expert in range(shape[0]):
                result[f"{layer}.{expert}.{gate}.weight"] = (shape[1] // 2, shape[2])
                result[f"{layer}.{expert}.{up}.weight"] = (shape[1] // 2, shape[2])
        elif part == "down_proj":
            for expert in range(shape[0]):
                result[f"{layer}.{expert}.{down}.weight"] = shape[1:]
        else:
            result[name] = shape
    return result


def spread(name: str, shape: tuple, config) -> float:
    """Standard deviation of a tensor: sharp attention, logits of order one to ten."""
    if name.endswith("norm.weight"):
        return 0.25
    if name.endswith("bias"):
        return 0.4
    if name == "model.embed_tokens.weight":
        return 3.0 / config.hidden_size**0.5 if config.tie_word_embeddings else 0.8
    fan_in = shape[1] ** -0.5
    if name == "lm_head.weight":
        return 3.0 * fan_in
    if "q_proj" in name or "k_proj" in name:
        return 1.4 * fan_in
    return 1.2 * fan_in


def rounded_to_fp8(tiny: Tiny, weights: dict) -> tuple[dict, dict]:
    """Tensors as files have them, linear maps in eight bits with their scales; and the numbers of all in float32."""
    block = tiny.config["quantization_config"].get("weight_block_size")
    stored, numbers = {}, {}
    for name, weight in weights.items():
        kept = name.startswith(("lm_head", "model.embed_tokens")) or name.endswith(".gate.weight")
        if kept or weight.dim() == 1:
            stored[name], numbers[name] = weight, weight.float()
            continue
        weight = weight.float()
        scale = (greatest(weight, tiny.fp8, block) / 448.0).to(
            torch.bfloat16 if tiny.fp8 == "channel" else torch.float32
        )
        of_each = spread_out(scale.float(), weight.shape, block) if tiny.fp8 == "block" else scale.float()
        codes = (weight / of_each).clamp(-448.0, 448.0).to(torch.float8_e4m3fn)
        stored[name] = codes
        stored[name + ("_scale_inv" if tiny.fp8 == "block" else "_scale")] = scale
        if tiny.fp8 == "tensor":
            stored[name.removesuffix("weight") + "input_scale"] = torch.tensor(0.02)
        numbers[name] = codes.float() * of_each
    return stored, numbers


def greatest(weight: torch.Tensor, strategy: str, block: list | None) -> torch.Tensor:
    """The greatest magnitude of a matrix, of each row, or of each block; the last blocks may be short."""
    size = weight.abs()
    if strategy == "tensor":
        return size.max()
    if strategy == "channel":
        return size.max(dim=1, keepdim=True).values
    rows, columns = block
    return torch.stack(
        [torch.stack([part.max() for part in band.split(columns, dim=1)]) for band in size.split(rows)]
    )


def spread_out(scale: torch.Tensor, shape: tuple, block: list) -> torch.Tensor:
    """The scale of every number."""
    of_each = scale.repeat_interleave(block[0], dim=0).repeat_interleave(block[1], dim=1)
    return of_each[: shape[0], : shape[1]]


def plain_copy(folder: pathlib.Path, tiny: Tiny, numbers: dict) -> pathlib.Path:
    """A checkpoint in float32 without a word of eight bits."""
    config = {key: value for key, value in tiny.config.items() if key != "quantization_config"}
    write_json(folder / "config.json", config)
    write_weights(folder, numbers, 1)
    return folder


def write_weights(folder: pathlib.Path, weights: dict, shards: int) -> None:
    metadata = {"format": "pt"}
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata=metadata)
        return
    # every third tensor to the same file, so that each layer is spread over all shards
    weight_map, total = {}, 0
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: weights[name] for name in sorted(weights)[shard::shards]}
        save_file(part, folder / file, metadata=metadata)
        weight_map |= dict.fromkeys(part, file)
        total += sum(t.numel() * t.element_size() for t in part.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)


# === the reference ===


def load(folder: pathlib.Path, dtype: torch.dtype):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager"
    ).eval()


def load_changed(folder: pathlib.Path, changes: dict):
    """The same weights under a changed config, in float32."""
    with tempfile.TemporaryDirectory() as copy:
        copy = pathlib.Path(copy) / "model"
        shutil.copytree(folder, copy)
        config = json.loads((folder / "config.json").read_text())
        write_json(copy / "config.json", config | changes)
        return load(copy, torch.float32)


@torch.no_grad()
def oneshot(model, ids: list[int]) -> torch.Tensor:
    """Logits `[len, vocab]` of one forward pass over all positions, without a cache."""
    reset_rope(model)
    return model(torch.tensor([ids]), use_cache=False).logits[0]


@torch.no_grad()
def stepwise(model, ids: list[int]) -> torch.Tensor:
    """Logits `[len, vocab]` when the tokens are fed one at a time through a KV cache."""
    reset_rope(model)
    cache = DynamicCache(config=model.config)
    rows = []
    for position, token in enumerate(ids):
        out = model(
            torch.tensor([[token]]),
            past_key_values=cache,
            use_cache=True,
            position_ids=torch.tensor([[position]]),
        )
        rows.append(out.logits[0, -1])
    return torch.stack(rows)


def reset_rope(model) -> None:
    """Forgets frequencies that an earlier, longer input left behind in a dynamic embedding."""
    rotary = model.model.rotary_emb
    rotary.inv_freq = rotary.original_inv_freq.clone()
    rotary.max_seq_len_cached = rotary.original_max_seq_len


def is_dynamic(config: dict) -> bool:
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    return scaling.get("rope_type", scaling.get("type")) == "dynamic"


def greedy(model, ids: list[int], forward) -> tuple[list[int], list[float], float]:
    """Greedy tokens, their log probabilities, and the least distance to the runner-up."""
    ids, logprobs, margin = list(ids), [], float("inf")
    for _ in range(GREEDY_TOKENS):
        logits = forward(model, ids)[-1]
        first, second = torch.topk(logits, 2).values.tolist()
        token = int(logits.argmax())
        logprobs.append(round(float(torch.log_softmax(logits.double(), -1)[token]), 6))
        margin = min(margin, first - second)
        ids.append(token)
    return ids[-GREEDY_TOKENS:], logprobs, margin


def robust_prompt(tiny: Tiny, model, length: int, forward, random) -> dict:
    """The first random prompt whose greedy answer is clear at every step and does not loop."""
    vocab = tiny.config["vocab_size"]
    for _ in range(2000):
        ids = random.integers(3, vocab, length).tolist()
        tokens, logprobs, margin = greedy(model, ids, forward)
        if margin > MIN_MARGIN and len(set(tokens)) >= MIN_DISTINCT and min(tokens) > 2:
            return {
                "name": f"len{length}",
                "input_ids": ids,
                "greedy": tokens,
                "greedy_logprobs": logprobs,
                "greedy_min_margin": round(margin, 6),
            }
    raise SystemExit(f"{tiny.name}: no robust prompt of length {length}")


def reference(tiny: Tiny, folder: pathlib.Path):
    model = load(folder, torch.float32)
    dynamic = is_dynamic(tiny.config)
    forward = stepwise if dynamic else oneshot
    # the same prompts for a checkpoint with the weights of another
    random = np.random.default_rng(1000 + tiny.seed)
    prompts = [robust_prompt(tiny, model, n, forward, random) for n in PROMPT_LENGTHS]

    tensors, noise, largest = {}, 0.0, 0.0
    wide = load(folder, torch.float64)
    for i, prompt in enumerate(prompts):
        ids = prompt["input_ids"]
        logits = forward(model, ids)
        tensors[f"logits.{i}"] = logits.contiguous()
        noise = max(noise, float((logits.double() - forward(wide, ids)).abs().max()))
        largest = max(largest, float(logits.abs().max()))
        other = oneshot(model, ids) if dynamic else stepwise(model, ids)
        gap = float((logits - other).abs().max())
        if dynamic:
            tensors[f"logits_oneshot.{i}"] = other.contiguous()
            within = len(ids) <= tiny.config["max_position_embeddings"]
            assert (gap < TOLERANCE) == within, (tiny.name, len(ids), gap)
        else:
            assert gap < TOLERANCE, f"{tiny.name}: cache changes the logits by {gap}"
    assert noise < TOLERANCE / 4, f"{tiny.name}: float32 noise {noise} eats the tolerance"

    golden = {
        "model": tiny.name,
        "architecture": tiny.config["architectures"][0],
        "made_with": {
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
            "numpy": np.__version__,
        },
        "seed": tiny.seed,
        "weights_dtype": "float8_e4m3fn" if tiny.fp8 else tiny.dtype,
        "logits_dtype": "float32",
        "logits_from": "stepwise" if dynamic else "oneshot",
        "tolerance": TOLERANCE,
        "max_abs_logit": round(largest, 4),
        "float32_noise": float(f"{noise:.2e}"),
        "sensitivity": sensitivity(tiny, folder, model, prompts),
        "prompts": prompts,
    }
    if tiny.dtype != "float32" and not tiny.fp8:
        native = load(folder, getattr(torch, tiny.dtype))
        gap = 0.0
        for i, prompt in enumerate(prompts):
            logits = oneshot(native, prompt["input_ids"])
            tensors[f"logits_native.{i}"] = logits.contiguous()
            gap = max(gap, float((logits.float() - tensors[f"logits.{i}"]).abs().max()))
        golden["native_dtype"] = tiny.dtype
        golden["native_max_abs_difference"] = float(f"{gap:.3g}")
    return golden, tensors


def sensitivity(tiny: Tiny, folder: pathlib.Path, model, prompts: list) -> dict:
    """How far each deliberate mistake in the config moves the logits of the longest prompt."""
    ids = prompts[-1]["input_ids"]
    moved = {}
    for what, changes in tiny.must_matter.items():
        gap = float((oneshot(model, ids) - oneshot(load_changed(folder, changes), ids)).abs().max())
        assert gap > 100 * TOLERANCE, f"{tiny.name}: {what} moves the logits by {gap} only"
        moved[what] = float(f"{gap:.3g}")
    for what, changes in tiny.must_not_matter.items():
        gap = float((oneshot(model, ids) - oneshot(load_changed(folder, changes), ids)).abs().max())
        assert gap == 0.0, f"{tiny.name}: {what} moves the logits by {gap}"
    return moved


def write_json(path: pathlib.Path, value) -> None:
    """Indented, but with arrays of numbers on one line."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(join_number_arrays(text) + "\n")


def join_number_arrays(text: str) -> str:
    out, row = [], None
    for line in text.split("\n"):
        bare = line.strip()
        if row is None:
            if bare.endswith("["):
                row = [line]
            else:
                out.append(line)
        elif bare.rstrip(",").replace(".", "").replace("-", "").replace("e", "").isdigit():
            row.append(bare)
        elif bare.startswith("]"):
            out.append(row[0] + " ".join(row[1:]) + bare if len(row) > 1 else row[0] + bare)
            row = None
        else:
            out += row
            row = [line] if bare.endswith("[") else None
            if row is None:
                out.append(line)
    return "\n".join(out + (row or []))


if __name__ == "__main__":
    main()
