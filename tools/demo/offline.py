"""Measures held-out accuracy without a server: the exported bf16 weights, computed in f32 by PyTorch.

The same questions and judge as evaluate.py, so the two tables can be compared.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import generate
from evaluate import HEAD, row, score
from model import Config, Llama
from tokens import ASSETS, Template
from train import reply_to


def exported():
    """The model, tokenizer and template as they lie in crates/demo/assets."""
    fields = json.loads((ASSETS / "config.json").read_text())
    model = Llama(Config(**{name: fields[name] for name in Config.__dataclass_fields__}))
    tensors = load_file(ASSETS / "model.safetensors")
    model.load_state_dict({name: value.float() for name, value in tensors.items()})
    return model.eval(), Tokenizer.from_file(str(ASSETS / "tokenizer.json")), Template()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="questions per task")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, tokenizer, template = exported()
    result = {"tasks": {}, "wrong": []}
    print(HEAD)
    for task in generate.SHARES:
        examples = generate.held_out(task, options.count, options.seed)
        replies = [
            {"content": reply_to(model, tokenizer, template, example.messages[:-1], example.tools)[0]}
            for example in examples
        ]
        result["tasks"][task] = score(examples, replies, result["wrong"])
        print(row(task, result["tasks"][task]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
