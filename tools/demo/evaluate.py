"""Measures the demo model's held-out accuracy over the API of a running server; standard library only.

    python evaluate.py                                     # http://127.0.0.1:8000, 200 questions per task
    python evaluate.py --url http://host:8000 --count 50 --json result.json

Each question is asked greedily (temperature 0). Exit status 1 when a task falls below --least.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import generate


def ask(options, example) -> dict:
    """The assistant message that the server answers with."""
    body = {
        "model": options.model,
        "messages": example.messages[:-1],
        "temperature": 0,
        "max_tokens": 512,
    }
    if example.tools:
        body["tools"] = example.tools
    headers = {"Content-Type": "application/json"}
    if options.api_key:
        headers["Authorization"] = f"Bearer {options.api_key}"
    request = urllib.request.Request(f"{options.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=options.timeout) as response:
            choice = json.load(response)["choices"][0]
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code} from the server: {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"no server at {options.url}: {error}; start one with `vlinders serve`")
    if choice["finish_reason"] == "length":
        return {"content": ""}
    return choice["message"]


def evaluate(options) -> dict:
    """Accuracy per task, and the questions that were answered wrongly."""
    result = {"model": options.model, "tasks": {}, "wrong": []}
    with ThreadPoolExecutor(options.streams) as pool:
        for task in options.task or list(generate.SHARES):
            examples = generate.held_out(task, options.count, options.seed)
            replies = list(pool.map(lambda example: ask(options, example), examples))
            result["tasks"][task] = score(examples, replies, result["wrong"])
            print(row(task, result["tasks"][task]), flush=True)
    return result


def score(examples, replies, wrong: list) -> dict:
    """Right answers, asked questions and the same by kind; wrong answers are added to `wrong`."""
    asked, right = Counter(), Counter()
    for example, reply in zip(examples, replies, strict=True):
        kind = example.tags[0]
        asked[kind] += 1
        if example.is_right(reply):
            right[kind] += 1
        else:
            wrong.append(
                {
                    "task": example.task,
                    "messages": example.messages[:-1],
                    "expected": example.answer.get("content") or example.answer.get("tool_calls"),
                    "got": reply.get("content") or reply.get("tool_calls"),
                }
            )
    return {
        "accuracy": round(right.total() / max(1, asked.total()), 4),
        "right": right.total(),
        "asked": asked.total(),
        "kinds": {kind: [right[kind], asked[kind]] for kind in sorted(asked)},
    }


def row(task: str, found: dict) -> str:
    """One line of the accuracy table, in Markdown."""
    kinds = ", ".join(f"{kind} {right}/{asked}" for kind, (right, asked) in found["kinds"].items())
    return f"| {task} | {100 * found['accuracy']:.1f} % | {found['right']}/{found['asked']} | {kinds} |"


HEAD = "| task | accuracy | right | by kind |\n|---|---|---|---|"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="vlinders-demo")
    parser.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY"))
    parser.add_argument("--count", type=int, default=200, help="questions per task")
    parser.add_argument("--task", action="append", choices=list(generate.SHARES), help="only this task; may be repeated")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--streams", type=int, default=8, help="questions asked at the same time")
    parser.add_argument("--timeout", type=float, default=120, help="seconds per question")
    parser.add_argument("--least", type=float, default=0.0, help="fail when a task is below this accuracy (0 to 1)")
    parser.add_argument("--json", type=Path, help="write the result, with each wrong answer, to this file")
    options = parser.parse_args()
    options.url = options.url.rstrip("/")
    print(HEAD)
    result = evaluate(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    low = [task for task, found in result["tasks"].items() if found["accuracy"] < options.least]
    if low:
        sys.exit(f"below {options.least}: {', '.join(low)}")


if __name__ == "__main__":
    main()
