"""Is a caption about its picture?  What it states, word for word, against the truth of the scene (notebook 07).

stated        a caption -> the things it names, with what it says of each
true_share    of all that captions state about their scenes, the share that is true
"""

import itertools
import re
from collections.abc import Sequence

import numpy as np

from vlmcourse.world.scenes import COLOURS, PLACES, SHAPES, SIZES, Scenes

KINDS = ("size", "colour", "shape", "place")
NAMES = (SIZES, COLOURS, SHAPES, PLACES)
THING = re.compile("(?:({}) )?({}) ({})(?: at the ({}))?".format(*("|".join(names) for names in NAMES)))
NOTHING = -1
Thing = tuple[int, int, int, int]


def stated(text: str) -> list[Thing]:
    """Size, colour, shape and place of every thing that a caption names, as indices; -1 where it does not say."""
    return [tuple(names.index(word) if word else NOTHING for names, word in zip(NAMES, words, strict=True))
            for words in THING.findall(text)]  # fmt: skip


def true_share(texts: Sequence[str], batch: Scenes) -> float:
    """Share of true statements, over all captions together.

    A statement is one attribute of one thing, such as "red". Things are matched with the scene's objects, one
    to one, so that most statements are true; those about a thing that finds no object are false. Silence
    costs nothing.

    Raises:
        ValueError: if there is not one caption per scene, or no caption states anything.
    """
    if len(texts) != len(batch):
        raise ValueError(f"{len(texts)} captions for {len(batch)} scenes; give one for each")
    right = total = 0
    columns = np.stack([getattr(batch, kind) for kind in KINDS], axis=-1)
    for text, objects, count in zip(texts, columns, batch.count, strict=True):
        things = np.array(stated(text)).reshape(-1, 1, len(KINDS))
        total += int((things != NOTHING).sum())
        right += _best(((things == objects[:count]) & (things != NOTHING)).sum(-1))
    if not total:
        raise ValueError(
            "no caption states a colour and a shape; were they written by an untrained language model?"
        )
    return right / total


def _best(agreements: np.ndarray) -> int:
    """Of all one-to-one pairs of rows (things) and columns (objects), the largest sum."""
    table = agreements if len(agreements) <= agreements.shape[1] else agreements.T
    rows = range(len(table))
    return max(
        int(table[rows, columns].sum())
        for columns in itertools.permutations(range(table.shape[1]), len(table))
    )
