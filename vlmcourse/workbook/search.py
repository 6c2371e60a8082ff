"""Search for what in an answer makes it wrong, by calling it: with other arguments, and with ears.

The steps of its source are repair.py's. Everything happens within a time, unheard, and whatever the answer
does; what is said was tried.
"""

import contextlib
import copy
import dis
import inspect
import re
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmcourse.exercises.base import Slip, Text
from vlmcourse.workbook import repair
from vlmcourse.workbook.outcomes import Outcome, OutOfTime, Trial, equal, limited, run, unheard
from vlmcourse.workbook.repair import Line
from vlmcourse.workbook.say import phrase

SEARCH = 6.0  # seconds of CPU time for finding what is wrong, in whatever way; 0: none
CALLS, LONG = 100, 80  # calls that are noted; letters of one that is shown

Call = tuple[str, list[Tensor], Any]  # name, what it read, its result


def cause(
    answer: Callable, trial: Trial, got: list[Outcome], wrong: list[int]
) -> tuple[Text | None, Line | None]:
    """What in the answer makes it wrong, found by trying, and the line of it."""
    findings = (
        lambda: missing_import(got[wrong[0]].error, trial),
        lambda: repair.wrong_step(answer, trial, wrong),
        lambda: unread(answer, trial),
        lambda: right_for_others(trial, got, wrong),
        lambda: only_if_unrepeated(answer, trial, wrong[0]),
        lambda: other_calls(answer, trial, wrong[0]),
    )
    end = time.process_time() + SEARCH
    for find in findings if SEARCH else ():
        left = max(end - time.process_time(), SEARCH / 10)
        with contextlib.suppress(Exception, OutOfTime), unheard(), limited(left):
            if found := find():
                return (found, None) if isinstance(found, Text) else found
    return None, None


def missing_import(error: BaseException | None, trial: Trial) -> Text | None:
    """For a name that the answer lacks and the reference has from elsewhere: the line that brings it."""
    reference = inspect.unwrap(trial.exercise.slot.reference)
    name = error.name if type(error) is NameError else None
    if name not in reference.__globals__:
        return None
    brought = reference.__globals__[name]
    if isinstance(brought, types.ModuleType):
        there = brought.__name__
        line = f"import {there}" if there == name else f"import {there} as {name}"
    else:
        line = f"from {getattr(brought, '__module__', None) or reference.__module__} import {name}"
    return phrase("missing_import", name=name, line=line)


def reads(function: Callable) -> set[str]:
    """The names that a function written in Python looks up, in its inner functions too."""
    names, codes = set(), [inspect.unwrap(function).__code__]
    for code in codes:
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
        for step in dis.get_instructions(code):
            names |= _looked_up(step.opname, step.argval)
    return names


def _looked_up(opname: str, argval: Any) -> set[str]:
    """The names that one instruction looks up.

    From Python 3.13 on, one may do two things to two names, such as STORE_FAST_LOAD_FAST ("sum", "pad").
    """
    deeds = re.findall("LOAD|STORE", opname)
    names = argval if len(deeds) > 1 else (argval,)
    return {name for deed, name in zip(deeds, names, strict=False) if deed == "LOAD"}


def by_accident(answer: Callable, slip: Slip) -> bool:
    """Whether the answer reads an argument that the slip leaves alone, so that it does alike by accident."""
    read = reads(answer), reads(slip.wrong)
    names = (inspect.signature(function).parameters for function in (answer, slip.wrong))
    return any(mine in read[0] and theirs not in read[1] for mine, theirs in zip(*names, strict=False))


def unread(answer: Callable, trial: Trial) -> Text | None:
    """Whether the answer never looks at an argument that the reference reads."""
    names = list(inspect.signature(answer).parameters)
    mine, theirs = reads(answer), reads(inspect.unwrap(trial.reference))
    for name, right, value in zip(names, trial.names, trial.cases[0], strict=False):
        if name not in mine and right in theirs and not callable(value):  # calls are compared elsewhere
            return phrase("unread", name=right)
    return None


def right_for_others(trial: Trial, got: list[Outcome], wrong: list[int]) -> Text | None:
    """Whether each wrong output is right for an argument that is changed, such as ``text.flip(0)``."""
    first, *rest = [(trial.cases[place], got[place]) for place in wrong]
    numbers = [mine.value for _, mine in (first, *rest) if type(mine.value) in (bool, int, float)]
    if len(numbers) > 1 and len(set(numbers)) == 1:  # one number for everything is right for anything
        return None
    options = inspect.signature(trial.reference).parameters
    for number, (name, value) in enumerate(zip(trial.names, first[0], strict=False)):
        left_out = [("None", lambda v: None)] if value is not None and options[name].default is None else []
        for written, change in [*left_out, *_changes(name, value)]:
            with contextlib.suppress(Exception):
                if all(_right_for(trial, change, number, *each) for each in (first, *rest)):
                    return phrase("right_for", name=name, changed=written)
    return None


def _right_for(trial: Trial, change: Callable, number: int, case: tuple, mine: Outcome) -> bool:
    case = copy.deepcopy(case)
    changed = (*case[:number], change(case[number]), *case[number + 1 :])
    right = run(trial.reference, trial.names, changed)
    return right.error is None and mine.error is None and equal(mine.value, right.value)


