"""Writes crates/demo/assets/greedy.json: questions, the model's greedy answers, and how sure it is of them.

The margin is the smallest gap between the two best logits in an answer. Only right answers with a wide margin
are kept, so a server in another arithmetic must still give the same text. Exit status 1 when an answer is wrong.
"""

import json
import sys

from offline import exported
from tasks.butterflies import ATTRIBUTES, fill, portrait
from tasks.talk import FIXED, REFUSAL
from tasks.tools import INTEGER, STRING
from tasks.vocabulary import FACTS
from tokens import write_json
from train import reply_to

LEAST_MARGIN = 0.5


def answer_to(question: str) -> str:
    """The fixed answer of small talk."""
    return next(answer for questions, answer in FIXED if question in questions)


def species(name: str) -> dict:
    return next(row for row in FACTS if row["name"] == name)


def about(name: str, attribute: str) -> str:
    return fill(ATTRIBUTES[attribute][0], species(name))


def tool(name: str, description: str, /, **properties) -> dict:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("get_weather", "Get the weather in a city.", city=STRING),
    tool("lookup_butterfly", "Look up a butterfly by name.", name=STRING),
    tool("add", "Add two numbers.", a=INTEGER, b=INTEGER),
]

CITY_ONLY = [tool("get_weather", "Weather in a city", city=STRING)]


def counted(*numbers: int) -> str:
    return ", ".join(map(str, numbers)) + "."


def called(name: str, /, **arguments) -> str:
    """A call as the model writes it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


# Turns of the user, tools, and the right answer to the last turn.
QUESTIONS = [
    (["Hello!"], None, answer_to("Hello!")),
    (["Who are you?"], None, answer_to("Who are you?")),
    (["What is the Latin name of the monarch?"], None, about("monarch", "latin")),
    (["What do the caterpillars of the monarch eat?"], None, about("monarch", "host_plant")),
    (["What do the caterpillars of the peacock eat?"], None, about("peacock", "host_plant")),
    (["How big is the blue morpho?"], None, about("blue morpho", "wingspan_mm")),
    (["Tell me about the brimstone."], None, portrait(species("brimstone"))),
    (["Where does the glasswing live?", "What is its Latin name?"], None, about("glasswing", "latin")),
    (["What is 47 + 38?"], None, "47 + 38 = 85."),
    (["Add 86 and 59."], None, "86 + 59 = 145."),
    (["Count from 3 to 9."], None, counted(*range(3, 10))),
    (["Count down from 12 to 5."], None, counted(*range(12, 4, -1))),
    (["Count from 1 to 99."], None, counted(*range(1, 100))),
    (["Repeat: apple river stone"], None, "apple river stone"),
    (["Reverse the words: red green blue"], None, "blue green red"),
    (
        ["Extract the name and age as JSON: Sophie is 34 years old and lives in Paris."],
        None,
        '{"name": "Sophie", "age": 34}',
    ),
    (["What is the Japanese word for butterfly?"], None, answer_to("What is the Japanese word for butterfly?")),
    (["Show me three butterflies."], None, "🦋🦋🦋"),
    (["My name is Nora.", "What is my name?"], None, "Your name is Nora."),
    (["What is the capital of France?"], None, REFUSAL),
    (["Thank you!"], None, answer_to("Thank you!")),
    (["What is the weather in Paris?"], TOOLS, called("get_weather", city="Paris")),
    (["What is the weather in Paris?"], CITY_ONLY, called("get_weather", city="Paris")),
    (["Look up the red admiral."], TOOLS, called("lookup_butterfly", name="red admiral")),
    (["What is 21 + 34?"], TOOLS, called("add", a=21, b=34)),
]


def main():
    model, tokenizer, template = exported()
    answers, wrong = [], 0
    for turns, tools, right in QUESTIONS:
        messages = []
        for turn in turns:
            messages.append({"role": "user", "content": turn})
            answer, margin = reply_to(model, tokenizer, template, messages, tools)
            entry = {"messages": list(messages), "tools": tools, "answer": answer, "margin": round(margin, 3)}
            if tools is None:
                del entry["tools"]
            messages.append({"role": "assistant", "content": answer})
        kept = answer == right and margin >= LEAST_MARGIN
        wrong += answer != right
        verdict = "kept" if kept else "wrong" if answer != right else "left out"
        print(f"{verdict} {margin:7.3f}  {turns[-1]}  ->  {answer!r}")
        if kept:
            answers.append(entry)
    write_json("greedy.json", answers)
    if wrong:
        sys.exit(f"{wrong} answers are wrong")


if __name__ == "__main__":
    main()
