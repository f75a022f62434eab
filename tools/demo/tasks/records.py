"""Extraction of named fields from a sentence into JSON; held out are sentences."""

import json

from .base import Example, assistant, is_held_out, user
from .vocabulary import CITIES, DAYS, FACTS, ITEMS, JOBS, NAMES

ASK = [
    "Extract the {fields} as JSON: {text}",
    "Extract {fields} as JSON. {text}",
    "{text} Extract the {fields} as JSON.",
    "Give me the {fields} as JSON: {text}",
    "Turn this into JSON with {fields}: {text}",
    "{text} Return JSON with {fields}.",
]

PERSON = [
    "{name} is {age} years old and lives in {city}.",
    "{name} is a {job} from {city} and is {age} years old.",
    "{name}, {age}, lives in {city} and works as a {job}.",
    "My name is {name}, I am {age} and I live in {city}.",
    "{name} ({age}) is a {job}.",
    "I met {name}, a {job} of {age}, in {city}.",
]
SALE = [
    "{name} bought {count} {item} for {price} euros.",
    "On {day} {name} ordered {count} {item}.",
    "{count} {item} for {name}, {price} euros, on {day}.",
    "{name} from {city} wants {count} {item}.",
]
SIGHTING = [
    "On {day} {name} saw {count} butterflies in {city}.",
    "{name} saw a {butterfly} in {city} on {day}.",
    "A {butterfly} was seen in {city} by {name}.",
]
NUMBERS = ("age", "count", "price")


def _record(rng):
    form = rng.choice(rng.choice([PERSON, PERSON, SALE, SIGHTING]))
    values = {
        "name": rng.choice(NAMES),
        "age": rng.randint(5, 99),
        "city": rng.choice(CITIES),
        "job": rng.choice(JOBS),
        "count": rng.randint(2, 99),
        "price": rng.randint(2, 99),
        "item": rng.choice(ITEMS),
        "day": rng.choice(DAYS),
        "butterfly": rng.choice(FACTS)["name"],
    }
    present = [field for field in values if "{" + field + "}" in form]
    return form.format(**values), {field: values[field] for field in present}


def make(rng, held_out: bool) -> Example:
    while True:
        text, values = _record(rng)
        if is_held_out("record/" + text) == held_out:
            break
    fields = list(values)
    rng.shuffle(fields)
    fields = fields[: rng.choice([1, 2, 2, 2, 3, 3])]
    listed = fields[0] if len(fields) == 1 else ", ".join(fields[:-1]) + " and " + fields[-1]
    question = rng.choice(ASK).format(fields=listed, text=text)
    reply = json.dumps({field: values[field] for field in fields}, ensure_ascii=False)
    return Example("json", [user(question), assistant(reply)], judge="json", tags=[f"{len(fields)} fields"])
