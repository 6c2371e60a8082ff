"""Tiles: a picture of any size for an encoder that reads one size only (notebook 19).

    squash, letterbox    a picture in another frame: stretched to fill it, or whole with padding around it
    choose_grid          the best of some grids of tiles for a picture; grids_within a budget of tokens
    covering_grid        the grid that covers a picture without making it smaller
    cut_tiles, lay_tiles thumbnail and tiles of a picture; their tokens as one row, with separators
    smart_size           the size at which a picture is read as it is, without tiles
    plan_picture         what a budget buys: the size that the model sees, the grid, and the tokens it costs

A size is height, width in pixels; a grid is rows, columns of tiles; side is a tile's edge in pixels. A grid
of 1 × 1 is the thumbnail alone. In shapes, picture counts the thumbnail and the tiles behind it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.slots import slot

PixelSize = tuple[int, int]  # height, width
TileGrid = tuple[int, int]  # rows, columns
READING_WAYS = ("squash", "tiles", "native")
MOST_ASPECT = 200  # long edge / short edge; smart_size refuses more


def fitted_size(size: PixelSize, frame: PixelSize) -> PixelSize:
    """Height and width of a picture scaled until it touches two edges of the frame; rounded up.

    Source: equal to transformers' get_patch_output_size, by which LLaVA-NeXT resizes.
    """
    height, width = size
    frame_height, frame_width = frame
    if frame_width / width < frame_height / height:
        return min(math.ceil(height * (frame_width / width)), frame_height), frame_width
    return frame_height, min(math.ceil(width * (frame_height / height)), frame_width)


def squash(
    image: Float[Tensor, "channel height width"], size: PixelSize
) -> Float[Tensor, "channel rows columns"]:
    """The picture stretched or pressed to this size, whatever its aspect; bilinear with antialiasing."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    return F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]


def letterbox(
    image: Float[Tensor, "channel height width"], frame: PixelSize
) -> Float[Tensor, "channel rows columns"]:
    """The whole picture in the middle of a frame, its aspect kept; zeros where there is no picture.

    Where padding cannot be shared evenly, the right and the bottom edge get one pixel more. In pixels of
    −1…1, zero is mid-grey.

    Source: Liu et al. 2023 (LLaVA-1.5), arXiv:2310.03744; equal to transformers' LlavaNextImageProcessor.
    """
    height, width = fitted_size(tuple(image.shape[1:]), frame)
    down, right = frame[0] - height, frame[1] - width  # padding above and below, left and right
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    return F.pad(squash(image, (height, width)), padding)


@slot
def choose_grid(height: int, width: int, grids: Sequence[tuple[int, int]], side: int) -> tuple[int, int]:
    """The grid of tiles that shows most of a picture, and of those the one that wastes least.

    A grid is a frame of rows · side × columns · side pixels. The picture, scaled to fit into it, covers some
    of these pixels; no more of them are effective than the picture itself has, since larger shows no more.
    The grid with the most effective pixels wins; of equal ones that with the fewest other pixels, then the
    first in the list.

    Args:
        height, width: of the picture in pixels.
        grids: (rows, columns) to choose from.
        side: of a tile, in pixels.

    Returns:
        rows, columns of tiles.

    Raises:
        ValueError: if there is no grid to choose from.

    Source: AnyRes in LLaVA-NeXT, Liu et al. 2024; the idea in Liu et al. 2023 (LLaVA-1.5-HD),
        arXiv:2310.03744, section 3.4. Equal to transformers' select_best_resolution.
    """
    if not grids:
        raise ValueError("there is no grid to choose from; allow more tokens")
    best, most, least = grids[0], -1, math.inf
    for rows, columns in grids:
        frame_height, frame_width = rows * side, columns * side
        scale = min(frame_width / width, frame_height / height)
        covered = int(width * scale) * int(height * scale)
        effective = min(covered, width * height)
        wasted = frame_height * frame_width - effective
        if effective > most or (effective == most and wasted < least):
            best, most, least = (rows, columns), effective, wasted
    return best


def covering_grid(height: int, width: int, side: int) -> TileGrid:
    """The grid of tiles that covers a picture: nothing becomes smaller, and nothing is padded.

    The longer edge grows to the next multiple of side, the shorter one with it, and then to its own next
    multiple. Pictures are stretched to the grid; see squash.

    Source: Laurençon et al. 2024 (Idefics3), arXiv:2408.12637; equal to transformers' Idefics3ImageProcessor
        behind its first resizing.
    """
    aspect = width / height
    if width >= height:
        columns = math.ceil(width / side)
        return math.ceil(int(columns * side / aspect) / side), columns
    rows = math.ceil(height / side)
    return rows, math.ceil(int(rows * side * aspect) / side)


