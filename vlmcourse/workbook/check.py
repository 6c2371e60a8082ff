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
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmcourse.exercises.base import Exercise, Text, in_both
from vlmcourse.slots import Slot
from vlmcourse.workbook import say
from vlmcourse.workbook.outcomes import (
    ABSOLUTE,
    RELATIVE,
    Outcome,
    Trial,
    constant_factor,
    convert,
    equal,
    gradients,
    run,
    run_meta,
    same,
    trial_of,
)

SILENCE = Text("", "")


@dataclass
class Verdict:
    """The outcome of a check; crosses the process border as JSON.

    Attributes:
        status: "passed", "wrong" or "todo".
        says: the sentence, in both languages; empty when passed.
        line: (file, line number) in the learner's code, if an exception came from there.
        printed: what the learner's code printed, shortened.
        pictures: {"expected": nested lists, "got": nested lists} if the outputs can be shown.
    """

    status: str
    says: Text = SILENCE
    line: tuple[str, int] | None = None
    printed: str = ""
    pictures: dict[str, list] = field(default_factory=dict)

    def as_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> "Verdict":
        line = tuple(data["line"]) if data["line"] else None
        return cls(data["status"], Text(*data["says"]), line, data["printed"], data["pictures"])


def judge(exercise: Exercise, answer: Callable) -> Verdict:
    """Check ``answer`` against the reference of ``exercise``. Never raises for what the answer does."""
    reference, trial = exercise.slot.reference, trial_of(exercise, Slot.changes)
    names, cases, expected = trial.names, trial.cases, trial.expected
    if problem := signature_problem(answer, reference, cases[0]):
        return Verdict("wrong", problem)
    got = []
    for case in cases:
        got.append(run(answer, names, case))
        if isinstance(got[-1].error, NotImplementedError):
            return Verdict("todo")
    if not all(same(a, b) for a, b in zip(got, expected, strict=True)):
        return explain(exercise, answer, trial, got)
    problem = gradient_problem(exercise, answer, names, cases) or fixed_dtype_or_device(
        exercise, answer, names, cases
    )
    return Verdict("wrong", problem) if problem else Verdict("passed")


def signature_problem(answer: Callable, reference: Callable, case: tuple) -> Text | None:
    """Whether ``answer`` can be called like the reference at all."""
    try:
        inspect.signature(answer).bind(*case)
    except TypeError:
        right = ", ".join(inspect.signature(reference).parameters)
        return say.bad_signature(f"({', '.join(inspect.signature(answer).parameters)})", f"({right})")
    except ValueError:  # a builtin without a signature: calling it will tell
        pass
    return None


def explain(exercise: Exercise, answer: Callable, trial: Trial, got: list[Outcome]) -> Verdict:
    """The most specific sentence about an answer that is wrong on at least one case."""
    names, cases, expected = trial.names, trial.cases, trial.expected
    for number, slip in enumerate(exercise.slips):
        if all(same(trial.slip(number, place), mine) for place, mine in enumerate(got)):
            return Verdict("wrong", in_both(slip.says), pictures=pictures(exercise, got, expected))
    first = next(place for place, mine in enumerate(got) if not same(mine, expected[place]))
    case, mine, right = cases[first], got[first], expected[first]
    if mine.error is not None:
        return Verdict("wrong", *error_sentence(mine.error, describe(exercise, names, case)))
    axes = exercise.axes["return"]
    says = (
        structure_problem(mine.value, right.value, axes, "")
        or (mine.changed != right.changed and say.changed_input(mine.changed))
        or trial.says_of_slip(mine, first)
        or value_problem(mine.value, right.value, axes, exercise, answer, names, cases)
    )
    return Verdict("wrong", says, pictures=pictures(exercise, got, expected))


