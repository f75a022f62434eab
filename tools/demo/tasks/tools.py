"""Tool use: one call in the fixed form when a tool fits, an answer from the tool's result, else plain talk.

Tool and parameter names vary, so the model has to read the signatures in the system block. Held out are
pairs of request and argument values.
"""

import json

from . import talk
from .base import Example, assistant, call, is_held_out, user
from .vocabulary import CITIES, DAYS, FACTS, NAMES, SKIES, WORDS

STRING, INTEGER = {"type": "string"}, {"type": "integer"}


class Tool:
    """A kind of tool: possible names, parameters (key -> possible names), descriptions and requests."""

    def __init__(self, names, parameters, descriptions, requests, values, result):
        self.names, self.parameters, self.descriptions = names, parameters, descriptions
        self.requests, self.values, self.result = requests, values, result

    def offer(self, rng):
        """A schema as a client would send it, and how its parameters are called there."""
        name = self.names[0] if rng.random() < 0.5 else rng.choice(self.names)
        renamed = {key: (names[0] if rng.random() < 0.5 else rng.choice(names)) for key, names in self.parameters.items()}
        properties = {}
        for key, given in renamed.items():
            kind = dict(INTEGER if key in ("a", "b", "minutes", "count") else STRING)
            if kind == INTEGER and rng.random() < 0.3:
                kind["type"] = "number"
            properties[given] = kind
        required = list(properties)
        if "city" in self.parameters and rng.random() < 0.12:
            properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        function = {"name": name}
        if rng.random() < 0.85:
            function["description"] = rng.choice(self.descriptions)
        function["parameters"] = {"type": "object", "properties": properties, "required": required}
        return {"type": "function", "function": function}, renamed


def _city(rng):
    return {"city": rng.choice(CITIES)}


def _numbers(rng):
    return {"a": rng.randint(2, 99), "b": rng.randint(2, 99)}


def _species(rng):
    return {"name": rng.choice(FACTS)["name"]}


def _weather_result(rng, values):
    degrees, sky = rng.randint(0, 38), rng.choice(SKIES)
    shown = [{"temperature": degrees, "sky": sky}, {"sky": sky, "temperature": degrees}, f"{degrees} degrees, {sky}"]
    return rng.choice(shown), f"It is {degrees} degrees and {sky} in {values['city']}."


def _lookup_result(rng, values):
    row = next(row for row in FACTS if row["name"] == values["name"])
    result = {"latin": row["latin"], "wingspan_mm": int(row["wingspan_mm"])}
    return result, f"The {row['name']} ({row['latin']}) has a wingspan of about {row['wingspan_mm']} mm."


def _sum_result(rng, values):
    total = values["a"] + values["b"]
    return rng.choice([{"result": total}, str(total)]), f"{values['a']} + {values['b']} = {total}."


def _product_result(rng, values):
    product = values["a"] * values["b"]
    return rng.choice([{"result": product}, str(product)]), f"{values['a']} times {values['b']} is {product}."


def _time_result(rng, values):
    clock = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    return rng.choice([{"time": clock}, clock]), f"It is {clock} in {values['city']}."


def _timer_result(rng, values):
    return {"ok": True}, f"The timer is set for {values['minutes']} minutes."


def _flight_result(rng, values):
    price = rng.randint(40, 900)
    return {"price": price}, f"A flight from {values['origin']} to {values['destination']} costs {price} euros."


def _report_result(rng, values):
    return {"ok": True}, f"I have reported {values['count']} butterflies in {values['city']}."


def _mail_result(rng, values):
    return {"ok": True}, f"I have sent the message to {values['to']}."


def _event_result(rng, values):
    return {"ok": True}, f"I have planned {values['title']} on {values['day']}."


