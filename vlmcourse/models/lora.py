"""LoRA: change a frozen linear layer by learning two thin matrices beside it (notebook 17; fully in 15).

    add_lora     put a LoraLinear around every linear layer of some blocks
    merge_lora   put ordinary linear layers back, changed for good
    lora_state   the learned matrices alone, which is all that has to be stored

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1. Equal to peft's LoRA, see tests/parity.
"""

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


class LoraLinear(nn.Module):
    """A linear layer, which stops learning, and beside it a learned detour through ``rank`` numbers.

    Around a QuantisedLinear it is QLoRA: the layer stays in four bits, the detour is ordinary numbers.

    ``up`` starts at zero: before the first step the layer says what it said before.
    """

    def __init__(self, frozen: nn.Linear | QuantisedLinear, rank: int, alpha: float):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, frozen.in_features) / frozen.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))
        self.scale = alpha / rank  # so that another rank needs no other learning rate

    def forward(self, tokens: Float[Tensor, "... width"]) -> Float[Tensor, "... out"]:
        return lora_forward(tokens, self.frozen, self.down, self.up, self.scale)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """An ordinary layer that does the same."""
        layer = nn.Linear(self.frozen.in_features, self.frozen.out_features, self.frozen.bias is not None)
        layer.weight = nn.Parameter(lora_merge(self.frozen.weight, self.down, self.up, self.scale))
        layer.bias = self.frozen.bias
        return layer


def add_lora(blocks: Iterable[nn.Module], rank: int = 8, alpha: float = 16.0) -> None:
    """Freeze the blocks and put a LoraLinear around every linear layer in them.

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
        setattr(parent, name, LoraLinear(layer, rank, alpha).to(layer.weight.device))


def merge_lora(model: nn.Module) -> None:
    """Replace every LoraLinear in ``model`` by an ordinary layer that does the same."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoraLinear):
                setattr(parent, name, layer.merged())


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The two matrices of every LoraLinear, by their names in ``model``."""
    return {f"{name}.{part}": getattr(module, part).detach() for name, module in model.named_modules()
            if isinstance(module, LoraLinear) for part in ("down", "up")}  # fmt: skip
