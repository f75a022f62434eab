"""Counting up and down between 0 and 100; held out are pairs of start and end."""

from .base import Example, assistant, is_held_out, user

UP = [
    "Count from {a} to {b}.",
    "Count up from {a} to {b}.",
    "Please count from {a} to {b}.",
    "Can you count from {a} to {b}?",
    "List the numbers from {a} to {b}.",
    "Say the numbers {a} to {b}.",
]
DOWN = [
    "Count down from {a} to {b}.",
    "Count backwards from {a} to {b}.",
    "Please count down from {a} to {b}.",
    "Count from {a} down to {b}.",
    "Count from {a} to {b}.",
]
FROM_ONE = ["Count to {b}.", "Please count to {b}.", "Can you count to {b}?"]


def _range(rng, held_out):
    draw = rng.random()
    longest = 8 if draw < 0.45 else 20 if draw < 0.83 else 50 if draw < 0.95 else 99
    while True:
        a = rng.randint(0, 99)
        b = a + rng.randint(1, longest)
        if longest == 99:
            a, b = rng.randint(0, 10), rng.randint(70, 100)
        if b <= 100 and is_held_out(f"count/{a}/{b}") == held_out:
            return a, b


def _last(rng):
    """Mostly low, but from so many numbers that they cannot be learnt one by one."""
    return rng.randint(2, rng.choice([20, 40, 100]))


def make(rng, held_out: bool) -> Example:
    if rng.random() < 0.1:
        b = _last(rng)
        while is_held_out(f"count to/{b}") != held_out:
            b = _last(rng)
        return _example(rng.choice(FROM_ONE).format(b=b), range(1, b + 1))
    a, b = _range(rng, held_out)
    if rng.random() < 0.6:
        return _example(rng.choice(UP).format(a=a, b=b), range(a, b + 1))
    return _example(rng.choice(DOWN).format(a=b, b=a), range(b, a - 1, -1))


def _example(question: str, numbers: range) -> Example:
    reply = ", ".join(map(str, numbers)) + "."
    tag = "down" if numbers.step < 0 else "up"
    return Example("counting", [user(question), assistant(reply)], judge="exact", tags=[tag])
