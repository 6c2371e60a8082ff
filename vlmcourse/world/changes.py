"""Pairs of pictures of which one thing changed (notebook 16).

    pairs = changes.sample_changes("train", 1000)
    pairs.pictures()                      # uint8 (pair, 2, 64, 64, 3)
    pairs.sentences()                     # answers to WHAT_CHANGED: "The red circle is now blue."
    pairs.swapped()                       # the later picture first: "The blue circle is now red."
    changes.ask_which(pairs)              # "In the second picture, what colour is the circle?"

One thing becomes another colour, shape or size, moves to another place, vanishes or appears; every pair is as
likely as the same pair the other way round.  The truth is read from the two pictures' things alone, see
what_changed, and read_change reads a sentence back.

Source: telling the difference of two similar pictures, Jhamtani and Berg-Kirkpatrick 2018 (Spot-the-Diff),
    arXiv:1808.10584; in a rendered world Park et al. 2019 (CLEVR-Change), arXiv:1901.02527.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vlmcourse.world import chance, scenes
from vlmcourse.world.arranging import arrange
from vlmcourse.world.questions import Dice
from vlmcourse.world.render import render
from vlmcourse.world.scenes import COLOURS, MOST, PLACES, SHAPES, SIZES, Scenes, editable
from vlmcourse.world.truth import (
    ATTRIBUTES,
    Attribute,
    Count,
    Existence,
    Template,
    Thing,
    Who,
    list_things,
    pose,
)
from vlmcourse.world.twins import World

WHAT_CHANGED = "What changed?"
ORDINALS = ("first", "second")
CHANGES = ("colour", "shape", "size", "position", "vanished", "appeared")
_AGAIN = 1_000_003  # to the seed of a picture that replaces one in which nothing can change as wanted
DRAWS, MOST_TRIED = 192, 24  # numbers put by for one pair; edits of one thing that are tried

_COLOUR, _SHAPE, _SIZE, _PLACE = map("|".join, (COLOURS, SHAPES, SIZES, PLACES))
_SENTENCE = re.compile(
    rf"(?:the|a) ({_COLOUR}) ({_SHAPE}) "
    rf"(?:is now (?:(?:a )?(?P<shape>{_SHAPE})|(?P<colour>{_COLOUR})|(?P<size>{_SIZE}))"
    rf"|moved to the (?P<position>{_PLACE})|(?P<vanished>vanished)|(?P<appeared>appeared))\.?"
)


class Change(NamedTuple):
    """What became of one thing: its look in the first picture that shows it, and what is new.

    kind: one of CHANGES. new: its new colour, shape, size or position, as a word; "" where it came or went.
    """

    who: Who
    kind: str
    new: str = ""

    def sentence(self) -> str:
        """The change as an answer to WHAT_CHANGED."""
        if self.kind == "appeared":
            return f"A {self.who} appeared."
        link = {"shape": "is now a ", "position": "moved to the ", "vanished": "vanished"}
        return f"The {self.who} {link.get(self.kind, 'is now ')}{self.new}."


def read_change(text: str) -> Change | None:
    """What a sentence says has changed; None for any other text. Capitals and spaces do not matter."""
    match = _SENTENCE.fullmatch(" ".join(text.lower().split()))
    if match is None:
        return None
    who = Who(SHAPES.index(match[2]), COLOURS.index(match[1]))
    kind, new = next((name, word) for name, word in match.groupdict().items() if word)
    return Change(who, kind, "" if kind in ("vanished", "appeared") else new)


def what_changed(before: Sequence[Thing], after: Sequence[Thing]) -> Change | None:
    """The one change between two pictures' things.

    None if nothing changed, more than one thing or property did, or the change has no clear name: the thing's
    look is not unique in its picture, or it moved into no other place of PLACES.
    """
    gone = [thing for thing in before if thing not in after]
    come = [thing for thing in after if thing not in before]
    if len(gone) > 1 or len(come) > 1 or not gone + come:
        return None
    old, new = (gone or come)[0], (come or gone)[0]
    who = Who(old.shape, old.colour)
    if (
        who.only(before if gone else after) is None
        or Who(new.shape, new.colour).only(after if come else before) is None
    ):
        return None
    if not (gone and come):
        return Change(who, "vanished" if gone else "appeared")
    fields = ["colour", "shape", "size"]
    kinds = [name for name in fields if getattr(old, name) != getattr(new, name)]
    kinds += ["position"] * (old[3:] != new[3:])
    if len(kinds) > 1:
        return None
    words = [None if (at := getattr(t, kinds[0])) is None else ATTRIBUTES[kinds[0]][at] for t in (old, new)]
    return None if None in words or words[0] == words[1] else Change(who, kinds[0], words[1])


@dataclass(frozen=True)
class Changes:
    """A batch of pairs; `pairs[3]` and `pairs[10:20]` are Changes again."""

    before: Scenes  # the first pictures
    after: Scenes  # the second ones

    def __len__(self) -> int:
        return len(self.before)

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray) -> "Changes":
        return Changes(self.before[which], self.after[which])

    def __repr__(self) -> str:
        return f"Changes({len(self)} pairs of {self.before.split})"

    def things(self, pair: int) -> tuple[list[Thing], list[Thing]]:
        """The objects of both pictures of one pair."""
        return list_things(self.before, pair), list_things(self.after, pair)

    def truths(self) -> list[Change]:
        """What changed in each pair."""
        return [what_changed(*self.things(pair)) for pair in range(len(self))]

    def sentences(self) -> list[str]:
        """The right answers to WHAT_CHANGED."""
        return [change.sentence() for change in self.truths()]

    def pictures(self) -> UInt8[np.ndarray, "pair 2 64 64 3"]:
        """Both pictures, RGB."""
        return np.stack([render(self.before), render(self.after)], axis=1)

    def swapped(self) -> "Changes":
        """The same pairs with their pictures exchanged."""
        return Changes(self.after, self.before)


def sample_changes(
    split: str = "train",
    count: int = 1,
    start: int = 0,
    *,
    seed: int = 0,
    objects: tuple[int, int] = (1, 3),
    kind: str | None = None,
) -> Changes:
    """Pairs number start, start+1, ... of a split; pair i does not depend on how many are asked for.

    Args:
        split, count, start, seed: see scenes.sample; both pictures keep the rules of the split.
        objects: fewest and most in the picture that is changed; the other may have one less or more.
        kind: one of CHANGES, or None for any, each equally likely.

    Raises:
        ValueError: if the kind is unknown, or as scenes.sample.
    """
    if kind is not None and kind not in CHANGES:
        raise ValueError(f"unknown change {kind!r}; choose one of {', '.join(CHANGES)}")
    if max(objects) == MOST:
        raise ValueError(
            f"one thing may appear, so there can be 1 to {MOST - 1} before; got objects={objects}"
        )
    base, pairs = _pictures(split, count, start, seed, objects), []
    for number in range(count):
        like, attempt = base[number], 0
        while not (pair := _pair(like, kind)):  # a small thing at the edge, say, that is to grow
            attempt += 1
            like = _pictures(split, 1, start + number, seed + _AGAIN * attempt, objects)
        pairs.append(pair)
    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    return Changes(arrange(base, before), arrange(base, after))


def _pictures(split: str, count: int, start: int, seed: int, objects: tuple[int, int]) -> Scenes:
    base = scenes.sample(split, count, start, seed=seed, objects=objects)
    return scenes.distinct_looks(replace(base, key=chance.derive(base.key, "changes")))


def ask_which(pairs: Changes, seed: int = 0, kind: str | None = None) -> list[list[tuple[str, str]] | None]:
    """For each pair one question, about the first picture and about the second, with two different answers.

    Args:
        seed: another seed asks something else.
        kind: "colour", "shape", "size", "position", "existence" or "count"; None for any.

    Returns:
        of each pair [(question, answer), (question, answer)]; None where the pair allows no such question.
    """
    draws, asked = chance.uniform(chance.derive(pairs.before.key, "which", seed, kind or "any"), DRAWS), []
    for pair, draw in enumerate(draws):
        before, after = pairs.things(pair)
        dice, found = Dice(draw), None
        for template in dice.order(list(_templates(before, after))):
            answers = [pose("which", template, things) for things in (before, after)]
            fits = kind in (None, getattr(template, "name", type(template).__name__.lower()))
            if fits and all(answers) and answers[0].answer != answers[1].answer:
                found = [(in_picture(a.text, n), a.answer) for n, a in enumerate(answers)]
                break
        asked.append(found)
    return asked


def in_picture(question: str, picture: int) -> str:
    """A question about one of several pictures: "In the second picture, what colour is the circle?"."""
    return f"In the {ORDINALS[picture]} picture, {question[0].lower()}{question[1:]}"


def _templates(before: Sequence[Thing], after: Sequence[Thing]) -> Iterator[Template]:
    """What can be asked of things that differ, and may then have two answers."""
    differing = [thing for thing in {*before} ^ {*after}]
    for thing in sorted(differing):
        for name in ("colour", "shape", "size", "position"):
            yield from (Attribute(who, name) for who in _names(thing, without=name))
        yield Existence(Who(thing.shape, thing.colour))
        yield Count(Who())
        yield Count(Who(colour=thing.colour))


def _names(thing: Thing, without: str) -> list[Who]:
    """Descriptions of a thing that do not give the answer away."""
    shape, colour = Who(shape=thing.shape), Who(colour=thing.colour)
    both = Who(thing.shape, thing.colour)
    return dict(colour=[shape], shape=[colour]).get(without, [shape, colour, both])


def _pair(scene: Scenes, kind: str | None) -> tuple[list[Thing], list[Thing]] | None:
    """Things before and after one change that has a clear name, of the kind or any; None if there is none."""
    world = World(scene.split, bool(scene.word[0] >= 0), editable(scene.split))
    things, dice = list_things(scene, 0), Dice(chance.uniform(chance.derive(scene.key, "edits"), DRAWS)[0])
    for wanted in [kind] if kind else dice.order(CHANGES):
        flipped = wanted == "vanished" or (wanted != "appeared" and dice.pick((False, True)))
        for other in _edits(things, world, dice, wanted):
            pair = (other, things) if flipped else (things, other)
            change = what_changed(*pair)
            if change and change.kind == wanted:
                return pair
    return None


def _edits(things: list[Thing], world: World, dice: Dice, wanted: str) -> Iterator[list[Thing]]:
    """Edited lists of things, beginning anywhere among the possible ones."""
    if wanted in ("vanished", "appeared"):
        looks = [
            Thing(int(s), int(c), dice.pick(range(len(SIZES))), 0, 0) for s, c in np.argwhere(world.allowed)
        ]
        for new in dice.order(looks):
            yield from ([*things, placed] for placed in _some(world.moved(new, things), dice, most=1))
        return
    ways = dict(colour=world.repainted, shape=world.repainted, size=world.resized, position=world.moved)
    for number in dice.order(range(len(things))):
        others = things[:number] + things[number + 1 :]
        for new in _some(ways[wanted](things[number], others), dice):
            yield [*things[:number], new, *things[number + 1 :]]


def _some(options: list[Thing], dice: Dice, most: int = MOST_TRIED) -> list[Thing]:
    """Some of the options, from one drawn by chance on."""
    if not options:
        return []
    first = dice.pick(range(len(options)))
    stride = max(1, len(options) // most)
    return [options[(first + stride * number) % len(options)] for number in range(min(most, len(options)))]
