"""LoRA: change a frozen linear layer by learning two thin matrices beside it (notebook 17; fully in 15).

    add_lora     put a LoraLinear around every linear layer of some blocks
    merge_lora   put ordinary linear layers back, changed for good
    lora_state   the learned numbers alone, which is all that has to be stored

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; of rsLoRA and DoRA see lora_scale and dora_forward.
Equal to peft's, see tests/parity.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.quantise import QuantisedLinear
from vlmcourse.slots import slot


@slot
def lora_forward(
    tokens: Float[Tensor, "... width"],
    frozen: nn.Linear | QuantisedLinear,
    down: Float[Tensor, "rank width"],
    up: Float[Tensor, "out rank"],
    scale: float,
) -> Float[Tensor, "... out"]:
    """frozen(tokens) + scale · up (down tokens): two thin products, never the full out × width matrix.

    Source: Hu et al. 2021, arXiv:2106.09685, equation 3.
    """
    return frozen(tokens) + scale * F.linear(F.linear(tokens, down), up)


@slot
def lora_merge(
    weight: Float[Tensor, "out width"],
    down: Float[Tensor, "rank width"],
    up: Float[Tensor, "out rank"],
    scale: float,
) -> Float[Tensor, "out width"]:
    """The weight of one ordinary layer that does what frozen layer and detour did; ``weight`` stays as it is.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.1, "no additional inference latency".
    """
    return weight + scale * up @ down


@slot
def lora_numbers(layers: list[tuple[int, int]], rank: int) -> int:
    """How many numbers LoRA learns beside linear layers of these (out, width); their own stay as they are.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.2.
    """
    return sum(rank * (out + width) for out, width in layers)


@slot
def lora_scale(alpha: float, rank: int, stabilised: bool = False) -> float:
    """By how much the detour is multiplied: α / rank, or α / √rank if it is stabilised (rsLoRA).

    The detour is a sum over the rank of products of random size, so it grows with the root of the rank. With
    α / rank a large rank learns more slowly than a small one; with α / √rank at the same pace.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; Kalajdzievski 2023, arXiv:2312.03732, section 3.
    """
    return alpha / (math.sqrt(rank) if stabilised else rank)


@slot
def dora_forward(
    tokens: Float[Tensor, "... width"],
    frozen: nn.Linear | QuantisedLinear,
    down: Float[Tensor, "rank width"],
    up: Float[Tensor, "out rank"],
    scale: float,
    magnitude: Float[Tensor, "out"],
) -> Float[Tensor, "... out"]:
    """What a layer says whose weight has LoRA's directions and learned lengths: each row of it, one for each
    output, is divided by its length and multiplied by its ``magnitude``. The bias stays as it is.

    The lengths are constants to the gradient, which saves memory and hardly changes what is learned.

    Source: Liu et al. 2024 (DoRA), arXiv:2402.09353, equation 5 and section 4.3.
    """
    lengths = lora_merge(frozen.weight, down.detach(), up.detach(), scale).norm(dim=1)
    stretch = magnitude / lengths
    bias = 0 if frozen.bias is None else frozen.bias
    return stretch * (lora_forward(tokens, frozen, down, up, scale) - bias) + bias


class LoraLinear(nn.Module):
    """A linear layer, which stops learning, and beside it a learned detour through ``rank`` numbers.

    Around a QuantisedLinear it is QLoRA: the layer stays in four bits, the detour is ordinary numbers.

    ``up`` starts at zero: before the first step the layer says what it said before.

    Args:
        stabilised: rsLoRA, see lora_scale.
        decomposed: DoRA, see dora_forward.
    """

    def __init__(
        self,
        frozen: nn.Linear | QuantisedLinear,
        rank: int,
        alpha: float,
        stabilised: bool = False,
        decomposed: bool = False,
    ):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, frozen.in_features) / frozen.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))
        self.scale = lora_scale(alpha, rank, stabilised)  # so that another rank needs no other learning rate
        self.magnitude = nn.Parameter(frozen.weight.detach().norm(dim=1)) if decomposed else None
        self.alpha, self.stabilised = alpha, stabilised

    def forward(self, tokens: Float[Tensor, "... width"]) -> Float[Tensor, "... out"]:
        if self.magnitude is None:
            return lora_forward(tokens, self.frozen, self.down, self.up, self.scale)
        return dora_forward(tokens, self.frozen, self.down, self.up, self.scale, self.magnitude)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """An ordinary layer that does the same."""
        layer = nn.Linear(self.frozen.in_features, self.frozen.out_features, self.frozen.bias is not None)
        weight = lora_merge(self.frozen.weight, self.down, self.up, self.scale)
        if self.magnitude is not None:
            weight = weight * (self.magnitude / weight.norm(dim=1))[:, None]
        layer.weight, layer.bias = nn.Parameter(weight), self.frozen.bias
        return layer


def add_lora(blocks: Iterable[nn.Module], rank: int = 8, alpha: float = 16.0, **kind: bool) -> None:
    """Freeze the blocks and put a LoraLinear around every linear layer in them.

    Args:
        kind: stabilised, decomposed; see LoraLinear.

    Raises:
        ValueError: if they have some already, or hold no linear layer.
    """
    blocks = list(blocks)
    if any(isinstance(module, LoraLinear) for block in blocks for module in block.modules()):
        raise ValueError("these blocks have LoRA already; merge it first, or train the one that is there")
    layers = [(parent, name, layer) for block in blocks for parent in block.modules()
             for name, layer in parent.named_children()
             if isinstance(layer, nn.Linear | QuantisedLinear)]  # fmt: skip
    if not layers:
        raise ValueError("there is no linear layer to put LoRA around")
    for block in blocks:
        block.requires_grad_(False)
    for parent, name, layer in layers:
        setattr(parent, name, LoraLinear(layer, rank, alpha, **kind).to(layer.weight.device))


def merge_lora(model: nn.Module) -> None:
    """Replace every LoraLinear in ``model`` by an ordinary layer that does the same."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoraLinear):
                setattr(parent, name, layer.merged())


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The two matrices of every LoraLinear, and the magnitudes of DoRA, by their names in ``model``."""
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear)]
    return {f"{name}.{part}": getattr(module, part).detach() for name, module in layers
            for part in ("down", "up", "magnitude") if getattr(module, part) is not None}  # fmt: skip
