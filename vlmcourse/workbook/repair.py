"""Find the one step of a wrong answer that makes it wrong, by trying what the reference does there.

Both functions run once on a case while every torch call, every call of a slot and every call of a function
among the arguments is noted. Then one step of the answer at a time is exchanged: for a call the reference
makes of the same tensors, or one tensor it reads for an argument, for what the reference makes of that
tensor, or for what the tensor was one step before. If the outputs of all wrong cases become right, that step
is the mistake. Nothing is said that was not tried.
"""

import inspect
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vlmcourse.exercises.base import Text
from vlmcourse.slots import Slot
from vlmcourse.workbook.outcomes import Trial, equal, run, same
from vlmcourse.workbook.say import phrase

NOT_THE_LEARNERS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
OPERATORS = dict(add="+", sub="-", mul="*", div="/", truediv="/", floordiv="//", matmul="@", lt="<", le="<=",
                 gt=">", ge=">=", eq="==", ne="!=", pow="**") | {"and": "&", "or": "|"}  # fmt: skip
STEPS, LENGTH = 200, 80  # calls that are followed; letters of a tensor's name

Line = tuple[str, int]  # file and number
Key = tuple[Line, str, int]  # line, name, how many of that name came before in that line


@dataclass
class Call:
    """One noted call: its arguments as they were, and its result."""

    key: Key
    args: tuple
    kwargs: dict
    result: Any
    defaults: dict = field(default_factory=dict)  # of what is called

    @property
    def tensors(self) -> list[Tensor]:
        return list(_tensors((self.args, self.kwargs)))


@dataclass
class Step:
    """One exchange: in the call ``key``, tensor number ``operand`` (None: the result) becomes ``value``."""

    key: Key
    operand: int | None
    value: Any


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_mapped(item, change) for item in value)
    return {key: _mapped(item, change) for key, item in value.items()} if type(value) is dict else value


class TooLong(Exception):
    """A function makes more calls than are followed."""


class Trace(TorchFunctionMode):
    """Runs a function on a case, notes its calls, and makes one exchange if asked for."""

    def __init__(self, function: Callable, trial: Trial, case: tuple, step: Step | None = None):
        super().__init__()
        self.calls: list[Call] = []
        self.step, self.count, self.inside = step, Counter(), False
        self.names = dict(zip(trial.names, case, strict=False))
        self.texts: dict[int, str] = {}
        self.others: list[Call] = []  # of the other function, to name values by
        self.outcome = run(lambda *given: self._whole(function, given), trial.names, case)

    def _whole(self, function: Callable, given: tuple) -> Any:
        watched = [self._watched(name, value) for name, value in zip(self.names, given, strict=False)]
        called, trace = Slot.__call__, self

        def slot_called(slot: Slot, *args: Any, **kwargs: Any) -> Any:
            return trace.note(slot.__name__, lambda *a, **k: called(slot, *a, **k), args, kwargs)

        with patch.object(Slot, "__call__", slot_called), self:
            result = function(*watched)
        return self.note("return", lambda value: value, (result,), {})

    def _watched(self, name: str, value: Any) -> Any:
        """The argument; if it is a function or module, one that notes its calls."""

        def noting(called: str, function: Callable) -> Callable:
            return lambda *args, **kwargs: self.note(called, function, args, kwargs)

        if not isinstance(value, torch.nn.Module):
            return noting(name, value) if callable(value) else value
        value.forward = noting(name, value.forward)
        for kind in type(value).__mro__[: type(value).__mro__.index(torch.nn.Module)]:
            for method, of in vars(kind).items():
                if inspect.isfunction(of) and method != "forward" and not method.startswith("_"):
                    setattr(value, method, noting(f"{name}.{method}", getattr(value, method)))
        return value

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        name, kwargs = function.__name__, kwargs or {}
        if name == "__get__":
            name = function.__self__.__name__
            if name not in ("T", "mT"):
                return function(*args, **kwargs)
        return self.note(name.strip("_"), function, args, kwargs)

    def note(self, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
        """Call ``function``; note it unless it was called by a noted call."""
        if self.inside:
            return function(*args, **kwargs)
        if len(self.calls) > STEPS:
            raise TooLong
        line = self.calls[-1].key[0] if name == "return" and self.calls else _line()
        key = (line, name, self.count[line, name])
        self.count[line, name] += 1
        mine = self.step if self.step and self.step.key == key else None
        value = _mapped(mine.value, _copy) if mine else None  # the answer may change it in place
        if mine and mine.operand is not None:
            number = iter(range(STEPS))
            args, kwargs = _mapped(
                (args, kwargs), lambda t: value if next(number) == mine.operand else t)  # fmt: skip
        call = Call(key, *_mapped((args, kwargs), _copy), None, _defaults(function) if kwargs else {})
        self.calls.append(call)
        self.inside = True
        try:
            result = value if mine and mine.operand is None else function(*args, **kwargs)
        finally:
            self.inside = False
        call.result = _mapped(result, _copy)
        return result

    def text(self, value: Any, to: int | None = None) -> str:
        """A value as code: an argument by its name, a result by the call that made it, else "…"."""
        if isinstance(value, Tensor):
            name = next(
                (n for n, v in self.names.items() if isinstance(v, Tensor) and _equal(v, value)), None
            )
            known = [*self.calls[:to], *self.others] if name is None else []
            made = next((c for c in known if _equal(c.result, value) and c.key[1] != "return"), None)
            text = name or (self.written(made) if made else "…")
            return text if len(text) <= LENGTH else "…"
        if type(value) in (tuple, list):
            inner = ", ".join(self.text(item, to) for item in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner})"
        if isinstance(value, slice):
            return ":".join("" if part is None else str(part) for part in (value.start, value.stop))
        return ("..." if value is ... else repr(value))[:LENGTH]

    def written(self, call: Call) -> str:
        """The call as code; worked out once."""
        if id(call) not in self.texts:
            self.texts[id(call)] = "…"
            self.texts[id(call)] = self._code(call)
        return self.texts[id(call)]

    def _code(self, call: Call) -> str:
        name = call.key[1]
        to = next((number for number, known in enumerate(self.calls) if known.key == call.key), None)
        words = [self.text(value, to) for value in call.args]
        words += [f"{key}={self.text(value, to)}" for key, value in call.kwargs.items()
                  if value is not None and key != "device" and not key.startswith("_")
                  and not (key in call.defaults and equal(call.defaults[key], value))]  # fmt: skip
        if name == "return":
            return f"return {words[0]}"
        if name in OPERATORS and len(words) == 2:
            return f"({words[0]} {OPERATORS[name]} {words[1]})"
        if name == "getitem":
            inside = words[1][1:-1] if isinstance(call.args[1], tuple) else words[1]
            return f"{words[0]}[{inside}]"
        if name in ("invert", "neg", "T", "mT"):
            return {"invert": f"~{words[0]}", "neg": f"-{words[0]}"}.get(name, f"{words[0]}.{name}")
        return f"{name}({', '.join(words)})"


