"""A LLaVA at native resolution: a picture costs as many tokens as its size asks for (notebook 19).

    NativeLlava   a NativeViT's patches, shuffled and projected, among the tokens of a language model

Pictures come as a list, each of its own size, or as a PatchRow of their pixels; what is known of them is a
PatchRow. A text has as many placeholders for a picture as ``tokens_of`` says. Shapes as in models/vlm.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from vlmcourse.models.language import Llama
from vlmcourse.models.llava import Injected, LlavaConfig
from vlmcourse.models.native import PatchRow, Sides, SomePictures
from vlmcourse.models.native_vit import NativeViT, NativeViTConfig
from vlmcourse.models.projector import Projector, pixel_shuffle


@dataclass(frozen=True)
class NativeConfig(LlavaConfig):
    """What a NativeLlava looks like.

    Raises:
        ValueError: if the encoder has no such layer, squares of ``shuffle`` patches do not tile a picture of
            its own size, the last norm is asked for behind another layer, or a patch is to become several
            tokens.
    """

    vision: NativeViTConfig
    layer: int = -1
    shuffle: int = 2
    normed: bool = False  # whether the encoder's last norm comes before the projector, as in Qwen2-VL

    def __post_init__(self):
        super().__post_init__()
        if self.spread != 1:
            raise ValueError(
                f"spread = {self.spread}, but here a picture has a token for each square of patches"
            )
        if self.normed and self.layer != -1:
            raise ValueError(f"the last norm stands behind the last layer, not behind layer {self.layer}")
        merged_grid(self.vision.grid, self.shuffle)


def merged_grid(grid: Sides, shuffle: int) -> Sides:
    """Rows and columns of tokens, where squares of shuffle × shuffle patches become one.

    Raises:
        ValueError: if such squares do not tile the grid.
    """
    rows, columns = grid
    if rows % shuffle or columns % shuffle:
        squares = f"squares of {shuffle} × {shuffle} do not tile a grid of {rows} × {columns} patches"
        raise ValueError(f"{squares}; resize the picture so that they do")
    return rows // shuffle, columns // shuffle


class NativeLlava(Injected):
    """A LLaVA whose pictures may have any sizes, several in one batch, one or more in a text.

    Source: Liu et al. 2023 (LLaVA-1.5), arXiv:2310.03744, with the packed encoder of Dehghani et al. 2023,
        arXiv:2307.06304, and tokens by size as in Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191, section 2.1.
    """

    config: NativeConfig
    patchwise = True
    any_size = True
    language_type: type[Llama] = Llama

    def __init__(self, config: NativeConfig):
        super().__init__()
        self.config = config
        out = config.language.width
        hidden = out if config.hidden is None else config.hidden or None
        self.vision = NativeViT(config.vision)
        self.projector = Projector(config.vision.width, out, hidden, config.shuffle)
        self.language = self.language_type(config.language)

    @property
    def tokens_per_image(self) -> int:
        """Placeholders of an image of the encoder's own size."""
        return self.tokens_of(*self.config.vision.image_shape)

    def tokens_of(self, height: int, width: int) -> int:
        """Placeholders of an image of so many pixels.

        Raises:
            ValueError: if squares of patches do not tile it.
        """
        side = self.config.vision.patch_size
        if height % side or width % side:
            raise ValueError(f"patches of {side} pixels do not tile a picture of {height}×{width}")
        rows, columns = merged_grid((height // side, width // side), self.config.shuffle)
        return rows * columns

    def image_features(self, images: SomePictures | PatchRow) -> PatchRow:
        """What the encoder says of every patch of every picture; see NativeViT.read_row."""
        pixels = images if isinstance(images, PatchRow) else self.vision.cut(images)
        found = self.vision.read_row(pixels, self.config.layer)
        return replace(found, vectors=self.vision.norm(found.vectors)) if self.config.normed else found

    def connect(self, features: PatchRow) -> PatchRow:
        """Image tokens: squares of patches side by side, picture by picture, then projected all at once."""
        shuffle = self.config.shuffle
        grids = tuple(merged_grid(grid, shuffle) for grid in features.grids)
        squares = features.vectors
        if shuffle > 1:
            squares = torch.cat(self._shuffled(features))
        return PatchRow(self.projector.map(squares), grids)

    def image_tokens(self, images: SomePictures | PatchRow) -> PatchRow:
        return self.connect(self.image_features(images))

    def _shuffled(self, features: PatchRow) -> Sequence[torch.Tensor]:
        pictures = zip(features.split(), features.grids, strict=True)
        return [pixel_shuffle(picture[None], self.config.shuffle, grid)[0] for picture, grid in pictures]
