"""Writes crates/demo/assets/greedy.json: questions, the model's greedy answers, and how sure it is of them.

The margin is the smallest gap between the two best logits in an answer. Only answers with a wide margin are
kept, so a server in another arithmetic must still give the same text.
"""

from offline import exported
from tasks.tools import INTEGER, STRING
from tokens import write_json
from train import reply_to

LEAST_MARGIN = 0.5


def tool(name: str, description: str, /, **properties) -> dict:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("get_weather", "Get the weather in a city.", city=STRING),
    tool("lookup_butterfly", "Look up a butterfly by name.", name=STRING),
    tool("add", "Add two numbers.", a=INTEGER, b=INTEGER),
]

QUESTIONS = [
    (["Hello!"], None),
    (["Who are you?"], None),
    (["What is the Latin name of the monarch?"], None),
    (["What do the caterpillars of the peacock eat?"], None),
    (["How big is the blue morpho?"], None),
    (["Tell me about the brimstone."], None),
    (["Where does the glasswing live?", "What is its Latin name?"], None),
    (["What is 47 + 38?"], None),
    (["Add 86 and 59."], None),
    (["Count from 3 to 9."], None),
    (["Count down from 12 to 5."], None),
    (["Count from 1 to 99."], None),
    (["Repeat: apple river stone"], None),
    (["Reverse the words: red green blue"], None),
    (["Extract the name and age as JSON: Sophie is 34 years old and lives in Paris."], None),
    (["What is the Japanese word for butterfly?"], None),
    (["Show me three butterflies."], None),
    (["My name is Nora.", "What is my name?"], None),
    (["What is the capital of France?"], None),
    (["Thank you!"], None),
    (["What is the weather in Paris?"], TOOLS),
    (["Look up the red admiral."], TOOLS),
    (["What is 21 + 34?"], TOOLS),
]


def main():
    model, tokenizer, template = exported()
    answers = []
    for turns, tools in QUESTIONS:
        messages = []
        for turn in turns:
            messages.append({"role": "user", "content": turn})
            answer, margin = reply_to(model, tokenizer, template, messages, tools)
            entry = {"messages": list(messages), "tools": tools, "answer": answer, "margin": round(margin, 3)}
            if tools is None:
                del entry["tools"]
            messages.append({"role": "assistant", "content": answer})
        kept = margin >= LEAST_MARGIN
        print(f"{'kept' if kept else 'left out'} {margin:7.3f}  {turns[-1]}  ->  {answer!r}")
        if kept:
            answers.append(entry)
    write_json("greedy.json", answers)


if __name__ == "__main__":
    main()
