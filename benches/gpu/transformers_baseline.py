"""Measures Hugging Face transformers on the same shape with random weights: lines of JSON, as the GPU bench prints them.

    python3 transformers_baseline.py single     one stream: static cache, compiled
    python3 transformers_baseline.py batching   continuous batching, of ever more streams

Needs torch and transformers 5, no network and no files but the config of the bench. What is printed before a time limit ends
it counts: of batching, the longest answers that were finished for each number of streams. Without flash-attn every stream meets
the keys of all others under a mask, so 256 of them may not be done in time where 32 are.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig  # noqa: E402

CONFIG = Path(__file__).resolve().parents[2] / "crates/runner/benches/gpu/llama-3-8b.json"
# Prompt and answer of the one stream, as in the GPU bench.
SINGLE = (128, 512)
# Streams, prompt, answer: each is measured if there is time.
BATCHES = [(32, 1000, 32), (32, 1000, 100), (256, 1000, 32), (256, 1000, 100), (256, 1000, 300)]


def report(what, value, unit, **more):
    print(json.dumps({"what": what, "value": round(value, 6), "unit": unit, **more}), flush=True)


def random_model(device, attention):
    fields = json.loads(CONFIG.read_text())
    for name in ("architectures", "model_type", "torch_dtype"):
        del fields[name]
    config = LlamaConfig(**fields)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)
    # Answers have the length that was asked for.
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=None, pad_token_id=0)
    return model.eval().requires_grad_(False)


def prompts(count, length, vocabulary):
    return [[(stream * 7919 + at * 31) % vocabulary for at in range(length)] for stream in range(count)]


def single(model):
    prompt, answer = SINGLE
    tokens = torch.tensor(prompts(1, prompt, model.config.vocab_size), device=model.device)

    def seconds(count):
        torch.cuda.synchronize()
        started = time.perf_counter()
        model.generate(tokens, max_new_tokens=count, cache_implementation="static")
        torch.cuda.synchronize()
        return time.perf_counter() - started

    # The cache has the length of the longest answer, and a new length would be compiled anew.
    began = time.perf_counter()
    seconds(answer)
    compiling = time.perf_counter() - began
    taken = [seconds(answer) for _ in range(2)]
    report("transformers 1 stream", answer / min(taken), "tokens/s", compile_s=round(compiling, 1))


def batching(model):
    for count, length, answer in BATCHES:
        print(f"{count} prompts of {length}, answers of {answer} tokens", file=sys.stderr, flush=True)
        inputs = prompts(count, length, model.config.vocab_size)
        config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=answer)
        outputs = list(model.generate_batch(inputs, generation_config=config).values())
        generated = sum(len(output.generated_tokens) for output in outputs)
        if len(outputs) != count or any(output.error for output in outputs) or generated != count * answer:
            print(f"{len(outputs)} of {count} requests gave {generated} tokens: not measured", file=sys.stderr)
            return 1
        # From the first request to the last token; starting and warming up the manager is left out.
        began = min(output.created_time for output in outputs)
        ended = max(output.lifespan[1] for output in outputs)
        attention = model.config._attn_implementation
        report(
            f"transformers {count} streams",
            generated / (ended - began),
            "tokens/s",
            prompt=length,
            answer=answer,
            attention=attention,
        )
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["single", "batching"])
    what = parser.parse_args().what
    torch.manual_seed(1)
    model = random_model("cuda", "sdpa")
    return single(model) if what == "single" else batching(model)


if __name__ == "__main__":
    sys.exit(main())
