"""Sharing: what several processes must tell each other so that together they compute what one would.

Each process sees its own part of a batch, and the gradients of all are averaged. That is the gradient of the
whole batch only if the loss is a plain mean over items. Two kinds of losses are not:

    mean_over_all   a mean over tokens: a process with many tokens must count more than one with few
    gathered        a contrast: every image must meet the texts of all processes, not only its own

With one process both give back what they are given, to the bit.

    counted_in_all, alike_in_all, from_first     numbers, choices and random draws on which all agree

Source: contrast over all processes, Radford et al. 2021 (CLIP), arXiv:2103.00020, section 2.5 and figure 3.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, distributed


def process_count() -> int:
    """How many processes train together; 1 where none are connected."""
    return distributed.get_world_size() if _connected() else 1


def process_number() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if _connected() else 0


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def lost_another(error: BaseException) -> bool:
    """Whether an error says that another process no longer answers, having been killed, say."""
    if process_count() == 1:
        return False
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out", "gloo/")
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in words)


def mean_over_all(mean: Float[Tensor, ""], count: Tensor | float) -> Float[Tensor, ""]:
    """This process's part of a mean over the items of all: averaged over processes it is exactly that mean.

    Args:
        mean: over this process's own items; 0/0 where it has none.
        count: how many items these are, or the sum of their weights; 0 or more, without gradient.
    """
    if process_count() == 1:
        return mean
    count = torch.as_tensor(count, dtype=torch.float32, device=mean.device).detach()
    share = torch.where(count > 0, count * process_count() / counted_in_all(count), 0.0)
    # a mean over nothing is not a number; it stays in the graph, since all processes must go backward
    return torch.where(count > 0, mean * share, 0.0)


def counted_in_all(count: Tensor) -> Tensor:
    """The sum of a number, or of several, over all processes; without gradient."""
    total = count.detach().clone()
    if process_count() > 1:
        distributed.all_reduce(total)
    return total


def longest_in_all(mask: Bool[Tensor, "*row token"]) -> int:
    """The most real tokens that a row has in any process: so long must rows be to be gathered."""
    longest = mask.sum(dim=-1).max()
    if process_count() > 1:
        distributed.all_reduce(longest, distributed.ReduceOp.MAX)
    return int(longest)


def gathered(rows: Shaped[Tensor, "own ..."]) -> Shaped[Tensor, "all ..."]:
    """The rows of all processes, one process behind the other; each has as many. Gradients flow back to all.

    Every process then computes the same loss from all rows, and the average of the gradients is its gradient.
    """
    return _Gather.apply(rows) if process_count() > 1 else rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(process_count())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total.chunk(process_count())[process_number()]


def own_rows(rows: Shaped[Tensor, "all ..."]) -> Shaped[Tensor, "own ..."]:
    """This process's part of rows that stand as ``gathered`` puts them."""
    return rows.chunk(process_count())[process_number()]


def from_first(values: Tensor) -> Tensor:
    """The first process's values, in place: what was drawn at random is then the same everywhere."""
    if process_count() > 1:
        distributed.broadcast(values, src=0)
    return values


def alike_in_all(choice: Any) -> Any:
    """The first process's choice: what was measured, or found on a disk, may differ between processes."""
    found = [choice]
    if process_count() > 1:
        distributed.broadcast_object_list(found, src=0)
    return found[0]
