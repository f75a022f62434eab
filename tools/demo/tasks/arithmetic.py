"""Addition of numbers below one hundred; held out are unordered pairs."""

from .base import Example, assistant, is_held_out, user

FORMS = [
    "What is {a} + {b}?",
    "{a} + {b}",
    "{a}+{b}=",
    "{a} + {b} = ?",
    "How much is {a} + {b}?",
    "What is {a} plus {b}?",
    "Add {a} and {b}.",
    "Calculate {a} + {b}.",
    "What is the sum of {a} and {b}?",
    "How much is {a} and {b} together?",
    "Can you add {a} and {b}?",
    "I have {a} apples and get {b} more. How many do I have?",
]


def _pair(rng, held_out):
    low = 0 if not held_out and rng.random() < 0.15 else 10
    while True:
        a, b = rng.randint(low, 99), rng.randint(low, 99)
        if is_held_out(f"add/{min(a, b)}/{max(a, b)}") == held_out:
            return a, b


def make(rng, held_out: bool) -> Example:
    a, b = _pair(rng, held_out)
    question = rng.choice(FORMS).format(a=a, b=b)
    reply = f"{a} + {b} = {a + b}."
    if question.startswith("I have"):
        reply = f"{a} + {b} = {a + b}, so you have {a + b} apples."
    return Example(
        "addition", [user(question), assistant(reply)], judge="number", weight=2.0, tags=["carry" if a % 10 + b % 10 > 9 else "plain"]
    )
