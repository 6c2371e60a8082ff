"""Projectors: from the image encoder's vectors to vectors a language model can read (notebook 07).

    Projector   pixel_shuffle if asked, then one linear layer or two, then spread if asked
    spectrum    what a matrix does to its input: its singular values, and how many of them count

In shapes, width is the encoder's, out the language model's.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Layer
from vlmcourse.slots import slot


@slot
def pixel_shuffle(
    features: Float[Tensor, "image patch width"], factor: int, grid: tuple[int, int] | None = None
) -> Float[Tensor, "image fewer wider"]:
    """Put every factor × factor square of neighbouring patches side by side into one token.

    fewer = patch / factor², row by row; wider = width · factor², the square's upper row first, left to right.
    No number is lost: the language model reads fewer tokens, and the projector more numbers of each.

    Args:
        grid: rows and columns of patches; a square grid when not given.

    Raises:
        ValueError: if the patches do not fill the grid, or factor does not divide its rows and columns.

    Source: Shi et al. 2016, arXiv:1609.05158, backwards; Laurençon et al. 2024, arXiv:2408.12637, section 3.
    """
    image, patch, width = features.shape
    rows, columns = grid or (math.isqrt(patch),) * 2
    if rows * columns != patch:
        raise ValueError(f"{patch} patches do not fill a grid of {rows} × {columns}; "
                         "is the class token still there?")  # fmt: skip
    if rows % factor or columns % factor:
        raise ValueError(f"squares of {factor} × {factor} do not tile a grid of {rows} × {columns} patches")
    squares = features.reshape(image, rows // factor, factor, columns // factor, factor, width)
    return squares.transpose(2, 3).reshape(image, patch // factor**2, width * factor**2)


@slot
def project(features: Float[Tensor, "... width"], expand: Layer, contract: Layer) -> Float[Tensor, "... out"]:
    """contract(gelu(expand(features))): two linear layers with the exact GELU between them.

    Source: Liu et al. 2023 (LLaVA-1.5), arXiv:2310.03744, section 3.3.
    """
    return contract(F.gelu(expand(features)))


class Projector(nn.Module):
    """Image features in, image tokens out.

    Args:
        hidden: width between the two layers, LLaVA's is ``out``; None is one linear layer, the first LLaVA's.
        shuffle: factor of pixel_shuffle; 1 leaves every patch a token.
        spread: how many image tokens each vector becomes; ClipCap made ten of CLIP's single one.

    Source: Liu et al. 2023, arXiv:2310.03744, section 3.3; spread: Mokady et al. 2021, arXiv:2111.09734,
        section 3. Equal to transformers' LlavaMultiModalProjector with ``hidden=out``, see tests/parity.
    """

    def __init__(self, width: int, out: int, hidden: int | None = None, shuffle: int = 1, spread: int = 1):
        super().__init__()
        self.shuffle, self.spread = shuffle, spread
        self.expand = nn.Linear(width * shuffle**2, hidden or out * spread)
        self.contract = nn.Linear(hidden, out * spread) if hidden else None

    @torch.no_grad()
    def calibrate(self, features: Float[Tensor, "image patch width"], size: float = 1.0) -> None:
        """Scale both matrices for these inputs: a root mean square of 1 inside, ``size`` outside.

        An encoder's residual stream can be ten times as large as a word's vector; the language model would
        see nothing else. Call it once, before training, with the features of some images.
        """
        self.expand.weight /= features.float().square().mean().sqrt()
        last = self.contract or self.expand
        last.weight *= size / self(features.float()).square().mean().sqrt()

    def tokens(self, patches: int) -> int:
        """How many tokens an image of so many patches becomes."""
        return patches // self.shuffle**2 * self.spread

    def forward(
        self, features: Float[Tensor, "image patch width"], grid: tuple[int, int] | None = None
    ) -> Float[Tensor, "image token out"]:
        if self.shuffle > 1:
            features = pixel_shuffle(features, self.shuffle, grid)
        wide = self.map(features)
        return wide.unflatten(-1, (self.spread, -1)).flatten(1, 2) if self.spread > 1 else wide

    def map(self, shuffled: Float[Tensor, "*image vector wide"]) -> Float[Tensor, "*image vector spread_out"]:
        """The layers alone, on what pixel_shuffle made of the features."""
        return project(shuffled, self.expand, self.contract) if self.contract else self.expand(shuffled)


@slot
def spectrum(weight: Float[Tensor, "out width"]) -> tuple[Float[Tensor, "rank"], Float[Tensor, ""]]:
    """Singular values of a matrix, largest first, and its effective rank.

    The effective rank is e to the entropy of the singular values as shares: 1 if one direction carries all,
    min(out, width) if all carry the same.

    Source: Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality", EUSIPCO.
    """
    values = torch.linalg.svdvals(weight.detach())
    shares = values / values.sum()
    return values, torch.special.entr(shares).sum().exp()  # entr(x) is -x log x, and 0 at 0
