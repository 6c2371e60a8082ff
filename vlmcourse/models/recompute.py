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
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.slots import slot


@slot
def gradients_again(
    block: nn.Module, inputs: list[Tensor], needs: list[bool], gradient: Float[Tensor, "batch token width"]
) -> list[Tensor | None]:
    """Gradients of a block that was run without a memory: run it again, this time with one.

    The graph that the inputs came from is not touched: copies that share their numbers are read.

    Args:
        needs: which of the inputs need a gradient.
        gradient: of the loss with respect to the output of the block.

    Returns:
        one gradient for each input, None if it needs none; then one for each parameter of the block that
        requires one, in the order of ``parameters()``. None also for what the output does not depend on.

    Source: Chen et al. 2016, arXiv:1604.06174, algorithm 1.
    """
    copies = [tensor.detach().requires_grad_(need) for tensor, need in zip(inputs, needs, strict=True)]
    with torch.enable_grad():
        output = block(*copies)
    learned = [weight for weight in block.parameters() if weight.requires_grad]
    wanted = [copy for copy in copies if copy.requires_grad] + learned
    found = iter(torch.autograd.grad(output, wanted, gradient, allow_unused=True))
    return [next(found) if need else None for need in needs] + list(found)


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
    def forward(ctx: Any, call: nn.Module, count: int, *tensors: Tensor) -> Tensor:
        ctx.call, ctx.count, ctx.chance = call, count, Chance(tensors[0].device)
        ctx.kind = tensors[0].device.type
        enabled, dtype = torch.is_autocast_enabled(ctx.kind), torch.get_autocast_dtype(ctx.kind)
        ctx.precision = dict(dtype=dtype, enabled=enabled)
        ctx.save_for_backward(*tensors[:count])
        return call(*tensors[:count])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        inputs, needs = list(ctx.saved_tensors), list(ctx.needs_input_grad[2 : 2 + ctx.count])
        with ctx.chance.again(), torch.autocast(ctx.kind, **ctx.precision):
            return None, None, *gradients_again(ctx.call, inputs, needs, gradient)


class _Call(nn.Module):
    """A block as a function of tensors alone: where the others go, and what else it is given."""

    def __init__(self, block: nn.Module, places: list[int | str], given: list[Any], options: dict[str, Any]):
        super().__init__()
        self.block, self.places, self.given, self.options = block, places, given, options

    def forward(self, *tensors: Tensor) -> Tensor:
        given, options = list(self.given), dict(self.options)
        for place, tensor in zip(self.places, tensors, strict=True):
            (options if isinstance(place, str) else given)[place] = tensor
        return self.block(*given, **options)


def recomputed(block: nn.Module) -> Callable[..., Tensor]:
    """The block as a function that keeps only what it reads; arguments as the block takes them."""

    def run_block(*given: Any, **options: Any) -> Tensor:
        arguments = [*enumerate(given), *options.items()]
        places = [place for place, value in arguments if isinstance(value, Tensor)]
        tensors = [value for _, value in arguments if isinstance(value, Tensor)]
        without = [None if isinstance(value, Tensor) else value for value in given]
        rest = {name: value for name, value in options.items() if not isinstance(value, Tensor)}
        learned = [weight for weight in block.parameters() if weight.requires_grad]
        return _Recomputed.apply(_Call(block, places, without, rest), len(tensors), *tensors, *learned)

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
