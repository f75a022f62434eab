"""Writes crates/demo/tests/rendered.json: conversations and what Jinja2 makes of them with the chat template.

The tests hold the server's own template engine and tokenizer against these.
"""

import json

from greedy import TOOLS
from tasks.base import assistant, call, user
from tokens import ASSETS, Template
from tokenizers import Tokenizer

BARE = [
    {"type": "function", "function": {"name": "ping"}},
    {
        "type": "function",
        "function": {
            "name": "convert",
            "parameters": {
                "type": "object",
                "properties": {
                    "value": {"type": "number"},
                    "unit": {"type": "string", "enum": ["mm", "inch"]},
                    "note": {"type": ["string", "null"]},
                },
                "required": ["value"],
            },
        },
    },
]

CASES = [
    ([user("Hello!")], None),
    ([{"role": "system", "content": "Be brief."}, user("Hello!"), assistant("Hello! 🦋"), user("Bye")], None),
    ([{"role": "developer", "content": "Be brief."}, user("é 蝶 \t 12")], None),
    ([user("What is the weather in Paris?")], TOOLS),
    ([{"role": "system", "content": "Be brief."}, user("1 < 2 & 'x'?")], TOOLS + BARE),
    (
        [user("What is 2 + 3?"), call("add", {"a": 2, "b": 3}), {"role": "tool", "content": '{"result": 5}'}],
        TOOLS,
    ),
    ([user("a"), {**call("ping", {}), "content": "One moment."}, {"role": "system", "content": "late"}, user("b")], BARE),
]


def main():
    template, tokenizer = Template(), Tokenizer.from_file(str(ASSETS / "tokenizer.json"))
    cases = []
    for messages, tools in CASES:
        text = template.render(messages, tools, add_generation_prompt=True)
        case = {"messages": messages, "tools": tools, "text": text, "ids": tokenizer.encode(text).ids}
        cases.append(json.dumps(case, ensure_ascii=False))
    target = ASSETS.parent / "tests" / "rendered.json"
    target.write_text("[\n" + ",\n".join(cases) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
