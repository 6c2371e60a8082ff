"""How a wrong output resembles the right one: relations that hold in every wrong case, and where it is right.

Every finding is computed from the outputs and true as it stands; the first one found is said.
"""

from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import Tensor

from vlmcourse.exercises.base import Text
from vlmcourse.workbook.outcomes import Trial, close, constant_factor, equal
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
    except Exception:
        return False


def _of_tensors(pairs: Pairs, axes: list[str], where: str) -> Iterator[Text]:
    if _all(pairs, lambda got, right: got.numel() > 1 and bool((got == got.flatten()[0]).all())):
        value = pairs[0][0].flatten()[0].item()
        yield phrase("all_alike", where, value=f"{value:.5g}" if isinstance(value, float) else value)
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


def _of_numbers(pairs: Pairs, where: str) -> Iterator[Text]:
    # between two lone numbers there is always a ratio and a difference
    lone = not pairs[0][1].dim() and len({right.item() for _, right in pairs}) == 1
    if not pairs[0][1].dim() and not lone:
        stacked = [torch.stack(values) for values in zip(*pairs, strict=True)]
        if factor := constant_factor(*stacked):
            yield phrase("factor", where, factor=factor)
    offset = (pairs[0][0] - pairs[0][1]).flatten()[0]
    if offset.isfinite() and not lone and _all(
            pairs, lambda got, right: bool(close(got - right, offset.expand_as(right)).all())):  # fmt: skip
        yield phrase("offset", where, offset=f"{offset.item():+.4g}")
    if _all(pairs, lambda got, right: bool((got - right).abs().max() <= NEARLY * right.abs().max())):
        most = max((got - right).abs().max().item() for got, right in pairs)
        yield phrase("nearly", where, most=f"{most:.2g}")


def _moved(got: Tensor, right: Tensor, axis: int, by: int) -> bool:
    length = right.shape[axis] - 1
    ahead, behind = (t.narrow(axis, start, length) for t, start in ((got, int(by > 0)), (right, int(by < 0))))
    varies = bool((right.narrow(axis, 0, length) != right.narrow(axis, 1, length)).any())
    return length > 0 and varies and equal(ahead, behind)


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
    if _all(pairs, lambda got, right: "".join(got.split()) == "".join(right.split())):
        yield phrase("other_spaces", where)
    if _all(pairs, lambda got, right: isinstance(right, str) and not _pieces(right, got)):
        yield phrase("text_lacks", where, pieces=_quoted(_pieces(*pairs[0])))
    if _all(pairs, lambda got, right: isinstance(right, str) and not _pieces(got, right)):
        yield phrase("text_more", where, pieces=_quoted(_pieces(*pairs[0][::-1])))
    if _all(
        pairs, lambda got, right: sorted(map(repr, got)) == sorted(map(repr, right)) and got is not right
    ):
        yield phrase("other_order", where)


def where_right(got: Tensor, right: Tensor, axes: list[str]) -> Text | None:
    """The axis along which some places are all right and others are not."""
    wrong = ~close(got, right)
    for axis, name in enumerate(axes if len(axes) == right.dim() else []):
        bad = wrong.movedim(axis, 0).flatten(1).any(1) if right.dim() > 1 else wrong
        good, false = ((~bad).nonzero().flatten().tolist(), bad.nonzero().flatten().tolist())
        apart = (bad[1:] != bad[:-1]).sum() == 1  # first the right places, then the wrong ones, or so back
        if len(bad) > 2 and good and (len(false) == 1 or (apart and len(good) == 1)):
            which, places = ("one_wrong", false) if len(false) == 1 else ("one_right", good)
            return phrase(which, axis=name, place=places[0])
        if apart and right.dim() > 1:
            return phrase("some_right", axis=name, good=_listed(good), bad=_listed(false))
    return None


def _listed(numbers: list[int]) -> str:
    text = ", ".join(map(str, numbers[:6]))
    return text + (", …" if len(numbers) > 6 else "")


def _pieces(text: str, longer: str) -> list[str]:
    """What ``longer`` has that ``text`` has not, each piece from as far in front as it can begin."""
    pieces = []
    for kind, _, _, start, stop in SequenceMatcher(None, text, longer, autojunk=False).get_opcodes():
        while kind == "insert" and start and longer[start - 1] == longer[stop - 1]:
            start, stop = start - 1, stop - 1
        if kind in ("insert", "replace"):
            pieces.append(longer[start:stop])
    return pieces


def _quoted(pieces: list[str]) -> str:
    return ", ".join(f"'{piece}'" for piece in dict.fromkeys(pieces))


def right_until(trial: Trial, wrong: list[int]) -> Text | None:
    """What an argument is in every wrong case and in no right one, if some cases are right."""
    right = [place for place in range(len(trial.cases)) if place not in wrong]
    for number, name in enumerate(trial.names if right else []):
        values = [case[number] if len(case) > number else None for case in trial.cases]
        told = len(trial.names) == 1 or len(set(map(repr, values))) < len(values)
        numbers = told and len(values) > 2
        kinds = [_kind(value, numbers) for value in values]
        good, bad = ({kinds[place] for place in places} for places in (right, wrong))
        by_chance = len(set(kinds)) == len(kinds) > 2 and len(trial.names) > 1  # another number in each case
        if None not in good | bad and not good & bad and len(bad) == 1 and not by_chance:
            return phrase("right_before", name=name, good=" / ".join(sorted(good)), bad=bad.pop())
    return None


def _kind(value: Any, numbers: bool) -> str | None:
    """What is told of an argument when cases are compared; None: it is not compared."""
    if value is None or isinstance(value, bool) or (numbers and isinstance(value, int | float)):
        return repr(value)
    return "given" if isinstance(value, Tensor | tuple) else None
