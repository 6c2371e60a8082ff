"""Outcomes as plain data: how what an untrusted function gave crosses the border of its process.

    as_data      what a call did, as lists, texts and numbers, which JSON carries
    same_data    whether two calls did the same, floating point numbers up to rounding
    tidy         a sentence that a stranger sent, as a text of one line

A pickle would run code of whoever wrote it; this cannot. The data of two outcomes are the same exactly if
outcomes.same says so of the outcomes, as far as values can be written down (``Opaque`` where they cannot).
"""

import base64
import enum
import math
from typing import Any

import torch
from torch import Tensor

from vlmcourse.workbook.outcomes import ABSOLUTE, RELATIVE, Outcome, close, fields_of

DEEPEST = 40  # values inside values
MOST_SAID = 1000  # letters of a sentence


class Opaque(TypeError):
    """A value that cannot be written as plain data, such as a module."""


def as_data(outcome: Outcome) -> dict[str, Any]:
    """What a call did: its value, the type of its error, and the argument that it changed.

    Raises:
        Opaque: if the value holds anything but tensors, numbers, texts, tuples, lists, sets, dictionaries
            and records, or is nested more than DEEPEST deep.
    """
    error = None if outcome.error is None else type(outcome.error).__name__
    return {"value": _data_of(outcome.value, 0), "error": error, "changed": outcome.changed}


def _data_of(value: Any, depth: int) -> list[Any]:
    if depth > DEEPEST:
        raise Opaque(f"values nested more than {DEEPEST} deep")
    inner = depth + 1
    if isinstance(value, Tensor):
        return ["tensor", str(value.dtype), list(value.shape), str(value.device), _packed(value)]
    if isinstance(value, dict):
        return ["dict", [[_data_of(key, inner), _data_of(item, inner)] for key, item in value.items()]]
    if isinstance(value, tuple | list):
        return ["tuple" if isinstance(value, tuple) else "list", [_data_of(item, inner) for item in value]]
    if isinstance(value, str):
        return ["str", str(value)]
    if isinstance(value, enum.Enum):
        return ["enum", type(value).__name__, value.name]
    if value is None or type(value) in (bool, int):
        return ["whole", type(value).__name__, value]
    if isinstance(value, float):
        return ["float", float(value).hex()]
    if names := fields_of(value):
        return ["record", type(value).__name__, [[n, _data_of(getattr(value, n), inner)] for n in names]]
    if isinstance(value, set | frozenset):
        return ["set", sorted((_data_of(item, inner) for item in value), key=repr)]
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):  # NumPy's arrays and numbers
        return ["numpy", str(value.dtype), list(value.shape), value.tobytes().hex()]
    if isinstance(value, torch.dtype | torch.device):
        return ["torch", str(value)]
    raise Opaque(f"a {type(value).__name__}")


def _packed(tensor: Tensor) -> str:
    """The bytes of a tensor's numbers, in base64."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        raise Opaque(f"a {tensor.layout} tensor on {tensor.device}")
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)  # not contiguous(), which may keep a stride of 0
    flat.copy_(tensor.detach().reshape(-1))
    return base64.b64encode(flat.view(torch.uint8).numpy().tobytes()).decode("ascii")


def _unpacked(dtype: str, shape: list[int], packed: str) -> Tensor:
    kind = getattr(torch, dtype.removeprefix("torch."))
    raw = bytearray(base64.b64decode(packed, validate=True))
    flat = torch.frombuffer(raw, dtype=kind) if raw else torch.zeros(0, dtype=kind)
    return flat.reshape(shape)


def same_data(got: Any, right: Any) -> bool:
    """Whether what a stranger sent says the same as ``right``, which `plain` made here.

    Whatever was sent that is no such data is just not same_data.
    """
    try:
        same = got["error"] == right["error"] and got["changed"] == right["changed"]
        return bool(same and _alike(got["value"], right["value"]))
    except Exception:  # anything may have been sent
        return False


def _alike(got: list[Any], right: list[Any]) -> bool:
    kind = right[0]
    if kind == "float" and got[0] == "whole" and got[1] == "int":  # as good as the float it equals
        return float(got[2]) == float.fromhex(right[1])
    if got[0] != kind:
        return False
    if kind == "tensor":
        if got[1:4] != right[1:4]:
            return False
        return bool(close(_unpacked(*got[1:3], got[4]), _unpacked(*right[1:3], right[4])).all())
    if kind == "float":
        mine, theirs = float.fromhex(got[1]), float.fromhex(right[1])
        return math.isclose(mine, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE) or (
            mine != mine and theirs != theirs
        )
    if kind in ("tuple", "list", "set"):
        return len(got[1]) == len(right[1]) and all(map(_alike, got[1], right[1]))
    if kind == "dict":
        mine = {repr(key): item for key, item in got[1]}
        theirs = {repr(key): item for key, item in right[1]}
        return mine.keys() == theirs.keys() and all(_alike(mine[key], theirs[key]) for key in theirs)
    if kind == "record":
        names = [name for name, _ in right[2]] == [name for name, _ in got[2]]
        return names and all(_alike(a, b) for (_, a), (_, b) in zip(got[2], right[2], strict=True))
    return got == right


def tidy(sentence: str) -> str:
    """What a stranger says, on one line, shortened, and without what would steer a terminal or a table."""
    cut = sentence if len(sentence) <= MOST_SAID else f"{sentence[:MOST_SAID]} …"
    line = " ".join(cut.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