POOL = [
    Tool(
        ["get_weather", "get_current_weather", "weather", "fetch_weather"],
        {"city": ["city", "location", "place"]},
        ["Get the weather in a city.", "Current weather of a place.", "Get the current weather in a given location"],
        [
            "What is the weather in {city}?",
            "What's the weather like in {city}?",
            "How is the weather in {city} today?",
            "Is it raining in {city}?",
            "How warm is it in {city}?",
            "Weather in {city}?",
            "Do I need an umbrella in {city}?",
        ],
        _city,
        _weather_result,
    ),
    Tool(
        ["lookup_butterfly", "find_butterfly", "butterfly_info"],
        {"name": ["name", "species", "butterfly"]},
        ["Look up a butterfly by name.", "Facts about a butterfly.", "Find a butterfly in the database."],
        [
            "Look up the {name}.",
            "Find the {name} in the database.",
            "How big is the {name}?",
            "What is the Latin name of the {name}?",
            "Look up the butterfly {name}, please.",
        ],
        _species,
        _lookup_result,
    ),
    Tool(
        ["add", "add_numbers", "sum", "plus"],
        {"a": ["a", "x", "first"], "b": ["b", "y", "second"]},
        ["Add two numbers.", "Sum of two numbers.", "Adds a and b."],
        ["What is {a} + {b}?", "Add {a} and {b}.", "How much is {a} plus {b}?", "What is the sum of {a} and {b}?"],
        _numbers,
        _sum_result,
    ),
    Tool(
        ["multiply", "multiply_numbers", "product"],
        {"a": ["a", "x", "first"], "b": ["b", "y", "second"]},
        ["Multiply two numbers.", "Product of two numbers."],
        ["What is {a} times {b}?", "Multiply {a} by {b}.", "How much is {a} * {b}?", "What is the product of {a} and {b}?"],
        _numbers,
        _product_result,
    ),
    Tool(
        ["get_time", "current_time", "clock"],
        {"city": ["city", "location", "place"]},
        ["Get the time in a city.", "Current local time."],
        ["What time is it in {city}?", "Tell me the time in {city}.", "How late is it in {city}?"],
        _city,
        _time_result,
    ),
    Tool(
        ["set_timer", "start_timer", "timer"],
        {"minutes": ["minutes", "duration"]},
        ["Set a timer.", "Start a timer of some minutes."],
        ["Set a timer for {minutes} minutes.", "Wake me in {minutes} minutes.", "Start a timer of {minutes} minutes."],
        lambda rng: {"minutes": rng.randint(2, 99)},
        _timer_result,
    ),
    Tool(
        ["find_flight", "search_flights", "flight_price"],
        {"origin": ["origin", "from"], "destination": ["destination", "to"]},
        ["Find a flight.", "Price of a flight between two cities."],
        ["Find a flight from {origin} to {destination}.", "What does a flight from {origin} to {destination} cost?"],
        lambda rng: dict(zip(("origin", "destination"), rng.sample(CITIES, 2), strict=True)),
        _flight_result,
    ),
    Tool(
        ["report_sighting", "log_sighting"],
        {"count": ["count", "number"], "city": ["city", "place", "location"]},
        ["Report a sighting of butterflies.", "Log how many butterflies were seen."],
        ["I saw {count} butterflies in {city}, report it.", "Report {count} butterflies in {city}."],
        lambda rng: {"count": rng.randint(2, 60), "city": rng.choice(CITIES)},
        _report_result,
    ),
    Tool(
        ["send_message", "send_email", "notify"],
        {"to": ["to", "recipient", "name"], "text": ["text", "message", "body"]},
        ["Send a message.", "Send a text to somebody."],
        ['Send "{text}" to {to}.', 'Tell {to}: "{text}"', 'Write "{text}" to {to}.'],
        lambda rng: {"to": rng.choice(NAMES), "text": " ".join(rng.sample(WORDS, rng.randint(1, 4)))},
        _mail_result,
    ),
    Tool(
        ["create_event", "add_event", "plan"],
        {"title": ["title", "name", "event"], "day": ["day", "date"]},
        ["Create an event in the calendar.", "Plan something on a day."],
        ['Plan "{title}" on {day}.', 'Put "{title}" on {day} in my calendar.'],
        lambda rng: {"title": " ".join(rng.sample(WORDS, rng.randint(1, 2))), "day": rng.choice(DAYS)},
        _event_result,
    ),
]


def make(rng, held_out: bool) -> Example:
    kinds = rng.sample(POOL, rng.choice([1, 1, 2, 2, 3, 4]))
    wanted = kinds[0]
    while True:
        values = wanted.values(rng)
        request = rng.choice(wanted.requests).format(**values)
        if is_held_out("tool/" + request) == held_out:
            break
    offers = [kind.offer(rng) for kind in kinds]
    renamed = offers[0][1]
    tools = [schema for schema, _ in offers]
    rng.shuffle(tools)
    name = offers[0][0]["function"]["name"]
    arguments = {renamed[key]: values[key] for key in wanted.parameters}
    messages = [user(request), call(name, arguments)]
    draw = rng.random()
    if draw < 0.12:
        chat = talk.make(rng, held_out)
        return Example("tools", chat.messages, tools, judge=chat.judge, value=chat.value, tags=["no call"])
    if draw < 0.60:
        return Example("tools", messages, tools, judge="tool", tags=["call"])
    result, reply = wanted.result(rng, values)
    if rng.random() < 0.1:
        result, reply = _failure(rng)
    shown = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    messages += [{"role": "tool", "content": shown}, assistant(reply)]
    return Example("tools", messages, tools, judge="exact", tags=["result"])


def _failure(rng):
    reason = rng.choice(["not found", "timeout", "unknown name", "no permission", "service unavailable"])
    return {"error": reason}, f"The tool reported an error: {reason}."
