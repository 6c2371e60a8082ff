"""Precision: which number format the matrix products of a training run use (first used in notebook 02).

    fp32    32 bits; the default on a CPU
    bf16    16 bits with the range of fp32; fast on GPUs since Ampere (compute capability 8.0) and some CPUs
    fp16    16 bits with little range, so the loss must be scaled; fast on older GPUs such as the T4

Weights and the optimizer stay in fp32 whatever is chosen here (mixed precision, Micikevicius et al. 2018,
arXiv:1710.03740).
"""

import statistics
import time
from functools import cache
from typing import NamedTuple

import torch

# bf16 must win by this much on a CPU: the rest of the model gains nothing, and timings wobble
WORTHWHILE = 1.5


class Precision(NamedTuple):
    """`name` as Accelerate calls it ("no", "bf16" or "fp16"), and the `reason` in one line."""

    name: str
    reason: str


def choose_precision(device: torch.device | str, rows: int = 0, width: int = 0) -> Precision:
    """The fastest safe format on `device`.

    Args:
        device: where the training runs.
        rows, width: size of a typical matrix product, (rows, width) × (width, width), with rows = tokens per
            batch.  On a CPU bf16 is tried on exactly this size; without it the answer there is fp32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        # not is_bf16_supported(): it is also True where bf16 is emulated, and slow
        major, minor = torch.cuda.get_device_capability(device)
        if (major, minor) >= (8, 0):
            return Precision("bf16", f"bf16: this GPU has compute capability {major}.{minor}, at least 8.0")
        return Precision("fp16", f"fp16 with loss scaling: compute capability {major}.{minor} is below 8.0")
    if device.type != "cpu" or not (rows and width):
        return Precision("no", f"fp32: the default on {device.type}")
    gain = cpu_bf16_gain(rows, width)
    if gain >= WORTHWHILE:
        return Precision("bf16", f"bf16: {gain:.1f}× the speed of fp32 on this CPU at {rows}×{width}")
    return Precision("no", f"fp32: bf16 runs at {gain:.2g}× its speed on this CPU at {rows}×{width}")


def precision_of(tokens: int, width: int) -> str:
    """The name of the precision to train with on this machine, with so many tokens of this width at once."""
    return choose_precision("cuda" if torch.cuda.is_available() else "cpu", tokens, width).name


@cache
def cpu_bf16_gain(rows: int, width: int) -> float:
    """Time of fp32 divided by time of bf16, both measured: one linear layer, forward and backward."""
    # Not drawn: a probe leaves the random state alone
    weight = torch.full((width, width), 0.01, requires_grad=True)
    inputs = torch.full((rows, width), 0.5, requires_grad=True)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(5):
        for bf16 in seconds:  # alternating, so that a busy moment hits both
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = torch.nn.functional.linear(inputs, weight)
            output.sum().backward()
            seconds[bf16].append(time.perf_counter() - start)
    return statistics.median(seconds[False][1:]) / statistics.median(seconds[True][1:])
