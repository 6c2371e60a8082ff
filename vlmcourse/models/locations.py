"""Location tokens: a box as two words of a text (notebook 16).

    box_to_locations   two corners of a box -> the cells of a grid they lie in
    locations_to_boxes and back, as well as two cells can tell
    write_locations    "<object><patch_index_0044><patch_index_0863></object>"
    read_locations     the phrases of a text, and the boxes behind each

A model that writes words can point with them: no new layer, bins² new words. A box here is left, top, right,
bottom as shares of the picture, 0…1; a cell is row · bins + column.

Source: Peng et al. 2023 (Kosmos-2), arXiv:2306.14824, section 3.1; before it Chen et al. 2021 (Pix2Seq),
    arXiv:2109.10852.
"""

import re
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmcourse.slots import slot

LOCATION_BINS = 32  # cells to a side in Kosmos-2: 1,024 words


@slot
def box_to_locations(boxes: Float[Tensor, "box side"], bins: int) -> Int[Tensor, "box corner"]:
    """The cells of a bins × bins grid that hold the upper left and the lower right corner of each box.

    A box's right and bottom edges belong to it no more: an edge on a line of the grid counts to the cell
    before the line.

    Raises:
        ValueError: if a box leaves the picture, or ends before it begins.

    Source: Peng et al. 2023, arXiv:2306.14824, section 3.1. Equal to transformers' coordinate_to_patch_index.
    """
    if (boxes < 0).any() or (boxes > 1).any():
        raise ValueError("boxes are shares of the picture, from 0 to 1; divide pixels by its size")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError("a box ends before it begins; a box is left, top, right, bottom")
    first = (boxes[:, :2] * bins).floor().long()  # (box, xy)
    last = (boxes[:, 2:] * bins).ceil().long() - 1
    return torch.stack([first[:, 1] * bins + first[:, 0], last[:, 1] * bins + last[:, 0]], dim=1)


@slot
def locations_to_boxes(locations: Int[Tensor, "box corner"], bins: int) -> Float[Tensor, "box side"]:
    """The box that two cells tell of: from the middle of the first to the middle of the last.

    A corner may have been anywhere in its cell, so the middle is the best guess. Where both corners lie in
    one row or one column, that would be a box without area; such a box spans its cells from edge to edge, in
    both directions.

    Source: as in transformers' patch_index_to_coordinate, to which it is equal.
    """
    columns, rows = locations % bins, locations // bins  # (box, corner)
    corners = torch.stack([columns, rows], dim=-1)  # (box, corner, xy)
    thin = (corners[:, 0] == corners[:, 1]).any(dim=1)[:, None]
    first = corners[:, 0] + torch.where(thin, 0.0, 0.5)
    last = corners[:, 1] + torch.where(thin, 1.0, 0.5)
    return torch.cat([first, last], dim=1) / bins


def write_locations(boxes: Float[Tensor, "box side"], bins: int = LOCATION_BINS) -> str:
    """Boxes as Kosmos-2 writes them behind a phrase; several boxes of one phrase stand side by side."""
    pairs = [
        f"<patch_index_{first:04d}><patch_index_{last:04d}>"
        for first, last in box_to_locations(boxes, bins).tolist()
    ]
    return f"<object>{_BETWEEN.join(pairs)}</object>"


class Pointed(NamedTuple):
    """A phrase of a text, "" if none stands before the boxes, and the boxes it speaks of."""

    phrase: str
    boxes: Float[Tensor, "box side"]


_BETWEEN = "</delimiter_of_multi_objects/>"
_PAIR = r"<patch_index_(\d+)><patch_index_(\d+)>"
_OBJECT = re.compile(
    rf"(?:<phrase>([^<]+)</phrase>)?<object>((?:{_PAIR}{_BETWEEN})*{_PAIR})</object>".replace(
        r"(\d+)", r"\d+"
    )
)


def read_locations(text: str, bins: int = LOCATION_BINS) -> list[Pointed]:
    """Each phrase that a text points at, and its boxes: "<phrase>a fire</phrase><object>…</object>".

    What is not of this form points at nothing and is passed over, as a model may write anything; so are
    cells that the grid does not have, and boxes that end before they begin.

    Source: equal to transformers' clean_text_and_extract_entities_with_bboxes on texts that Kosmos-2 writes.
    """
    found = []
    for match in _OBJECT.finditer(text):
        cells = torch.tensor([[int(one), int(other)] for one, other in re.findall(_PAIR, match[2])])
        columns, rows = cells % bins, cells // bins
        forward = (columns[:, 0] <= columns[:, 1]) & (rows[:, 0] <= rows[:, 1])
        right = forward & (cells < bins**2).all(dim=1)
        if right.any():
            found.append(Pointed((match[1] or "").strip(), locations_to_boxes(cells[right], bins)))
    return found
