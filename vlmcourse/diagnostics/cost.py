"""What a computation costs: operations, memory for the backward pass, CPU time (notebook 09)."""

import statistics
import time
from collections.abc import Callable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode


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
