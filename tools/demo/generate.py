"""Makes the demo model's data: a stream of conversations for training, and the held-out ones for evaluation.

    python generate.py --count 20 --seed 1              # look at some training conversations
    python generate.py --held-out --count 3 --task json # look at held-out ones

The same seed gives the same data. Only the standard library is needed.
"""

import argparse
import json
import random

from tasks import TASKS, Example, talk

# Share of each task in the training stream.
SHARES = {"butterflies": 20, "addition": 13, "counting": 20, "words": 14, "json": 9, "tools": 16, "talk": 8}


def conversation(rng: random.Random, shares: dict) -> Example:
    """One training conversation: a task, or two or three in a row, with or without a system prompt."""
    names, weights = list(shares), list(shares.values())
    example = TASKS[rng.choices(names, weights)[0]].make(rng, held_out=False)
    if example.tools is None and rng.random() < 0.16:
        turns = list(example.messages)
        for _ in range(rng.choice([1, 1, 2, 3])):
            following = TASKS[rng.choices(names, weights)[0]].make(rng, held_out=False)
            if following.tools is None:
                turns += following.messages
        example = Example(example.task, turns, weight=example.weight)
    elif example.tools is not None and rng.random() < 0.1:
        opening = rng.choices([TASKS["talk"], TASKS["tools"]], [3, 1])[0].make(rng, held_out=False)
        if opening.tools is None:
            example.messages = opening.messages + example.messages
    if rng.random() < 0.25:
        example.messages = [talk.system(rng), *example.messages]
    return example


def training(seed: int, shares: dict = SHARES):
    """An endless stream of training conversations."""
    rng = random.Random(seed)
    while True:
        yield conversation(rng, shares)


def held_out(task: str, count: int, seed: int = 7) -> list[Example]:
    """Held-out examples of one task, no question twice where the task has enough of them."""
    rng = random.Random(f"{task}/{seed}")
    seen, examples, tries = set(), [], 0
    while len(examples) < count and tries < 40 * count:
        tries += 1
        example = TASKS[task].make(rng, held_out=True)
        key = json.dumps([example.messages, example.tools])
        if key not in seen:
            seen.add(key)
            examples.append(example)
    return examples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--task", choices=list(TASKS))
    options = parser.parse_args()
    if options.held_out:
        tasks = [options.task] if options.task else list(TASKS)
        examples = [e for task in tasks for e in held_out(task, options.count, options.seed)]
    else:
        stream = training(options.seed)
        examples = [next(stream) for _ in range(options.count)]
    for example in examples:
        line = {"task": example.task, "messages": example.messages}
        if example.tools:
            line["tools"] = example.tools
        print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
