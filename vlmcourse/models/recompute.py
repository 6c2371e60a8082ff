"""Gradient checkpointing: keep what a block reads, not what happens inside it, and run it again on the way
back (notebook 15).

    gradients_again    run once more, this time with a memory, and ask for the gradients
    recomputed         a block that does so, as a function of its tokens
    recompute_blocks   switch it on or off for all blocks of a model, or of a part of it

It costs a second forward pass of each block, about a third of a training step, and the activations of all
blocks but one are never kept. Source: Chen et al. 2016, arXiv:1604.06174, section 4. Equal to
torch.utils.checkpoint, see tests/parity.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vlmcourse.slots import slot

Gradients = list[Tensor | None]


@slot
def gradients_again(
    run: Callable[..., Tensor], inputs: list[Tensor], learned: list[Tensor], gradient: Tensor
) -> Gradients:
    """Gradients of something that was run without a memory: run it again, this time with one.

    Args:
        run: takes the inputs, uses what is learned.
        inputs: what it read; those that need a gradient say so by ``requires_grad``. The graph they came
            from is not touched: copies that share their numbers are read in their place.
        learned: numbers inside ``run`` that learn.
        gradient: of the loss with respect to the output of ``run``.

    Returns:
        one gradient for each input, then one for each of ``learned``; None for an input that needs none and
        for what the output does not depend on.

    Source: Chen et al. 2016, arXiv:1604.06174, algorithm 1.
    """
    copies = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in inputs]
    with torch.enable_grad():
        output = run(*copies)
    wanted = [tensor for tensor in [*copies, *learned] if tensor.requires_grad]
    found = iter(torch.autograd.grad(output, wanted, gradient, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in [*copies, *learned]]


class Chance:
    """The states of all random numbers that a block may draw, as they are now."""

    def __init__(self, device: torch.device):
        self.devices = [device] if device.type == "cuda" else []
        self.states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(one) for one in self.devices)]

    @contextmanager
    def again(self) -> Any:
        """Inside, the same numbers are drawn as back then; outside, nothing is noticed of it."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.states[0])
            for device, state in zip(self.devices, self.states[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


class _Recomputed(torch.autograd.Function):
    """Forward without a memory; backward by gradients_again, with the same precision and random numbers."""

    @staticmethod
    def forward(ctx: Any, run: Callable, count: int, *tensors: Tensor) -> Tensor:
        ctx.run, ctx.count, ctx.chance = run, count, Chance(tensors[0].device)
        ctx.kind = tensors[0].device.type
        ctx.precision = dict(
            dtype=torch.get_autocast_dtype(ctx.kind), enabled=torch.is_autocast_enabled(ctx.kind)
        )
        ctx.save_for_backward(*tensors)
        return run(*tensors[:count])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        tensors = ctx.saved_tensors
        inputs, learned = list(tensors[: ctx.count]), list(tensors[ctx.count :])
        with ctx.chance.again(), torch.autocast(ctx.kind, **ctx.precision):
            return None, None, *gradients_again(ctx.run, inputs, learned, gradient)


def recomputed(block: nn.Module) -> Callable[..., Tensor]:
    """The block as a function that keeps only what it reads; arguments as the block takes them."""

    def run_block(*given: Any, **options: Any) -> Tensor:
        names = [name for name, value in options.items() if isinstance(value, Tensor)]
        places = [place for place, value in enumerate(given) if isinstance(value, Tensor)]
        tensors = [given[place] for place in places] + [options[name] for name in names]
        rest = {name: value for name, value in options.items() if name not in names}

        def run(*tensors: Tensor) -> Tensor:
            positional = list(given)
            for place, tensor in zip(places, tensors, strict=False):
                positional[place] = tensor
            return block(*positional, **dict(zip(names, tensors[len(places) :], strict=True)), **rest)

        learned = [weight for weight in block.parameters() if weight.requires_grad]
        return _Recomputed.apply(run, len(tensors), *tensors, *learned)

    return run_block


def recompute_blocks(model: nn.Module, on: bool = True) -> int:
    """Let every block of ``model`` that is run by run_blocks be recomputed on the way back, or no longer.

    Where no gradient is asked for, and while a cache is filled, blocks run as ever.

    Returns:
        how many blocks there are.

    Raises:
        ValueError: if the model has none.
    """
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for stack in stacks for block in stack if hasattr(block, "attention")]
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no blocks that could be recomputed")
    for block in blocks:
        block.recompute = on
    return len(blocks)
