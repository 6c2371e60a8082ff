"""Native resolution: pictures of different sizes, each with as many patches as it needs (notebook 19).

    fit_patches        the size that a picture gets when it may have so many patches
    first_fit          which pictures share a row
    pack_pictures      their tokens in rows of one length, and where each of them stands
    picture_mask       a patch sees the patches of its own picture alone
    resize_positions   learned positions for a picture of another size
    axial_angles       or none: queries and keys turned by row and column, 2-D RoPE
    PatchRow           something about every patch of several pictures, one picture behind the other

Squeezed into a square, a wide picture loses what is narrow; here it stays wide. The ViT that reads packed
rows is in models/native_vit.py. In shapes, token is a patch of any picture; length counts the tokens of a
packed row, padding among them.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.models.language import rope_angles
from vlmcourse.models.look import Look
from vlmcourse.models.vit import patchify
from vlmcourse.slots import slot

Sides = tuple[int, int]  # rows and columns of a picture's patches
OnePicture = Float[Tensor, "_ _ _"]  # channels, height, width
SomePictures = Sequence[OnePicture] | Float[Tensor, "_ _ _ _"]  # a list of them, or a batch of one size

LEAST_SCALE, LARGEST_SCALE, NEAR = 1e-6, 100.0, 1e-5  # between which fit_patches looks, and how closely
NOWHERE = -1  # number and place of padding; place of a class token


@slot
def fit_patches(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """The largest size, (height, width), at which a picture has at most ``most`` patches.

    Both sides are scaled by one number between 0 and 100 and then filled up to whole patches, so a side gets
    longer by less than a patch, and the aspect changes by no more than that. The number is found by halving:
    of two bounds, one fits and one does not, until they are less than 1e-5 apart.

    Args:
        height, width: of the picture, in pixels.
        patch: side of a patch, in pixels. If squares of 2 × 2 patches become one token, give ``2 * patch``
            and a quarter of ``most``.

    Raises:
        ValueError: if not even one patch is allowed, or the picture has no pixels.

    Source: Tschannen et al. 2025 (SigLIP 2), arXiv:2502.14786, section 2.4.2; equal to transformers'
        get_image_size_for_max_num_patches, see tests/parity.
    """
    if min(height, width, patch, most) < 1:
        raise ValueError(f"{most} patches of {patch} pixels for a picture of {height}×{width}: "
                         "all of these must be at least 1")  # fmt: skip

    def sides(scale: float) -> Sides:
        return math.ceil(height * scale / patch), math.ceil(width * scale / patch)

    fits, too_large = LEAST_SCALE, LARGEST_SCALE
    while too_large - fits >= NEAR:
        middle = (fits + too_large) / 2
        rows, columns = sides(middle)
        if rows * columns <= most:
            fits = middle
        else:
            too_large = middle
    rows, columns = sides(fits)
    return rows * patch, columns * patch


@slot
def first_fit(counts: Sequence[int], length: int) -> list[list[int]]:
    """Which pictures share a row: each goes into the first row that has room for it, or else begins one.

    Args:
        counts: tokens of each picture.
        length: tokens that a row has room for.

    Returns:
        the numbers of the pictures of each row, from 0, in their order.

    Raises:
        ValueError: if a picture is longer than a row.

    Source: Dehghani et al. 2023 (NaViT, Patch n' Pack), arXiv:2307.06304, section 2.1 and the appendix on its
        packing algorithm.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for picture, count in enumerate(counts):
        if count > length:
            raise ValueError(f"picture {picture} has {count} tokens, but a row has room for {length}; "
                             "make rows longer, or the picture smaller")  # fmt: skip
        row = 0
        while row < len(rows) and room[row] < count:
            row += 1
        if row == len(rows):
            rows.append([])
            room.append(length)
        rows[row].append(picture)
        room[row] -= count
    return rows


@slot
def pack_pictures(
    pictures: Sequence[Float[Tensor, "_ width"]], grids: Sequence[Sides], length: int
) -> tuple[Float[Tensor, "row length width"], Int[Tensor, "row length"], Int[Tensor, "axis row length"]]:
    """Tokens of pictures of different sizes in rows of one length, see first_fit; zeros fill rows up.

    Args:
        pictures: the tokens of each: its patches, the top row first, left to right; in front of them there
            may be others, such as a class token.
        grids: rows and columns of the patches of each.

    Returns:
        (rows, numbers, places): the tokens; the number of the picture, from 0, to which each belongs, -1 for
        padding; and in which row and column of its picture a patch stands, -1 for all that is no patch.

    Raises:
        ValueError: if a picture has fewer tokens than patches, or is longer than a row.

    Source: Dehghani et al. 2023 (NaViT), arXiv:2307.06304, section 2.1 and figure 2.
    """
    rows, numbers, places = [], [], []
    for members in first_fit([len(picture) for picture in pictures], length):
        number, place = [], []
        for picture in members:
            count, (height, width) = len(pictures[picture]), grids[picture]
            if (others := count - height * width) < 0:
                raise ValueError(f"picture {picture} has {count} tokens; "
                                 f"a grid of {height} × {width} has {height * width} patches")  # fmt: skip
            number.append(torch.full((count,), picture))
            place.append(F.pad(places_of((height, width)), (others, 0), value=NOWHERE))
        free = (0, length - sum(len(pictures[picture]) for picture in members))
        rows.append(F.pad(torch.cat([pictures[picture] for picture in members]), (0, 0, *free)))
        numbers.append(F.pad(torch.cat(number), free, value=NOWHERE))
        places.append(F.pad(torch.cat(place, dim=1), free, value=NOWHERE))
    device = rows[0].device
    return torch.stack(rows), torch.stack(numbers).to(device), torch.stack(places, dim=1).to(device)


@slot
def picture_mask(numbers: Int[Tensor, "row length"]) -> Bool[Tensor, "row length key"]:
    """True where a token may look at another: at those of its own picture; padding at itself alone.

    Args:
        numbers: of the picture that each belongs to; -1 for padding, which no token of a picture sees.

    Source: Dehghani et al. 2023 (NaViT), arXiv:2307.06304, section 2.1, masked self-attention.
    """
    same = numbers[:, :, None] == numbers[:, None, :]
    itself = torch.eye(numbers.shape[1], dtype=torch.bool, device=numbers.device)
    return same & (numbers >= 0)[:, None, :] | itself


def places_of(grid: Sides) -> Int[Tensor, "axis patch"]:
    """Row and column of each patch of a picture, row by row."""
    rows, columns = (torch.arange(count) for count in grid)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")).flatten(1)


def native_look(numbers: Int[Tensor, "row length"], places: Int[Tensor, "axis row length"]) -> Look:
    """Packed pictures that do not see each other, see picture_mask; a patch stands in its row and column."""
    return Look(picture_mask(numbers)[:, None], places)


@slot
def resize_positions(
    positions: Float[Tensor, "patch width"], old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> Float[Tensor, "new_patch width"]:
    """Learned positions of one grid of patches for another: a picture that is made larger or smaller.

    Resized bilinearly, with antialiasing and the corners not aligned; a grid of the same size stays as it is.
    vit.interpolate_positions does it bicubically, and keeps the class token's position in front.

    Args:
        positions: patch = rows · columns of the old grid, row-major.

    Raises:
        ValueError: if the number of positions does not belong to old_grid.

    Source: Tschannen et al. 2025 (SigLIP 2), arXiv:2502.14786, section 2.4.2.
    """
    rows, columns = old_grid
    if len(positions) != rows * columns:
        raise ValueError(f"a {rows}×{columns} grid needs {rows * columns} positions, "
                         f"but there are {len(positions)}")  # fmt: skip
    picture = positions.reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(picture, size=new_grid, mode="bilinear", align_corners=False, antialias=True)
    return resized.flatten(2)[0].T


@slot
def axial_angles(
    places: Int[Tensor, "axis row length"], part: int, base: float = 10_000.0
) -> Float[Tensor, "row length half"]:
    """By how much rope turns each pair of numbers: the first half of the pairs by row, the other by column.

    Each half is turned as all pairs of a head of half the width would be, see language.rope_angles. What a
    query makes of a key then depends on how many rows and columns lie between them, and a picture may have
    any number of them.

    Args:
        places: row and column of each patch.
        part: width of a head.

    Raises:
        ValueError: if part is no multiple of 4, so that rows and columns cannot get equally many pairs.

    Source: 2-D RoPE as in the vision encoder of Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191, section 2.1.
    """
    if part % 4:
        raise ValueError(f"rows and columns need equally many pairs of numbers; a head has {part}")
    by_row, by_column = rope_angles(places, part // 2, base)
    return torch.cat([by_row, by_column], dim=-1)


@dataclass(frozen=True)
class PatchRow:
    """Something about every patch of several pictures, such as its pixels: one picture behind the other.

    To whoever batches, it is an array of pictures: it has a length, and a slice or some numbers give some of
    its pictures. A number type is changed, and it moves to a device, like a tensor.

    Raises:
        ValueError: if there are not as many vectors as patches.
    """

    vectors: Shaped[Tensor, "token width"]  # bytes, too
    grids: tuple[Sides, ...]  # rows and columns of each picture's patches

    def __post_init__(self):
        if len(self.vectors) != (needed := sum(self.counts)):
            raise ValueError(f"pictures of {needed} patches cannot have {len(self.vectors)} vectors")

    @property
    def counts(self) -> list[int]:
        """Patches of each picture."""
        return [rows * columns for rows, columns in self.grids]

    def __len__(self) -> int:
        return len(self.grids)

    def __getitem__(self, some: slice | Sequence[int] | Int[Tensor, "some"]) -> "PatchRow":
        """These pictures, in this order; one may come several times."""
        numbers = range(len(self))[some] if isinstance(some, slice) else [int(number) for number in some]
        starts = self._starts
        chosen = [self.vectors[starts[number] : starts[number + 1]] for number in numbers]
        return PatchRow(torch.cat(chosen or [self.vectors[:0]]), tuple(self.grids[n] for n in numbers))

    @functools.cached_property
    def _starts(self) -> list[int]:
        """Where each picture begins, and where the last one ends."""
        return list(accumulate(self.counts, initial=0))

    def split(self) -> list[Shaped[Tensor, "_ width"]]:
        """The vectors of each picture."""
        return list(self.vectors.split(self.counts))

    @property
    def device(self) -> torch.device:
        return self.vectors.device

    def to(self, *form: Any, **options: Any) -> "PatchRow":
        return PatchRow(self.vectors.to(*form, **options), self.grids)

    def float(self) -> "PatchRow":
        return self.to(torch.float32)


def join_rows(rows: Sequence[PatchRow]) -> PatchRow:
    """All pictures of several rows in one."""
    return PatchRow(torch.cat([row.vectors for row in rows]), tuple(chain(*(row.grids for row in rows))))


def cut_pictures(pictures: SomePictures, size: int) -> PatchRow:
    """The pixels of every patch of pictures of different sizes, see vit.patchify.

    Raises:
        ValueError: if there is no picture, or size does not divide a picture's height and width.
    """
    if not len(pictures):
        raise ValueError("there are no pictures to be cut into patches")
    patches = torch.cat([patchify(picture[None], size)[0] for picture in pictures])
    return PatchRow(patches, tuple((one.shape[1] // size, one.shape[2] // size) for one in pictures))
