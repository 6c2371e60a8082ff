"""Judge a learner's function: run it on the cases of its exercise and find the most helpful true sentence.

The ladder, first match wins:

    1  it equals a slip on all cases                       the slip's own sentence
    2  it raises                                           the exception in one line, with its line number
    3  None · type · changed input · shape · dtype         structure, before values
    4  it equals a slip on the first wrong case            several mistakes at once: the first one's sentence
    5  NaN · a constant factor · a broken promise          values with a reason
    6  the first differing element                         by axis names, got and expected
    7  right values, but: no gradient · fixed dtype · fixed device

This module runs inside the checker process (see worker.py) and only talks about outcomes; it installs
nothing.
"""

import copy
import inspect
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmcourse.exercises.base import Exercise, Text, Unaffected, in_both
from vlmcourse.slots import Slot
from vlmcourse.workbook import outcomes
from vlmcourse.workbook.outcomes import Outcome, Trial, equal, run, run_meta, same
from vlmcourse.workbook.say import phrase

SILENCE = Text("", "")


@dataclass
class Verdict:
    """The outcome of a check; crosses the process border as JSON."""

    status: str  # "passed", "wrong" or "todo"
    says: Text = SILENCE  # nothing when passed
    line: tuple[str, int] | None = None  # (file, number) in the learner's code that an exception came from
    printed: str = ""  # by the learner's code, shortened
    pictures: dict[str, list] = field(default_factory=dict)  # "expected" and "got", if outputs can be shown

    def __post_init__(self):
        self.says = Text(*self.says)  # which JSON turns into a list


def judge(exercise: Exercise, answer: Callable) -> Verdict:
    """Check ``answer`` against the reference of ``exercise``. Never raises for what the answer does."""
    trial = outcomes.trial_of(exercise, Slot.changes)
    if problem := signature_problem(answer, trial):
        return Verdict("wrong", problem)
    got = []
    for case in trial.cases:
        got.append(run(answer, trial.names, case))
        if isinstance(got[-1].error, NotImplementedError):
            return Verdict("todo")
    for place, right in enumerate(trial.expected):
        if not same(got[place], right):
            return explain(answer, trial, got, place)
    problem = gradient_problem(answer, trial) or fixed_dtype_or_device(answer, trial)
    return Verdict("wrong", problem) if problem else Verdict("passed")


def signature_problem(answer: Callable, trial: Trial) -> Text | None:
    """Whether ``answer`` can be called like the reference at all."""
    try:
        inspect.signature(answer).bind(*trial.cases[0])
    except TypeError:
        names = ", ".join(inspect.signature(answer).parameters)
        return phrase("bad_signature", got=f"({names})", right=f"({', '.join(trial.names)})")
    except ValueError:  # a builtin without a signature: calling it will tell
        pass
    return None


def explain(answer: Callable, trial: Trial, got: list[Outcome], place: int) -> Verdict:
    """The most specific sentence about an answer whose first wrong case is at ``place``."""
    mine, right, axes = got[place], trial.expected[place], trial.exercise.axes["return"]
    says = trial.says_of_slip(dict(enumerate(got)))
    if says is None and mine.error is not None:
        return Verdict("wrong", *error_sentence(mine.error, describe(trial, place)))
    says = (
        says
        or structure_problem(mine.value, right.value, axes)
        or (mine.changed != right.changed and phrase("changed_input", name=mine.changed))
        or trial.says_of_slip({place: mine})
        or value_problem(mine.value, right.value, axes, answer, trial)
    )
    return Verdict("wrong", says, pictures=pictures(trial.exercise, mine, right))


