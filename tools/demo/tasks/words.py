"""Repeating words and reversing their order; held out are sequences of words."""

from .base import Example, assistant, is_held_out, user
from .vocabulary import CITIES, NAMES, WORDS, invented

REPEAT = [
    "Repeat: {w}",
    "Repeat these words: {w}",
    "Say: {w}",
    "Please repeat: {w}",
    "Repeat after me: {w}",
    "Echo: {w}",
    'Repeat "{w}"',
]
REVERSE = [
    "Reverse the words: {w}",
    "Reverse these words: {w}",
    "Reverse the order of these words: {w}",
    "Say these words in reverse order: {w}",
    "Reverse: {w}",
    "Write backwards, word by word: {w}",
]
TIMES = ["Say {w} {n} times.", "Repeat the word {w} {n} times.", "Write {w} {n} times."]


def _words(rng, held_out, longest):
    while True:
        count = min(rng.randint(1, longest), rng.randint(2, longest))
        pool = WORDS if rng.random() < 0.85 else NAMES + [c for c in CITIES if " " not in c]
        words = [rng.choice(pool) for _ in range(count)]
        if not held_out and rng.random() < 0.12:
            words[rng.randrange(count)] = invented(rng)
        if is_held_out("words/" + " ".join(words)) == held_out:
            return words


def make(rng, held_out: bool) -> Example:
    draw = rng.random()
    if draw < 0.1:
        word = rng.choice(WORDS)
        count = rng.randint(2, 6)
        while is_held_out(f"times/{word}/{count}") != held_out:
            word, count = rng.choice(WORDS), rng.randint(2, 6)
        return _example(rng.choice(TIMES).format(w=word, n=count), [word] * count, "times")
    if draw < 0.45:
        words = _words(rng, held_out, 8)
        return _example(rng.choice(REPEAT).format(w=" ".join(words)), words, "repeat")
    words = _words(rng, held_out, 7)
    if len(words) == 1:
        words.append(rng.choice(WORDS))
    return _example(rng.choice(REVERSE).format(w=" ".join(words)), words[::-1], "reverse")


def _example(question: str, words: list, tag: str) -> Example:
    return Example("words", [user(question), assistant(" ".join(words))], judge="exact", tags=[tag])
