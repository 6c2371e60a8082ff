"""How a model at native resolution sees a page: squashed, as tiles, or as it is (notebook 19).

    plan_page        what so many tokens buy of a page
    show_page        a page as the model sees it for them; see_page the same to be looked at
    answer_sight     what the model says of a page seen so, and how likely that is; sights_for a widget
    collect_sights   many of them, as Sights: pixels of patches, kept in bytes
    sight_features   what the eye says of them, tile by tile; collect_features of all of them, some at once
    grade_sights     which answers about them a model would write word for word

A square of 16 × 16 pixels is a token. A page in tiles is read tile by tile, the thumbnail first, and to the
language model it is one row of tokens. Tiles stand below each other there, as one tall picture.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vlmcourse.data.packing import Packs
from vlmcourse.data.pixels import patches_from_bytes, patches_to_bytes, to_bytes
from vlmcourse.diagnostics.alternatives import beam, one_thread
from vlmcourse.models.attention import Cache
from vlmcourse.models.language import next_scores
from vlmcourse.models.native import PatchRow, fit_patches, join_rows
from vlmcourse.models.native_llava import NativeLlava
from vlmcourse.models.tiles import PicturePlan, cut_tiles, plan_picture, squash
from vlmcourse.speak import Speaker
from vlmcourse.world.render import to_tensor
from vlmcourse.world.scenes import SIDE

SQUARE = 16  # pixels along an edge of what becomes one token
AT_ONCE_SEEN = 50  # pictures that are graded at once


def plan_page(size: tuple[int, int], way: str = "native", budget: int = 256) -> PicturePlan:
    """What so many tokens at most buy of a page: its size, its grid of tiles, and the tokens it costs.

    Nano-native reads tiles without separators, and their padding as well; so the tokens are those of all
    squares of all pieces, and not what tiles.plan_picture counts.

    Args:
        size: height and width of the page, both multiples of 16 pixels.
        way, budget: see show_page.
    """
    if way == "native":
        height, width = size
        fits = height * width <= budget * SQUARE**2
        height, width = (height, width) if fits else fit_patches(height, width, SQUARE, budget)
        return PicturePlan(way, (height, width), (1, 1), height * width // SQUARE**2)
    plan = plan_picture(way, size, budget, SIDE, SQUARE)
    if plan.grid == (1, 1):
        return plan
    rows, columns = plan.grid
    return plan._replace(tokens=(1 + rows * columns) * (SIDE // SQUARE) ** 2)


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
    image, plan = to_tensor(page[None])[0], plan_page(page.shape[:2], way, budget)
    return cut_tiles(image, plan.grid, SIDE) if way == "tiles" else squash(image, plan.size)[None]


class SeenPage(NamedTuple):
    """A page as the model sees it, to be looked at."""

    pieces: UInt8[np.ndarray, "piece rows columns 3"]  # one picture, or a thumbnail and tiles row by row
    plan: PicturePlan
    square: int  # pixels along an edge of what becomes one token


def see_page(page: UInt8[np.ndarray, "_ _ 3"], way: str = "native", budget: int = 256) -> SeenPage:
    """See show_page."""
    pieces = to_bytes(show_page(page, way, budget)).numpy()
    return SeenPage(pieces, plan_page(page.shape[:2], way, budget), SQUARE)


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
        one = patches_to_bytes(model.vision.cut(page))
        (high, wide), count = one.grids[0], len(page)
        rows.append(PatchRow(one.vectors, ((count * high, wide),)))
    grids = tuple(row.grids[0] for row in rows)
    return Sights(PatchRow(torch.cat([row.vectors for row in rows]), grids), pieces)


def sight_features(model: NativeLlava, pixels: PatchRow, pieces: Int[Tensor, "page"]) -> PatchRow:
    """What the eye says of every patch; each tile is a picture of its own to it."""
    grids = []
    for (high, wide), count in zip(pixels.grids, pieces.tolist(), strict=True):
        grids += [(high // count, wide)] * count
    seen = replace(patches_from_bytes(pixels), grids=tuple(grids))
    return replace(model.image_features(seen), grids=pixels.grids)


@one_thread()
@torch.inference_mode()
def answer_sight(
    speaker: Speaker, page: UInt8[np.ndarray, "_ _ 3"], question: str, way: str = "native", budget: int = 256
) -> tuple[str, float]:
    """What the model says of a page seen like this, always with the likeliest word, and how likely that is.

    Args:
        way, budget: see show_page.

    Returns:
        (text, chance): chance is the probability of exactly this answer, its end included; 0 to 1.
    """
    model, words = speaker.model, speaker.words
    sight = collect_sights(model, [show_page(page, way, budget)])
    ids, _ = words.prompts([question], int(sight.tokens()))
    prompt = model.embed(ids, features=model.connect(sight_features(model, *sight)))
    caches = [Cache() for _ in model.blocks]
    scores = next_scores(model.language, prompt, caches=caches).log_softmax(dim=-1)
    [(written, logarithm)] = beam(model.language, scores, caches, 1, words.end)
    return words.spell([written])[0], math.exp(logarithm)


def sights_for(speaker: Speaker) -> tuple[Callable[..., SeenPage], Callable[..., tuple[str, float]]]:
    """What widgets/pages.py asks of a speaker: see_page, and answer_sight of it."""
    return see_page, partial(answer_sight, speaker)


@torch.no_grad()
def collect_features(model: NativeLlava, sights: Sights, dtype: torch.dtype = torch.bfloat16) -> PatchRow:
    """What the eye says of all pages, some at once; in bf16, to save memory."""
    parts = [slice(first, first + AT_ONCE_SEEN) for first in range(0, len(sights.pieces), AT_ONCE_SEEN)]
    return join_rows([sight_features(model, sights.pixels[p], sights.pieces[p]).to(dtype) for p in parts])


@torch.no_grad()
def grade_sights(speaker: Speaker, sights: Sights, rows: Packs) -> Bool[Tensor, "conversation"]:
    """Of each conversation whether the model would write its answer word for word, see Speaker.grade."""
    features = collect_features(speaker.model, sights, torch.float32)
    return speaker.grade(features, rows, AT_ONCE_SEEN)
