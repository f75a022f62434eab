"""The tasks of the demo model: each module makes examples of one task.

A task module has `make(rng, held_out) -> Example`. An example whose key falls into the held-out share
(see `base.is_held_out`) is never made for training, and only such examples are made for evaluation.
"""

from . import arithmetic, butterflies, counting, records, talk, tools, words
from .base import Example, is_held_out

TASKS = {
    "butterflies": butterflies,
    "addition": arithmetic,
    "counting": counting,
    "words": words,
    "json": records,
    "tools": tools,
    "talk": talk,
}

__all__ = ["TASKS", "Example", "is_held_out"]
