"""Files of weights and what describes them, read as data that may be wrong: damaged, foreign, or made up.

    read_json       a card, a configuration, an index: an object
    read_tensors    all tensors of a safetensors file; stored_tensors: only their names, types and shapes
    unusable        the weights that no model can be filled with: whole numbers, NaN, infinity
    refuse_sizes    what asks for far more than its files hold, before the memory is taken; refuse_memory too

Whatever is wrong is one CheckpointError, which names the file and the reason.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

ORDINARY = 10**7  # a number in a configuration that needs no explanation, such as the longest text
FLOATS = {"F64", "F32", "F16", "BF16"}
COUNTERS = ("position_ids", "token_type_ids", "num_batches_tracked", "_index", "attn.bias", "masked_bias")
FOREIGN = {  # how files begin that are often found in the place of weights
    b"version https://git-lfs": "a pointer of Git LFS in place of the weights; run: git lfs pull",
    b"PK\x03\x04": "a pickle, which could run code",
    b"\x80": "a pickle, which could run code",
    b"GGUF": "a GGUF file",
    b"<": "a web page",
}


class CheckpointError(RuntimeError):
    """Weights cannot be read or written, are damaged, or belong to another model."""


class Stored(NamedTuple):
    """What a file says about one of its tensors."""

    dtype: str  # as safetensors writes it: F32, BF16, I8, ...
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


def read_json(path: str | Path) -> dict[str, Any]:
    """What a JSON file holds, which must be an object, {...}.

    Raises:
        CheckpointError: if it is anything else, or cannot be read.
    """
    try:
        value = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold an object, {{...}}; it holds a {type(value).__name__}")
    return value


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, on the CPU, by all the names that checkpoints.py gave it.

    Raises:
        CheckpointError: if it is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            tied = json.loads((file.metadata() or {}).get("tied", "{}"))
        return tensors | {name: tensors[other] for name, other in tied.items()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(_why(path, error)) from error


def stored_tensors(paths: Iterable[str | Path]) -> dict[str, Stored]:
    """The tensors of several safetensors files, without their numbers.

    Raises:
        CheckpointError: if one is no whole safetensors file.
    """
    found = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a dict)
                    part = file.get_slice(name)
                    found[name] = Stored(part.get_dtype(), tuple(part.get_shape()))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(_why(path, error)) from error
    return found


def unusable(weights: Mapping[str, Tensor | Stored]) -> list[str]:
    """One line for each weight that is no floating-point number everywhere; counters may be whole."""
    lines = []
    for name, weight in weights.items():
        if isinstance(weight, Stored):
            floating, kind, finite = weight.dtype in FLOATS, weight.dtype, True
        else:
            floating, kind = weight.is_floating_point(), str(weight.dtype).removeprefix("torch.")
            finite = weight.device.type == "meta" or bool(weight.isfinite().all())
        if not floating and not name.endswith(COUNTERS):
            lines.append(f"{name} is {kind}; weights are floating-point numbers")
        elif not finite:
            lines.append(f"{name} holds NaN or infinity")
    return lines


def refuse_sizes(fields: Mapping[str, Any], stored: Mapping[str, Stored], source: str | Path) -> None:
    """Compare the numbers in a configuration with what the files hold.

    Raises:
        CheckpointError: for more layers than there are tensors, or a number above all theirs together.
    """
    held = sum(weight.numbers for weight in stored.values())
    for name, value in _numbers(fields):
        deep = re.search(r"(layers?|depths?|repeats|blocks)$", name) and value > len(stored)
        if deep or value > max(held, ORDINARY):
            raise CheckpointError(f"{source} says {name} = {value}, but its weights are {held:,} numbers "
                                  f"in {len(stored)} tensors")  # fmt: skip


def refuse_memory(make: Callable[[], nn.Module], stored: Mapping[str, Stored], source: str | Path) -> None:
    """Build a model without its numbers, and compare how many it needs with what the files hold.

    Raises:
        CheckpointError: if it needs more than twice as many.
    """
    with torch.device("meta"):
        needed = sum(parameter.numel() for parameter in make().parameters())
    if needed > 2 * (held := sum(weight.numbers for weight in stored.values())):
        raise CheckpointError(f"{source} describes {needed:,} weights, but the files hold {held:,}")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number in a nested configuration, with the name of its field."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, name)
    elif isinstance(value, int):
        yield name, value


def _why(path: str | Path, error: Exception) -> str:
    """Why a file is no safetensors file: what it looks like, or what the library says."""
    try:
        with open(path, "rb") as file:
            begin = file.read(64)
    except OSError:
        return f"{path} cannot be read ({error})"
    if not begin:
        return f"{path} is empty"
    looks = [what for start, what in FOREIGN.items() if begin.startswith(start)]
    if looks:
        return f"{path} is {looks[0]}, not a safetensors file"
    return f"{path} is no whole safetensors file ({error}); fetch it again"
