"""How a model at native resolution sees a page: squashed, as tiles, or as it is (notebook 19).

    show_page        a page as the model sees it for so many tokens
    collect_sights   many of them, as Sights: pixels of patches, kept in bytes
    sight_features   what the eye says of them, tile by tile
    grade_sights     which answers about them a model would write word for word

A square of 16 × 16 pixels is a token. A page in tiles is read tile by tile, the thumbnail first, and to the
language model it is one row of tokens. Tiles stand below each other there, as one tall picture.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vlmcourse.data.packing import Packs
from vlmcourse.models.native import PatchRow, fit_patches, join_rows
from vlmcourse.models.native_llava import NativeLlava
from vlmcourse.models.tiles import cut_tiles, plan_picture, squash
from vlmcourse.speak import Speaker
from vlmcourse.world.render import to_tensor
from vlmcourse.world.scenes import SIDE

SQUARE = 16  # pixels along an edge of what becomes one token
HALF = 127.5  # a byte b is the pixel b / 127.5 - 1, see data.pixels.normalise
AT_ONCE_SEEN = 50  # pictures that are graded at once


def show_page(
    page: UInt8[np.ndarray, "_ _ 3"], way: str = "native", budget: int = 256
) -> Float[Tensor, "piece 3 rows columns"]:
    """A page as the model sees it for at most so many tokens: one picture, or a thumbnail and tiles.

    Natively it is made smaller where it has more tokens, see fit_patches, and never larger.

    Args:
        way: "squash", "tiles" or "native", see tiles.plan_picture.
        page: both edges multiples of 16 pixels.

    Raises:
        ValueError: for another way, or a budget too small for the smallest picture.
    """
    image, (height, width) = to_tensor(page[None])[0], page.shape[:2]
    if way == "native":
        fits = height * width <= budget * SQUARE**2
        return squash(image, (height, width) if fits else fit_patches(height, width, SQUARE, budget))[None]
    plan = plan_picture(way, (height, width), budget, SIDE, SQUARE)
    return cut_tiles(image, plan.grid, SIDE) if way == "tiles" else squash(image, plan.size)[None]


class Sights(NamedTuple):
    """Pages as a model sees them, ready for its eye."""

    pixels: PatchRow  # in bytes; the tiles of a page stand below each other
    pieces: Int[Tensor, "page"]  # pictures that it is seen as: 1, or a thumbnail and tiles

    def tokens(self) -> Float[Tensor, "page"]:
        """Tokens of each page in the language model."""
        return torch.tensor(self.pixels.counts) / 4


def collect_sights(model: NativeLlava, shown: Sequence[Float[Tensor, "_ 3 _ _"]]) -> Sights:
    """See show_page."""
    rows, pieces = [], torch.tensor([len(page) for page in shown])
    for page in shown:
        one = model.vision.cut(page)
        (high, wide), count = one.grids[0], len(page)
        bytes_ = ((one.vectors + 1) * HALF).round().to(torch.uint8)
        rows.append(PatchRow(bytes_, ((count * high, wide),)))
    grids = tuple(row.grids[0] for row in rows)
    return Sights(PatchRow(torch.cat([row.vectors for row in rows]), grids), pieces)


def sight_features(model: NativeLlava, pixels: PatchRow, pieces: Int[Tensor, "page"]) -> PatchRow:
    """What the eye says of every patch; each tile is a picture of its own to it."""
    grids = []
    for (high, wide), count in zip(pixels.grids, pieces.tolist(), strict=True):
        grids += [(high // count, wide)] * count
    seen = PatchRow(pixels.vectors.float() / HALF - 1, tuple(grids))
    return replace(model.image_features(seen), grids=pixels.grids)


@torch.no_grad()
def grade_sights(speaker: Speaker, sights: Sights, rows: Packs) -> Bool[Tensor, "conversation"]:
    """Of each conversation whether the model would write its answer word for word, see Speaker.grade."""
    parts = [slice(first, first + AT_ONCE_SEEN) for first in range(0, len(sights.pieces), AT_ONCE_SEEN)]
    found = [sight_features(speaker.model, sights.pixels[part], sights.pieces[part]) for part in parts]
    return speaker.grade(join_rows(found), rows, AT_ONCE_SEEN)
