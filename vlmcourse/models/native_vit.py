"""A ViT at native resolution: pictures of any sizes, read at once in packed rows (notebook 19).

    NativeViT   a ViT whose blocks see rows of several pictures; positions learned, or turned by (2-D RoPE)

Shapes as in models/native.py.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.models.attention import Layer, Tokens, run_blocks
from vlmcourse.models.language import turning
from vlmcourse.models.look import Look
from vlmcourse.models.native import (
    PatchRow,
    Sides,
    SomePictures,
    axial_angles,
    cut_pictures,
    native_look,
    pack_pictures,
    places_of,
    resize_positions,
)
from vlmcourse.models.vit import Pixels, ViT, ViTConfig


@dataclass(frozen=True)
class NativeViTConfig(ViTConfig):
    """What a NativeViT looks like; with ``class_token=True`` it takes the weights of a ViT.

    image_size is that of the pictures for which positions are learned.

    Raises:
        ValueError: if the patches do not tile the image, or a class token, which stands nowhere, is to be
            turned by its place.
    """

    class_token: bool = False
    turned: bool = False  # by row and column, see axial_angles, in place of learned positions (Qwen2-VL)
    frames: int = 1  # of which each patch is made; a picture counts as so many equal ones (Qwen2-VL: 2)
    length: int = 256  # tokens of a packed row; more if a picture needs more

    def __post_init__(self):
        super().__post_init__()
        if self.class_token and self.turned:
            raise ValueError("a class token stands in no row and no column; a turned ViT has none")


class NativeViT(ViT):
    """A ViT that reads pictures of different sizes at once, packed into rows.

    What it says of a picture is what it says of it alone. A batch of pictures of one size needs no packing,
    and is read as a ViT reads it.

    Source: Dehghani et al. 2023 (NaViT), arXiv:2307.06304, section 2.1; positions as in SigLIP 2 (NaFlex),
        Tschannen et al. 2025, arXiv:2502.14786, section 2.4.2, or as in Qwen2-VL, see axial_angles. Equal to
        transformers' Siglip2VisionModel and to the encoder of Qwen2-VL, see tests/parity.
    """

    config: NativeViTConfig

    def __init__(self, config: NativeViTConfig):
        super().__init__(config)
        self.length = config.length
        if config.frames > 1:
            pixels = config.frames * self.embed_patch.in_features
            self.embed_patch = nn.Linear(pixels, config.width, bias=config.patch_bias)
        if not config.class_token:
            self.class_token = None
            self.front = 0
            self.positions = nn.Parameter(self.positions[1:].detach().clone())
        if config.turned:
            self.positions = None

    def cut(self, pictures: SomePictures) -> PatchRow:
        """The pixels of each patch, see cut_pictures; they can be kept in place of the pictures."""
        return cut_pictures(pictures, self.config.patch_size)

    def read_row(self, pictures: PatchRow, layer: int = -1) -> PatchRow:
        """What ``patches`` says of each picture: one residual stream, without class tokens.

        Args:
            pictures: the pixels of their patches, see cut.
            layer: of the streams, see ViT.patches.
        """
        tokens = self.embed_row(pictures)
        counts = [len(picture) for picture in tokens]
        alike = len(set(counts)) == 1  # then each has a row of its own, full to the end
        length = counts[0] if alike else max(self.length, *counts)
        rows, numbers, places = pack_pictures(tokens, pictures.grids, length)
        look = native_look(numbers, places)
        options = dict(mask=None if alike else look.mask) | self._turn(look)
        blocks = self.blocks[: range(1 + len(self.blocks))[layer]]
        read = run_blocks(blocks, self.norm_before_blocks(rows), **options)
        # the patches, picture by picture; what is none comes last
        owner = torch.where(places[0] >= 0, numbers, len(pictures)).flatten()
        order = owner.argsort(stable=True)[: len(pictures.vectors)]
        return PatchRow(read.flatten(0, 1)[order], pictures.grids)

    def embed_row(self, pictures: PatchRow) -> list[Float[Tensor, "_ width"]]:
        """The tokens of each picture, before the norm that there may be in front of the blocks.

        Raises:
            ValueError: if patches have another size, or pictures other channels.
        """
        config = self.config
        if pictures.vectors.shape[1] != (pixels := config.patch_size**2 * config.channels):
            made = f"{pixels} numbers make a patch of side {config.patch_size} and {config.channels} channels"
            raise ValueError(f"{made}; these have {pictures.vectors.shape[1]}")
        vectors = self.embed_patch(pictures.vectors.repeat(1, config.frames))
        parts = vectors.split(pictures.counts)
        tokens = list(parts)
        for grid in dict.fromkeys(pictures.grids):  # positions are stretched once for all of one size
            same = [number for number, other in enumerate(pictures.grids) if other == grid]
            placed = self.place(torch.stack([parts[number] for number in same]), grid)
            for number, picture in zip(same, placed, strict=True):
                tokens[number] = picture
        return tokens

    def place(self, patches: Float[Tensor, "batch patch width"], grid: Sides) -> Tokens:
        """See ViT.place; without a class token positions are stretched by resize_positions."""
        if self.config.class_token:
            return super().place(patches, grid)
        if self.config.turned:
            return patches
        if grid == self.config.grid:
            return patches + self.positions
        return patches + resize_positions(self.positions, self.config.grid, grid)

    def embed(self, images: Pixels) -> Tokens:
        """See ViT.embed."""
        return self.norm_before_blocks(torch.stack(self.embed_row(self.cut(images))))

    def beside(self, images: Pixels) -> dict[str, Any]:
        """See ViT.beside."""
        size = self.config.patch_size
        grid = places_of((images.shape[2] // size, images.shape[3] // size))
        return self._turn(Look(None, grid[:, None].to(images.device)))

    def _turn(self, look: Look) -> dict[str, Layer]:
        if not self.config.turned:
            return {}
        return dict(rotate=turning(axial_angles(look.positions, self.config.width // self.config.heads)))
