"""Is a caption about its picture? What it states, word for word, against the scene's truth (notebook 07)."""

import itertools
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from vlmcourse.world.grammar import Mention, stated, true_answer, understand
from vlmcourse.world.instructions import quarter
from vlmcourse.world.scenes import COLOURS, PLACES, RELATIONS, SHAPES, SIZES, Scenes
from vlmcourse.world.truth import Thing


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


_KINDS = {"where is": PLACES, "what colour is": COLOURS, "what shape is": SHAPES, "what size is": SIZES}
_COUNTED = re.compile(r"there (?:is|are) (no|\d+|one|two|three|four) (.+)")
_NUMBERS = {"no": "0", "one": "1", "two": "2", "three": "3", "four": "4"}
_PAIR = re.compile(rf"a (.+) ({'|'.join(RELATIONS)}) a (.+)")
_NAMED = re.compile(rf"(?:there is )?a (.+?)(?: at the ({'|'.join(PLACES)}))?")
_LOOK = re.compile(r"(the .+?) is( not)? (?:at the |an? )?(.+)")


def true_statement(statement: str, things: Sequence[Thing]) -> bool:
    """Whether a single statement, as data.grounding.statements gives it, is true of these things.

    It is put as a question of the course, so boxes have no part in it. "the circle is red" is not true where
    there are two circles; what is no statement about scenes is not true.
    """
    words = re.sub("^(yes|no), ", "", statement)
    if match := _COUNTED.fullmatch(words):
        number = _NUMBERS.get(match[1], match[1])
        return true_answer(f"how many {match[2]} are there", things) == number
    if match := _PAIR.fullmatch(words):
        asked = understand(f"is the {match[1]} {match[2]} the {match[3]}")
        pairs = itertools.permutations(things, 2) if asked else []
        fit = [pair for pair in pairs if asked.who.among(pair[:1]) and asked.other.among(pair[1:])]
        return any(asked.holds(*pair) for pair in fit)
    if match := _NAMED.fullmatch(words):
        asked = understand(f"is there a {match[1]}")
        fit = asked.who.among(things) if asked else []
        return any(match[2] in (None, quarter(thing)) for thing in fit)
    match = _LOOK.fullmatch(words)
    return bool(match) and _true_look(*match.groups(), things)


def _true_look(who: str, denies: str | None, what: str, things: Sequence[Thing]) -> bool:
    """ "the star", " not", "red"."""
    for question, answers in _KINDS.items():
        if what in answers:
            said = true_answer(f"{question} {who}", things)
            return bool(said) and (said == what) != bool(denies)
    return true_answer(f"is {who} {what}", things) == ("no" if denies else "yes")
