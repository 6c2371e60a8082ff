"""Captions of scenes, true or spoiled on purpose (first used in notebook 04).

Three styles, and the whole grammar:

    short     "a COLOUR SHAPE" for one object, else "a COLOUR SHAPE RELATION a COLOUR SHAPE" (objects 0 and 1)
    full      "a SIZE COLOUR SHAPE at the PLACE" for every object, joined by commas and "and"
    shallow   one of four sentences that fit every picture

Short captions have a distribution that can be written down.  With objects=(1, 4) one object has probability 1/4.
Each COLOUR SHAPE is one of 25 equally likely seen shapes and colours (shapes 1/5, then colours 1/5), independent
of the other object; and, as long as no words are printed, the four RELATIONs are equally likely.
"""

import numpy as np

from vlmcourse.data import chance
from vlmcourse.data.scenes import COLOURS, PLACES, RELATIONS, SHAPES, SIZES, Scenes, check_shares, editable, relation

STYLES = ("short", "full", "shallow")
SHALLOW = ("a picture with some shapes", "a simple drawing", "some coloured things", "an image on a light background")


def captions(scenes: Scenes, style: str = "short", *, wrong: float = 0.0, swapped: float = 0.0,
             shallow: float = 0.0, seed: int = 0) -> list[str]:
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
    check_shares(wrong=wrong, swapped=swapped, shallow=shallow)
    draw = chance.uniform(chance.derive(scenes.key, "captions", seed), 12)
    colour = _recolour(scenes, style, draw[:, 0] < wrong, draw[:, 4:])
    texts = {"short": _short, "full": _full, "shallow": _nothing}[style](scenes, colour)
    ring = np.nonzero(draw[:, 1] < swapped)[0]
    for scene, text in zip(ring, [texts[other] for other in np.roll(ring, 1)], strict=True):
        texts[scene] = text
    for scene in np.nonzero(draw[:, 2] < (1.0 if style == "shallow" else shallow))[0]:
        texts[scene] = SHALLOW[int(draw[scene, 3] * len(SHALLOW))]
    return texts


def _short(scenes: Scenes, colour: np.ndarray) -> list[str]:
    things = [[f"a {c} {s}" for c in COLOURS] for s in SHAPES]
    columns = scenes.shape[:, 0], colour[:, 0], scenes.shape[:, 1], colour[:, 1], relation(scenes)
    return [things[s][c] if r < 0 else f"{things[s][c]} {RELATIONS[r]} {things[s2][c2]}"
            for s, c, s2, c2, r in zip(*(column.tolist() for column in columns), strict=True)]


def _full(scenes: Scenes, colour: np.ndarray) -> list[str]:
    columns = scenes.count, scenes.size, colour, scenes.shape, scenes.place
    texts = []
    for count, *objects in zip(*(column.tolist() for column in columns), strict=True):
        things = [f"a {SIZES[z]} {COLOURS[c]} {SHAPES[s]} at the {PLACES[p]}"
                  for z, c, s, p in list(zip(*objects, strict=True))[:count]]
        texts.append(" and ".join(filter(None, [", ".join(things[:-1]), things[-1]])))
    return texts


def _nothing(scenes: Scenes, colour: np.ndarray) -> list[str]:
    return [""] * len(scenes)


def _recolour(scenes: Scenes, style: str, wrong: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """A copy of the colours; in `wrong` scenes one object that the caption names has another colour of the split."""
    colour, rows = scenes.colour.copy(), np.nonzero(wrong)[0]
    named = np.minimum(scenes.count[rows], 2) if style == "short" else scenes.count[rows]
    thing = (draw[rows, 0] * named).astype(int)
    others = editable(scenes.split)[scenes.shape[rows, thing]]
    others[np.arange(len(rows)), colour[rows, thing]] = False
    colour[rows, thing] = np.where(others, draw[rows, 1:], -1).argmax(1)
    return colour
