"""Coordinates: where a box goes when its picture is resized, and how it is written (notebook 19).

    Placement             where a picture lies in the frame that the model sees
    place_in_squash       in a frame that it fills, stretched
    place_in_letterbox    in the middle of a frame, its aspect kept; also what tiles are cut from
    to_model, to_picture  boxes of the picture in the frame, and back
    into_tiles, from_tiles  boxes of the frame in the tiles that it is cut into, and back
    spell_box, read_boxes  a box as text, "[12, 7, 998, 400]", and the boxes that any text names

A box is left, top, right, bottom in pixels, right and bottom exclusive; a size is height, width. So x belongs
to the width, which in a size comes second.

Models differ in what their numbers mean. Qwen2-VL writes thousandths of the picture (Wang et al. 2024,
arXiv:2409.12191, section 2.2), Qwen2.5-VL pixels of the resized picture (Bai et al. 2025, arXiv:2502.13923,
section 2.2), Qwen3-VL thousandths again; Kosmos-2 cells of a grid, see models/locations.py. Whoever reads one
as another gets boxes that look likely and are wrong, see diagnostics/pointing.py.
"""

import re
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmcourse.models.tiles import PixelSize, TileGrid, fitted_size
from vlmcourse.slots import slot

THOUSANDTHS = 1000  # numbers of a box as text go from 0 to 999
_BOX = re.compile(r"\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")


class Placement(NamedTuple):
    """Where a picture lies in the frame that the model sees."""

    scale_x: float  # pixels of the frame for one pixel of the picture, along the width
    scale_y: float
    left: float  # pixels of padding before it
    top: float


def place_in_squash(size: PixelSize, frame: PixelSize) -> Placement:
    """Of a picture that is stretched to fill the frame, see tiles.squash."""
    (height, width), (frame_height, frame_width) = size, frame
    return Placement(frame_width / width, frame_height / height, 0, 0)


def place_in_letterbox(size: PixelSize, frame: PixelSize) -> Placement:
    """Of a picture in the middle of a frame, see tiles.letterbox: to the pixel where its pixels are."""
    (height, width), (frame_height, frame_width) = size, frame
    fitted_height, fitted_width = fitted_size(size, frame)
    left, top = (frame_width - fitted_width) // 2, (frame_height - fitted_height) // 2
    return Placement(fitted_width / width, fitted_height / height, left, top)


@slot
def to_model(boxes: Float[Tensor, "box side"], placement: Placement) -> Float[Tensor, "box side"]:
    """Boxes in pixels of the picture become boxes in pixels of the frame: scaled, then moved.

    x and y have a scale and a padding each.
    """
    scale = boxes.new_tensor([placement.scale_x, placement.scale_y] * 2)
    shift = boxes.new_tensor([placement.left, placement.top] * 2)
    return boxes * scale + shift


@slot
def to_picture(boxes: Float[Tensor, "box side"], placement: Placement) -> Float[Tensor, "box side"]:
    """Boxes in pixels of the frame become boxes in pixels of the picture: to_model undone, last step first.

    What lies in the padding comes out beyond the edges of the picture, and is left so.
    """
    scale = boxes.new_tensor([placement.scale_x, placement.scale_y] * 2)
    shift = boxes.new_tensor([placement.left, placement.top] * 2)
    return (boxes - shift) / scale


@slot
def into_tiles(
    boxes: Float[Tensor, "box side"], grid: tuple[int, int], side: int
) -> Float[Tensor, "box tile side"]:
    """What of each box lies in each tile, in the tile's own pixels; zeros where nothing does.

    A box may lie in several tiles: an encoder that sees them one by one sees a part of it in each.

    Args:
        boxes: in pixels of the frame of rows · side × columns · side.
        grid: rows and columns of tiles, which are counted row by row.
        side: of a tile in pixels.
    """
    rows, columns = grid
    tile = torch.arange(rows * columns, device=boxes.device)
    corner = torch.stack([tile % columns, tile // columns], dim=1) * side  # (tile, xy)
    inside = (boxes[:, None] - corner.repeat(1, 2)).clamp(0, side)  # (box, tile, side)
    seen = (inside[..., 2:] > inside[..., :2]).all(dim=-1, keepdim=True)
    return torch.where(seen, inside, 0.0)


@slot
def from_tiles(
    boxes: Float[Tensor, "box side"], tiles: Int[Tensor, "box"], columns: int, side: int
) -> Float[Tensor, "box side"]:
    """Boxes in pixels of tiles become boxes in pixels of the frame that they were cut from.

    Args:
        tiles: in which tile each box lies, counted row by row.
        columns: tiles in a row of the grid.
        side: of a tile in pixels.
    """
    corner = torch.stack([tiles % columns, tiles // columns], dim=1) * side
    return boxes + corner.repeat(1, 2)


def place_of_tiles(size: PixelSize, grid: TileGrid, side: int) -> Placement:
    """Of a picture in the frame that tiles.cut_tiles cuts into tiles; of a grid of 1 × 1, the thumbnail."""
    if grid == (1, 1):
        return place_in_squash(size, (side, side))
    return place_in_letterbox(size, (grid[0] * side, grid[1] * side))


@slot
def spell_box(box: tuple[float, float, float, float], size: tuple[int, int]) -> str:
    """A box as text: "[left, top, right, bottom]" in thousandths of the picture, from 0 to 999.

    Of each coordinate, the thousandth in which it lies; the picture's far edges count to the last one. So a
    box is written alike however large its picture is seen.

    Args:
        box: in pixels of the picture.
        size: height, width of the picture in pixels.

    Raises:
        ValueError: if the box leaves the picture, or ends before it begins.

    Source: numbers in [0, 1000) as in Bai et al. 2023 (Qwen-VL), arXiv:2308.12966, section 3, and Wang et
        al. 2024 (Qwen2-VL), arXiv:2409.12191, section 2.2; a box as plain text: Chen et al. 2023 (Shikra),
        arXiv:2306.15195, section 3.
    """
    height, width = size
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"the box {[*box]} is none within a picture {width} pixels wide and {height} high; "
                         "a box is left, top, right, bottom in its pixels")  # fmt: skip
    shares = (left / width, top / height, right / width, bottom / height)
    numbers = [min(int(share * THOUSANDTHS), THOUSANDTHS - 1) for share in shares]
    return f"[{', '.join(map(str, numbers))}]"


@slot
def read_boxes(text: str, size: tuple[int, int]) -> Float[Tensor, "box side"]:
    """The boxes that a text names, in pixels of the picture; none if it names none.

    A number is read as the middle of its thousandth. A model may write anything: what is not of the form
    "[1, 2, 3, 4]" is passed over, and so are numbers above 999 and boxes that end before they begin.

    Args:
        size: height, width of the picture in pixels.
    """
    height, width = size
    found = []
    for numbers in _BOX.findall(text):
        left, top, right, bottom = map(int, numbers)
        if left <= right < THOUSANDTHS and top <= bottom < THOUSANDTHS:
            found.append([left, top, right, bottom])
    middles = torch.tensor(found, dtype=torch.float32).reshape(-1, 4) + 0.5
    return middles / THOUSANDTHS * torch.tensor([width, height] * 2)
