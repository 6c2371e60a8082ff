"""Which mistake of coordinates does a model make? Boxes that look likely and are wrong (notebook 19).

    MISTAKES        what a number of a box may mean, other than a thousandth of the picture
    write_mistaken  the numbers that a model with this mistake writes for a box
    undo_mistake    the box that these numbers mean, once the mistake is known
    name_mistake    which mistake explains a model's boxes: undo each, and see how well they fit then
    centre_fit      how the middles of boxes lie to those of the true ones: each mistake has its own pattern

A box is left, top, right, bottom in pixels of the picture, a size is height, width; numbers are what stands
in the text, 0 to 999.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vlmcourse.data.coordinates import THOUSANDTHS, place_in_letterbox, to_model, to_picture
from vlmcourse.evaluation.boxes import box_middles, paired_iou
from vlmcourse.models.tiles import PixelSize

NO_MISTAKE = "none"  # thousandths of the picture, x before y
EXCHANGED = "x and y exchanged"
ABSOLUTE = "absolute for normalised"  # pixels of the picture
BEFORE = "before instead of after the resize"  # thousandths of the frame with its padding, not of the picture
MISTAKES = (NO_MISTAKE, EXCHANGED, ABSOLUTE, BEFORE)
_Boxes = Float[Tensor, "box 4"]


def write_mistaken(mistake: str, boxes: _Boxes, size: PixelSize, frame: PixelSize) -> _Boxes:
    """The numbers that a model with this mistake writes for boxes of one picture; not rounded.

    Args:
        mistake: one of MISTAKES.
        size: of the picture.
        frame: size of the letterbox in which the model sees it.

    Raises:
        ValueError: for another mistake.
    """
    _check_mistake(mistake)
    if mistake == ABSOLUTE:
        return boxes
    if mistake == BEFORE:
        return to_model(boxes, place_in_letterbox(size, frame)) / _edges(frame) * THOUSANDTHS
    numbers = boxes / _edges(size) * THOUSANDTHS
    return numbers[:, [1, 0, 3, 2]] if mistake == EXCHANGED else numbers


def undo_mistake(mistake: str, numbers: _Boxes, size: PixelSize, frame: PixelSize) -> _Boxes:
    """The boxes that numbers mean if they were written with this mistake; arguments as in write_mistaken."""
    _check_mistake(mistake)
    if mistake == ABSOLUTE:
        return numbers
    if mistake == BEFORE:
        return to_picture(numbers / THOUSANDTHS * _edges(frame), place_in_letterbox(size, frame))
    numbers = numbers[:, [1, 0, 3, 2]] if mistake == EXCHANGED else numbers
    return numbers / THOUSANDTHS * _edges(size)


class NamedMistake(NamedTuple):
    """Which mistake fits best, and how well each does: mean IoU with the true boxes once it is undone."""

    name: str  # one of MISTAKES
    overlap: dict[str, float]  # by mistake, 0…1


def name_mistake(numbers: _Boxes, true: _Boxes, sizes: Sequence[PixelSize], frame: PixelSize) -> NamedMistake:
    """Which mistake explains a model's boxes: the one after whose undoing they overlap most with the truth.

    Of equal overlaps the first of MISTAKES. Where all are low, the model does not find the things, whatever
    its numbers mean: compare with what the mean box gets. On square pictures in a square frame BEFORE is no
    mistake at all, so give pictures of several aspects.

    Args:
        numbers: what the model wrote, one box for each picture.
        true: the right boxes.
        sizes: of each picture.
        frame: size of the letterbox in which the model sees all of them.

    Raises:
        ValueError: if there are no boxes, or not one of each for each picture.
    """
    if not 0 < len(numbers) == len(true) == len(sizes):
        counts = f"{len(numbers)} boxes, {len(true)} true ones and {len(sizes)} sizes"
        raise ValueError(f"{counts}; give one of each for every picture")
    overlap = {}
    for mistake in MISTAKES:
        rows = zip(numbers[:, None], sizes, strict=True)
        boxes = torch.cat([undo_mistake(mistake, row, size, frame) for row, size in rows])
        overlap[mistake] = paired_iou(boxes, true).mean().item()
    return NamedMistake(max(MISTAKES, key=overlap.__getitem__), overlap)


def centre_fit(boxes: _Boxes, true: _Boxes, sizes: Sequence[PixelSize]) -> Float[Tensor, "3 2"]:
    """How a model's middles depend on the true ones, all as shares of their pictures: least squares.

    Returns:
        rows: what one share to the right of the true middle does, one share down, and what is there always;
        columns: to the model's x and y. Without a mistake 1 0, 0 1, 0 0; with x and y exchanged 0 1, 1 0;
        where pixels were taken for thousandths the ones are far too small; where padding was forgotten,
        one of them is, and something is always there. Sizes that differ blur the last two.
    """
    edges = torch.cat([_edges(size)[None, :2] for size in sizes])
    middles, real = (box_middles(some) / edges for some in (boxes, true))
    known = torch.cat([real, torch.ones(len(real), 1)], dim=1)  # (box, x y and 1)
    return torch.linalg.lstsq(known, middles).solution


def _edges(size: PixelSize) -> Float[Tensor, "4"]:
    height, width = size
    return torch.tensor([width, height, width, height], dtype=torch.float32)


def _check_mistake(mistake: str) -> None:
    if mistake not in MISTAKES:
        raise ValueError(f"unknown mistake {mistake!r}; choose one of {', '.join(MISTAKES)}")
