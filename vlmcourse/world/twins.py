"""Counterfactual twins: the smallest change of a picture that changes the answer (first used in notebook 01).

A model that only knows what is usually answered gets one of two twins wrong; it has to look.
Edits are tried from small to large: look of one object; its size; its place; one object more or less; several
of these at one object; and only then two or more objects ("Is there a star?" where there are two).  An edited
scene
keeps its split: objects stand on pixels of that split, and novel combinations appear in the novel split only.

Two quick ways need no question: `repaint` gives one object of every scene another shape or colour, and
`exchange` lets two objects trade their looks, so that the same words describe another picture.

Source: balanced pairs of pictures, Goyal et al. 2017 (VQA v2), arXiv:1612.00837, section 3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from operator import ne
from typing import NamedTuple

import numpy as np

from vlmcourse.world import chance
from vlmcourse.world.scenes import (
    COLOURS,
    MOST,
    RADII,
    SHAPES,
    SIZES,
    SPLITS,
    Scenes,
    apart,
    editable,
    ranges,
)
from vlmcourse.world.truth import Question, Thing, check_pairs, list_things, pose

Things = list[Thing]


def twins(scenes: Scenes, questions: Sequence[Question], seed: int = 0) -> tuple[Scenes, list[Question]]:
    """For question i about scene i: a scene with as few objects changed as can be, and the question's new answer.

    Args:
        scenes, questions: as given and returned by `ask`, without None.
        seed: chooses among the smallest edits.

    Raises:
        ValueError: if there is not exactly one question per scene, or no edit changes an answer.
    """
    check_pairs(scenes, questions)
    keys = chance.derive(scenes.key, "twins", seed)
    pairs = [
        _twin(scenes, scene, question, keys[scene : scene + 1]) for scene, question in enumerate(questions)
    ]
    return _rebuild(scenes, [things for things, _ in pairs]), [question for _, question in pairs]


def repaint(scenes: Scenes, what: str = "shape", seed: int = 0) -> Scenes:
    """Each scene again, with another shape (or colour) at one of its objects and nothing else changed.

    Args:
        what: "shape" or "colour". The new look is one that the scene's split may show.
        seed: chooses the object and its new look.

    Raises:
        ValueError: for another attribute.
    """
    if what not in ("shape", "colour"):
        raise ValueError(f"an object can be repainted in another shape or colour, not in another {what!r}")
    draw = chance.uniform(chance.derive(scenes.key, "repaint", seed), 1 + max(len(SHAPES), len(COLOURS)))
    row, thing = np.arange(len(scenes)), (draw[:, 0] * scenes.count).astype(int)
    shape, colour, allowed = scenes.shape[row, thing], scenes.colour[row, thing], editable(scenes.split)
    now, options = (shape, allowed[:, colour].T) if what == "shape" else (colour, allowed[shape])
    options = options.copy()
    options[row, now] = False
    column = getattr(scenes, what).copy()
    column[row, thing] = np.where(options, draw[:, 1 : 1 + options.shape[1]], -1).argmax(1)
    return replace(scenes, **{what: column})


def exchange(scenes: Scenes) -> Scenes:
    """Each scene of two objects again, with shape and colour of the two exchanged; places and sizes stay.

    The short caption of the new scene is captions.exchange of the old one.

    Raises:
        ValueError: if a scene does not hold exactly two objects.
    """
    if not (scenes.count == 2).all():
        raise ValueError(
            "looks can be exchanged in scenes of exactly two objects; sample with objects=(2, 2)"
        )
    traded = [1, 0, *range(2, scenes.shape.shape[1])]
    return replace(scenes, shape=scenes.shape[:, traded], colour=scenes.colour[:, traded])


def _twin(scenes: Scenes, scene: int, question: Question, key: np.ndarray) -> tuple[Things, Question]:
    world = World(scenes.split, bool(scenes.word[scene] >= 0), editable(scenes.split))
    for candidates in _edits(list_things(scenes, scene), world):
        for n in chance.uniform(key, len(candidates))[0].argsort():
            answer = pose(question.kind, question.asked, candidates[n])
            if answer and answer.answer != question.answer:
                return candidates[n], answer
    raise ValueError(f"no edit of scene {scene} changes the answer to {question.text!r}")


class World(NamedTuple):
    """What may be in a scene of this split."""

    split: str
    words: bool
    allowed: np.ndarray  # bool (shape, colour)

    def repainted(self, thing: Thing) -> Things:
        """The thing in another colour or another shape."""
        colours = [thing._replace(colour=c) for c in range(len(COLOURS)) if c != thing.colour]
        shapes = [thing._replace(shape=s) for s in range(len(SHAPES)) if s != thing.shape]
        return [new for new in colours + shapes if self.allowed[new[:2]]]

    def resized(self, thing: Thing, others: Things) -> Things:
        """The thing in the other sizes for which there is room."""
        sizes = [thing._replace(size=z) for z in range(len(SIZES)) if z != thing.size]
        return [new for new in sizes if (new.x, new.y) in self.room(new.radius, others)]

    def moved(self, thing: Thing, others: Things) -> Things:
        """The thing wherever there is room for it."""
        return [thing._replace(x=x, y=y) for x, y in self.room(thing.radius, others)]

    def room(self, radius: int, others: Things) -> list[tuple[int, int]]:
        """All centres (x, y) of this split where an object of this radius may stand."""
        left, columns, top, rows = ranges(radius, self.words)
        x, y = (a.ravel() for a in np.meshgrid(left + np.arange(columns), top + np.arange(rows)))
        free = (x + y) % 3 == SPLITS[self.split]
        for other in others:
            free &= apart(x, y, radius, other.x, other.y, other.radius)
        return list(zip(x[free].tolist(), y[free].tolist(), strict=True))


def _edits(things: Things, world: World) -> Iterator[list[Things]]:
    """Edited scenes, in groups from small edits to large."""
    each = [(thing, things[:n], things[n + 1 :]) for n, thing in enumerate(things)]
    yield [[*before, new, *after] for thing, before, after in each for new in world.repainted(thing)]
    yield [
        [*before, new, *after]
        for thing, before, after in each
        for new in world.resized(thing, before + after)
    ]
    yield [
        [*before, new, *after] for thing, before, after in each for new in world.moved(thing, before + after)
    ]
    fewer = [before + after for _, before, after in each if before or after]
    looks, room = (
        np.argwhere(world.allowed).tolist(),
        world.room(RADII[0], things) if len(things) < MOST else [],
    )
    yield fewer + [
        [*things, Thing(*look, 0, *room[7 * n % len(room)])] for n, look in enumerate(looks) if room
    ]
    yield [
        [*before, new, *after]
        for thing, before, after in each
        for once in world.repainted(thing)
        for new in world.repainted(once)
    ]
    yield [*_elsewhere(things, world)]
    yield [_trade_looks(things, *pair) for pair in combinations(range(len(things)), 2)]
    yield [edited for thing in things for edited in _elsewhere([t for t in things if t != thing], world)]
    for several in range(2, len(things) + 1):
        options = [[thing, *world.repainted(thing)] for thing in things]
        yield [list(new) for new in product(*options) if sum(map(ne, new, things)) == several]


def _elsewhere(things: Things, world: World) -> Iterator[Things]:
    """One object of any size, where there is room for it."""
    for n, size in product(range(len(things)), range(len(SIZES))):
        before, after = things[:n], things[n + 1 :]
        yield from (
            [*before, new, *after] for new in world.moved(things[n]._replace(size=size), before + after)
        )


def _trade_looks(things: Things, a: int, b: int) -> Things:
    """Things a and b stay in place and size, and exchange shape and colour."""
    traded = list(things)
    traded[a] = Thing(*things[b][:2], *things[a][2:])
    traded[b] = Thing(*things[a][:2], *things[b][2:])
    return traded


def _rebuild(scenes: Scenes, batch: list[Things]) -> Scenes:
    """The scenes with other things in them; light, printed word and chance stay."""
    table = np.full((len(batch), MOST, len(Thing._fields)), -1)
    for row, things in zip(table, batch, strict=True):
        row[: len(things)] = things
    columns = dict(zip(Thing._fields, np.moveaxis(table, 2, 0), strict=True))
    return replace(scenes, count=np.array([len(things) for things in batch], int), **columns)
