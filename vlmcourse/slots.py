"""Slots: functions of the course that the learner's own version can replace.

A slot is a pure function, written with ``@slot`` in the module that teaches it and called like any other
function. Behind the name stands one indirection: ``slot.active`` is what runs, ``slot.reference`` is ours and
never changes.

    patchify(images, 8)            runs patchify.active
    patchify.install(my_version)   from here on every model of the course runs my_version
    patchify.reset()               back to the reference

Parameters live in modules, never in slots, so a checkpoint loads whoever wrote the function, and
``deepcopy``, autocast and ``torch.compile(fullgraph=True)`` see an ordinary call.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

REGISTRY: dict[str, "Slot"] = {}


class OpenExercise(RuntimeError):
    """A function was needed that its learner has not written, where no reference stands in."""


class Slot:
    """One replaceable function.

    Attributes:
        name: ``module.function``, for instance ``vit.patchify``; unique, and kept when the function moves.
        reference: the course's version, never replaced.
        active: what a call runs: the reference, or the learner's version once it passed.
        mine: the learner's latest attempt, passed or not; None before the first.
        changes: how often any slot of the course was given another function.
    """

    changes = 0

    def __init__(self, function: Callable, name: str | None = None):
        functools.update_wrapper(self, function)
        self.name = name or f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"
        self.reference = self.active = function
        self.mine: Callable | None = None
        known = REGISTRY.get(self.name)
        if known is not None and known.__module__ != function.__module__:
            places = f"{known.__module__} and {function.__module__}"
            raise ValueError(f"two slots are called {self.name}: in {places}")
        REGISTRY[self.name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.active(*args, **kwargs)

    def install(self, function: Callable) -> None:
        """Let every call of this slot run ``function``, called as the reference is called."""
        if not callable(function):
            given = type(function).__name__
            raise TypeError(f"{self.name} can only be replaced by a function, not by {given}")
        self.active = called_as(self.reference, function)
        Slot.changes += 1

    def reset(self) -> None:
        """Let every call run the reference again."""
        self.active = self.reference
        Slot.changes += 1

    def leave_open(self, says: str) -> None:
        """Let every call raise OpenExercise, until a function is installed: nothing stands in."""
        self.active = raising(self.reference, lambda: OpenExercise(says))
        self.active.left_open = True
        Slot.changes += 1

    @property
    def runs_mine(self) -> bool:
        """Whether a call runs the learner's function."""
        return self.active is not self.reference and not getattr(self.active, "left_open", False)

    def __repr__(self) -> str:
        whose = "your code" if self.runs_mine else "the course's reference"
        whose = whose if not getattr(self.active, "left_open", False) else "nothing yet"
        return f"<slot {self.name}: runs {whose}>"

    def __reduce__(self) -> str:
        """A slot is one thing per process: copies and pickles of models keep pointing at it, by its name."""
        return self.__name__


def raising(reference: Callable, problem: Callable[[], Exception]) -> Callable:
    """A function that looks like `reference`; however it is called, it raises what `problem` makes."""

    @functools.wraps(reference)
    def stops(*_: Any, **__: Any) -> NoReturn:
        raise problem()

    return stops


@contextmanager
def calls_counted() -> Iterator[dict[str, int]]:
    """How often each slot is called inside the block: by its name, in the order of the first calls.

    A slot runs as it does otherwise; only shortcuts that go round a reference are not taken.
    """
    counts: dict[str, int] = {}
    before = {name: slot.active for name, slot in REGISTRY.items()}

    def counting(name: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[name] = counts.get(name, 0) + 1
            return function(*args, **kwargs)

        return counted

    for name, function in before.items():
        REGISTRY[name].active = counting(name, function)
    try:
        yield counts
    finally:
        for name, function in before.items():
            REGISTRY[name].active = function


def called_as(reference: Callable, function: Callable) -> Callable:
    """``function``, for calls written for ``reference``: with its names of arguments and its defaults.

    Arguments go by place, so other names and missing defaults do no harm. A call whose argument the function
    does not have runs the reference, unless that argument is the default.
    """
    ours, theirs = (_parameters(each) for each in (reference, function))
    if theirs is None or ours is None or [_kind(one) for one in ours] == [_kind(one) for one in theirs]:
        return function
    signature, most = inspect.signature(reference), min(len(ours), len(theirs))
    if any(one.kind != one.POSITIONAL_OR_KEYWORD for one in ours + theirs):
        return function

    @functools.wraps(function)
    def adapted(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        if any(call.arguments.get(one.name, one.default) is not one.default for one in ours[most:]):
            return reference(*args, **kwargs)
        call.apply_defaults()
        return function(*call.args[:most])

    return adapted


def _parameters(function: Callable) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some builtins have none
        return None


def _kind(parameter: inspect.Parameter) -> tuple:
    return parameter.name, parameter.kind, repr(parameter.default)


def slot(function: Callable | None = None, *, name: str | None = None) -> Any:
    """Declare ``function`` as a slot; use as a decorator.

    Args:
        name: of a slot that has moved to another module: its former one, under which learners have saved it.
    """
    return functools.partial(Slot, name=name) if function is None else Slot(function)
