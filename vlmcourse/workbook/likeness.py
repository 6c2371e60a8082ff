"""How a wrong output resembles the right one: relations that hold in every wrong case, and where it is right.

Every finding is computed from the outputs and true as it stands; the first one found is said.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vlmcourse.exercises.base import Text
from vlmcourse.workbook.outcomes import Trial, close, constant_factor, equal, run
from vlmcourse.workbook.say import phrase

NEARLY = 0.02  # of the largest right number: differences of rounding, epsilons and approximations

Pairs = list[tuple[Any, Any]]  # (got, right) of one part of the output in each wrong case


def likeness(pairs: Pairs, axes: str, where: str) -> Text | None:
    """A relation between the outputs of all wrong cases and the right ones."""
    if all(isinstance(value, Tensor) for pair in pairs for value in pair):
        found = _of_tensors(pairs, axes.split(), where)
    else:
        found = _of_values(pairs, where)
    return next(found, None)


def _all(pairs: Pairs, holds: Callable[[Any, Any], bool]) -> bool:
    try:
        return all(holds(got, right) for got, right in pairs)
    except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return False


def _of_tensors(pairs: Pairs, axes: list[str], where: str) -> Iterator[Text]:
    if _all(pairs, lambda got, right: got.numel() > 1 and bool((got == got.flatten()[0]).all())):
        yield phrase(
            "all_alike",
            where,
            value=f"{pairs[0][0].flatten()[0].item():.5}"
            if pairs[0][0].is_floating_point()
            else pairs[0][0].flatten()[0].item(),
        )
    if _all(pairs, lambda got, right: right.dtype == torch.bool and equal(got, ~right)):
        yield phrase("inverted", where)
    if all(right.is_floating_point() for _, right in pairs):
        yield from _of_numbers(pairs, where)
    for axis, name in enumerate(axes):
        for by in (1, -1):
            if _all(pairs, lambda got, right, a=axis, b=by: _moved(got, right, a, b)):
                yield phrase("moved" if by > 0 else "moved_back", where, axis=name)
        if _all(pairs, lambda got, right, a=axis: equal(got, right.flip(a))):
            yield phrase("reversed", where, axis=name)
        for other in range(axis):
            if _all(pairs, lambda got, right, a=axis, o=other: equal(got, right.transpose(a, o))):
                yield phrase("transposed", where, axis=axes[other], other=name)
    if _all(pairs, lambda got, right: equal(got.flatten().sort()[0], right.flatten().sort()[0])):
        yield phrase("other_places", where)
    for axis, name in enumerate(axes):
        if _all(pairs, lambda got, right, a=axis: right.shape[a] > 1 and equal(
                got, right.select(a, 0).unsqueeze(a).expand_as(right))):  # fmt: skip
            yield phrase("first_for_all", where, axis=name)
        if _all(pairs, lambda got, right, a=axis: _row_factors(got, right, a)):
            yield phrase("row_factors", where, axis=name)


def _of_numbers(pairs: Pairs, where: str) -> Iterator[Text]:
    relations = {
        "-x": torch.neg, "1 - x": lambda x: 1 - x, "1 / x": torch.reciprocal, "x²": torch.square,
        "√x": torch.sqrt, "exp(x)": torch.exp, "log(x)": torch.log, "log₂(x)": torch.log2,
        "|x|": torch.abs, "x / (1 - x)": lambda x: x / (1 - x),
    }  # fmt: skip
    for name, change in relations.items():
        if _all(pairs, lambda got, right, f=change: equal(got, f(right))):
            yield phrase("relation", where, relation=name)
    if not pairs[0][1].dim() and len(pairs) > 1:
        stacked = [torch.stack(values) for values in zip(*pairs, strict=True)]
        if factor := constant_factor(*stacked):
            yield phrase("factor", where, factor=factor)
    offset = (pairs[0][0] - pairs[0][1]).flatten()[0]
    if _all(pairs, lambda got, right: bool(close(got - right, offset.expand_as(right)).all())) and (
        pairs[0][1].numel() > 1 or len(pairs) > 1
    ):
        yield phrase("offset", where, offset=f"{offset.item():+.4g}")
    if _all(pairs, lambda got, right: bool((got - right).abs().max() <= NEARLY * right.abs().max())):
        most = max((got - right).abs().max().item() for got, right in pairs)
        yield phrase("nearly", where, most=f"{most:.2g}")


def _moved(got: Tensor, right: Tensor, axis: int, by: int) -> bool:
    length = right.shape[axis] - 1
    ahead, behind = (t.narrow(axis, start, length) for t, start in ((got, by > 0), (right, by < 0)))
    varies = bool((right.narrow(axis, 0, length) != right.narrow(axis, 1, length)).any())
    return length > 0 and varies and equal(ahead, behind)


def _row_factors(got: Tensor, right: Tensor, axis: int) -> bool:
    """Whether got = c · right with one c for everything along ``axis``; needs three numbers there."""
    if not right.is_floating_point() or right.shape[axis] < 3:
        return False
    factor = (got * right).sum(axis, keepdim=True) / right.square().sum(axis, keepdim=True)
    return bool(factor.isfinite().all()) and equal(got, factor * right)


def _of_values(pairs: Pairs, where: str) -> Iterator[Text]:
    if _all(pairs, lambda got, right: isinstance(right, bool) and got is (not right)):
        yield phrase("inverted", where)
    if _all(pairs, lambda got, right: type(right) in (int, float)):
        numbers = [(torch.tensor(float(got)), torch.tensor(float(right))) for got, right in pairs]
        yield from _of_numbers(numbers, where)
    if _all(pairs, lambda got, right: isinstance(right, list | str) and got == right[::-1]):
        yield phrase("backwards", where)
    if _all(pairs, lambda got, right: isinstance(right, str) and got.lower() == right.lower()):
        yield phrase("other_case", where)
    if _all(
        pairs, lambda got, right: isinstance(right, str) and "".join(got.split()) == "".join(right.split())
    ):
        yield phrase("other_spaces", where)
    if _all(
        pairs,
        lambda got, right: isinstance(right, list) and sorted(map(repr, got)) == sorted(map(repr, right)),
    ):
        yield phrase("other_order", where)


def where_right(got: Tensor, right: Tensor, axes: list[str]) -> Text | None:
    """The axis along which some places are all right and others are not."""
    wrong = ~close(got, right)
    for axis, name in enumerate(axes if len(axes) == right.dim() else []):
        bad = wrong.movedim(axis, 0).flatten(1).any(1) if right.dim() > 1 else wrong
        good, false = ((~bad).nonzero().flatten().tolist(), bad.nonzero().flatten().tolist())
        if good and len(bad) > 2 and (len(false) == 1 or len(good) == 1):
            return phrase(
                "one_wrong" if len(false) == 1 else "one_right",
                axis=name,
                place=(false if len(false) == 1 else good)[0],
            )
        if good and len(bad) > 1 and right.dim() > 1:
            return phrase("some_right", axis=name, good=_listed(good), bad=_listed(false))
    return None


def _listed(numbers: list[int]) -> str:
    text = ", ".join(map(str, numbers[:6]))
    return text + (", …" if len(numbers) > 6 else "")


def without_effect(answer: Callable, trial: Trial) -> Text | None:
    """Whether an argument that changes the reference's output never changes the answer's."""
    for number, name in enumerate(trial.names):
        cases = [case for case in trial.cases if len(case) > number]
        changed = [
            (case, (*case[:number], value, *case[number + 1 :]))
            for case in cases
            for value in _others(case[number], [other[number] for other in cases])
        ]
        if _changes(trial.reference, trial, changed) is True and _changes(answer, trial, changed) is False:
            return phrase("without_effect", name=name)
    return None


def _changes(function: Callable, trial: Trial, pairs: list[tuple[tuple, tuple]]) -> bool | None:
    """Whether the output differs within any of these pairs of cases; None if it is always an error."""
    outputs = [tuple(run(function, trial.names, case) for case in pair) for pair in pairs]
    known = [(a.value, b.value) for a, b in outputs if not a.error and not b.error]
    return any(not equal(a, b) for a, b in known) if known else None


def _others(value: Any, seen: list) -> Iterator[Any]:
    """Other values for an argument: those of other cases, and small changes."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (other for other in seen if type(other) is type(value) and other != value)
        yield value + 1 if isinstance(value, int) else value * 0.5 + 0.125
    elif isinstance(value, Tensor) and value.numel():
        if value.dtype == torch.bool:
            yield ~value
        elif value.is_floating_point():
            yield value + torch.linspace(0.5, 1.5, value.numel()).reshape(value.shape).to(value.dtype)
        else:
            yield value.flip(-1) if value.dim() else value + 1