@slot
def cut_tiles(
    image: Float[Tensor, "channel height width"], grid: tuple[int, int], side: int
) -> Float[Tensor, "picture channel side side"]:
    """A thumbnail of the whole picture, then its tiles row by row, all of side × side pixels.

    The thumbnail is squashed. The tiles are cut from the picture in its letterbox of the grid's size, so that
    shapes keep their form. A grid of 1 × 1 gives the thumbnail alone.

    Args:
        image: any size, any range of values; padding is 0.
        grid: rows and columns of tiles.
        side: of a tile, in pixels.

    Returns:
        picture = 1 + rows · columns; 1 for a grid of 1 × 1.

    Source: as choose_grid; equal to transformers' LlavaNextImageProcessor. Idefics3 stretches instead of
        padding, and puts the thumbnail behind the tiles.
    """
    rows, columns = grid
    thumbnail = squash(image, (side, side))[None]
    if rows * columns == 1:
        return thumbnail
    whole = letterbox(image, (rows * side, columns * side))
    blocks = whole.reshape(len(whole), rows, side, columns, side)
    tiles = blocks.permute(1, 3, 0, 2, 4).flatten(0, 1)  # (row and column, channel, side, side)
    return torch.cat([thumbnail, tiles])


def empty_lines(size: PixelSize, lines: PixelSize) -> tuple[int, int]:
    """How many rows of patches above and below, and columns left and right, hold nothing but padding.

    Args:
        size: of the picture that stands in the letterbox.
        lines: rows and columns of patches in all tiles together.

    Source: equal to transformers' unpad_image in LLaVA-NeXT, which takes the same number off either side.
    """
    (height, width), (rows, columns) = size, lines
    if width / height > columns / rows:
        filled = int(round(height * (columns / width), 7))
        return (rows - filled) // 2, 0
    filled = int(round(width * (rows / height), 7))
    return 0, (columns - filled) // 2


@slot
def lay_tiles(
    tokens: Float[Tensor, "picture patch width"],
    grid: tuple[int, int],
    separator: Float[Tensor, "width"],
    size: tuple[int, int] | None = None,
) -> Float[Tensor, "token width"]:
    """Tokens of a thumbnail and its tiles as one row: the thumbnail, then the picture line by line.

    The tiles are put together again, so that a line of patches runs through all tiles of a row before the
    next line begins. Behind every such line stands the separator: from it the language model knows where a
    line ends, as grids differ from picture to picture. The thumbnail has none.

    Args:
        tokens: of the thumbnail, then of each tile row by row; see cut_tiles. Each has square many patches.
        grid: rows and columns of tiles.
        separator: a learned vector.
        size: height and width of the picture; its lines of mere padding are left out, see empty_lines. None
            keeps all.

    Raises:
        ValueError: if there are not 1 + rows · columns pictures, and not the thumbnail alone for 1 × 1.

    Source: image_newline in LLaVA-NeXT, Liu et al. 2024. Equal to transformers' pack_image_features, but for
        a thumbnail alone, which there has one separator at its end.
    """
    rows, columns = grid
    tiles = rows * columns if rows * columns > 1 else 0
    if len(tokens) != 1 + tiles:
        raise ValueError(f"a grid of {rows} × {columns} has {1 + tiles} pictures with its thumbnail, "
                         f"but tokens of {len(tokens)} were given")  # fmt: skip
    if not tiles:
        return tokens[0]
    side = math.isqrt(tokens.shape[1])  # patches along an edge of a tile
    blocks = tokens[1:].reshape(rows, columns, side, side, -1)
    lines = blocks.transpose(1, 2).reshape(rows * side, columns * side, -1)
    if size is not None:
        down, right = empty_lines(size, lines.shape[:2])
        lines = lines[down : len(lines) - down, right : lines.shape[1] - right]
    ends = separator.expand(len(lines), 1, -1)
    return torch.cat([tokens[0], torch.cat([lines, ends], dim=1).flatten(0, 1)])


def tile_tokens(grid: TileGrid, patches: int, size: PixelSize | None = None) -> int:
    """How long the row of lay_tiles is.

    Args:
        patches: along an edge of a tile; patches² tokens for each.
        size: as in lay_tiles.
    """
    rows, columns = grid[0] * patches, grid[1] * patches
    if grid == (1, 1):
        return patches**2
    down, right = empty_lines(size, (rows, columns)) if size else (0, 0)
    return patches**2 + (rows - 2 * down) * (columns - 2 * right + 1)


