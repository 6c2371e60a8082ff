"""Vision Transformer: an image becomes a short sequence of tokens, and a transformer reads it (notebook 02).

    ViT          patchify -> embedding -> add_class_and_positions -> blocks -> one vector per token
    Classifier   a ViT and one linear layer on its class token

In shapes, width is that of an image beside height, elsewhere that of a token.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Block, Tokens, run_blocks
from vlmcourse.slots import slot

Pixels = Float[Tensor, "batch channel rows columns"]


@slot
def patchify(
    images: Float[Tensor, "batch channel height width"], size: int
) -> Float[Tensor, "batch patch pixel"]:
    """Cut images into size×size squares and write each square as one row of numbers.

    Returns:
        patch = height/size · width/size rows, the top row of squares first, left to right;
        pixel = size · size · channel numbers, in the order (row in patch, column in patch, channel).

    Raises:
        ValueError: if size does not divide height and width.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1.
    """
    batch, channel, height, width = images.shape
    if height % size or width % size:
        raise ValueError(f"{height}×{width} pixels cannot be cut into {size}×{size} patches evenly")
    rows, columns = height // size, width // size
    squares = images.reshape(batch, channel, rows, size, columns, size)
    return squares.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, size * size * channel)


@slot
def add_class_and_positions(
    patches: Float[Tensor, "batch patch width"],
    class_token: Float[Tensor, "width"],
    positions: Float[Tensor, "token width"],
) -> Float[Tensor, "batch token width"]:
    """Put the class token in front of every image's patches, then add one position vector per token.

    token = 1 + patch; position 0 belongs to the class token.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, equation 1.
    """
    front = class_token.expand(patches.shape[0], 1, -1)
    return torch.cat([front, patches], dim=1) + positions


@slot
def interpolate_positions(
    positions: Float[Tensor, "token width"],
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    antialias: bool = False,
) -> Float[Tensor, "new_token width"]:
    """Stretch learned positions from one patch grid to another, as one stretches a small picture.

    The class token's position, row 0, stays as it is. The others are laid out on their grid (rows, columns),
    resized bicubically with the corners not aligned, and written as a list again.

    Args:
        positions: token = 1 + rows · columns of the old grid, row-major.
        antialias: False as in transformers; True as in timm.

    Raises:
        ValueError: if the number of positions does not belong to old_grid.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.2.
    """
    rows, columns = old_grid
    if len(positions) != 1 + rows * columns:
        raise ValueError(f"a {rows}×{columns} grid and a class token need {1 + rows * columns} positions, "
                         f"but there are {len(positions)}")  # fmt: skip
    picture = positions[1:].reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(picture, size=new_grid, mode="bicubic", align_corners=False, antialias=antialias)
    return torch.cat([positions[:1], resized.flatten(2)[0].T])


@dataclass(frozen=True)
class ViTConfig:
    """What a ViT looks like. Sizes in pixels for images and patches; the base ViT of the paper is
    ``ViTConfig(image_size=224, patch_size=16, width=768, depth=12, heads=12)``.

    Raises:
        ValueError: if the patches do not tile the image.
    """

    image_size: int | tuple[int, int] = 64  # side, or (height, width)
    patch_size: int = 8
    channels: int = 3
    width: int = 128
    depth: int = 4
    heads: int = 4
    hidden: int | None = None  # width inside the MLP; 4 · width when not given
    activation: str = "gelu"
    epsilon: float = 1e-6
    patch_bias: bool = True  # False in CLIP
    norm_before_blocks: bool = False  # True in CLIP: one more norm, on the tokens that the first block reads

    def __post_init__(self):
        height, width = self.image_shape
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"patches of {self.patch_size} pixels do not tile an image of {height}×{width}")

    @property
    def image_shape(self) -> tuple[int, int]:
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.image_shape
        return height // self.patch_size, width // self.patch_size


class ViT(nn.Module):
    """Vision Transformer encoder.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929. Equal to transformers' and timm's, see tests/parity.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        rows, columns = config.grid
        pixels = config.patch_size**2 * config.channels
        self.embed_patch = nn.Linear(pixels, config.width, bias=config.patch_bias)
        self.class_token = nn.Parameter(0.02 * torch.randn(config.width))
        self.positions = nn.Parameter(0.02 * torch.randn(1 + rows * columns, config.width))
        early = config.norm_before_blocks
        self.norm_before_blocks = nn.LayerNorm(config.width, eps=config.epsilon) if early else nn.Identity()
        sizes = config.width, config.heads, config.hidden, config.activation, config.epsilon
        self.blocks = nn.ModuleList(Block(*sizes) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.antialias = False  # True in a ViT from timm, see interpolate_positions

    front = 1  # tokens in front of the patches: the class token

    def embed(self, images: Pixels) -> Tokens:
        """Images to the tokens the first block reads. Images of another size get interpolated positions."""
        size, (channels, height, width) = self.config.patch_size, images.shape[1:]
        if channels != self.config.channels:
            raise ValueError(f"this ViT reads {self.config.channels} channels, the images have {channels}")
        patches = self.embed_patch(patchify(images, size))
        return self.norm_before_blocks(self.place(patches, (height // size, width // size)))

    def place(self, patches: Float[Tensor, "batch patch width"], grid: tuple[int, int]) -> Tokens:
        """The class token and the patches of a grid of rows and columns, each with its position."""
        positions = self.positions
        if grid != self.config.grid:
            positions = interpolate_positions(positions, self.config.grid, grid, self.antialias)
        return add_class_and_positions(patches, self.class_token, positions)

    def beside(self, images: Pixels) -> dict[str, Any]:
        """What blocks need beside the tokens of these images: here nothing, see models/native.py."""
        return {}

    @torch.no_grad()
    def calibrate(self, images: Pixels) -> None:
        """Rescale a new patch embedding so that its outputs on these images have mean 0 and deviation 1.

        Light backgrounds otherwise give every patch one large common vector; beside it shapes hardly count.

        Source: data-dependent initialisation, Krähenbühl et al. 2015, arXiv:1511.06856, section 3.1.
        """
        outputs = self.embed_patch(patchify(images, self.config.patch_size)).flatten(0, 1)
        deviation, mean = torch.std_mean(outputs, dim=0)
        self.embed_patch.weight /= deviation[:, None]
        self.embed_patch.bias.copy_((self.embed_patch.bias - mean) / deviation)

    def read(self, images: Pixels, blocks: int | None = None) -> Tokens:
        """The residual stream behind the first ``blocks`` blocks, by default all; before the last norm."""
        return run_blocks(self.blocks[:blocks], self.embed(images), **self.beside(images))

    def layers(self, images: Pixels) -> list[Tokens]:
        """The residual stream after the embedding and after each block: depth + 1, before the last norm."""
        stream, options = [self.embed(images)], self.beside(images)
        for block in self.blocks:
            stream.append(block(stream[-1], **options))
        return stream

    def patches(self, images: Pixels, layer: int = -1) -> Float[Tensor, "batch patch width"]:
        """One residual stream without its class token: what a vision-language model reads.

        Args:
            layer: of the streams that ``layers`` gives; the last is -1. Blocks behind it do not run.
        """
        return self.read(images, range(1 + len(self.blocks))[layer])[:, self.front :]

    def forward(self, images: Pixels) -> Tokens:
        """One vector per token; token 0 is the class token (1×D), the rest are patches (N×D), row by row."""
        return self.norm(self.read(images))

    def class_vector(self, images: Pixels) -> Float[Tensor, "batch width"]:
        """``forward(images)[:, 0]``, without the last block's work on patches that nobody will read.

        Raises:
            ValueError: if there is no class token, see models/native.py.
        """
        if not self.front:
            raise ValueError(
                f"this {type(self).__name__} has no class token; take the mean of its patches, say"
            )
        last = self.blocks[-1]
        if last.attention.record is not None:  # whoever records attention wants to see every query
            return self(images)[:, 0]
        tokens = self.read(images, -1)
        return self.norm(last.one_token(tokens[:, :1], tokens))[:, 0]


class Classifier(nn.Module):
    """A ViT and one linear layer that reads its class token."""

    def __init__(self, config: ViTConfig, classes: int):
        super().__init__()
        self.vit = ViT(config)
        self.head = nn.Linear(config.width, classes)

    def forward(self, images: Pixels) -> Float[Tensor, "batch classes"]:
        return self.head(self.vit.class_vector(images))
