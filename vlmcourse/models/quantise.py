"""NF4: a frozen weight in four bits and a few, so that a large model fits beside a small one that learns
(notebook 15).

    normal_levels        the 16 numbers that four bits can stand for
    quantise_blocks      which of them each weight is nearest to, scaled block by block
    dequantise_blocks    the weights that those stand for
    pack_nibbles         two four-bit numbers in a byte; unpack_nibbles takes them out again
    QuantisedLinear      a linear layer that keeps its weight so
    quantise_layers      put one in place of every frozen linear layer

Source: Dettmers et al. 2023, arXiv:2305.14314 (QLoRA), sections 2 and 3. Equal to bitsandbytes, see
tests/parity.
"""

from collections.abc import Iterable
from functools import cache
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.slots import slot

BLOCK = 64  # weights that share a scale
OUTERMOST = 0.9677083  # share of a normal distribution below the largest level, before it is scaled to 1


@slot
def normal_levels() -> Float[Tensor, "level"]:
    """The 16 numbers from −1 to 1 that NF4 stands for, rising; each stands for as many normal numbers.

    They are quantiles of the normal distribution, divided by the largest: eight above 0, seven below, and 0
    itself, so that nothing stays exactly nothing. Above 0 the shares run evenly from OUTERMOST to a half in
    nine steps, below it in eight; a half itself is 0 and counted once.

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 3, equation 4; OUTERMOST as in bitsandbytes.
    """
    above = [NormalDist().inv_cdf(OUTERMOST + (0.5 - OUTERMOST) * step / 8) for step in range(8)]
    below = [-NormalDist().inv_cdf(OUTERMOST + (0.5 - OUTERMOST) * step / 7) for step in range(7)]
    levels = torch.tensor(sorted([*below, 0.0, *above]), dtype=torch.float64)
    return (levels / levels.max()).float()


@slot
def quantise_blocks(
    weights: Float[Tensor, "block weight"], levels: Float[Tensor, "level"]
) -> tuple[UInt8[Tensor, "block weight"], Float[Tensor, "block"]]:
    """The number of the level nearest to each weight, where a block is scaled to its largest absolute value.

    Returns:
        (numbers, scales); a block of zeros has scale 0, and its weights the level nearest to 0.

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 2, equation 1.
    """
    scales = weights.abs().amax(dim=1)
    scaled = weights / torch.where(scales == 0, 1, scales)[:, None]
    distance = (scaled[..., None] - levels).abs()
    return distance.argmin(dim=-1).to(torch.uint8), scales


@slot
def dequantise_blocks(
    numbers: UInt8[Tensor, "block weight"], scales: Float[Tensor, "block"], levels: Float[Tensor, "level"]
) -> Float[Tensor, "block weight"]:
    """The weights that levels and scales stand for.

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 2, equation 2.
    """
    return levels[numbers.long()] * scales[:, None]


def pack_nibbles(numbers: UInt8[Tensor, "number"]) -> UInt8[Tensor, "byte"]:
    """Two numbers below 16 in each byte, the first in its upper half, as in bitsandbytes; a 0 fills up.

    Raises:
        ValueError: if a number is 16 or more.
    """
    if len(numbers) and numbers.max() > 15:
        raise ValueError(f"four bits hold numbers up to 15, got {numbers.max().item()}")
    pairs = F.pad(numbers, (0, len(numbers) % 2)).unflatten(0, (-1, 2))
    return pairs[:, 0] * 16 + pairs[:, 1]


def unpack_nibbles(packed: UInt8[Tensor, "byte"], count: int) -> UInt8[Tensor, "number"]:
    """The first ``count`` numbers that were packed."""
    return torch.stack([packed // 16, packed % 16], dim=1).flatten()[:count]


@cache
def _levels() -> Tensor:
    return normal_levels()


@cache
def _levels_of_bytes(device: torch.device) -> Int[Tensor, "256"]:
    """The two numbers that each byte stands for, side by side in 64 bits: one look-up brings both."""
    numbers = unpack_nibbles(torch.arange(256, dtype=torch.uint8), 512)
    return _levels()[numbers.long()].view(torch.int64).to(device)


@cache
def _numbers_of_bytes(device: torch.device) -> Int[Tensor, "256"]:
    """The two numbers in each byte, side by side in 16 bits."""
    return unpack_nibbles(torch.arange(256, dtype=torch.uint8), 512).view(torch.int16).to(device)


class _FrozenProduct(torch.autograd.Function):
    """tokens × weight, where the weight is made anew for the gradient too: kept are four bits a number.

    F.linear would keep the ordinary numbers of every layer until backward, and nothing would be saved.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, layer: "QuantisedLinear", dtype: torch.dtype) -> Tensor:
        ctx.layer, ctx.dtype, ctx.given = layer, dtype, tokens.dtype
        bias = None if layer.bias is None else layer.bias.to(dtype)
        return F.linear(tokens.to(dtype), layer.weight.to(dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        return (gradient @ ctx.layer.weight.to(ctx.dtype)).to(ctx.given), None, None


class QuantisedLinear(nn.Module):
    """A linear layer whose weight is kept in four bits, and made anew for every product; it never learns.

    4.5 bits for each weight: four for its level, and a 32-bit scale for each block of 64. Gradients pass
    through to what stands before it.

    Raises:
        ValueError: if the weight's size is not a multiple of the block.
    """

    def __init__(self, layer: nn.Linear, block: int = BLOCK):
        super().__init__()
        self.out_features, self.in_features = layer.weight.shape
        if layer.weight.numel() % block:
            raise ValueError(f"{layer.weight.numel():,} weights cannot be cut into blocks of {block}")
        weights = layer.weight.detach().float().reshape(-1, block)
        numbers, scales = quantise_blocks(weights, _levels())
        self.register_buffer("packed", pack_nibbles(numbers.flatten()))
        self.register_buffer("scales", scales)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    @property
    def weight(self) -> Float[Tensor, "out width"]:
        """The weight that is kept, in ordinary numbers."""
        blocks, device = len(self.scales), self.packed.device
        if self.out_features * self.in_features % 2:  # the last byte holds one number only
            numbers = unpack_nibbles(self.packed, self.out_features * self.in_features)
            weights = dequantise_blocks(numbers.reshape(blocks, -1), self.scales, _levels().to(device))
        elif dequantise_blocks.active is dequantise_blocks.reference:
            pairs = _levels_of_bytes(device).index_select(0, self.packed.int())
            weights = pairs.view(torch.float32).view(blocks, -1).mul_(self.scales[:, None])
        else:
            pairs = _numbers_of_bytes(device).index_select(0, self.packed.int())
            numbers = pairs.view(torch.uint8).view(blocks, -1)
            weights = dequantise_blocks(numbers, self.scales, _levels().to(device))
        return weights.reshape(self.out_features, self.in_features)

    def forward(self, tokens: Float[Tensor, "... width"]) -> Float[Tensor, "... out"]:
        kind = tokens.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tokens.dtype
        return _FrozenProduct.apply(tokens, self, dtype)


def quantise_layers(blocks: Iterable[nn.Module]) -> None:
    """Put a QuantisedLinear in place of every linear layer of the blocks; what they share is kept shared.

    Raises:
        ValueError: if they hold no linear layer, or see QuantisedLinear.
    """
    made: dict[nn.Module, QuantisedLinear] = {}
    for parent in [module for block in blocks for module in block.modules()]:
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                made[layer] = made.get(layer) or QuantisedLinear(layer)
                setattr(parent, name, made[layer])
    if not made:
        raise ValueError("there is no linear layer to quantise")
