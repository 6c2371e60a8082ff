"""Questions about scenes, with answers and the evidence for them (first used in notebook 00).

    ask          one well-posed question per scene, of a chosen kind or of any
    annotators   ten people's answers to each, mostly the truth, in the manner of VQA v2
    KINDS        colour shape size position · count existence · relation · comparison

A question names things only by descriptions that fit one thing alone.  Where a kind has a few possible
answers, each is asked for equally often, and given as often as the scene allows.

Source: ten answers per question, Goyal et al. 2017 (VQA v2), arXiv:1612.00837.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from vlmcourse.world import chance
from vlmcourse.world.scenes import PLACES, RELATIONS, Scenes, palette
from vlmcourse.world.truth import (
    Attribute,
    Count,
    Existence,
    Larger,
    More,
    Question,
    Relation,
    SameColour,
    Template,
    Thing,
    Who,
    check_pairs,
    list_things,
    pose,
)

DRAWS, TRIES = 320, 8  # numbers put by for one scene; proposals for one question
PEOPLE = 10
DISSENTERS = (0, 0, 0, 0, 1, 1, 2, 2, 3, 4)  # how many of the ten are mistaken; each number equally likely
CONFUSED = dict(
    black=("purple", "blue"),
    purple=("blue", "black", "pink"),
    red=("pink", "purple"),
    blue=("purple",),
    green=("blue", "yellow"),
    pink=("red", "purple"),
    yellow=("green",),
    circle=("star",),
    square=("triangle", "cross"),
    triangle=("star",),
    cross=("star", "square"),
    star=("cross", "triangle"),
    small=("medium",),
    medium=("small", "large"),
    large=("medium",),
    yes=("no",),
    no=("yes",),
)
CONFUSED |= {"0": ("1",), "1": ("0", "2"), "2": ("1", "3"), "3": ("2", "4"), "4": ("3", "5")}
CONFUSED |= {PLACES[n]: (PLACES[n ^ 1], PLACES[n ^ 2]) for n in range(4)}


class Dice:
    """Choices from the looked-up chance of one scene."""

    def __init__(self, draws: np.ndarray):
        self._draws = iter(draws.tolist())

    def pick(self, options: Sequence):
        return options[int(next(self._draws) * len(options))]

    def order(self, options: Sequence) -> list:
        draws = [next(self._draws) for _ in options]
        return [options[n] for n in sorted(range(len(options)), key=draws.__getitem__)]


def _describe(thing: Thing, things: Sequence[Thing], choices: Sequence[str], dice: Dice) -> Who | None:
    """A description by one of the choices ("size shape") that fits this thing alone."""
    for choice in dice.order(choices):
        who = Who(**{name: getattr(thing, name) for name in choice.split()})
        if who.only(things):
            return who
    return None


def _attribute(name: str, *choices: str) -> Callable[..., Template | None]:
    def propose(
        things: Sequence[Thing], combinations: Sequence[tuple[int, int]], dice: Dice
    ) -> Template | None:
        who = _describe(dice.pick(things), things, choices, dice)
        return who and Attribute(who, name)

    return propose


def _count(things: Sequence[Thing], combinations: Sequence[tuple[int, int]], dice: Dice) -> Template:
    shape, colour = dice.pick(combinations) if dice.pick(range(4)) == 0 else dice.pick(things)[:2]
    return Count(dice.pick([Who(), Who(shape=shape), Who(colour=colour), Who(colour=colour)]))


def _existence(things: Sequence[Thing], combinations: Sequence[tuple[int, int]], dice: Dice) -> Template:
    first, second = dice.pick(things), dice.pick(things)
    # The shape of one thing with the colour of another is a hard "no"
    near, far = (first.shape, second.colour), dice.pick(combinations)
    use_near = dice.pick(range(2)) and near in combinations
    return Existence(Who(*(near if use_near else far)))


def _relation(
    things: Sequence[Thing], combinations: Sequence[tuple[int, int]], dice: Dice
) -> Template | None:
    whos = _pair(things, ("shape", "colour", "colour shape"), dice)
    return whos and Relation(*whos, dice.pick(range(len(RELATIONS))))


def _comparison(
    things: Sequence[Thing], combinations: Sequence[tuple[int, int]], dice: Dice
) -> Template | None:
    template = dice.pick((Larger, SameColour, More))
    if template is More:
        first, second = dice.pick(things), dice.pick(things)
        by_shape = Who(shape=first.shape), Who(shape=second.shape)
        by_colour = Who(colour=first.colour), Who(colour=second.colour)
        whos = dice.pick([by_shape, by_colour])
        return More(*whos) if whos[0] != whos[1] else None
    allowed = ("shape", "size shape") if template is SameColour else ("shape", "colour", "colour shape")
    whos = _pair(things, allowed, dice)
    return whos and template(*whos)


def _pair(things: Sequence[Thing], choices: Sequence[str], dice: Dice) -> tuple[Who, Who] | None:
    if len(things) < 2:
        return None
    a, b = dice.order(things)[:2]
    whos = _describe(a, things, choices, dice), _describe(b, things, choices, dice)
    return whos if all(whos) else None


KINDS = dict(
    colour=_attribute("colour", "shape", "size shape"),
    shape=_attribute("shape", "colour", "size colour"),
    size=_attribute("size", "shape", "colour", "colour shape"),
    position=_attribute("position", "shape", "colour", "colour shape", "size colour shape"),
    count=_count,
    existence=_existence,
    relation=_relation,
    comparison=_comparison,
)
WANTED = dict(count="01234", existence=("yes", "no"), relation=("yes", "no"), comparison=("yes", "no"))


def ask(scenes: Scenes, kind: str | None = None, seed: int = 0) -> list[Question | None]:
    """One question per scene.

    Args:
        kind: one of KINDS, or None for a random kind per scene.
        seed: another seed asks something else.

    Returns:
        A question for each scene; None where the scene allows none of that kind (a relation needs two
        objects, a position must be clear).  With kind=None there is always a question.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"unknown kind of question {kind!r}; choose one of {', '.join(KINDS)}")
    draws = chance.uniform(chance.derive(scenes.key, "questions", seed, kind or "any"), DRAWS)
    combinations = [(s, int(c)) for s, colours in enumerate(palette(scenes.split)) for c in colours]
    questions = []
    for scene, draw in enumerate(draws):
        dice, things = Dice(draw), list_things(scenes, scene)
        kinds = [kind] if kind else [*dice.order(list(KINDS))[:2], "existence"]
        questions.append(next(filter(None, (_ask(k, things, combinations, dice) for k in kinds)), None))
    return questions


