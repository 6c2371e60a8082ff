"""Values and calls in a few words, for the checker's sentences."""

import textwrap
from typing import Any

from torch import Tensor

from vlmcourse.workbook import outcomes
from vlmcourse.workbook.outcomes import Trial


def describe(trial: Trial, place: int) -> str:
    """The arguments of a case in a few words: images 2×3×8×12 (batch, channel, height, width), size = 4."""
    words = []
    for name, value in zip(trial.names, trial.cases[place], strict=False):
        if isinstance(value, Tensor):
            axes = outcomes.own_axes(trial.exercise.axes.get(name, ""), value)
            words.append(f"{name} {sizes(value)}" + (f" ({axes})" if axes else ""))
        elif isinstance(value, int | float | str | tuple | list | dict | None):
            words.append(f"{name} = {in_short(value)}")
    return ", ".join(words)


def in_short(value: Any) -> str:
    """The value as Python writes it, but tensors inside a tuple, list or dict as their sizes; shortened."""
    if isinstance(value, Tensor):
        return sizes(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {in_short(item)}' for key, item in value.items())}}}"
    if isinstance(value, tuple | list) and any(isinstance(item, Tensor | tuple) for item in value):
        inside = textwrap.shorten(", ".join(map(in_short, value)), 240, placeholder=" …")
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    try:
        return textwrap.shorten(repr(value), 120, placeholder=" …")
    except Exception:  # of the learner's own class
        return kind_of(value)


def sizes(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) if value.dim() else "a single number"


def kind_of(value: Any) -> str:
    return type(value).__name__


def held(value: Any) -> str:
    return f"keys {list(value)}" if isinstance(value, dict) else f"{len(value)} items"


def number_in_short(value: Tensor) -> str:
    number = value.item()
    return f"{number:.5g}" if isinstance(number, float) else str(number)
