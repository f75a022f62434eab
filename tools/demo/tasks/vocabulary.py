"""The words, names and places that the tasks draw from."""

import csv
from pathlib import Path

FACTS = list(csv.DictReader((Path(__file__).parent.parent / "facts.csv").open(encoding="utf-8")))

NAMES = """Ada Alice Amir Anna Ben Carla Clara Daan David Elena Emma Eva Felix Fleur Frank Grace Hana Hugo Ida Ines
Iris Jack James Jan John Julia Kim Lars Laura Lea Leo Lily Linda Lisa Lotte Lucas Luna Maria Mark Marta Mary Max Mia
Mila Nina Noah Nora Olga Omar Oscar Paul Peter Pia Robert Rosa Sam Sara Sofia Sophie Susan Tara Thomas Tim Tom Vera
Victor Willem Yara Yuki Zoe""".split()

CITIES = """Amsterdam|Antwerp|Athens|Bangkok|Barcelona|Beijing|Berlin|Boston|Brussels|Cairo|Chicago|Copenhagen|Delhi
|Delft|Dublin|Geneva|Ghent|Hamburg|Helsinki|Istanbul|Kyoto|Leiden|Lima|Lisbon|London|Madrid|Milan|Montreal|Moscow
|Mumbai|Munich|Nairobi|New York|Oslo|Paris|Porto|Prague|Rome|Rotterdam|San Francisco|Seoul|Singapore|Stockholm|Sydney
|Tokyo|Toronto|Utrecht|Venice|Vienna|Warsaw|Zurich""".replace("\n", "").split("|")

JOBS = """baker|carpenter|cook|dentist|doctor|driver|engineer|farmer|gardener|lawyer|nurse|painter|pilot|plumber
|sailor|singer|student|teacher|waiter|writer""".replace("\n", "").split("|")

WORDS = """apple arm autumn bag ball banana beach bear bed bee bell bird black blue boat book bottle box bread bridge
brown bus cake candle car cat chair cheese cherry child circle clock cloud coat coffee cold corn cow cup dance dark day
desk dog door dream drum duck ear earth egg eye farm feather field fire fish flag flower fog forest fork fox frog fruit
game garden glass gold goose grape grass green hand happy hat heart hill honey horse house ice island jar juice jump
key king kitchen kite lake lamp leaf lemon light lion lock map market milk mirror moon morning mountain mouse music
nest night nose ocean onion orange paper park peach pear pen piano pig pink plate pond purple queen rabbit rain red
ring river road rock roof rose salt sand school sea seed sheep ship shoe silver sky sleep snow soap spoon spring star
stone storm street sugar summer sun swan table tea tiger train tree truck tulip turtle umbrella valley violin water
wheel white wind window winter wolf wood yellow zebra""".split()

ITEMS = """apples bananas books bottles candles chairs cups eggs flowers forks hats lamps lemons oranges pears pens
plates roses shoes spoons tulips""".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

SKIES = "sunny cloudy rainy windy foggy snowy clear stormy".split()


def invented(rng, low=1, high=3) -> str:
    """A word that is in no list, so that copying is learnt and not the lists."""
    onset = "b c d f g h k l m n p r s t v w z br st tr gr sh ch".split()
    return "".join(rng.choice(onset) + rng.choice("aeiou") for _ in range(rng.randint(low, high))) + rng.choice(
        ["", "n", "r", "l", "s", "t"]
    )
