"""Riddles: what a made-up word asks for, only the examples tell (notebook 09).

"dax?" may ask for the colour, the shape, the size or the place of the one thing in a picture, in every riddle
for another. Without an example nobody can know which; the answers of examples tell. Two ways to spoil them:

    "wrong"      each example's answer is of the right kind, and not true: blue, where the thing is red
    "another"    each example's answer is true, and of another kind: large, where the colour is asked for
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from vlmcourse.world.scenes import COLOURS, PLACES, SHAPES, SIZES, Scenes

WORD = "dax?"
ASKED_FOR = dict(colour=COLOURS, shape=SHAPES, size=SIZES, place=PLACES)
SPOILED = ("right", "wrong", "another")


class Riddles(NamedTuple):
    """Riddles about scenes: in each some examples, and last the picture that is asked about."""

    pictures: Int[np.ndarray, "riddle image"]  # numbers of scenes
    answers: list[list[str]]  # one for each picture
    kinds: list[str]  # of ASKED_FOR, what the word means in each


def riddles(batch: Scenes, count: int, examples: int = 4, seed: int = 0, spoiled: str = "right") -> Riddles:
    """Draw riddles; the last answer of each is always right.

    Args:
        batch: scenes with one thing each.
        examples: how many come before the picture that is asked about.
        spoiled: what is done to the answers of examples, one of SPOILED. The pictures and the last answers
            are the same.

    Raises:
        ValueError: if a scene has several things, there are too few scenes, or ``spoiled`` is unknown.
    """
    if (batch.count != 1).any():
        raise ValueError("riddles are about scenes with one thing; sample them with objects=(1, 1)")
    if len(batch) <= examples:
        raise ValueError(f"{examples} examples and a question need {examples + 1} scenes, not {len(batch)}")
    if spoiled not in SPOILED:
        raise ValueError(f"spoiled is {spoiled!r}; choose one of {', '.join(SPOILED)}")
    chance = np.random.default_rng((seed, count))
    order = chance.random((count, len(batch))).argpartition(examples, axis=1)[:, : examples + 1]
    kinds = [list(ASKED_FOR)[kind] for kind in chance.integers(len(ASKED_FOR), size=count)]
    answers = []
    for row, kind in zip(order.tolist(), kinds, strict=True):
        *shown, asked = row
        said = [_spoil(batch, number, kind, spoiled, chance) for number in shown]
        answers.append([*said, _truth(batch, asked, kind)])
    return Riddles(order, answers, kinds)


def _truth(batch: Scenes, number: int, kind: str) -> str:
    return ASKED_FOR[kind][getattr(batch, kind)[number, 0]]


def _spoil(batch: Scenes, number: int, kind: str, spoiled: str, chance: np.random.Generator) -> str:
    """What an example says of a scene."""
    true = _truth(batch, number, kind)
    if spoiled == "wrong":
        return str(chance.choice([name for name in ASKED_FOR[kind] if name != true]))
    if spoiled == "another":
        other = str(chance.choice([name for name in ASKED_FOR if name != kind]))
        return _truth(batch, number, other)
    return true
