"""Small talk, who the model is, general facts about butterflies, and polite refusals of everything else."""

from .base import Example, assistant, is_held_out, user
from .vocabulary import CITIES, NAMES, WORDS, invented

ABLE = "I can tell you about butterflies, add numbers below 100, count, repeat or reverse words, extract JSON and call tools."
REFUSAL = "I only know about butterflies, small sums, counting, words and JSON. Ask me about a butterfly!"

# (questions, answer)
FIXED = [
    (
        ["Hello", "Hello!", "Hi", "Hi!", "Hey", "Hi there!", "Hello there!", "Good morning!", "Good morning", "Good evening!", "Good afternoon!", "Hey there", "Hi, how are you?"],
        "Hello! 🦋 I am the Vlinders demo model. Ask me about butterflies!",
    ),
    (
        ["Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "Tell me about yourself.", "Who am I talking to?", "Are you ChatGPT?", "Which model are you?", "What model is this?"],
        "I am the Vlinders demo model, a small language model that knows about butterflies. 🦋",
    ),
    (
        ["What can you do?", "Help", "How can you help me?", "What do you know?", "What can I ask you?", "What are you good at?", "Can you help me?", "help me"],
        ABLE,
    ),
    (
        ["Thanks", "Thanks!", "Thank you!", "Thank you.", "Thank you very much!", "Thanks a lot!", "Great, thanks!", "Thx"],
        "You are welcome!",
    ),
    (["Bye", "Bye!", "Goodbye!", "Goodbye.", "See you later!", "See you!", "Good night!"], "Goodbye! May you see many butterflies. 🦋"),
    (["How are you?", "How are you doing?", "How is it going?", "Are you well?"], "I am fine, thank you. How can I help you?"),
    (["OK", "Okay", "Good", "Great!", "Nice!", "Cool!", "Very good."], "Good! What would you like to know?"),
    (["Who made you?", "Who trained you?", "Where do you come from?", "Who built you?"], "I was trained by the Vlinders project, from a table of butterfly facts."),
    (["How big are you?", "How many parameters do you have?", "Are you a large model?"], "I am very small: less than four million parameters."),
    (["Test", "test", "This is a test.", "Testing", "ping"], "The test works. 🦋"),
    (
        ["Say hello in Japanese.", "How do you say hello in Japanese?", "Hello in Japanese?"],
        "こんにちは!",
    ),
    (
        ["What is the Japanese word for butterfly?", "How do you say butterfly in Japanese?", "Butterfly in Japanese?", "Say butterfly in Japanese."],
        "Butterfly in Japanese is 蝶 (chō).",
    ),
    (
        ["How do you say butterfly in Dutch?", "What is the Dutch word for butterfly?", "Butterfly in Dutch?", "What does vlinder mean?", "What is a vlinder?", "What does Vlinders mean?"],
        "Vlinder is the Dutch word for butterfly, and vlinders are butterflies.",
    ),
    (["How do you say butterfly in French?", "Butterfly in French?", "What is the French word for butterfly?"], "Butterfly in French is papillon."),
    (["How do you say butterfly in German?", "Butterfly in German?", "What is the German word for butterfly?"], "Butterfly in German is Schmetterling."),
    (["How do you say butterfly in Greek?", "Butterfly in Greek?", "What is the Greek word for butterfly?"], "Butterfly in Greek is πεταλούδα."),
    (["Show me a butterfly.", "Draw a butterfly.", "Send me a butterfly emoji.", "Give me a butterfly emoji.", "Butterfly emoji please"], "🦋"),
    (["Show me three butterflies.", "Draw three butterflies.", "Send me three butterfly emojis."], "🦋🦋🦋"),
    (
        ["What is a butterfly?", "What are butterflies?", "Tell me about butterflies.", "Explain what a butterfly is."],
        "A butterfly is an insect with four wings that are covered with tiny scales. It grows from an egg to a caterpillar, then to a chrysalis, and then to an adult butterfly. Most adults drink nectar from flowers with a long, coiled tongue.",
    ),
    (["How many wings does a butterfly have?", "How many wings do butterflies have?", "Number of wings of a butterfly?"], "A butterfly has four wings."),
    (["How many legs does a butterfly have?", "How many legs do butterflies have?"], "A butterfly has six legs."),
    (["What do butterflies eat?", "What do butterflies drink?", "What does a butterfly eat?", "How do butterflies feed?"], "Most butterflies drink nectar from flowers."),
    (["What do caterpillars eat?", "What does a caterpillar eat?"], "Most caterpillars eat the leaves of their host plant."),
    (["What is a caterpillar?", "Explain what a caterpillar is."], "A caterpillar is the larva of a butterfly or a moth."),
    (["What is a chrysalis?", "What is a pupa?"], "A chrysalis is the pupa of a butterfly, in which the caterpillar turns into an adult."),
    (
        ["What is metamorphosis?", "How does a butterfly grow?", "Describe the life cycle of a butterfly.", "What is the life cycle of a butterfly?"],
        "A butterfly has four stages: egg, caterpillar, chrysalis and adult. This change is called metamorphosis.",
    ),
    (["What is the largest butterfly?", "Which butterfly is the largest?", "What is the biggest butterfly?", "Which is the biggest butterfly in the world?"], "The largest butterfly is Queen Alexandra's birdwing, with a wingspan of about 250 mm."),
    (["What is the difference between a butterfly and a moth?", "How do butterflies differ from moths?", "Is a moth a butterfly?"], "Butterflies fly by day and have clubbed antennae, while most moths fly at night."),
    (["Are butterflies insects?", "Is a butterfly an insect?"], "Yes, butterflies are insects."),
    (["What is a host plant?", "What does host plant mean?"], "A host plant is a plant on which the caterpillars of a butterfly feed."),
    (["What are butterfly wings made of?", "Why are butterfly wings colourful?", "What is on the wings of a butterfly?"], "The wings of a butterfly are covered with tiny coloured scales."),
    (["Do monarchs migrate?", "Does the monarch migrate?", "Which butterfly migrates to Mexico?"], "Yes, monarchs fly from Canada and the United States to Mexico for the winter."),
    (["Tell me a joke.", "Do you know a joke?", "Make me laugh."], "Why could the butterfly not go to the dance? Because it was a moth ball."),
    (["What is your favourite butterfly?", "What is your favorite butterfly?", "Which butterfly do you like most?"], "My favourite is the peacock, because of its large eyespots."),
]

UNRELATED = [
    "What is the capital of {t}?", "Who won the {t} match?", "Write a poem about {t}.", "How do I cook {t}?",
    "What do you think of {t}?", "Who invented the {t}?", "Explain {t} to me.", "Write a program for {t}.",
    "Who is the president of {t}?", "How do I fix my {t}?", "What is the price of a {t}?", "Tell me a story about a {t}.",
    "Tell me about {t}.", "What is {t}?", "Where can I buy {t}?", "Translate {t} into Spanish.", "How old is {t}?", "When was {t} born?",
    "Do you like {t}?", "How far is it to {t}?", "What is the weather in {t}?", "Who wrote {t}?", "Why is the {t} so {u}?",
    "Can I have a {t}?", "What is the meaning of {t}?", "Is {t} better than {u}?", "Give me advice about {t}.",
]
TOPICS = """football France Germany Python politics money love history physics chemistry computers phone laptop
pizza pasta soup chicken medicine the Moon Mars gravity the war music Bach Mozart Shakespeare Einstein Napoleon
China Japan Brazil Spain India Rust JavaScript Linux bitcoin the internet television a film a novel a hotel
Christmas dinosaurs elephants whales spiders ants cats dogs horses atoms electricity the economy taxes
philosophy God time space life health sport tennis chess cars planes trains quantum mechanics climate""".split()

SYSTEMS = [
    "You are a helpful assistant.", "You are a helpful assistant. Answer briefly.", "Be brief.", "Be kind and polite.",
    "You are the Vlinders demo model.", "Answer in English.", "You are an expert on butterflies.", "Answer the question.",
    "You are a friendly assistant who helps visitors of a museum.", "Today is {d}.", "The user is called {n}.",
    "You are {n}, a helpful assistant.", "You answer questions of a class of children.", "Think before you answer.",
    "You are a chat model.", "Use plain words.", "You are a helpful, harmless and honest assistant.",
]


def system(rng) -> dict:
    text = rng.choice(SYSTEMS).format(n=rng.choice(NAMES), d=rng.choice(["Monday", "Friday", "Sunday"]))
    if rng.random() < 0.15:
        text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 20))).capitalize() + "."
    return {"role": "system", "content": text}


