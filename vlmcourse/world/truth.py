"""What can be asked about things, and what is true (the ground under `questions` and `twins`).

Thing          one object of a scene
Who            a description, "the small red circle"
Template       what is asked, of any things: Attribute Count Existence Relation Larger SameColour More
Question       a template put to one scene: text, answer, evidence
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vlmcourse.world.scenes import COLOURS, PLACES, RADII, RELATIONS, SHAPES, SIDE, SIZES, Scenes

CLEAR = 4  # pixels: nearer to a middle line an object is in no clear quadrant, and two objects are level
ATTRIBUTES = dict(shape=SHAPES, colour=COLOURS, size=SIZES, position=PLACES)


class Thing(NamedTuple):
    """One object: indices into SHAPES, COLOURS and SIZES, and the centre in pixels."""

    shape: int
    colour: int
    size: int
    x: int
    y: int

    @property
    def radius(self) -> int:
        return int(RADII[self.size])

    @property
    def box(self) -> tuple[int, int, int, int]:
        """left, top, right, bottom in pixels, right and bottom exclusive."""
        r = self.radius
        return self.x - r, self.y - r, self.x + r + 1, self.y + r + 1

    @property
    def position(self) -> int | None:
        """Index into PLACES, or None near a middle line."""
        if min(abs(self.x + 0.5 - SIDE / 2), abs(self.y + 0.5 - SIDE / 2)) < CLEAR:
            return None
        return 2 * (self.y >= SIDE // 2) + (self.x >= SIDE // 2)


class Who(NamedTuple):
    """A description: the things that have these properties (None: any)."""

    shape: int | None = None
    colour: int | None = None
    size: int | None = None

    def __str__(self) -> str:
        words = [names[n] for names, n in ((SIZES, self.size), (COLOURS, self.colour)) if n is not None]
        return " ".join([*words, SHAPES[self.shape] if self.shape is not None else "thing"])

    @property
    def many(self) -> str:
        return str(self).replace("cross", "crosse") + "s"

    def among(self, things: Sequence[Thing]) -> list[Thing]:
        return [t for t in things if all(want in (None, has) for want, has in zip(self, t[:3], strict=True))]

    def only(self, things: Sequence[Thing]) -> Thing | None:
        """The one thing meant, or None if there is none or more than one."""
        meant = self.among(things)
        return meant[0] if len(meant) == 1 else None


Truth = tuple[str, list[Thing]] | None


def _yes(true: object) -> str:
    return "yes" if true else "no"


@dataclass(frozen=True)
class Template:
    """What a question asks of any things.  {0} in its two forms is the template, {no} tells yes from no."""

    who: Who
    text, statement, yes, no = "", "", "", "not "

    def __str__(self) -> str:
        return self.text.format(self)

    def truth(self, things: Sequence[Thing]) -> Truth:
        """The answer and its evidence; None where it makes no sense: "the circle", and there are two."""
        raise NotImplementedError

    def state(self, answer: str) -> str:
        """An answer as a statement."""
        return self.statement.format(self, answer=answer, no=self.no if answer == "no" else self.yes)


class Existence(Template):
    text, statement, yes, no = "Is there a {0.who}?", "there is {no} {0.who}", "a", "no"

    def truth(self, things: Sequence[Thing]) -> Truth:
        meant = self.who.among(things)
        return _yes(meant), meant or list(things)


class Count(Template):
    text = "How many {0.who.many} are there?"

    def truth(self, things: Sequence[Thing]) -> Truth:
        meant = self.who.among(things)
        return str(len(meant)), meant or list(things)

    def state(self, answer: str) -> str:
        return f"there is 1 {self.who}" if answer == "1" else f"there are {answer} {self.who.many}"


@dataclass(frozen=True)
class Attribute(Template):
    name: str  # "colour", "shape", "size" or "position"

    def __str__(self) -> str:
        return f"{'Where' if self.name == 'position' else f'What {self.name}'} is the {self.who}?"

    def truth(self, things: Sequence[Thing]) -> Truth:
        thing = self.who.only(things)
        if thing is None or getattr(thing, self.name) is None:
            return None
        return ATTRIBUTES[self.name][getattr(thing, self.name)], [thing]

    def state(self, answer: str) -> str:
        link = {"shape": "a ", "position": "at the "}.get(self.name, "")
        return f"the {self.who} is {link}{answer}"


@dataclass(frozen=True)
class More(Template):
    other: Who
    text = "Are there more {0.who.many} than {0.other.many}?"
    statement = "there are {no}more {0.who.many} than {0.other.many}"

    def truth(self, things: Sequence[Thing]) -> Truth:
        a, b = self.who.among(things), self.other.among(things)
        return (_yes(len(a) > len(b)), a + b) if a or b else None


@dataclass(frozen=True)
class Comparison(Template):
    """Yes or no about two things: `holds` says whether it is true of them, or None where that is unclear."""

    other: Who

    def truth(self, things: Sequence[Thing]) -> Truth:
        a, b = self.who.only(things), self.other.only(things)
        holds = None if a is None or b is None or a == b else self.holds(a, b)
        return None if holds is None else (_yes(holds), [a, b])


@dataclass(frozen=True)
class Relation(Comparison):
    relation: int
    text, statement = "Is the {0.who} {0.words} the {0.other}?", "the {0.who} is {no}{0.words} the {0.other}"

    @property
    def words(self) -> str:
        return RELATIONS[self.relation]

    def holds(self, a: Thing, b: Thing) -> bool | None:
        ahead = b.x - a.x if self.relation < 2 else b.y - a.y  # positive: a is left of, or above, b
        return None if abs(ahead) < CLEAR else (ahead > 0) == (self.relation % 2 == 0)


class Larger(Comparison):
    text = "Is the {0.who} larger than the {0.other}?"
    statement = "the {0.who} is {no}larger than the {0.other}"

    def holds(self, a: Thing, b: Thing) -> bool | None:
        return None if a.size == b.size else a.size > b.size


class SameColour(Comparison):
    text = "Do the {0.who} and the {0.other} have the same colour?"
    statement, no = "the {0.who} and the {0.other} {no}have the same colour", "do not "

    def holds(self, a: Thing, b: Thing) -> bool:
        return a.colour == b.colour


@dataclass(frozen=True)
class Question:
    """A question about one scene.

    boxes: pixel boxes (left, top, right, bottom), right and bottom exclusive, of the objects one must see to
        answer: those the question speaks of; for "no" and "0", where nothing is to be found, all objects.
    """

    kind: str
    text: str
    answer: str
    boxes: tuple[tuple[int, int, int, int], ...]
    asked: Template


def pose(kind: str, asked: Template, things: Sequence[Thing]) -> Question | None:
    """Put a question to a list of things; None if it makes no sense there."""
    truth = asked.truth(things)
    return truth and Question(kind, str(asked), truth[0], tuple(thing.box for thing in truth[1]), asked)


def in_a_sentence(question: Question) -> str:
    """The answer to "What colour is the circle?", "red", is in a sentence "The circle is red."."""
    statement = question.asked.state(question.answer)
    if question.answer in ("yes", "no"):
        return f"{question.answer.capitalize()}, {statement}."
    return f"{statement[0].upper()}{statement[1:]}."


def list_things(scenes: Scenes, scene: int) -> list[Thing]:
    """The objects of one scene, in order."""
    columns = (getattr(scenes, name)[scene, : scenes.count[scene]].tolist() for name in Thing._fields)
    return [Thing(*values) for values in zip(*columns, strict=True)]


def check_pairs(scenes: Scenes, questions: Sequence[Question | None]) -> None:
    """Raise ValueError unless there is exactly one question per scene."""
    asked = sum(question is not None for question in questions)
    if not len(scenes) == len(questions) == asked:
        raise ValueError(
            f"expected one question for each of the {len(scenes)} scenes, got {asked} questions and "
            f"{len(questions) - asked} times None; leave out the scenes that have none"
        )
