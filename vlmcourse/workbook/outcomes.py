"""What a function does when it is called, and when two do the same; the checker's measuring tools."""

import contextlib
import copy
import dataclasses
import functools
import inspect
import io
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vlmcourse.exercises.base import Exercise, Slip

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # float32 results of the same formula in another order differ by less
SEED = 20  # of the cases in a notebook; whoever grades draws others


@dataclass
class Outcome:
    """What one call did: the value it returned or the exception it raised, and the argument it changed."""

    value: Any = None
    error: BaseException | None = None
    changed: str | None = None


def run(function: Callable, names: list[str], case: tuple) -> Outcome:
    """Call ``function`` on a copy of ``case`` and note everything it did."""
    given, outcome = copied(case), Outcome()
    torch.default_generator.manual_seed(21)  # torch.manual_seed also asks GPUs, and takes longer than a case
    try:
        outcome.value = function(*given)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        outcome.error = error
    for name, before, after in zip(names, case, given, strict=False):
        if isinstance(before, Tensor | tuple | list | dict) and not equal(before, after):
            outcome.changed = name
        if marks(before) != marks(after) or not equal(insides(before), insides(after)):
            outcome.changed = name
    return outcome


def copied(case: tuple) -> tuple:
    """A deep copy; of a weight that holds a gradient, that too, which Python's own leaves out."""
    given = copy.deepcopy(case)
    for before, after in zip(case, given, strict=True):
        if isinstance(before, torch.nn.Module):
            for old, new in zip(before.parameters(), after.parameters(), strict=True):
                new.grad = None if old.grad is None else old.grad.clone()
    return given


def marks(value: Any) -> list[Any]:
    """Which tensors in a value, in lists and modules too, require a gradient; and which modules train."""
    if isinstance(value, tuple | list):
        return [marks(item) for item in value]
    if isinstance(value, torch.nn.Module):
        training = [module.training for module in value.modules()]
        return [training, [weight.requires_grad for weight in value.parameters()]]
    return [value.requires_grad] if isinstance(value, Tensor) else []


def insides(value: Any) -> dict[str, Tensor | None]:
    """The weights and buffers of a module, and the gradients that they hold; {} of anything else."""
    if not isinstance(value, torch.nn.Module):
        return {}
    weights = dict(value.named_parameters())
    return weights | dict(value.named_buffers()) | {f"{name}.grad": w.grad for name, w in weights.items()}


def surroundings(exercise: Exercise) -> contextlib.AbstractContextManager:
    """Where the answers to an exercise are called: where gradients are followed, or where they are not."""
    return torch.no_grad() if exercise.no_graph else contextlib.nullcontext()


class OutOfTime(BaseException):
    """Trying took longer than it may; a learner's ``except Exception`` does not stop it."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime after so many seconds of CPU time; at once where there is no timer for it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        raise OutOfTime

    over = threading.Event()

    def ring(*_: Any) -> None:
        if not over.is_set():
            raise OutOfTime

    def heard(unraisable: Any) -> None:
        """It rang where nobody can catch it, in a weak reference's callback, say; it will ring again."""
        if unraisable.exc_type is not OutOfTime:
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, heard
    outer, before = signal.getitimer(signal.ITIMER_PROF)[0], signal.signal(signal.SIGPROF, ring)
    began, again = time.process_time(), 0.05  # it rings again: what was tried may have caught the first one
    try:
        signal.setitimer(signal.ITIMER_PROF, min(seconds, outer or seconds), again)
        yield
    finally:
        over.set()
        left = outer and max(outer - (time.process_time() - began), 1e-6)
        signal.setitimer(signal.ITIMER_PROF, left, again if left else 0)
        signal.signal(signal.SIGPROF, before if callable(before) else signal.SIG_IGN)  # one may be on its way
        sys.unraisablehook = hook


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Nothing that is printed or warned of while things are tried is the learner's to read."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def same(a: Outcome, b: Outcome) -> bool:
    return a.changed == b.changed and type(a.error) is type(b.error) and equal(a.value, b.value)


def same_either_way(a: Outcome, b: Outcome) -> bool:
    """The same, where neither of the two is the right one."""
    return same(a, b) or same(b, a)