def _ask(
    kind: str, things: Sequence[Thing], combinations: Sequence[tuple[int, int]], dice: Dice
) -> Question | None:
    """Propose until the answer is the wanted one; failing that, the first that makes sense."""
    wanted, first = dice.pick(WANTED[kind]) if kind in WANTED else None, None
    for _ in range(TRIES):
        asked = KINDS[kind](things, combinations, dice)
        question = asked and pose(kind, asked, things)
        first = first or question
        if question and wanted in (None, question.answer):
            return question
    return first


def annotators(scenes: Scenes, questions: Sequence[Question], seed: int = 0) -> list[tuple[str, ...]]:
    """What ten people answer to question i about scene i.

    At least six say the truth, the others what they could have mistaken it for: a neighbouring colour or
    size, one more or one less, the other of yes and no.

    Raises:
        ValueError: if there is not exactly one question per scene.
    """
    check_pairs(scenes, questions)
    texts = np.array([zlib.crc32(question.text.encode()) for question in questions], np.uint64)
    draws = chance.uniform(chance.derive(scenes.key ^ chance.mix(texts), "annotators", seed), 1 + 2 * PEOPLE)
    answers = []
    for question, draw in zip(questions, draws, strict=True):
        dice = Dice(draw)
        mistakes = [dice.pick(CONFUSED[question.answer]) for _ in range(dice.pick(DISSENTERS))]
        answers.append(tuple(dice.order(mistakes + [question.answer] * (PEOPLE - len(mistakes)))))
    return answers