def _changes(name: str, value: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Changes of an argument, as code and as functions."""
    if type(value) in (int, float):
        yield from ((f"{name} {'+-'[by < 0]} 1", lambda v, b=by: v + b) for by in (1, -1))
    if isinstance(value, tuple | list):
        yield f"{name}[::-1]", lambda v: v[::-1]
    if not isinstance(value, Tensor):
        return
    if value.dtype == torch.bool:
        yield f"~{name}", torch.logical_not
    for axis in range(value.dim()):
        at = ":, " * axis
        yield f"{name}.flip({axis})", lambda v, a=axis: v.flip(a)
        yield f"{name}[{at}:1]", lambda v, a=axis: v.narrow(a, 0, 1).expand_as(v)
        yield f"{name}[{at}:-1]", lambda v, a=axis: v.narrow(a, 0, v.shape[a] - 1)
        yield f"{name}[{at}1:]", lambda v, a=axis: v.narrow(a, 1, v.shape[a] - 1)
        yield f"{name}[{at}:1]", lambda v, a=axis: v.narrow(a, 0, 1)
        for by in (1, -1):
            yield f"{name}.roll({by}, {axis})", lambda v, a=axis, b=by: v.roll(b, a)
        if value.is_floating_point():
            yield f"{name}.mean({axis})", lambda v, a=axis: v.mean(a, keepdim=True).expand_as(v)
        yield from ((f"{name}.transpose({other}, {axis})", lambda v, a=axis, o=other: v.transpose(o, a))
                    for other in range(axis))  # fmt: skip
    if value.dtype != torch.bool:
        yield f"-{name}", torch.neg


def only_if_unrepeated(answer: Callable, trial: Trial, place: int) -> Text | None:
    """Whether the output is right once no combination of the index arguments comes twice."""
    case = copy.deepcopy(trial.cases[place])
    lists = [n for n, v in enumerate(case)
             if isinstance(v, Tensor) and v.dim() == 1 and not v.is_floating_point()]  # fmt: skip
    if not lists or len({len(case[n]) for n in lists}) > 1:
        return None
    rows = list(zip(*(case[n].tolist() for n in lists), strict=True))
    first = torch.tensor([rows.index(row) == k for k, row in enumerate(rows)])
    single = tuple(v[first] if n in lists else v for n, v in enumerate(case))
    theirs, mine = (run(function, trial.names, single) for function in (trial.reference, answer))
    if first.all() or theirs.error or mine.error or not equal(mine.value, theirs.value):
        return None
    return phrase("repeated", names=", ".join(trial.names[n] for n in lists))


@dataclass
class Calls:
    """What a function called among its arguments: names, what was handed over, and what came back."""

    given: dict[str, Any]
    made: list[Call] = field(default_factory=list)
    inside: bool = False  # a call is going on: what is called within it is not noted

    @classmethod
    def of(cls, function: Callable, trial: Trial, place: int) -> "Calls":
        calls = cls(dict(zip(trial.names, trial.cases[place], strict=False)))
        run(lambda *given: function(*map(calls.heard, calls.given, given)), trial.names, trial.cases[place])
        return calls

    def heard(self, name: str, value: Any) -> Any:
        """The argument; if it is a function or module, one whose calls are noted."""

        def noting(called: str, function: Callable) -> Callable:
            def noted(*args: Any, **more: Any) -> Any:
                if self.inside or len(self.made) >= CALLS:
                    return function(*args, **more)
                self.inside = True
                try:
                    read = inspect.signature(function).bind(*args, **more).arguments.values()
                    read = [part.detach().clone() for part in read if isinstance(part, Tensor)]
                    self.made.append((called, read, function(*args, **more)))
                finally:
                    self.inside = False
                return self.made[-1][-1]

            return noted

        if not isinstance(value, torch.nn.Module):
            return noting(name, value) if callable(value) else value
        for kind in type(value).__mro__[: type(value).__mro__.index(torch.nn.Module)]:
            for method, of in vars(kind).items():
                if inspect.isfunction(of) and method != "forward" and not method.startswith("_"):
                    setattr(value, method, noting(f"{name}.{method}", getattr(value, method)))
        for part, module in (("", value), *value.named_children()):
            module.forward = noting(f"{name}.{part}".strip("."), module.forward)
        return value

    def text(self, value: Tensor) -> str:
        """A value as code: an argument by its name, a result by the call that made it, else "…"."""
        names = [n for n, given in self.given.items() if isinstance(given, Tensor) and equal(given, value)]
        made = (self.written(call) for call in self.made if equal(call[2], value))
        return names[0] if names else next(made, "…")

    def written(self, call: Call) -> str:
        return f"{call[0]}({', '.join(map(self.text, call[1]))})"


def other_calls(answer: Callable, trial: Trial, place: int) -> Text | None:
    """How the answer calls the functions among its arguments otherwise than the reference does."""
    mine, theirs = (Calls.of(function, trial, place) for function in (answer, trial.reference))
    called, right = ([call[0] for call in calls.made] for calls in (mine, theirs))
    for name in right:
        if name not in called:
            return phrase("never_called", name=name, right=right.count(name))
    if called != right and sorted(called) == sorted(right):
        return phrase("call_order", got=", ".join(called), right=", ".join(right))
    for number, (one, other) in enumerate(zip(mine.made, theirs.made, strict=False)):
        if one[0] == other[0] and not equal(one[1], other[1]):
            texts = mine.written(one), theirs.written(other)
            if texts[0] != texts[1] and len(texts[0] + texts[1]) < 2 * LONG:
                return phrase("other_call", got=texts[0], right=texts[1])
            return phrase("other_values", name=one[0], number=called[: number + 1].count(one[0]))
    for name in dict.fromkeys(called):
        if called.count(name) != right.count(name):
            return phrase("called_times", name=name, got=called.count(name), right=right.count(name))
    return None
