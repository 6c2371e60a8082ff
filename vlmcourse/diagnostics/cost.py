"""What a computation costs: operations, memory for the backward pass, CPU time (notebooks 09 and 18)."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from vlmcourse.slots import slot

Shape = Sequence[int]


@slot
def prompt_flops(tokens: int, width: int, depth: int, hidden: int, keys: int, vocabulary: int) -> int:
    """Multiplications and additions of matrices when a LLaMA reads a prompt; ``flops`` counts the same.

    A matrix of a × b costs each token 2 · a · b: a multiplication and an addition for each of its weights. In
    attention every token meets every token twice, once for scores and once for values.

    Args:
        hidden: width inside the MLP, which has three matrices.
        keys: width of all keys of a token, the same for its values; with grouped queries less than width.
        vocabulary: scores of the head, at every token.

    Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1 and table 1, for a LLaMA's matrices.
    """
    weights = 2 * width * width + 2 * width * keys + 3 * width * hidden
    meetings = 2 * tokens * tokens * width
    return 2 * (depth * (tokens * weights + meetings) + tokens * width * vocabulary)


def flops(compute: Callable[[], object]) -> int:
    """Additions and multiplications of matrices and convolutions in one call, counted while it works.

    Attention counts the same step by step, by the course's own function, and in one of torch's kernels, on
    every device: two products forwards, four on the way back. Torch's own counter leaves the kernel for CPUs
    out; of the others it also counts the scores that they compute a second time for their gradient, which
    here count once. Blocks that are recomputed (models/recompute.py) count as often as they run.

    Source: model FLOPs without what is computed again, Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
    """
    with _in_operations_that_count(), FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        compute()
    return counter.get_total_flops()


def _attention(query: Shape, key: Shape, value: Shape, *_: object, out_shape: object, **__: object) -> int:
    """Scores of every query for every key, and values mixed with them; a group's keys serve all its heads."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: object, **__: object):
    """Each of the two products has two gradients, as large as itself."""
    return 2 * _attention(query, key, value, out_shape=None)


KERNELS = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention",
           "fused_attention_overrideable")  # fmt: skip
FUSED = {
    getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}{suffix}"): formula
    for kernel in KERNELS
    for suffix, formula in (("", _attention), ("_backward", _attention_backward))
} | {torch.ops.aten._scaled_dot_product_attention_math_for_mps: _attention}
"""Operations of torch that are all of an attention."""


@contextmanager
def _in_operations_that_count() -> Iterator[None]:
    """Without the short cut of nn.MultiheadAttention, a single operation that nobody counts."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def kept_bytes(compute: Callable[[], Tensor]) -> int:
    """What one call keeps for its backward pass, weights included; what is kept twice counts once."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()  # held until all is counted, so that no place is used twice
    del result
    return sum(sizes.values())


def cpu_seconds(compute: Callable[[], object], times: int = 5) -> float:
    """CPU time of one call, the median of several."""
    spent = []
    for _ in range(times):
        start = time.process_time()
        compute()
        spent.append(time.process_time() - start)
    return statistics.median(spent)