def grids_within(budget: int, patches: int) -> list[TileGrid]:
    """All grids of tiles whose row of tokens fits into the budget, padding included; small ones first.

    Raises:
        ValueError: if not even a thumbnail fits.
    """
    if budget < patches**2:
        raise ValueError(f"a budget of {budget} tokens holds no thumbnail; it needs {patches**2}")
    most = budget // patches**2
    grids = [(rows, columns) for rows in range(1, most + 1) for columns in range(1, most // rows + 1)]
    fitting = [grid for grid in grids if tile_tokens(grid, patches) <= budget]
    return sorted(fitting, key=lambda grid: (grid[0] * grid[1], grid))


@slot
def smart_size(height: int, width: int, multiple: int, least: int, most: int) -> tuple[int, int]:
    """The size nearest to a picture's own that patches tile and that has neither too few nor too many pixels.

    Each edge is rounded to the nearest multiple, halves to the even one. If that makes more than ``most``
    pixels, the picture is scaled down to ``most`` with its aspect kept, and each edge rounded down, though to
    one multiple at least; if it makes fewer than ``least``, scaled up to ``least``, and each edge rounded up.

    Args:
        multiple: of which both edges must be; the patch size times the squares that are merged.
        least, most: pixels, height times width. A very long picture may have more than ``most``: an edge
            cannot be shorter than one multiple.

    Returns:
        height, width.

    Raises:
        ValueError: if one edge is more than 200 times as long as the other.

    Source: Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191, section 2.1; equal to transformers' smart_resize.
    """
    aspect = max(height, width) / min(height, width)
    if aspect > MOST_ASPECT:
        raise ValueError(f"one edge is {aspect:.0f} times as long as the other; {MOST_ASPECT} are allowed")
    rounded = round(height / multiple) * multiple, round(width / multiple) * multiple
    pixels = rounded[0] * rounded[1]
    if pixels > most:
        shrink = math.sqrt(height * width / most)
        edges = (math.floor(edge / shrink / multiple) for edge in (height, width))
        return tuple(max(multiple, edge * multiple) for edge in edges)
    if pixels < least:
        grow = math.sqrt(least / (height * width))
        return tuple(math.ceil(edge * grow / multiple) * multiple for edge in (height, width))
    return rounded


class PicturePlan(NamedTuple):
    """What a model sees of a picture, and what it pays."""

    way: str  # one of READING_WAYS
    size: PixelSize  # of the picture as the model sees it, without padding
    grid: TileGrid  # of tiles; 1 × 1 where there are none
    tokens: int  # that the language model reads


def plan_picture(way: str, size: tuple[int, int], budget: int, side: int = 64, patch: int = 8) -> PicturePlan:
    """How a picture of this size is read for at most so many tokens.

    squash: stretched to the largest square of patches; what is not square loses its form.
    tiles: a thumbnail, and the tiles of the grid that shows most; lines of mere padding cost nothing.
    native: its own size and aspect, rounded to whole patches; scaled down where the budget asks for it.
        A picture that is very long may cost more, see smart_size.

    Args:
        way: one of READING_WAYS.
        size: height and width of the picture in pixels.
        budget: tokens.
        side: of a tile in pixels.
        patch: edge of what becomes one token, in pixels; with pixel shuffle that of a whole square.

    Raises:
        ValueError: for another way, or a budget too small for the smallest picture.
    """
    if way not in READING_WAYS:
        raise ValueError(f"unknown way {way!r} to read a picture; choose one of {', '.join(READING_WAYS)}")
    if budget < 1:
        raise ValueError(f"a budget of {budget} tokens holds no picture")
    if way == "squash":
        edge = math.isqrt(budget)
        return PicturePlan(way, (edge * patch, edge * patch), (1, 1), edge**2)
    if way == "native":
        height, width = smart_size(*size, patch, patch**2, budget * patch**2)
        return PicturePlan(way, (height, width), (1, 1), height * width // patch**2)
    patches = side // patch
    grid = choose_grid(*size, grids_within(budget, patches), side)
    if grid == (1, 1):
        return PicturePlan(way, (side, side), grid, patches**2)
    seen = fitted_size(size, (grid[0] * side, grid[1] * side))
    return PicturePlan(way, seen, grid, tile_tokens(grid, patches, size))
