"""Checks that Hugging Face transformers reads the exported folder and gives the answers of greedy.json.

    pip install transformers && python transformers_check.py

Weights and products in f32, as in offline.py. Prompts are rendered by transformers from the same template.
Exit status 1 when a prompt or an answer differs.
"""

import json
import sys

import torch
import transformers
from tokens import ASSETS, Template


def main():
    model = transformers.AutoModelForCausalLM.from_pretrained(ASSETS, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(ASSETS)
    template, cases, same = Template(), json.loads((ASSETS / "greedy.json").read_text(encoding="utf-8")), 0
    for case in cases:
        messages, tools = case["messages"], case.get("tools")
        prompt = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        output = model.generate(**ids, do_sample=False)[0, ids["input_ids"].shape[1] :]
        answer = tokenizer.decode(output, skip_special_tokens=True)
        if prompt == template.render(messages, tools, add_generation_prompt=True) and answer == case["answer"]:
            same += 1
        else:
            print(f"{prompt!r}\n    gives    {answer!r}\n    expected {case['answer']!r}")
    print(f"transformers {transformers.__version__}: {same} of {len(cases)} answers are the same")
    sys.exit(same != len(cases))


if __name__ == "__main__":
    main()
