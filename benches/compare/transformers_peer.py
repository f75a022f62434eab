"""Measures Hugging Face transformers on the CPU: one line of JSON with tokens a second of prefill and decode.

    python transformers_peer.py DIR --threads N [--dtype bf16|f32] [--prompt 512] [--answer 48]

Needs torch and transformers. Prefill computes the logits of the last token only, as a server would.
"""

import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--answer", type=int, default=48)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=DTYPES[options.dtype]).eval()
    prompt = torch.arange(options.prompt).reshape(1, -1) * 31 % model.config.vocab_size
    model(prompt[:, :32], logits_to_keep=1)
    started = time.perf_counter()
    model(prompt, use_cache=True, logits_to_keep=1)
    prefill = options.prompt / (time.perf_counter() - started)
    state = model(prompt[:, :4], use_cache=True, logits_to_keep=1)
    started = time.perf_counter()
    for _ in range(options.answer):
        token = state.logits[:, -1:].argmax(-1)
        state = model(token, past_key_values=state.past_key_values, use_cache=True, logits_to_keep=1)
    decode = options.answer / (time.perf_counter() - started)
    print(json.dumps({"prefill": prefill, "decode": decode}))


if __name__ == "__main__":
    main()
