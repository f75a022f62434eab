"""Measures the perplexity of held-out conversations over the API of a running server.

    .venv/bin/python perplexity.py --url http://127.0.0.1:8000 --count 50

Every token of a conversation after the first counts, rendered through the chat template; what a served format loses
against another shows as a ratio of two runs.
"""

import argparse
import json
import math
import urllib.request

import generate
from tokens import Template


def logprobs(options, text) -> list[float]:
    """Of each token of `text` after the first."""
    body = {"model": options.model, "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 0, "add_special_tokens": False}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{options.url}/v1/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["choices"][0]["logprobs"]["token_logprobs"][1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="vlinders-demo")
    parser.add_argument("--count", type=int, default=50, help="conversations per task")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    template, found = Template(), []
    for task in generate.SHARES:
        for example in generate.held_out(task, options.count, options.seed):
            found += logprobs(options, template.render(example.messages, example.tools))
    print(f"perplexity {math.exp(-sum(found) / len(found)):.4f} over {len(found)} tokens")


if __name__ == "__main__":
    main()