def error_sentence(error: BaseException, call: str) -> tuple[Text, tuple[str, int] | None]:
    """One line about an exception, and the line of the learner's code it came from."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != run.__code__.co_filename]
    cell = [f for f in own if f.filename == own[0].filename]  # the learner's cell, not the library below it
    line = (cell[-1].filename, cell[-1].lineno) if cell else None
    kind = kind_of(error)
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return phrase("stops_python", kind=kind), line
    if isinstance(error, RecursionError):
        return phrase("recursion"), line
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return phrase("out_of_memory"), line
    first = textwrap.shorten((str(error).strip().splitlines() or [""])[0], 240, placeholder=" …")
    first = first if first.endswith((".", "?", "!")) else f"{first}."
    at = phrase("in_line", line=line[1]) if line else SILENCE
    return phrase("raises", kind=kind, at=at, error=first, call=call), line


def describe(trial: Trial, place: int) -> str:
    """The arguments of a case in a few words: images 2×3×8×12 (batch, channel, height, width), size = 4."""
    words = []
    for name, value in zip(trial.names, trial.cases[place], strict=False):
        if isinstance(value, Tensor):
            axes = trial.exercise.axes.get(name)
            words.append(f"{name} {sizes(value)}" + (f" ({axes})" if axes else ""))
        elif isinstance(value, int | float | str | tuple | list | None):
            words.append(f"{name} = {in_short(value)}")
    return ", ".join(words)


def in_short(value: Any) -> str:
    """The value as Python writes it, but tensors inside a tuple as their sizes."""
    if isinstance(value, tuple) and any(isinstance(item, Tensor) for item in value):
        return f"({', '.join(map(in_short, value))})"
    return sizes(value) if isinstance(value, Tensor) else repr(value)


def sizes(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) if value.dim() else "a single number"


def structure_problem(got: Any, right: Any, axes: str | tuple) -> Text | None:
    """Type, length, dtype and shape, looking into tuples, lists and dicts."""
    if got is None and right is not None:
        return phrase("returns_none")
    for mine, theirs, names, where in outcomes.parts(got, right, axes):
        if type(mine) is not type(theirs):
            return phrase("wrong_type", where, got=kind_of(mine), right=kind_of(theirs))
        if contents(mine) != contents(theirs):
            return phrase("wrong_length", where, got=contents(mine), right=contents(theirs))
        if not isinstance(theirs, Tensor):
            continue
        if mine.shape != theirs.shape:
            name = "axes_swapped" if sorted(mine.shape) == sorted(theirs.shape) else "wrong_shape"
            return phrase(name, where, got=sizes(mine), right=sizes(theirs), axes=names)
        if mine.dtype != theirs.dtype:
            return phrase("wrong_dtype", where, got=mine.dtype, right=theirs.dtype)
        if mine.device != theirs.device:
            return phrase("wrong_device", where, got=mine.device, right=theirs.device)
    return None


def kind_of(value: Any) -> str:
    return type(value).__name__


def contents(value: Any) -> str | None:
    """How much a tuple, list or dict holds, in words; None for anything else."""
    if isinstance(value, dict):
        return f"keys {list(value)}"
    return f"{len(value)} items" if isinstance(value, tuple | list) else None


def value_problem(got: Any, right: Any, axes: str | tuple, answer: Callable, trial: Trial) -> Text:
    """Same structure, other values: NaN, a factor, a broken promise, else the first difference."""
    got, right, axes, where = outcomes.difference(got, right, axes)
    if not isinstance(right, Tensor):
        return phrase("wrong_value", where, got=repr(got)[:80], right=repr(right)[:80])
    if right.is_floating_point():
        bad = ~got.isfinite()
        if bad.any() and right.isfinite().all():
            return phrase("not_finite", where, count=bad.sum(), all=bad.numel())
        if factor := outcomes.constant_factor(got, right):
            return phrase("factor", where, factor=factor)
    for promise in trial.exercise.unaffected:
        if breaks(promise, answer, trial):
            return in_both(promise.says)
    if not right.dim():
        return phrase("wrong_value", where, got=f"{got:.5g}", right=f"{right:.5g}")
    wrong = ~outcomes.close(got, right)
    index = tuple(wrong.nonzero()[0].tolist())
    place = ", ".join(f"{axis} {i}" for axis, i in zip(str(axes).split(), index, strict=False))
    words = {"place": place, "got": got[index], "right": right[index]}
    return phrase("first_difference", where, count=wrong.sum(), all=wrong.numel(), **words)


def breaks(promise: Unaffected, answer: Callable, trial: Trial) -> bool:
    for case in trial.cases:
        changed = promise.change(copy.deepcopy(case))
        if changed is None:
            continue
        before, after = run(answer, trial.names, case), run(answer, trial.names, changed)
        if before.error or after.error or not equal(promise.keep(before.value), promise.keep(after.value)):
            return True
    return False


def gradient_problem(answer: Callable, trial: Trial) -> Text | None:
    """Whether the gradient reaches every argument it must reach, with the reference's value."""
    for case in trial.cases if trial.exercise.gradient else []:
        right, got = (trial.gradients(function, case) for function in (trial.reference, answer))
        for name in trial.exercise.gradient:
            if got.get(name) is None:
                return phrase("no_gradient", name=name)
            if not equal(got[name], right[name]):
                return phrase("wrong_gradient", name=name)
    return None


def fixed_dtype_or_device(answer: Callable, trial: Trial) -> Text | None:
    """An answer must follow the dtype and device of its input: half precision and GPUs come later."""
    for case in trial.cases:
        doubled = outcomes.convert(case, lambda t: t.double() if t.is_floating_point() else t)
        right, got = (run(function, trial.names, doubled) for function in (trial.reference, answer))
        if right.error is None and not same(got, right):
            return phrase("fixed_dtype")
        elsewhere = outcomes.convert(case, lambda t: t.to("meta"))
        if run_meta(trial.reference, elsewhere) is None and "device" in (run_meta(answer, elsewhere) or ""):
            return phrase("fixed_device")
    return None


def pictures(exercise: Exercise, mine: Outcome, right: Outcome) -> dict[str, list]:
    """The right output and the learner's as small pictures, if the exercise can draw its outputs."""
    if exercise.picture is None:
        return {}
    try:
        drawn = {"expected": exercise.picture(right.value), "got": exercise.picture(mine.value)}
        return {name: torch.as_tensor(array).float()[:64, :128].tolist() for name, array in drawn.items()}
    except Exception:  # an output of the wrong shape cannot be drawn; the sentence says so
        return {}