def same_dtypes(a: Outcome, b: Outcome) -> bool:
    """Whether the floating point outputs have the same dtypes, and no error of ``a`` speaks of a dtype."""
    if a.error is not None:
        return not any(words in str(a.error) for words in ("dtype", "scalar type"))
    return [t.dtype for t in floats_of(a.value)] == [t.dtype for t in floats_of(b.value)]


def close(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors of the same shape are equal, up to rounding if they hold floating point numbers."""
    return torch.isclose(a, b, RELATIVE, ABSOLUTE, equal_nan=True) if a.is_floating_point() else a == b


def equal(a: Any, b: Any) -> bool:
    """Equal in structure and, for floating point numbers, in value up to rounding."""
    try:
        return _equal(a, b)
    except Exception:  # a learner may return anything, such as objects that cannot be compared
        return False


def kind(value: Any) -> type:
    """The type that decides: an OrderedDict is a dict, a NamedTuple a tuple, a Parameter a tensor."""
    return next(
        (base for base in (Tensor, dict, list, tuple, str, float) if isinstance(value, base)), type(value)
    )


def of_a_kind(got: Any, right: Any) -> bool:
    """Whether a value has the type that it must have.

    A whole number is as good as the float it equals, and numpy's as good as Python's.
    """
    whole = type(got) is int or isinstance(got, numpy.integer)
    return kind(got) is kind(right) or (whole and kind(right) in (int, float))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
        return alike and bool(close(a, b).all())
    if not of_a_kind(a, b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)  # in whatever order
    if isinstance(b, float):
        return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE) or (math.isnan(a) and math.isnan(b))
    if dataclasses.is_dataclass(a):
        names = fields_of(a)
        return names == fields_of(b) and all(equal(getattr(a, name), getattr(b, name)) for name in names)
    return a is b or bool(a == b)


def fields_of(value: Any) -> list[str]:
    """The names of a dataclass' fields that count when two of it are compared; [] for anything else."""
    held = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return [field.name for field in dataclasses.fields(value) if field.compare] if held else []


def parts(got: Any, right: Any, axes: str | tuple, where: str = "") -> Iterator[tuple[Any, Any, Any, str]]:
    """An output beside the right one, its axes and place, such as "[1]" or ".key"; then all that it holds."""
    yield got, right, own_axes(axes, right), where
    if isinstance(right, tuple | list | dict):
        for number, key in enumerate(right if isinstance(right, dict) else range(len(right))):
            inner = axes[number] if isinstance(axes, tuple) else axes
            yield from parts(got[key], right[key], inner, f"{where}[{key!r}]")
    for name in fields_of(right):
        yield from parts(getattr(got, name), getattr(right, name), "", f"{where}.{name}")


def own_axes(axes: str | tuple, value: Any) -> str | tuple:
    """The names of a value's axes: the last ones, if a tensor has fewer than there are names."""
    if not isinstance(value, Tensor) or not isinstance(axes, str):
        return axes
    names = axes.split()
    return " ".join(names[max(0, len(names) - value.dim()) :])


def difference(got: Any, right: Any, axes: str | tuple) -> tuple[Any, Any, Any, str]:
    """The first part, with no parts of its own, whose value differs; else the whole."""
    leaves = (part for part in parts(got, right, axes)
              if not isinstance(part[1], tuple | list | dict) and not fields_of(part[1]))  # fmt: skip
    return next((leaf for leaf in leaves if not equal(*leaf[:2])), (got, right, axes, ""))


class Trial:
    """What the reference and the slips of an exercise do on its cases; a slip runs when first asked for.

    Args:
        seed: another one draws other cases, where they are drawn.
    """

    def __init__(self, exercise: Exercise, seed: int = SEED):
        self.exercise, self.reference = exercise, exercise.slot.reference
        self.names = list(inspect.signature(self.reference).parameters)  # of the arguments
        torch.default_generator.manual_seed(seed)
        self.cases = exercise.cases()  # argument tuples, the same every time
        with surroundings(exercise):
            self.expected = [run(self.reference, self.names, case) for case in self.cases]
        self._outcomes: dict[tuple[int, int], Outcome] = {}

    @property
    def coarse(self) -> bool:
        """Whether every right output is a few small whole numbers: wrong ones are often alike by chance."""
        return all(_few_and_small(right.value) for right in self.expected)

    def slip(self, number: int, place: int) -> Outcome:
        """What slip ``number`` does with case ``place``."""
        if (number, place) not in self._outcomes:
            wrong = self.exercise.slips[number].wrong
            with surroundings(self.exercise):
                self._outcomes[number, place] = run(wrong, self.names, self.cases[place])
        return self._outcomes[number, place]

    def like_slip(self, got: dict[int, Outcome]) -> Slip | None:
        """The first slip that does the same with each of these cases, given by place.

        Where all it does is raise, the words must be the same, too: a type of error alone says little.
        """
        raises = all(mine.error is not None for mine in got.values())
        for number, slip in enumerate(self.exercise.slips):
            both = ((self.slip(number, place), mine) for place, mine in got.items())
            if all(same_either_way(a, b) and (not raises or str(a.error) == str(b.error)) for a, b in both):
                return slip
        return None

    def gradients(self, function: Callable, case: tuple) -> dict[str, list[Tensor | None] | None]:
        """Gradients of a fixed random projection of the outputs, by argument; None where nothing arrives."""
        given = dict(zip(self.names, copy.deepcopy(case), strict=False))
        held = {name: list(floats_of(given.get(name))) for name in self.exercise.gradient}
        leaves = [leaf.requires_grad_() for several in held.values() for leaf in several]
        generator = torch.Generator().manual_seed(22)
        total = sum((t * torch.randn(t.shape, generator=generator, dtype=t.dtype)).sum()
                    for t in floats_of(function(*given.values())))  # fmt: skip
        if not leaves or not isinstance(total, Tensor) or not total.requires_grad:
            return dict.fromkeys(held)
        slopes = iter(torch.autograd.grad(total, leaves, allow_unused=True))
        found = {name: [next(slopes) for _ in several] for name, several in held.items()}
        return {name: several if any(s is not None for s in several) else None
                for name, several in found.items()}  # fmt: skip


def _few_and_small(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) else (value,)
    return len(numbers) <= 4 and all(type(n) in (bool, int, float) and n in range(11) for n in numbers)


def floats_of(value: Any) -> Iterator[Tensor]:
    """Every tensor of floating point numbers in a value, in tuples, lists and dicts, too."""
    if isinstance(value, Tensor):
        yield from [value] if value.is_floating_point() else []
    elif isinstance(value, tuple | list | dict):
        for key in sorted(value) if isinstance(value, dict) else range(len(value)):
            yield from floats_of(value[key])


@functools.lru_cache(maxsize=128)
def trial_of(exercise: Exercise, changes: int, seed: int = SEED) -> Trial:
    """The trial of an exercise; a new one when a slot got another function, as references call slots."""
    return Trial(exercise, seed)


def convert(case: tuple, change: Callable[[Tensor], Tensor]) -> tuple:
    """A copy of the case with every tensor, in tuples, lists and dicts too, and every module, changed."""

    def converted(value: Any) -> Any:
        if isinstance(value, torch.nn.Module):
            return copy.deepcopy(value)._apply(change)
        if isinstance(value, torch.nn.Parameter):
            return torch.nn.Parameter(change(value.detach()), value.requires_grad)
        if hasattr(value, "_make"):  # a NamedTuple
            return value._make(map(converted, value))
        if isinstance(value, tuple | list):
            return type(value)(map(converted, value))
        if isinstance(value, dict):
            return {key: converted(item) for key, item in value.items()}
        return change(value) if isinstance(value, Tensor) else value

    return converted(case)


class Operations(TorchDispatchMode):
    """Notes the names of torch's operations, such as "aten::convolution", while it is entered."""

    def __init__(self):
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        self.seen.add(function.name().split(".")[0])
        return function(*args, **(kwargs or {}))


def constant_factor(got: Tensor, right: Tensor) -> float | None:
    """c if got = c · right everywhere and c is not 1, nor so near it that another reason is likelier."""
    got, right = got.double(), right.double()
    scale = (right**2).sum()
    if scale == 0 or right.numel() < 2:
        return None
    factor = ((got * right).sum() / scale).item()
    close = torch.allclose(got, factor * right, RELATIVE, ABSOLUTE)
    return factor if close and abs(factor) > 1e-6 and abs(factor - 1) > 10 * RELATIVE else None