def error_sentence(error: BaseException, arguments: str) -> tuple[Text, tuple[str, int] | None]:
    """One line about an exception, and the line of the learner's code it came from."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != run.__code__.co_filename]
    cell = [f for f in own if f.filename == own[0].filename]  # the learner's cell, not the library below it
    line = (cell[-1].filename, cell[-1].lineno) if cell else None
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return say.stops_python(type(error).__name__), line
    if isinstance(error, RecursionError):
        return say.recursion(), line
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return say.out_of_memory(), line
    first = textwrap.shorten((str(error).strip().splitlines() or [""])[0], 240, placeholder=" …")
    return say.raises(type(error).__name__, first, line[1] if line else None, arguments), line


def describe(exercise: Exercise, names: list[str], case: tuple) -> str:
    """The arguments of a case in a few words: images 2×3×8×12 (batch, channel, height, width), size = 4."""
    parts = []
    for name, value in zip(names, case, strict=False):
        if isinstance(value, Tensor):
            axes = exercise.axes.get(name, "")
            parts.append(f"{name} {sizes(value)}" + (f" ({axes})" if axes else ""))
        elif isinstance(value, int | float | str | tuple | list | None):
            parts.append(f"{name} = {in_short(value)}")
    return ", ".join(parts)


def in_short(value: Any) -> str:
    """The value as Python writes it, but tensors inside a tuple as their sizes."""
    if isinstance(value, tuple) and any(isinstance(item, Tensor) for item in value):
        return f"({', '.join(map(in_short, value))})"
    return sizes(value) if isinstance(value, Tensor) else repr(value)


def sizes(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) if value.dim() else "a single number"


def structure_problem(got: Any, right: Any, axes: str | tuple, where: str) -> Text | None:
    """Type, length, dtype and shape, looking into tuples, lists and dicts; ``where`` names the part."""
    if got is None and right is not None and not where:
        return say.returns_none(where)
    if type(got) is not type(right):
        return say.wrong_type(where, kind_of(got), kind_of(right))
    if isinstance(right, tuple | list | dict):
        if len(got) != len(right) or (isinstance(right, dict) and list(got) != list(right)):
            return say.wrong_length(where, contents(got), contents(right))
        keys = right if isinstance(right, dict) else range(len(right))
        for number, key in enumerate(keys):
            inner = axes[number] if isinstance(axes, tuple) else axes
            problem = structure_problem(got[key], right[key], inner, f"{where}[{key!r}]")
            if problem:
                return problem
    if isinstance(right, Tensor):
        if got.shape != right.shape:
            swapped = sorted(got.shape) == sorted(right.shape)
            return (say.axes_swapped if swapped else say.wrong_shape)(where, sizes(got), sizes(right), axes)
        if got.dtype != right.dtype:
            return say.wrong_dtype(where, got.dtype, right.dtype)
        if got.device != right.device:
            return say.wrong_device(where, got.device, right.device)
    return None


def kind_of(value: Any) -> str:
    return type(value).__name__


def contents(value: Any) -> str:
    return f"keys {list(value)}" if isinstance(value, dict) else f"{len(value)} items"


def value_problem(
    got: Any,
    right: Any,
    axes: Any,
    exercise: Exercise,
    answer: Callable,
    names: list[str],
    cases: list[tuple],
) -> Text:
    """Same structure, other values: NaN, a factor, a broken promise, else the first difference."""
    where, got, right, axes = differing_leaf(got, right, axes, "")
    if not isinstance(right, Tensor):
        return say.wrong_value(where, repr(got)[:80], repr(right)[:80])
    if right.is_floating_point():
        bad = ~got.isfinite()
        if bad.any() and right.isfinite().all():
            return say.not_finite(where, int(bad.sum()), bad.numel())
        if factor := constant_factor(got, right):
            return say.factor(where, f"{factor:.4g}")
    for promise in exercise.unaffected:
        if breaks(promise, answer, names, cases):
            return in_both(promise.says)
    if not right.dim():
        return say.wrong_value(where, f"{got:.5g}", f"{right:.5g}")
    tensors_equal = (
        torch.isclose(got, right, RELATIVE, ABSOLUTE) if right.is_floating_point() else got == right
    )
    index = (~tensors_equal).nonzero()[0].tolist()
    place = ", ".join(f"{axis} {i}" for axis, i in zip(str(axes).split(), index, strict=False))
    wrong = f"{(~tensors_equal).sum():,} of {right.numel():,}"
    return say.first_difference(where, place, f"{got[tuple(index)]:.5g}", f"{right[tuple(index)]:.5g}", wrong)


def differing_leaf(got: Any, right: Any, axes: Any, where: str) -> tuple[str, Any, Any, Any]:
    """Walk down to the first leaf whose value differs."""
    if isinstance(right, tuple | list | dict):
        for number, key in enumerate(right if isinstance(right, dict) else range(len(right))):
            if not equal(got[key], right[key]):
                inner = axes[number] if isinstance(axes, tuple) else axes
                return differing_leaf(got[key], right[key], inner, f"{where}[{key!r}]")
    return where, got, right, axes


def breaks(promise: Any, answer: Callable, names: list[str], cases: list[tuple]) -> bool:
    for case in cases:
        changed = promise.change(copy.deepcopy(case))
        if changed is None:
            continue
        before, after = run(answer, names, case), run(answer, names, changed)
        if before.error or after.error or not equal(promise.keep(before.value), promise.keep(after.value)):
            return True
    return False


def gradient_problem(
    exercise: Exercise, answer: Callable, names: list[str], cases: list[tuple]
) -> Text | None:
    """Whether the gradient reaches every argument it must reach, with the reference's value."""
    for case in cases if exercise.gradient else []:
        right, got = (gradients(f, exercise, names, case) for f in (exercise.slot.reference, answer))
        for name in exercise.gradient:
            if got.get(name) is None:
                return say.no_gradient(name)
            if not equal(got[name], right[name]):
                return say.wrong_gradient(name)
    return None


def fixed_dtype_or_device(
    exercise: Exercise, answer: Callable, names: list[str], cases: list[tuple]
) -> Text | None:
    """An answer must follow the dtype and device of its input: half precision and GPUs come later."""
    reference = exercise.slot.reference
    for case in cases:
        doubled = convert(case, lambda t: t.double() if t.is_floating_point() else t)
        right, got = run(reference, names, doubled), run(answer, names, doubled)
        if right.error is None and not same(got, right):
            return say.fixed_dtype()
        elsewhere = convert(case, lambda t: t.to("meta"))
        if run_meta(reference, elsewhere) is None and "device" in (run_meta(answer, elsewhere) or ""):
            return say.fixed_device()
    return None


def pictures(exercise: Exercise, got: list[Outcome], expected: list[Outcome]) -> dict[str, list]:
    """Expected and got of the first wrong case as small pictures, if the exercise can draw its outputs."""
    if exercise.picture is None:
        return {}
    mine, right = next((m, r) for m, r in zip(got, expected, strict=True) if not same(m, r))
    try:
        drawn = {"expected": exercise.picture(right.value), "got": exercise.picture(mine.value)}
        return {name: torch.as_tensor(array).float()[:64, :128].tolist() for name, array in drawn.items()}
    except Exception:  # an output of the wrong shape cannot be drawn; the sentence says so
        return {}
