"""Patch by patch: an eye learns what stands where on pages and scenes of any size (notebook 19).

This is the first stage of nano-native. Answers alone teach an eye to read very slowly: one word says little
about the sixty patches of its page. Here each patch is asked which letters it shows and where in their text
they stand, which shape, colour and number, and how far it is to the edges of the thing's box, as in FCOS.
With drawn pages all of it is known.

    patch_truth      the right answers for the patches of one picture
    PatchReader      the eye, and one linear layer that reads every patch
    patch_loss       what it makes small
    teach_patches    train it
    letters_right    how many letters it names, patch by patch

Source: as in regions.py, for squares of 64 pixels; distances to a box: Tian et al. 2019 (FCOS),
    arXiv:1904.01355, section 3.1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.data.batches import Batches
from vlmcourse.data.pixels import patches_from_bytes, patches_to_bytes
from vlmcourse.models.native import PatchRow, cut_pictures, join_rows
from vlmcourse.models.native_vit import NativeViT
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.precision import precision_of
from vlmcourse.training.sharing import mean_over_all
from vlmcourse.world.pages import Pages
from vlmcourse.world.printed import TOP_VALUE, WORD_LENGTHS
from vlmcourse.world.render import to_tensor
from vlmcourse.world.scenes import COLOURS, RADII, Scenes
from vlmcourse.world.sheets import CHARACTERS, DRAWN, NO_CELL, OnPage

_SIGNS, _OTHERS = len(CHARACTERS), len(DRAWN) - len(CHARACTERS)  # others: shapes, and bars
# how many there are of what a patch may show: the sign in its left half, that in its right half, and which
# letter of its text each is; a shape or bar, its colour, how high a bar is; the cell of a table a sign is in
CLASSES = (_SIGNS, _SIGNS, max(WORD_LENGTHS), max(WORD_LENGTHS), _OTHERS, len(COLOURS), TOP_VALUE + 1, 9)
_SIGN, _LETTER, _OTHER, _COLOUR, _HEIGHT, _CELL = 0, 2, 4, 5, 6, 7  # columns of CLASSES; two of the first two
_BOX = len(CLASSES)  # and behind them the distances to the edges of a box
# scores of a patch: each class, or none; then these four distances
SPLIT_SCORES = (*(count + 1 for count in CLASSES), 4)


def scene_things(batch: Scenes) -> list[OnPage]:
    """What stands where in each scene, as Pages.shown has it."""
    radius = RADII[batch.size]
    edges = [batch.x - radius, batch.y - radius, batch.x + radius + 1, batch.y + radius + 1]
    nothing = np.zeros_like(batch.shape), np.full_like(batch.shape, NO_CELL)
    columns = [*edges, _SIGNS + batch.shape, batch.colour, *nothing]
    rows = np.stack(columns, axis=-1).astype(int)  # (scene, object, 8)
    return [row[:count] for row, count in zip(rows, batch.count.tolist(), strict=True)]


def patch_truth(things: OnPage, size: tuple[int, int], side: int = 8) -> Float[np.ndarray, "patch 12"]:
    """What each patch of a picture shows: eight classes, and distances to the edges of a box in patches.

    A letter or digit belongs to the patch that its middle lies in. Anything else belongs to all patches whose
    middles lie in its box; along an edge on which there is none, to those that its own middle lies in.

    Args:
        things: see Pages.shown.
        size: height and width of the picture, in pixels; whole patches of ``side`` pixels.

    Returns:
        the classes of CLASSES, as many as there are for none; then how far the box of a shape or bar reaches
        to the left, top, right and bottom of the patch's middle, NaN where there is none.
    """
    rows, columns = size[0] // side, size[1] // side
    found = np.full((rows, columns, _BOX + 4), np.nan)
    found[..., :_BOX] = CLASSES
    middles = np.arange(max(rows, columns)) * side + side / 2
    for left, top, right, bottom, what, colour, number, cell in things.tolist():
        x, y = (left + right) / 2, (top + bottom) / 2
        if what < _SIGNS:
            patch, half = found[int(y // side), int(x // side)], int(x % side >= side / 2)
            patch[_SIGN + half], patch[_LETTER + half] = what, number
            patch[_CELL] = cell if cell != NO_CELL else patch[_CELL]
            continue
        down = _covered(middles[:rows], top, bottom, y, side)
        across = _covered(middles[:columns], left, right, x, side)
        found[down, across, _OTHER], found[down, across, _COLOUR] = what - _SIGNS, colour
        if DRAWN[what] == "bar":
            found[down, across, _HEIGHT] = number
        found[down, across, _BOX] = (middles[across] - left) / side
        found[down, across, _BOX + 1] = (middles[down] - top)[:, None] / side
        found[down, across, _BOX + 2] = (right - middles[across]) / side
        found[down, across, _BOX + 3] = (bottom - middles[down])[:, None] / side
    return found.reshape(-1, _BOX + 4)


def _covered(middles: np.ndarray, start: int, stop: int, own: float, side: int) -> slice:
    """Patches along an edge whose middles lie from start to stop, or the one that ``own`` lies in."""
    first, last = middles.searchsorted((start, stop)).tolist()
    return slice(first, last) if last > first else slice(int(own // side), int(own // side) + 1)


class PatchReader(nn.Module):
    """The eye and one linear layer that reads every patch of its last residual stream."""

    def __init__(self, eye: NativeViT):
        super().__init__()
        self.eye = eye
        self.head = nn.Linear(eye.config.width, sum(SPLIT_SCORES))

    def forward(self, pixels: PatchRow) -> tuple[Float[Tensor, "patch _"], ...]:
        """Scores as in SPLIT_SCORES, patch by patch."""
        patches = self.eye.read_row(pixels).vectors
        return self.head(F.layer_norm(patches, patches.shape[-1:])).float().split(SPLIT_SCORES, dim=-1)


def patch_loss(
    scores: Sequence[Float[Tensor, "patch _"]], truth: Float[Tensor, "patch 12"]
) -> Float[Tensor, ""]:
    """Cross-entropy of each class, and three times the Huber loss of the distances.

    Most patches show nothing. The mean over those that show something and that over the others count alike.
    """
    *classes, distances = scores
    loss = distances.sum() * 0.0
    for logits, right in zip(classes, truth[:, :_BOX].long().unbind(1), strict=True):
        surprise, something = F.cross_entropy(logits, right, reduction="none"), right < logits.shape[1] - 1
        for those in (something, ~something):
            count = those.sum()
            loss = loss + mean_over_all(surprise[those].sum() / count.clamp(min=1), count)
    shown = ~truth[:, -1].isnan()
    missed = F.smooth_l1_loss(distances[shown], truth[shown, _BOX:], beta=0.1, reduction="sum")
    count = 4 * shown.sum()
    return loss + 3 * mean_over_all(missed / count.clamp(min=1), count)


def teach_patches(
    reader: PatchReader,
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    things: Sequence[OnPage],
    *,
    size: int,
    seed: int = 0,
    **options: Any,
) -> History:
    """Train an eye, and the layer that reads it.

    Args:
        things: of each picture, see Pages.shown and scene_things.
        size: pictures per step.
        options: further arguments of training.loop.train, such as steps.
    """
    side = reader.eye.config.patch_size
    cut = join_rows([patches_to_bytes(cut_pictures(to_tensor(picture[None]), side)) for picture in pictures])
    truth = [
        patch_truth(some, picture.shape[:2], side) for some, picture in zip(things, pictures, strict=True)
    ]
    right = PatchRow(torch.from_numpy(np.concatenate(truth)).float(), cut.grids)

    def loss_of(reader: nn.Module, batch: tuple[PatchRow, PatchRow]) -> Tensor:
        pixels, right = batch
        return patch_loss(reader(patches_from_bytes(pixels)), right.vectors)

    tokens = size * len(cut.vectors) // len(cut)
    chosen = dict(precision=precision_of(tokens, reader.eye.config.width))
    return learn(reader, Batches((cut, right), size, seed=seed), loss_of, **chosen | options)


@torch.no_grad()
def letters_right(reader: PatchReader, batch: Pages) -> float:
    """Share of all letters and digits on pages that are named by the patches in which they stand; 0 to 1.

    Raises:
        ValueError: if nothing is written on any page.
    """
    right = total = 0
    side = reader.eye.config.patch_size
    for picture, things in zip(batch.pictures, batch.shown, strict=True):
        left, other, *_ = reader(cut_pictures(to_tensor(picture[None]), side))
        true = torch.from_numpy(patch_truth(things, picture.shape[:2], side)[:, :2])
        written = true < _SIGNS
        said = torch.stack([left.argmax(dim=1), other.argmax(dim=1)], dim=1)
        right, total = right + int((said == true)[written].sum()), total + int(written.sum())
    if not total:
        raise ValueError('nothing is written on these pages; sample some with kind="words"')
    return right / total
