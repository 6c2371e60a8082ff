"""What a computation costs: operations, memory for the backward pass, CPU time (notebooks 09 and 18)."""

import statistics
import time
from collections.abc import Callable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from vlmcourse.slots import slot


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
    """Additions and multiplications of matrices in one call; torch counts them as it works."""
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops()


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
