"""Captions of scenes, true or spoiled on purpose (first used in notebook 04).

Three styles, and the whole grammar:

    short     "a COLOUR SHAPE" for one object, else "a COLOUR SHAPE RELATION a COLOUR SHAPE" (objects 0 and 1)
    full      "a SIZE COLOUR SHAPE at the PLACE" for every object, joined by commas and "and"
    shallow   one of four sentences that fit every picture

Short captions have a distribution that can be written down.  With objects=(1, 4) one object has probability
1/4. Each COLOUR SHAPE is one of 25 equally likely seen shapes and colours (shapes 1/5, then colours 1/5),
independent of the other object; and, as long as no words are printed, the four RELATIONs are equally likely.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from vlmcourse.world import chance
from vlmcourse.world.scenes import COLOURS, PLACES, RELATIONS, SHAPES, SIZES, Scenes, editable, relation

STYLES = ("short", "full", "shallow")
SHALLOW = (
    "a picture with some shapes",
    "a simple drawing",
    "some coloured things",
    "an image on a light background",
)


def captions(
    scenes: Scenes,
    style: str = "short",
    *,
    wrong: float = 0.0,
    swapped: float = 0.0,
    shallow: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """One caption per scene.

    Args:
        style: "short", "full" or "shallow".
        wrong: share of captions in which one object gets a colour it does not have.
        swapped: share of captions that belong to another picture of this batch (they trade places in a ring).
        shallow: share of captions that say nothing; it comes last, so it holds whatever the others do.
        seed: chooses which captions are spoiled and how.

    Raises:
        ValueError: if the style is unknown or a share is outside [0, 1].
    """
    if style not in STYLES:
        raise ValueError(f"unknown caption style {style!r}; choose one of {', '.join(STYLES)}")
    chance.check_shares(wrong=wrong, swapped=swapped, shallow=shallow)
    draw = chance.uniform(chance.derive(scenes.key, "captions", seed), 12)
    colour = _recolour(scenes, style, draw[:, 0] < wrong, draw[:, 4:])
    texts = _short(scenes, colour) if style == "short" else _full(scenes, colour)
    ring = np.nonzero(draw[:, 1] < swapped)[0]
    for scene, text in zip(ring, [texts[other] for other in np.roll(ring, 1)], strict=True):
        texts[scene] = text
    for scene in np.nonzero(draw[:, 2] < (1.0 if style == "shallow" else shallow))[0]:
        texts[scene] = SHALLOW[int(draw[scene, 3] * len(SHALLOW))]
    return texts


def surprise(texts: Sequence[str], objects: tuple[int, int] = (1, 4)) -> np.ndarray:
    """How surprising each text is as a short caption: -log p(text) in nats, float64 (text,).

    Exact for scenes of any split but "novel", sampled with these `objects` and no knob turned.  A text that
    the grammar cannot produce has probability 0, so its surprise is infinite.
    """
    known = _probabilities(objects)
    return np.array([-math.log(p) if (p := known.get(text, 0.0)) else math.inf for text in texts])


def entropy(objects: tuple[int, int] = (1, 4)) -> float:
    """Mean surprise of short captions, in nats per caption: no language model can have a lower loss."""
    return math.fsum(-p * math.log(p) for p in _probabilities(objects).values() if p)


def _probabilities(objects: tuple[int, int]) -> dict[str, float]:
    """Of every short caption, all counts of objects being equally likely."""
    things = [f"a {COLOURS[colour]} {SHAPES[shape]}" for shape, colour in np.argwhere(editable("train"))]
    alone = (objects[0] == 1) / (objects[1] - objects[0] + 1)
    pair = (1 - alone) / (len(things) ** 2 * len(RELATIONS))
    known = dict.fromkeys(things, alone / len(things))
    return known | {" ".join(words): pair for words in itertools.product(things, RELATIONS, things)}


def exchange_words(texts: list[str]) -> list[str]:
    """Short captions of two objects with their things exchanged: the same words, another picture.

    "a red circle left of a blue square" becomes "a blue square left of a red circle".

    Raises:
        ValueError: if a text is not "THING RELATION THING".
    """
    exchanged = []
    for text in texts:
        relation = next((f" {name} " for name in RELATIONS if f" {name} " in text), None)
        if relation is None:
            raise ValueError(f"{text!r} names no two things with one of the relations {', '.join(RELATIONS)}")
        first, second = text.split(relation)
        exchanged.append(second + relation + first)
    return exchanged


def _short(scenes: Scenes, colour: np.ndarray) -> list[str]:
    columns = np.stack([scenes.shape[:, 0], colour[:, 0], scenes.shape[:, 1], colour[:, 1], relation(scenes)])
    texts = []
    for shape, tone, other_shape, other_tone, direction in columns.T.tolist():
        text = f"a {COLOURS[tone]} {SHAPES[shape]}"
        if direction >= 0:
            text += f" {RELATIONS[direction]} a {COLOURS[other_tone]} {SHAPES[other_shape]}"
        texts.append(text)
    return texts


def _full(scenes: Scenes, colour: np.ndarray) -> list[str]:
    objects = np.stack([scenes.size, colour, scenes.shape, scenes.place], axis=-1).tolist()
    texts = []
    for count, several in zip(scenes.count.tolist(), objects, strict=True):
        things = [
            f"a {SIZES[size]} {COLOURS[tone]} {SHAPES[shape]} at the {PLACES[place]}"
            for size, tone, shape, place in several[:count]
        ]
        texts.append(" and ".join(filter(None, [", ".join(things[:-1]), things[-1]])))
    return texts


def _recolour(scenes: Scenes, style: str, wrong: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """A copy of the colours; in `wrong` scenes one object that the caption names has another."""
    colour, rows = scenes.colour.copy(), np.nonzero(wrong)[0]
    named = np.minimum(scenes.count[rows], 2) if style == "short" else scenes.count[rows]
    thing = (draw[rows, 0] * named).astype(int)
    others = editable(scenes.split)[scenes.shape[rows, thing]]
    others[np.arange(len(rows)), colour[rows, thing]] = False
    colour[rows, thing] = np.where(others, draw[rows, 1:], -1).argmax(1)
    return colour
