"""Did the model look where the answer is? Boxes and points (notebook 13).

A box is left, top, right, bottom in pixels, right and bottom exclusive, so it is right - left pixels wide;
one of zeros is empty.  A point is x (from the left), y (from the top).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vlmcourse.slots import slot
from vlmcourse.world.scenes import SIDE
from vlmcourse.world.truth import Question


@slot
def box_iou(
    first: Shaped[Tensor, "first side"], second: Shaped[Tensor, "second side"]
) -> Float[Tensor, "first second"]:
    """Intersection over union of every box with every other, 0…1; 0 where both are empty.

    Raises:
        ValueError: if a box ends before it begins: is it (x, y, width, height), or are x and y exchanged.

    Source: as in Everingham et al. 2010, "The PASCAL visual object classes challenge", with exclusive
        ends where theirs are inclusive.
    """
    top_left = torch.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    union = _areas(first)[:, None] + _areas(second)[None] - overlap
    return torch.where(union > 0, overlap / union, 0.0)


def _areas(boxes: Shaped[Tensor, "box side"]) -> Shaped[Tensor, "box"]:
    sides = boxes[:, 2:] - boxes[:, :2]
    if (sides < 0).any():
        wrong = boxes[(sides < 0).any(dim=1)][0].tolist()
        raise ValueError(f"the box {wrong} ends before it begins; a box is left, top, right, bottom")
    return sides.prod(dim=-1)


def paired_iou(boxes: Shaped[Tensor, "box side"], true: Shaped[Tensor, "box side"]) -> Float[Tensor, "box"]:
    """Intersection over union of each box with that in its place; 0 for a box that ends before it begins."""
    backward = (boxes[:, 2:] < boxes[:, :2]).any(dim=1, keepdim=True)
    boxes = torch.where(backward, 0.0, boxes)
    pairs = [box_iou(*pair) for pair in zip(boxes[:, None], true[:, None], strict=True)]
    return torch.cat(pairs).flatten()


def box_accuracy(
    boxes: Shaped[Tensor, "box side"], true: Shaped[Tensor, "box side"], least: float = 0.5
) -> float:
    """The share of boxes that overlap with the one in their place by ``least`` at the least, 0…1.

    A model that named no box is given one of zeros. Compare with the mean box, see mean_boxes.

    Raises:
        ValueError: if there are no boxes, or not one for each true one.

    Source: one half as in Yu et al. 2016 (RefCOCO), arXiv:1608.00272, and before it in Everingham et al.
        2010; there it must be exceeded.
    """
    if not 0 < len(boxes) == len(true):
        raise ValueError(f"{len(boxes)} boxes for {len(true)} true ones; give one for each")
    return (paired_iou(boxes, true) >= least).float().mean().item()


def mean_boxes(
    known: Shaped[Tensor, "known side"],
    known_sizes: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[int, int]],
) -> Float[Tensor, "box side"]:
    """What one can point at without looking: for each picture the mean of known boxes, as shares of theirs.

    Args:
        known: boxes of other pictures, in their pixels.
        known_sizes: height, width of those pictures.
        sizes: of the pictures for which boxes are wanted.
    """
    edges, wanted = (torch.tensor([(w, h, w, h) for h, w in some]).float() for some in (known_sizes, sizes))
    return (known / edges).mean(dim=0) * wanted


def box_middles(boxes: Float[Tensor, "box side"]) -> Float[Tensor, "box xy"]:
    """The point in the middle of each box: x, y."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


@slot
def points_inside(
    points: Shaped[Tensor, "question xy"], boxes: Shaped[Tensor, "question box side"]
) -> Bool[Tensor, "question"]:
    """Whether each question's point lies in one of its boxes; a box of zeros holds no point."""
    x, y = points[:, :1], points[:, 1:]
    left, top, right, bottom = boxes.unbind(dim=-1)
    inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    return inside.any(dim=1)


def pointing_accuracy(
    points: Shaped[Tensor, "question xy"], boxes: Shaped[Tensor, "question box side"]
) -> float:
    """The share of questions whose point lies in one of their boxes.

    A large box is hit by chance: compare with points at the middle of the image.

    Raises:
        ValueError: if there are no questions, or not one point for each.

    Source: the pointing game, Zhang et al. 2016, arXiv:1608.00507, without its margin around the object.
    """
    if not 0 < len(points) == len(boxes):
        raise ValueError(f"{len(points)} points for the boxes of {len(boxes)} questions; give one for each")
    return points_inside(points, boxes).float().mean().item()


def brightest_points(
    maps: Float[Tensor, "question rows columns"], side: int = SIDE
) -> Float[Tensor, "question xy"]:
    """The middle of the cell with the largest value of each map, in pixels of an image of side × side.

    Of equal cells the first in reading order, so a map without any preference points to the top left.
    """
    rows, columns = maps.shape[1:]
    cell = maps.flatten(1).argmax(dim=1)
    x, y = (cell % columns + 0.5) * side / columns, (cell // columns + 0.5) * side / rows
    return torch.stack([x, y], dim=1)


def evidence_boxes(asked: Sequence[Question]) -> Shaped[Tensor, "question box 4"]:
    """What one must see to answer each question; where there are fewer boxes, zeros fill up."""
    most = max((len(question.boxes) for question in asked), default=0)
    boxes = torch.zeros(len(asked), most, 4, dtype=torch.long)
    for row, question in enumerate(asked):
        boxes[row, : len(question.boxes)] = torch.tensor(question.boxes)
    return boxes
