"""What an example is, how examples are held out, and how an answer is judged."""

import hashlib
import json
import re
from dataclasses import dataclass, field

HELD_OUT_PERCENT = 10


def is_held_out(key: str) -> bool:
    """Whether the combination named by `key` belongs to the held-out share; a pure function of the key."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


@dataclass
class Example:
    """A conversation that ends with the assistant message to be learnt.

    `judge` says how an answer is compared with that message: `exact`, `number` (the last number),
    `json` (equal as JSON), `tool` (the same call), or `contains` (holds `value`).
    """

    task: str
    messages: list
    tools: list | None = None
    judge: str = "exact"
    value: str | None = None
    weight: float = 1.0
    tags: list = field(default_factory=list)

    @property
    def answer(self) -> dict:
        return self.messages[-1]

    def is_right(self, reply: dict) -> bool:
        """Judges `reply`, an assistant message as the OpenAI API returns it."""
        content = (reply.get("content") or "").strip()
        if self.judge == "tool":
            expected = self.answer["tool_calls"][0]["function"]
            return _calls(reply) == [(expected["name"], json.loads(expected["arguments"]))]
        if self.judge == "number":
            return re.findall(r"\d+", content)[-1:] == re.findall(r"\d+", self.answer["content"])[-1:]
        if self.judge == "json":
            try:
                return json.loads(content) == json.loads(self.answer["content"])
            except ValueError:
                return False
        if self.judge == "contains":
            return self.value.lower() in content.lower()
        return content == self.answer["content"]


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def call(name: str, arguments: dict) -> dict:
    """An assistant message that calls one tool."""
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}


def _calls(reply: dict) -> list:
    if reply.get("tool_calls"):
        functions = [c["function"] for c in reply["tool_calls"]]
        return [(f["name"], json.loads(f["arguments"])) for f in functions]
    found = []
    for body in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", reply.get("content") or "", re.S):
        try:
            parsed = json.loads(body)
            found.append((parsed["name"], parsed["arguments"]))
        except (ValueError, KeyError):
            found.append(("malformed", body))
    return found
