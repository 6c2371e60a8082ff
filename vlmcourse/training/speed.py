"""How fast a training step is, and the fastest way to run it here (`make bench`, `train --fastest`).

    matmul_peak    what a large product of matrices reaches here, in operations a second; measured
    utilisation    the share of it that a training reaches (MFU)
    fastest_way    run a step as it is, with attention step by step, and compiled; which takes least time?

Which one wins depends on device, sizes and precision, so it is measured where it is used.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

SIDES = {"cuda": (4096, 8192, 12288), "cpu": (512, 1024, 2048)}  # of the square matrices tried
Runner = Callable[[Any], Any]  # batch -> loss, or (loss, numbers)
Way = Callable[[nn.Module], Runner]


def matmul_peak(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    sides: Sequence[int] = (),
    rounds: int = 5,
) -> float:
    """Additions and multiplications a second of the fastest product of two square matrices.

    Args:
        sides: of the matrices tried, one size after the other; those of SIDES if none are given.
        rounds: of each size; their median counts. On a GPU one round is ten products.

    Their numbers are random: a GPU is faster at numbers that are all alike, which no training has.
    """
    device, best = torch.device(device), 0.0
    for side in sides or SIDES.get(device.type, SIDES["cpu"]):
        draw = dict(generator=torch.Generator().manual_seed(0))
        left, right = (torch.randn(side, side, **draw).to(device, dtype) for _ in range(2))
        times = 10 if device.type == "cuda" else 1
        taken = [_seconds(lambda: _often(left, right, times), device) for _ in range(rounds + 1)][1:]  # noqa: B023
        best = max(best, times * 2 * side**3 / statistics.median(taken))
    return best


def _often(left: Tensor, right: Tensor, times: int) -> None:
    for _ in range(times):
        left @ right


def utilisation(flops: float, seconds: float, peak: float) -> float:
    """Model FLOPs utilisation: what the model needs, over what the device could do in that time.

    Args:
        flops: of one step forwards and backwards, nothing of it computed twice; diagnostics.cost.flops.
        seconds: of that step; peak: of matmul_peak, in the same format.

    Raises:
        ValueError: if a number is not positive.

    Source: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B; theirs divides by the peak of a data
        sheet, which no product of matrices reaches.
    """
    for name, value in dict(flops=flops, seconds=seconds, peak=peak).items():
        if not value > 0:
            raise ValueError(f"{name} = {value}; a utilisation needs numbers above 0")
    return flops / (seconds * peak)


def stepwise(net: nn.Module) -> Runner:
    """``net`` with torch's attention computed in steps, scores first, instead of by one kernel."""

    def run(batch: Any) -> Any:
        with sdpa_kernel(SDPBackend.MATH):
            return net(batch)

    return run


WAYS: dict[str, Way] = {
    "as it is": lambda net: net,
    "attention in steps": stepwise,
    "compiled": torch.compile,
}


class Tried(NamedTuple):
    """Ways that were tried."""

    name: str  # of the fastest
    run: Runner
    seconds: dict[str, float]  # of a step without the optimizer's part, the median, by way
    failed: dict[str, str]  # why a way cannot be gone here


def fastest_way(
    net: nn.Module,
    batch: Any,
    context: Callable[[], AbstractContextManager] = nullcontext,
    ways: Mapping[str, Way] = WAYS,
    rounds: int = 5,
) -> Tried:
    """Runner one batch forwards and backwards in every way, and say which takes least time.

    All alternate, so that a busy moment hits all alike; the first call of each, which compiles, is not
    counted. Weights, buffers and random numbers are afterwards what they were, and there are no gradients.

    Args:
        net: batch -> loss, or (loss, numbers).
        context: in which the loss is computed, such as autocast.
        ways: name -> function that makes of ``net`` what runs a batch. The first is the yardstick, and one
            that fails raises; others that fail are left out.
    """
    device = next((weight.device for weight in net.parameters()), torch.device("cpu"))

    def step(run: Runner) -> None:
        with context():
            answer = run(batch)
        (answer[0] if isinstance(answer, tuple) else answer).backward()

    with _left_as_it_was(net, device):
        runs, failed, first = {}, {}, next(iter(ways))
        for name, way in ways.items():
            try:
                runs[name] = way(net)
                step(runs[name])
            except Exception as error:  # a compiler may be missing, or fail in a hundred ways
                if name == first:
                    raise
                runs.pop(name, None)
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                taken[name].append(_seconds(lambda: step(run), device))  # noqa: B023
    seconds = {name: statistics.median(some) for name, some in taken.items()}
    best = min(seconds, key=seconds.__getitem__)
    return Tried(best, runs[best], seconds, failed)


@contextmanager
def _left_as_it_was(net: nn.Module, device: torch.device):
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            net.zero_grad(set_to_none=True)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    wait_for(device)
    start = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: torch.device | str) -> None:
    """Wait until a GPU has done what it was told to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
