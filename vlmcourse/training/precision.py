"""Precision: which number format the matrix products of a training run use (first used in notebook 02).

    "no"     fp32, 32 bits; the default on a CPU
    "bf16"   16 bits with the range of fp32; fast on GPUs since Ampere (compute capability 8.0) and some CPUs
    "fp16"   16 bits with little range, so the loss must be scaled; fast on older GPUs such as the T4

Weights and the optimizer stay in fp32 whatever is chosen here (mixed precision, Micikevicius et al. 2018,
arXiv:1710.03740).
"""

import time
from functools import cache

import torch

# bf16 must win by this much on a CPU: the rest of the model gains nothing, and timings wobble
WORTHWHILE = 1.5
LEAST_TRIES, MOST_TRIES, ENOUGH = 4, 25, 0.5  # of each format, the first apart; and seconds that are enough


def choose_precision(device: torch.device | str, rows: int = 0, width: int = 0) -> str:
    """The fastest safe format on `device`, as Accelerate calls it.

    Args:
        rows, width: size of a typical matrix product, (rows, width) × (width, width), with rows = tokens per
            batch. On a CPU bf16 is tried on exactly this size; without it the answer there is fp32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        # not is_bf16_supported(): it is also True where bf16 is emulated, and slow
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    tried = device.type == "cpu" and rows and width
    return "bf16" if tried and cpu_bf16_gain(rows, width) >= WORTHWHILE else "no"


def precision_of(tokens: int, width: int) -> str:
    """The precision to train with on this machine, with so many tokens of this width at once."""
    if torch.cuda.is_available():
        return choose_precision("cuda", tokens, width)
    return choose_precision("mps" if torch.backends.mps.is_available() else "cpu", tokens, width)


@cache
@torch.enable_grad()  # the probe goes backward, also where it is asked in the middle of an evaluation
def cpu_bf16_gain(rows: int, width: int) -> float:
    """Time of fp32 divided by time of bf16, both measured: one linear layer, forward and backward."""
    # Not drawn: a probe leaves the random state alone
    weight = torch.full((width, width), 0.01, requires_grad=True)
    inputs = torch.full((rows, width), 0.5, requires_grad=True)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    began = time.perf_counter()
    for number in range(MOST_TRIES):
        for bf16 in seconds:  # alternating, so that a busy moment hits both
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = torch.nn.functional.linear(inputs, weight)
            output.sum().backward()
            seconds[bf16].append(time.perf_counter() - start)
        if number >= LEAST_TRIES and time.perf_counter() - began > ENOUGH:
            break
    # The shortest of each: what else runs on the machine only ever adds
    return min(seconds[False][1:]) / min(seconds[True][1:])
