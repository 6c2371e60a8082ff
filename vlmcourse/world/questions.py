"""Questions about scenes, with answers and the evidence for them (first used in notebook 00).

A question names things only by descriptions that fit one thing alone.  Where a kind has a few possible
answers, each is asked for equally often, and given as often as the scene allows.

Source: ten answers per question, Goyal et al. 2017 (VQA v2), arXiv:1612.00837.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from vlmcourse.world import chance, truth
from vlmcourse.world.scenes import PLACES, RELATIONS, SIZES, Scenes, palette
from vlmcourse.world.truth import Question, Template, Thing, Who, check_pairs, list_things, pose

DRAWS, TRIES = 320, 8  # numbers put by for one scene; proposals for one question
PEOPLE = 10
DISSENTERS = (0, 0, 0, 0, 1, 1, 2, 2, 3, 4)  # how many of the ten are mistaken; each number equally likely
_LIKE = dict(black="purple blue", purple="blue black pink", red="pink purple", blue="purple")
_LIKE |= dict(green="blue yellow", pink="red purple", yellow="green")
_LIKE |= dict(circle="star", square="triangle cross", triangle="star", cross="star square")
_LIKE |= dict(star="cross triangle", yes="no", no="yes")
CONFUSED = {name: others.split() for name, others in _LIKE.items()}
CONFUSED |= {PLACES[n]: (PLACES[n ^ 1], PLACES[n ^ 2]) for n in range(4)}
for _row in (SIZES, "012345"):  # neighbours in a row
    CONFUSED |= {now: _row[max(0, n - 1) : n] + _row[n + 1 : n + 2] for n, now in enumerate(_row)}


class Dice:
    """Choices from the looked-up chance of one scene, about its things and what (shape, colour) may be."""

    def __init__(self, draws: np.ndarray, things: Sequence[Thing] = (), combinations: Sequence = ()):
        self._draws, self.things, self.combinations = iter(draws.tolist()), things, combinations

    def pick(self, options: Sequence):
        return options[int(next(self._draws) * len(options))]

    def order(self, options: Sequence) -> list:
        draws = [next(self._draws) for _ in options]
        return [options[n] for n in sorted(range(len(options)), key=draws.__getitem__)]

    def describe(self, thing: Thing, choices: Sequence[str]) -> Who | None:
        """A description by one of the choices ("size shape") that fits this thing alone."""
        for choice in self.order(choices):
            who = Who(**{name: getattr(thing, name) for name in choice.split()})
            if who.only(self.things):
                return who
        return None

    def pair(self, *choices: str) -> list[Who] | None:
        """Descriptions of two things."""
        if len(self.things) < 2:
            return None
        whos = [self.describe(thing, choices) for thing in self.order(self.things)[:2]]
        return whos if all(whos) else None


def _attribute(name: str, *choices: str) -> Callable[[Dice], Template | None]:
    def propose(dice: Dice) -> Template | None:
        who = dice.describe(dice.pick(dice.things), choices)
        return who and truth.Attribute(who, name)

    return propose


def _count(dice: Dice) -> Template:
    shape, colour = dice.pick(dice.combinations) if dice.pick(range(4)) == 0 else dice.pick(dice.things)[:2]
    return truth.Count(dice.pick([Who(), Who(shape=shape), Who(colour=colour), Who(colour=colour)]))


def _existence(dice: Dice) -> Template:
    first, second = dice.pick(dice.things), dice.pick(dice.things)
    # The shape of one thing with the colour of another is a hard "no"
    near, far = (first.shape, second.colour), dice.pick(dice.combinations)
    use_near = dice.pick(range(2)) and near in dice.combinations
    return truth.Existence(Who(*(near if use_near else far)))


def _relation(dice: Dice) -> Template | None:
    whos = dice.pair("shape", "colour", "colour shape")
    return whos and truth.Relation(*whos, dice.pick(range(len(RELATIONS))))


def _comparison(dice: Dice) -> Template | None:
    template = dice.pick((truth.Larger, truth.SameColour, truth.More))
    if template is truth.More:
        first, second = dice.pick(dice.things), dice.pick(dice.things)
        name = dice.pick(("shape", "colour"))
        whos = [Who(**{name: getattr(thing, name)}) for thing in (first, second)]
        return truth.More(*whos) if whos[0] != whos[1] else None
    choices = ("shape", "size shape") if template is truth.SameColour else ("shape", "colour", "colour shape")
    whos = dice.pair(*choices)
    return whos and template(*whos)


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
        dice = Dice(draw, list_things(scenes, scene), combinations)
        kinds = [kind] if kind else [*dice.order(list(KINDS))[:2], "existence"]
        questions.append(next(filter(None, (_ask(kind, dice) for kind in kinds)), None))
    return questions


def _ask(kind: str, dice: Dice) -> Question | None:
    """Propose until the answer is the wanted one; failing that, the first that makes sense."""
    wanted, first = dice.pick(WANTED[kind]) if kind in WANTED else None, None
    for _ in range(TRIES):
        asked = KINDS[kind](dice)
        question = asked and pose(kind, asked, dice.things)
        first = first or question
        if question and wanted in (None, question.answer):
            return question
    return first


def annotators(scenes: Scenes, questions: Sequence[Question | None], seed: int = 0) -> list[tuple[str, ...]]:
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