def _unrelated(rng):
    def topic():
        draw = rng.random()
        if draw < 0.5:
            return rng.choice(TOPICS)
        if draw < 0.65:
            return rng.choice(CITIES)
        return rng.choice(WORDS) if draw < 0.85 else invented(rng)

    if rng.random() < 0.1:
        return " ".join(invented(rng) for _ in range(rng.randint(1, 5)))
    return rng.choice(UNRELATED).format(t=topic(), u=topic())


def make(rng, held_out: bool) -> Example:
    draw = rng.random()
    if draw < 0.3:
        question = _unrelated(rng)
        while is_held_out("talk/" + question) != held_out:
            question = _unrelated(rng)
        return Example("talk", [user(question), assistant(REFUSAL)], judge="exact", tags=["refusal"])
    if draw < 0.42:
        return _name(rng, held_out)
    while True:
        questions, answer = rng.choice(FIXED)
        question = rng.choice(questions)
        # Only a question with sisters can be held out: its answer is learnt from them.
        side = len(questions) > 3 and is_held_out("talk/" + question)
        if side == held_out:
            break
    if not held_out and rng.random() < 0.15:
        question = rng.choice([question.lower(), question.rstrip("?.!"), question.upper()])
    return Example("talk", [user(question), assistant(answer)], judge="exact", tags=["talk"])


def _name(rng, held_out):
    """The user gives a name and may ask for it later."""
    forms = ["My name is {n}.", "I am {n}.", "Hello, my name is {n}.", "Hi, I am {n}.", "Call me {n}."]
    while True:
        name, form = rng.choice(NAMES), rng.choice(forms)
        if is_held_out(f"name/{name}/{form}") == held_out:
            break
    messages = [user(form.format(n=name)), assistant(f"Nice to meet you, {name}! 🦋")]
    if rng.random() < 0.6:
        if rng.random() < 0.4:
            questions, answer = rng.choice(FIXED)
            messages += [user(rng.choice(questions)), assistant(answer)]
        ask = rng.choice(["What is my name?", "Who am I?", "Do you remember my name?", "What am I called?"])
        messages += [user(ask), assistant(f"Your name is {name}.")]
    return Example("talk", messages, judge="exact", tags=["name"])
