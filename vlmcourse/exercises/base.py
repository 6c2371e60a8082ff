"""What an exercise is made of. Each chNN.py builds its exercises from these parts.

Text        a sentence in both languages of the course
Slip        a plausible wrong version and the one sentence that explains it
Unaffected  something the output must not depend on, such as padding or future tokens
Exercise    a slot with cases, slips, hints, and what to check beside the values
Quiz        a question with choices, each with its explanation
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vlmcourse.slots import Slot

EXERCISES: dict[str, "Exercise"] = {}
QUIZZES: dict[str, "Quiz"] = {}


class Text(NamedTuple):
    """One thing said in English and in Japanese."""

    en: str
    ja: str


@dataclass(frozen=True)
class Slip:
    """A wrong version that people really write.

    Attributes:
        wrong: takes the same arguments as the slot.
        says: what is wrong with it, in one sentence.
    """

    wrong: Callable
    says: Text


@dataclass(frozen=True)
class Unaffected:
    """A promise that part of the output does not change when something else does.

    Attributes:
        says: the sentence for whoever breaks the promise.
        change: maps a case to the changed case, or to None if the promise says nothing about this case.
        keep: the part of the output that must stay the same.
    """

    says: Text
    change: Callable[[tuple], tuple | None]
    keep: Callable[[Any], Any] = lambda output: output


@dataclass(frozen=True)
class Exercise:
    """All that is needed to check one learner's function and to say what is wrong with it.

    Attributes:
        slot: what the learner writes.
        chapter: of the notebook that sets it, such as "02_vit".
        cases: makes the argument tuples; runs after ``torch.manual_seed``, so it may draw.
        axes: axis names by argument name, and for the output under "return"; a tuple output has a tuple of
            names.
        slips: at least three.
        hints: at least two, from vague to concrete.
        gradient: arguments that a gradient must reach, with the reference's value.
        unaffected: promises of independence.
        picture: turns an output into a (height, width) or (height, width, 3) array to be shown; None shows
            none.
    """

    slot: Slot
    chapter: str
    cases: Callable[[], list[tuple]]
    axes: dict[str, str | tuple[str, ...]]
    slips: list[Slip]
    hints: list[Text]
    gradient: tuple[str, ...] = ()
    unaffected: list[Unaffected] = field(default_factory=list)
    picture: Callable[[Any], Any] | None = None

    def __post_init__(self):
        EXERCISES[self.slot.name] = self


@dataclass(frozen=True)
class Quiz:
    """One multiple-choice question at the end of a chapter; kept here so that the notebook does not show the answer.

    Attributes:
        name: chapter and number, such as "02_vit/1".
        question: what is asked.
        choices: (text, is it right, why) for each choice.
    """

    name: str
    question: Text
    choices: list[tuple[Text, bool, Text]]

    def __post_init__(self):
        QUIZZES[self.name] = self


def all_quizzes() -> dict[str, Quiz]:
    """Every quiz question by name, in the order of the chapters."""
    all_exercises()
    return QUIZZES


def all_exercises() -> dict[str, Exercise]:
    """Every exercise of the course by slot name, in the order of the chapters."""
    package = importlib.import_module("vlmcourse.exercises")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name.startswith("ch")):
        importlib.import_module(f"vlmcourse.exercises.{module}")
    return EXERCISES


def exercise_of(slot: Slot) -> Exercise:
    """The exercise that teaches ``slot``.

    Raises:
        TypeError: if it is not a slot.
        LookupError: if no chapter teaches it.
    """
    if not isinstance(slot, Slot):
        raise TypeError(
            f"exercises, hints and solutions belong to slots such as vit.patchify, not to {slot!r}"
        )
    if slot.name not in all_exercises():
        raise LookupError(f"no chapter has an exercise on {slot.name}; taught are: {', '.join(EXERCISES)}")
    return EXERCISES[slot.name]
