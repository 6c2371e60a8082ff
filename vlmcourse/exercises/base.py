"""What an exercise is made of; ``chapter`` gives each chNN.py its ``exercise(...)`` and its ``quiz(...)``.

Sentences stand in English; ja.json says each of them in Japanese.
"""

import functools
import importlib
import inspect
import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vlmcourse.exercises.edits import Edit, edits
from vlmcourse.slots import Slot

EXERCISES: dict[str, "Exercise"] = {}
QUIZZES: dict[str, "QuizQuestion"] = {}

Axes = dict[str, str | tuple[str, ...]]


class Text(NamedTuple):
    """One thing said in English and in Japanese."""

    en: str
    ja: str


@functools.cache
def japanese() -> dict[str, str]:
    """The Japanese of every sentence in the chapters' files, by the English sentence."""
    return json.loads(Path(__file__).with_name("ja.json").read_text(encoding="utf-8"))


def in_both(sentence: str) -> Text:
    """The sentence with its Japanese; English twice if the table does not know it."""
    return Text(sentence, japanese().get(sentence, sentence))


@dataclass(frozen=True)
class Slip:
    """A wrong version that people really write, for mistakes that are no edit of the reference."""

    wrong: Callable  # takes the same arguments as the slot
    says: str  # what is wrong with it, in one sentence


@dataclass(frozen=True)
class Unaffected:
    """A promise that part of the output does not change when something else does.

    Attributes:
        says: the sentence for whoever breaks it.
        change: maps a case to the changed case, or to None if the promise says nothing about this case.
        keep: the part of the output that must stay the same.
    """

    says: str
    change: Callable[[tuple], tuple | None]
    keep: Callable[[Any], Any] = lambda output: output


@dataclass(frozen=True, eq=False)
class Exercise:
    """All that is needed to check one learner's function and to say what is wrong with it.

    Attributes:
        slot: what the learner writes.
        chapter: of the notebook that sets it, such as "02_vit".
        cases: makes the argument tuples; runs after ``torch.manual_seed``, so it may draw.
        slips: at least three.
        hints: at least two, from vague to concrete.
        axes: axis names by argument name, and for the output under "return"; a tuple output has a tuple of
            names. The slot's annotations give them; what is passed here wins, for annotations with "...".
            A tensor of fewer axes has the last of the names.
        gradient: arguments that a gradient must reach, with the reference's value.
        unaffected: promises of independence.
        ordered: whether the order of the keys counts where the output is a dict, or holds one.
        without: torch's operations, such as "aten::convolution", that would do the work: not to be called.
        no_graph: whether the slot is called where torch follows no gradients, as inside backward; its output
            keeps no graph either.
        picture: turns an output into a (height, width) or (height, width, 3) array to be shown.
    """

    slot: Slot
    chapter: str
    cases: Callable[[], list[tuple]]
    slips: list[Slip | Edit]
    hints: list[str]
    axes: Axes = field(default_factory=dict)
    gradient: tuple[str, ...] = ()
    unaffected: list[Unaffected] = field(default_factory=list)
    ordered: bool = False
    without: tuple[str, ...] = ()
    no_graph: bool = False
    picture: Callable[[Any], Any] | None = None

    def __post_init__(self):
        object.__setattr__(self, "axes", {"return": "", **annotated_axes(self.slot.reference), **self.axes})
        EXERCISES[self.slot.name] = self


def annotated_axes(function: Callable) -> Axes:
    """The axis names in the jaxtyping annotations of a function; arguments without any are left out."""
    annotations = inspect.unwrap(function).__annotations__
    names = {argument: _axes(annotation) for argument, annotation in annotations.items()}
    return {argument: axes for argument, axes in names.items() if axes is not None}


def _axes(annotation: Any) -> str | tuple[str, ...] | None:
    """``Float[Tensor, "batch token"] | None`` is "batch token"; of several the longest."""
    if hasattr(annotation, "dim_str"):
        return annotation.dim_str.replace("#", "")  # "#batch" may also be 1; to a learner it is the batch
    parts = [_axes(part) for part in typing.get_args(annotation)]
    if typing.get_origin(annotation) is tuple and any(axes is not None for axes in parts):
        return tuple(axes or "" for axes in parts)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return max((axes for axes in parts if axes is not None), key=len, default=None)
    return None


@dataclass(frozen=True)
class QuizQuestion:
    """One multiple-choice question of a chapter; here, so that the notebook does not hold the answer.

    Attributes:
        name: chapter and number, such as "02_vit/1".
        question: what is asked.
        choices: (text, is it right, why) for each choice.
    """

    name: str
    question: str
    choices: list[tuple[str, bool, str]]

    def __post_init__(self):
        QUIZZES[self.name] = self


def chapter(name: str) -> tuple[Callable[..., Exercise], Callable[..., QuizQuestion]]:
    """A chapter's ``exercise(slot, cases=, slips=, hints=, ...)`` and ``quiz(number, question, choices)``.

    A slip is (old text, new text, sentence), see edits.py, or a ``Slip``.
    """

    def exercise(slot: Slot, slips: list[Slip | tuple], **parts: Any) -> Exercise:
        return Exercise(slot, name, slips=edits(slot, *slips), **parts)

    def quiz(number: int, question: str, choices: list[tuple[str, bool, str]]) -> QuizQuestion:
        return QuizQuestion(f"{name}/{number}", question, choices)

    return exercise, quiz


def all_quizzes() -> dict[str, QuizQuestion]:
    """Every quiz question by name, in the order of the chapters."""
    all_exercises()
    return QUIZZES


def all_exercises() -> dict[str, Exercise]:
    """Every exercise of the course by slot name, in the order of the chapters."""
    for file in sorted(Path(__file__).parent.glob("ch*.py")):
        importlib.import_module(f"vlmcourse.exercises.{file.stem}")
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