def _defaults(function: Callable) -> dict[str, Any]:
    """The default arguments of a function written in Python."""
    try:
        return {name: of.default for name, of in inspect.signature(function).parameters.items()}
    except (ValueError, TypeError):
        return {"keepdim": False, "p": "fro"}


def _line() -> Line:
    """The line of the learner's code that runs now; the same for all of the course's own."""
    frame = sys._getframe(1)
    while frame and frame.f_code.co_filename.startswith(NOT_THE_LEARNERS):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("", 0)


def _copy(value: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return value.detach().clone()


def _equal(a: Any, b: Any) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return False
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return torch.allclose(a, b, 1e-4, 1e-6, equal_nan=True) if a.is_floating_point() else torch.equal(a, b)


@dataclass
class Traces:
    """An answer and the reference on one case."""

    mine: Trace
    theirs: Trace

    @classmethod
    def of(cls, answer: Callable, trial: Trial, place: int) -> "Traces":
        mine, theirs = (Trace(function, trial, trial.cases[place]) for function in (answer, trial.reference))
        mine.others, theirs.others = theirs.calls, mine.calls
        return cls(mine, theirs)

    def exchanges(self) -> Iterator[tuple[Step, Callable[[], str], Callable[["Traces"], Any]]]:
        """(step, what writes the call it makes, how to find the step's value in the traces of a case)."""
        for call in self.mine.calls:
            own = call.tensors
            for other in self.theirs.calls if call.key[1] != "return" else ():
                kinds = isinstance(other.result, Tensor) and isinstance(call.result, Tensor | None)
                if (
                    kinds
                    and own
                    and _same_tensors(own, other.tensors)
                    and not equal(call.result, other.result)
                ):
                    step = Step(call.key, None, other.result)
                    yield step, partial(self.theirs.written, other), _result_of("theirs", other.key)
            for number, tensor in enumerate(own):
                for value, find in self._instead_of(tensor):
                    if not _equal(value, tensor):
                        yield Step(call.key, number, value), partial(self._with, call, number, value), find

    def _instead_of(self, tensor: Tensor) -> Iterator[tuple[Tensor, Callable[["Traces"], Any]]]:
        """An argument, the tensor one step of the reference later, or one step of the answer earlier."""
        for other in self.theirs.calls:
            if isinstance(other.result, Tensor) and any(_equal(tensor, read) for read in other.tensors):
                yield other.result, _result_of("theirs", other.key)
        for other in self.mine.calls:
            if _equal(other.result, tensor):
                for number, read in enumerate(other.tensors):
                    yield read, _operand_of(other.key, number)
                for another in self.theirs.calls:
                    if isinstance(another.result, Tensor) and _alike(other, another):
                        yield another.result, _result_of("theirs", another.key)
        for name, value in self.mine.names.items():
            if isinstance(value, Tensor):
                yield value, _argument(name)

    def _with(self, call: Call, operand: int, value: Tensor) -> str:
        number = iter(range(STEPS))
        args, kwargs = _mapped((call.args, call.kwargs), lambda t: value if next(number) == operand else t)
        return self.mine.written(Call(call.key, args, kwargs, None, call.defaults))


def _alike(call: Call, other: Call) -> bool:
    """Whether two calls read the same tensors, or do the same with at least one tensor in common."""
    own, theirs = call.tensors, other.tensors
    if call.key[1] == other.key[1]:
        return any(_equal(one, another) for one in own for another in theirs)
    return bool(own) and _same_tensors(own, theirs)


def _same_tensors(some: list[Tensor], others: list[Tensor]) -> bool:
    left = list(others)
    for tensor in some:
        match = next((n for n, other in enumerate(left) if _equal(tensor, other)), None)
        if match is None:
            return False
        left.pop(match)
    return not left


def _result_of(side: str, key: Key) -> Callable[[Traces], Any]:
    return lambda traces: next(call.result for call in getattr(traces, side).calls if call.key == key)


def _operand_of(key: Key, number: int) -> Callable[[Traces], Any]:
    return lambda traces: next(call.tensors[number] for call in traces.mine.calls if call.key == key)


def _argument(name: str) -> Callable[[Traces], Any]:
    return lambda traces: traces.mine.names[name]


def wrong_step(answer: Callable, trial: Trial, wrong: list[int]) -> tuple[Text, Line] | None:
    """The sentence about the one step that, exchanged, makes the most ``wrong`` cases right, and its line."""
    cases = {place: Traces.of(answer, trial, place) for place in wrong}
    first = cases[wrong[0]]
    most, found = 0, None
    for step, right, find in itertools.islice(first.exchanges(), STEPS):
        mended = sum(_mends(step, find, cases[place], answer, trial, place) for place in wrong)
        if mended > most:
            call = next(call for call in first.mine.calls if call.key == step.key)
            written = _bare(first.mine.written(call)), _bare(right())
            if written[0] != "return …" and (mended == len(wrong) or "…" not in written[1]):
                most, found = mended, (step.key[0], *written)
        if most == len(wrong):
            break
    if found is None or found[1] == found[2]:
        return None
    line, got, right = found
    name = "wrong_step" if most == len(wrong) else "wrong_step_somewhere"
    return phrase(name, line=line[1], got=got, right=right, mended=most, all=len(wrong)), line


def _mends(step: Step, find: Callable, traces: Traces, answer: Callable, trial: Trial, place: int) -> bool:
    """Whether the exchange ``step``, with its value found in this case's traces, makes the case right."""
    try:
        exchange = Step(step.key, step.operand, find(traces))
    except (StopIteration, IndexError):
        return False
    return same(Trace(answer, trial, trial.cases[place], exchange).outcome, trial.expected[place])


def _bare(text: str) -> str:
    """Without the brackets around a whole operation."""
    depth = list(itertools.accumulate((letter == "(") - (letter == ")") for letter in text))
    return text[1:-1] if text.startswith("(") and 0 not in depth[:-1] else text


def other_calls(answer: Callable, trial: Trial, place: int) -> Text | None:
    """How the answer calls the functions among its arguments otherwise than the reference does."""
    traces = Traces.of(answer, trial, place)
    given = [name for name, value in traces.theirs.names.items() if callable(value)]
    mine, theirs = (
        [call for call in trace.calls if call.key[1].split(".")[0] in given]
        for trace in (traces.mine, traces.theirs)
    )
    called = [[call.key[1] for call in calls] for calls in (mine, theirs)]
    for name in dict.fromkeys(called[1] + called[0]):
        times = [names.count(name) for names in called]
        if times[0] != times[1]:
            return phrase(
                "called_times" if times[0] else "never_called", name=name, got=times[0], right=times[1]
            )
    if called[0] != called[1]:
        return phrase("call_order", got=", ".join(called[0]), right=", ".join(called[1]))
    for one, other in zip(mine, theirs, strict=True):
        got, right = traces.mine.written(one), traces.theirs.written(other)
        if got != right and not (
            _same_tensors(one.tensors, other.tensors) and len(one.args) == len(other.args)
        ):
            return phrase("other_call", got=got, right=right)
    return None
