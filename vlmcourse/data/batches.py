"""Batches: cut tensors into shuffled mini-batches, in an order that can be replayed (notebook 02).

The order depends on (seed, epoch) alone: not on the global random state, the machine or the number of
processes.  A batch is picked with one index per tensor, never item by item.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlmcourse.models.native import PatchRow


class Batches:
    """Mini-batches of `source`, shuffled anew in every epoch.

    Args:
        source: a tensor or array of shape (length, ...), a PatchRow of pictures (models/native.py), or a dict
            or tuple of them, nested as you like; batches have the same structure.  Tensors already on the GPU
            stay there.  Or a function that makes a batch from item numbers, int64 of shape (size,), each in
            [0, length).
        size: items per optimizer step, over all processes.  What does not fill a batch is left out.
        seed: chooses the shuffle.
        length: how many different items a function can make; for tensors it is their first axis.
        unasked: makes of a batch one of which nothing is learned. Where several processes cannot share a
            batch equally, some get an item less, and one that gets none gets the first so changed. This is
            right only for a loss that counts what is asked in all of them, see training/sharing.py.

    Iterating gives one epoch; `stream()` goes on for ever.

    Raises:
        TypeError: if a part of `source` is not a tensor or array.
        ValueError: if tensors differ in length, or there are fewer items than one batch needs.
    """

    def __init__(
        self,
        source: Any,
        size: int,
        seed: int = 0,
        length: int | None = None,
        unasked: Callable[[Any], Any] | None = None,
    ):
        if callable(source):
            if length is None:
                raise ValueError("a function as source needs length=, how many different items it can make")
            self.pick: Callable[[Tensor], Any] = source
        else:
            columns, length = _columns(source)
            self.pick = lambda numbers: _map(lambda column: column[numbers.to(column.device)], columns)
        if not 1 <= size <= length:
            raise ValueError(f"batch size {size} does not fit {length} items; choose 1 to {length}")
        self.size, self.seed, self.length, self.unasked = size, seed, length, unasked

    def __len__(self) -> int:
        """Full batches in one epoch."""
        return self.length // self.size

    def __iter__(self) -> Iterator[Any]:
        return islice(self.stream(), len(self))

    def stream(self, rank: int = 0, world: int = 1) -> "Stream":
        """All epochs, one after the other; process `rank` of `world` gets its share of each batch.

        Raises:
            ValueError: if a batch cannot be shared equally, and nothing says what else to do, see `unasked`.
        """
        return Stream(self, rank, world)

    def order(self, epoch: int) -> Tensor:
        """Item numbers in the order in which `epoch` visits them, int64 of shape (length,)."""
        return torch.from_numpy(np.random.default_rng((self.seed, epoch)).permutation(self.length))


class Stream:
    """An endless walk through `batches`; `step` batches of `epoch` have been handed out."""

    def __init__(self, batches: Batches, rank: int = 0, world: int = 1):
        if batches.size % world and batches.unasked is None:
            raise ValueError(f"batch size {batches.size} cannot be shared equally by {world} processes")
        self.batches = batches
        self.share = slice(*(number * batches.size // world for number in (rank, rank + 1)))
        self._start(epoch=0, step=0)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Any:
        if self.step == len(self.batches):
            self._start(self.epoch + 1, step=0)
        first = self.step * self.batches.size
        numbers = self.order[first : first + self.batches.size]
        self.step += 1
        if len(own := numbers[self.share]):
            return self.batches.pick(own)
        return self.batches.unasked(self.batches.pick(numbers[:1]))

    def _start(self, epoch: int, step: int) -> None:
        self.epoch, self.step, self.order = epoch, step, self.batches.order(epoch)

    def state_dict(self) -> dict[str, int]:
        """The position, and what must be equal for it to mean the same."""
        b = self.batches
        return dict(epoch=self.epoch, step=self.step, size=b.size, seed=b.seed, length=b.length)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved position.  Raises ValueError if it was saved for other data, batch size or seed."""
        for name, now in self.state_dict().items():
            if name not in ("epoch", "step") and state[name] != now:
                raise ValueError(f"the saved position is for {name} {state[name]}, but {name} is now {now}")
        self._start(state["epoch"], state["step"])


def rows_of_process(batch: Any, rank: int, world: int) -> Any:
    """The share of process `rank` of `world` of a batch: a tensor, or a dict or tuple of them, nested or not.

    Raises:
        ValueError: if the rows cannot be shared equally.
    """
    if world == 1:
        return batch

    def share(column: Tensor) -> Tensor:
        if len(column) % world:
            raise ValueError(f"a batch of {len(column)} rows cannot be shared equally by {world} processes")
        size = len(column) // world
        return column[rank * size : (rank + 1) * size]

    return _map(share, batch)


def _map(function: Callable, tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _map(function, branch) for name, branch in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_map(function, branch) for branch in tree)
    return function(tree)


def _columns(source: Any) -> tuple[Any, int]:
    """The source as tensors, and their common length."""
    lengths = []

    def column(values: Any) -> Tensor:
        if isinstance(values, PatchRow):
            lengths.append(len(values))
            return values
        if not isinstance(values, (Tensor, np.ndarray)):
            kind = type(values).__name__
            raise TypeError(f"batches are cut from tensors or arrays, not from a {kind}; stack it first")
        lengths.append(len(values))
        return torch.as_tensor(values)

    columns = _map(column, source)
    if len(set(lengths)) != 1:
        raise ValueError(f"all tensors need the same first axis, their lengths are {lengths}")
    return columns, lengths[0]
