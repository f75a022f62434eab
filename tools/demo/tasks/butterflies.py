"""Questions about butterflies, answered from `facts.csv`; held out are pairs of species and phrasing."""

from .base import Example, assistant, is_held_out, user
from .vocabulary import FACTS

# attribute -> (answer form, phrasings). {n} is the name as in the table.
ATTRIBUTES = {
    "latin": (
        "The Latin name of the {n} is {latin}.",
        [
            "What is the Latin name of the {n}?",
            "What is the scientific name of the {n}?",
            "Give me the Latin name of the {n}.",
            "How is the {n} called in Latin?",
            "Which species is the {n}?",
            "Latin name of the {n}?",
            "Tell me the scientific name for the {n}, please.",
            "What do scientists call the {n}?",
        ],
    ),
    "family": (
        "The {n} belongs to the family {family}.",
        [
            "Which family does the {n} belong to?",
            "What family is the {n} in?",
            "To which family does the {n} belong?",
            "Family of the {n}?",
            "What is the family of the {n}?",
            "Tell me the family of the {n}.",
        ],
    ),
    "wingspan_mm": (
        "The wingspan of the {n} is about {wingspan_mm} mm.",
        [
            "How big is the {n}?",
            "What is the wingspan of the {n}?",
            "How large is the {n}?",
            "How wide are the wings of the {n}?",
            "Wingspan of the {n}?",
            "What size is the {n}?",
            "Tell me the wingspan of the {n}.",
            "How many millimetres does the {n} measure?",
        ],
    ),
    "colour": (
        "The {n} is {colour}.",
        [
            "What colour is the {n}?",
            "What does the {n} look like?",
            "Describe the {n}.",
            "What color is the {n}?",
            "How do I recognise the {n}?",
            "Which colours does the {n} have?",
            "Colour of the {n}?",
        ],
    ),
    "host_plant": (
        "The caterpillars of the {n} feed on {host_plant}.",
        [
            "What do the caterpillars of the {n} eat?",
            "What is the host plant of the {n}?",
            "What does the caterpillar of the {n} feed on?",
            "On which plants does the {n} lay its eggs?",
            "Which plants do I need for the {n}?",
            "Host plant of the {n}?",
            "Food plant of the {n} caterpillar?",
            "What does the {n} caterpillar eat?",
        ],
    ),
    "region": (
        "The {n} lives in {region}.",
        [
            "Where does the {n} live?",
            "Where can I find the {n}?",
            "In which part of the world does the {n} live?",
            "Where is the {n} found?",
            "Which continent is the {n} from?",
            "Where do you see the {n}?",
            "Home of the {n}?",
        ],
    ),
}

PORTRAIT = [
    "Tell me about the {n}.",
    "What do you know about the {n}?",
    "Tell me more about the {n}, please.",
    "Can you tell me about the {n}?",
    "Who is the {n}?",
    "Write a few sentences about the {n}.",
]

NAME_OF = [
    "Which butterfly is {latin}?",
    "What is the common name of {latin}?",
    "What is {latin}?",
    "What is {latin} called in English?",
]

# Later turns that leave the name or the attribute to be understood.
FOLLOW_UPS = {
    "latin": ["What is its Latin name?", "And its Latin name?", "What is it called in Latin?"],
    "family": ["Which family does it belong to?", "And its family?", "What is its family?"],
    "wingspan_mm": ["How big is it?", "And its wingspan?", "What is its wingspan?"],
    "colour": ["What does it look like?", "What colour is it?", "And its colour?"],
    "host_plant": ["What does its caterpillar eat?", "And its host plant?", "What do its caterpillars feed on?"],
    "region": ["Where does it live?", "Where can I find it?", "And where does it live?"],
}


def title(row) -> str:
    """The name as it stands after "the"; names that already end in "butterfly" are kept."""
    return row["name"]


def fill(form: str, row) -> str:
    return form.format(n=title(row), **row)


def portrait(row) -> str:
    return fill(
        "The {n} ({latin}) is a butterfly of the family {family}. It is {colour}. Its wingspan is about "
        "{wingspan_mm} mm. It lives in {region}, and its caterpillars feed on {host_plant}. 🦋",
        row,
    )


def _draw(rng, held_out, forms, kind):
    """A species and a phrasing whose combination is on the wanted side of the split."""
    while True:
        row, form = rng.choice(FACTS), rng.choice(forms)
        if is_held_out(f"{kind}/{row['name']}/{form}") == held_out:
            return row, form


def vary(rng, text: str) -> str:
    """The same question in the careless forms that people type."""
    draw = rng.random()
    if draw < 0.08:
        return text.lower()
    if draw < 0.14:
        return text.rstrip("?.")
    if draw < 0.17:
        return "Please tell me: " + text[0].lower() + text[1:]
    return text


def make(rng, held_out: bool) -> Example:
    draw = rng.random()
    if draw < 0.10:
        row, form = _draw(rng, held_out, PORTRAIT, "portrait")
        question = fill(form, row)
        return Example(
            "butterflies", [user(question), assistant(portrait(row))], judge="exact", tags=["portrait"]
        )
    if draw < 0.16:
        row, form = _draw(rng, held_out, NAME_OF, "name")
        reply = fill("{latin} is the {n}.", row)
        return Example(
            "butterflies", [user(fill(form, row)), assistant(reply)], judge="contains", value=row["name"], tags=["name"]
        )
    attribute = rng.choice(list(ATTRIBUTES))
    answer, forms = ATTRIBUTES[attribute]
    row, form = _draw(rng, held_out, forms, attribute)
    question = fill(form, row)
    messages = [user(question if held_out else vary(rng, question)), assistant(fill(answer, row))]
    tag = attribute
    if draw > 0.82:
        messages, attribute, row = _follow_up(rng, messages, row, attribute)
        tag = "follow-up"
    return Example("butterflies", messages, judge="contains", value=row[attribute], tags=[tag])


def _follow_up(rng, messages, row, attribute):
    """A second turn: another attribute of the same butterfly, or the same attribute of another one."""
    if rng.random() < 0.25:
        messages = [user(fill(rng.choice(PORTRAIT), row)), assistant(portrait(row))]
    elif rng.random() < 0.4:
        row = rng.choice(FACTS)
        form = rng.choice(["And the {n}?", "And what about the {n}?", "What about the {n}?"])
        return (
            messages + [user(fill(form, row)), assistant(fill(ATTRIBUTES[attribute][0], row))],
            attribute,
            row,
        )
    attribute = rng.choice([a for a in ATTRIBUTES if a != attribute])
    answer = fill(ATTRIBUTES[attribute][0], row)
    return messages + [user(rng.choice(FOLLOW_UPS[attribute])), assistant(answer)], attribute, row