def right_until(trial: Trial, wrong: list[int]) -> Text | None:
    """What an argument is in every wrong case and in no right one, if some cases are right."""
    right = [place for place in range(len(trial.cases)) if place not in wrong]
    for number, name in enumerate(trial.names if right else []):
        kinds = [
            _kind(case[number] if len(case) > number else None, len(trial.cases) > 2) for case in trial.cases
        ]
        good, bad = ({kinds[place] for place in places} for places in (right, wrong))
        if None not in good | bad and not good & bad and len(bad) == 1:
            return phrase("right_before", name=name, good=" / ".join(sorted(good)), bad=bad.pop())
    return None


def _kind(value: Any, numbers: bool) -> str | None:
    """What is told of an argument when cases are compared; None: it is not compared."""
    if value is None or isinstance(value, bool) or (numbers and isinstance(value, int | float)):
        return repr(value)
    return "given" if isinstance(value, Tensor | tuple) else None


def only_if_unrepeated(answer: Callable, trial: Trial, place: int) -> Text | None:
    """Whether the output is right once no combination of the index arguments comes twice."""
    case = copy.deepcopy(trial.cases[place])
    lists = [
        n for n, v in enumerate(case) if isinstance(v, Tensor) and v.dim() == 1 and not v.is_floating_point()
    ]
    if not lists or len({len(case[n]) for n in lists}) > 1:
        return None
    rows = list(zip(*(case[n].tolist() for n in lists), strict=True))
    first = torch.tensor([rows.index(row) == k for k, row in enumerate(rows)])
    if first.all():
        return None
    single = tuple(v[first] if n in lists else v for n, v in enumerate(case))
    theirs, mine = (run(function, trial.names, single) for function in (trial.reference, answer))
    if theirs.error or mine.error or not equal(mine.value, theirs.value):
        return None
    return phrase("repeated", names=", ".join(trial.names[n] for n in lists))
