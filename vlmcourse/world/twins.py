"""Counterfactual twins: the smallest change of a picture that changes the answer (first used in notebook 01).

A model that only knows what is usually answered gets one of two twins wrong; it has to look.
Edits are tried from small to large: look of one object; its size; its place; one object more or less; several
of these at one object; and only then two or more objects ("Is there a star?" where there are two).  An edited
scene keeps its split: objects stand on pixels of that split, and show what `editable` allows.
Two quick ways need no question: `repaint` and `exchange_looks`.

Source: balanced pairs of pictures, Goyal et al. 2017 (VQA v2), arXiv:1612.00837, section 3.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations, product
from operator import ne
from typing import NamedTuple

import numpy as np

from vlmcourse.world import chance
from vlmcourse.world.arranging import arrange
from vlmcourse.world.scenes import MOST, RADII, SIZES, SPLITS, Scenes, apart, editable, ranges
from vlmcourse.world.truth import Question, Thing, check_pairs, list_things, pose

Things = list[Thing]


def twins(
    scenes: Scenes, questions: Sequence[Question | None], seed: int = 0
) -> tuple[Scenes, list[Question]]:
    """For question i about scene i: a scene with as few objects changed as can be, and the new answer.

    Args:
        scenes, questions: as given and returned by `ask`, without None.
        seed: chooses among the smallest edits.

    Raises:
        ValueError: if there is not exactly one question per scene, or no edit changes an answer.
    """
    check_pairs(scenes, questions)
    keys = chance.derive(scenes.key, "twins", seed)
    pairs = [_twin(scenes, scene, asked, keys[scene : scene + 1]) for scene, asked in enumerate(questions)]
    return arrange(scenes, [things for things, _ in pairs]), [answer for _, answer in pairs]


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
    row, allowed = np.arange(len(scenes)), editable(scenes.split)
    draw = chance.uniform(chance.derive(scenes.key, "repaint", seed), 1 + max(allowed.shape))
    thing = (draw[:, 0] * scenes.count).astype(int)
    shape, colour = scenes.shape[row, thing], scenes.colour[row, thing]
    options = allowed[:, colour].T if what == "shape" else allowed[shape]  # (scene, look)
    column = getattr(scenes, what).copy()
    options[row, column[row, thing]] = False
    column[row, thing] = np.where(options, draw[:, 1 : 1 + options.shape[1]], -1).argmax(1)
    return replace(scenes, **{what: column})


def exchange_looks(scenes: Scenes) -> Scenes:
    """Each scene of two objects again, with shape and colour of the two exchanged; places and sizes stay.

    The short caption of the new scene is captions.exchange_words of the old one.

    Raises:
        ValueError: if a scene does not hold exactly two objects.
    """
    if not (scenes.count == 2).all():
        raise ValueError("looks are exchanged between exactly two objects; sample with objects=(2, 2)")
    traded = [1, 0, *range(2, MOST)]
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
    """What may be in a scene of this split.  Its methods say what one thing may become beside the others."""

    split: str
    words: bool
    allowed: np.ndarray  # bool (shape, colour)

    def repainted(self, thing: Thing, others: Things | None = None) -> Things:
        """The thing in another colour or another shape, whatever the others are."""
        colours, shapes = self.allowed[thing.shape].nonzero()[0], self.allowed[:, thing.colour].nonzero()[0]
        looks = [thing._replace(colour=colour) for colour in colours.tolist()]
        looks += [thing._replace(shape=shape) for shape in shapes.tolist()]
        return [new for new in looks if new != thing]

    def repainted_twice(self, thing: Thing, others: Things) -> Things:
        """The thing in another colour and shape, or in its own again."""
        return [new for once in self.repainted(thing) for new in self.repainted(once)]

    def resized(self, thing: Thing, others: Things) -> Things:
        """The thing in the other sizes for which there is room."""
        sizes = [thing._replace(size=z) for z in range(len(SIZES)) if z != thing.size]
        return [new for new in sizes if (new.x, new.y) in self.room(new.radius, others)]

    def moved(self, thing: Thing, others: Things) -> Things:
        """The thing wherever there is room for it."""
        return [thing._replace(x=x, y=y) for x, y in self.room(thing.radius, others)]

    def anywhere(self, thing: Thing, others: Things) -> Things:
        """The thing in any size, wherever there is room for it."""
        return [new for size in range(len(SIZES)) for new in self.moved(thing._replace(size=size), others)]

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
    yield _with_another(things, world.repainted)
    yield _with_another(things, world.resized)
    yield _with_another(things, world.moved)
    yield _with_one_less(things) + _with_one_more(things, world)
    yield _with_another(things, world.repainted_twice)
    yield _with_another(things, world.anywhere)
    yield [_trade_looks(things, first, second) for first, second in combinations(range(len(things)), 2)]
    yield list(chain.from_iterable(_with_another(fewer, world.anywhere) for fewer in _with_one_less(things)))
    for several in range(2, len(things) + 1):
        options = [[thing, *world.repainted(thing)] for thing in things]
        yield [list(new) for new in product(*options) if sum(map(ne, new, things)) == several]


def _with_another(things: Things, options: Callable[[Thing, Things], Things]) -> list[Things]:
    """Every scene in which one thing has become one of its options, which depend on the other things."""
    edited = []
    for place, thing in enumerate(things):
        before, after = things[:place], things[place + 1 :]
        edited += [[*before, new, *after] for new in options(thing, before + after)]
    return edited


def _with_one_less(things: Things) -> list[Things]:
    return [things[:place] + things[place + 1 :] for place in range(len(things)) if len(things) > 1]


def _with_one_more(things: Things, world: World) -> list[Things]:
    """A small thing of every look more, each somewhere else in the room that is left."""
    room = world.room(int(RADII[0]), things) if len(things) < MOST else []
    if not room:
        return []
    looks = np.argwhere(world.allowed).tolist()
    return [[*things, Thing(*look, 0, *room[7 * number % len(room)])] for number, look in enumerate(looks)]


def _trade_looks(things: Things, a: int, b: int) -> Things:
    """Things a and b stay in place and size, and exchange shape and colour."""
    traded = list(things)
    traded[a] = Thing(*things[b][:2], *things[a][2:])
    traded[b] = Thing(*things[a][:2], *things[b][2:])
    return traded
