"""Is a caption about its picture? What it states, word for word, against the scene's truth (notebook 07)."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from vlmcourse.world.grammar import Mention, stated
from vlmcourse.world.scenes import Scenes


def true_share(texts: Sequence[str], batch: Scenes) -> float:
    """Share of true statements, over all captions together; the rest is hallucination.

    A statement is one attribute of one thing, such as "red". Things are matched with the scene's objects, one
    to one, so that most statements are true; those about a thing that finds no object are false. Silence
    costs nothing.

    Raises:
        ValueError: if there is not one caption per scene, or no caption states anything.
    """
    if len(texts) != len(batch):
        raise ValueError(f"{len(texts)} captions for {len(batch)} scenes; give one for each")
    right = total = 0
    attributes = np.stack([getattr(batch, name) for name in Mention._fields], axis=-1)
    for text, objects, count in zip(texts, attributes, batch.count, strict=True):
        mentions = np.array(stated(text)).reshape(-1, 1, len(Mention._fields))
        says = mentions != -1
        total += int(says.sum())
        agree = (mentions == objects[:count]) & says  # (mention, object, attribute)
        right += _best_matching(agree.sum(-1))
    if not total:
        raise ValueError(
            "no caption states a colour and a shape; were they written by an untrained language model?"
        )
    return right / total


def true_and_complete(texts: Sequence[str], batch: Scenes) -> Bool[np.ndarray, "scene"]:
    """Which captions name every object once, and say nothing wrong."""
    return np.array(
        [
            len(stated(text)) == things and true_share([text], batch[n : n + 1]) == 1
            for n, (text, things) in enumerate(zip(texts, batch.count.tolist(), strict=True))
        ],
        dtype=bool,
    )


def _best_matching(agreements: np.ndarray) -> int:
    """Of all one-to-one pairs of rows (mentions) and columns (objects), the largest sum."""
    table = agreements if len(agreements) <= agreements.shape[1] else agreements.T
    rows = range(len(table))
    return max(
        int(table[rows, columns].sum())
        for columns in itertools.permutations(range(table.shape[1]), len(table))
    )
