"""What if this part of the image were not there? Occlusion, and evidence inside its box (notebook 14).

    occlude             an image many times, each with one patch covered
    covered             which patches a box of pixels touches
    grounding           how much of a map lies in a box, against boxes of this size anywhere
    answer_probability  how likely a model finds an answer about each of many images
    occlusion_map       by how much that falls where each patch is covered

Source: Zeiler and Fergus 2013, arXiv:1311.2901, section 4.2.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vlmcourse.diagnostics.swaps import paper_of
from vlmcourse.slots import slot

_Images = UInt8[np.ndarray, "image rows columns 3"]


@slot
def occlude(
    image: UInt8[Tensor, "height width channel"], side: int, colour: UInt8[Tensor, "channel"]
) -> UInt8[Tensor, "patch height width channel"]:
    """The image once for each patch of side × side pixels, row by row, with this patch in one colour.

    The image itself is left as it is.

    Raises:
        ValueError: if patches do not tile the image.
    """
    height, width, channel = image.shape
    if height % side or width % side:
        raise ValueError(f"patches of {side} pixels do not tile an image of {height} × {width}")
    rows, columns = height // side, width // side
    number = torch.arange(rows * columns)
    copies = image.repeat(len(number), 1, 1, 1)
    patches = copies.view(-1, rows, side, columns, side, channel)
    patches[number, number // columns, :, number % columns] = colour
    return copies


@slot
def covered(box: tuple[int, int, int, int], side: int, grid: tuple[int, int]) -> Bool[Tensor, "row column"]:
    """True at patches that share at least one pixel with a box.

    Args:
        box: (left, top, right, bottom) in pixels, right and bottom exclusive.
        side: of a patch, in pixels.
        grid: rows and columns of patches.
    """
    left, top, right, bottom = box
    row, column = torch.arange(grid[0]) * side, torch.arange(grid[1]) * side  # first pixels
    rows = (row < bottom) & (row + side > top)
    columns = (column < right) & (column + side > left)
    return rows[:, None] & columns


@slot
def grounding(
    evidence: Float[Tensor, "row column"], inside: Bool[Tensor, "row column"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean evidence inside a box, and in a box of its size at a random place: the mean over all places.

    Args:
        evidence: how much each patch counts, by whatever method.
        inside: True in one rectangle of patches.

    Returns:
        (inside, anywhere); a map that knows nothing of the box makes them equal on average.
    """
    height, width = int(inside.any(dim=1).sum()), int(inside.any(dim=0).sum())
    windows = evidence.unfold(0, height, 1).unfold(1, width, 1)  # (row, column, height, width) of each place
    return evidence[inside].mean(), windows.mean()


def grounding_of(
    maps: Sequence[Float[Tensor, "row column"]],
    boxes: Sequence[Sequence[tuple[int, int, int, int]]],
    side: int,
) -> tuple[float, float]:
    """`grounding` of many maps, each with the boxes of its evidence; means over all boxes.

    What speaks against the answer, below 0, does not count; every map is scaled to sum to 1, so that none
    outvotes the others. A map without anything above 0 counts as 0 everywhere.

    Args:
        side: of a patch of the maps, in pixels.
    """
    pairs = []
    for evidence, some in zip(maps, boxes, strict=True):
        positive = evidence.clamp(min=0)
        scaled = positive / positive.sum().clamp(min=1e-12)
        for box in some:
            pairs.append(torch.stack(grounding(scaled, covered(box, side, tuple(scaled.shape)))))
    inside, anywhere = torch.stack(pairs).mean(dim=0).tolist()
    return inside, anywhere


@torch.no_grad()
def answer_probability(
    speaker: Any, images: _Images, instruction: str, answer: str
) -> Float[Tensor, "image"]:
    """How likely a model would give exactly this answer, end included, about each image; 0 to 1."""
    rows = speaker.encode([[(instruction, answer)]] * len(images))
    logarithms = torch.zeros(len(images))
    for scores, right, number in speaker.scores(speaker.features(images), rows):
        chosen = scores.log_softmax(dim=-1).gather(1, right[:, None])[:, 0]
        logarithms.index_add_(0, number, chosen.float())
    return logarithms.exp()


def occlusion_map(
    speaker: Any, image: UInt8[np.ndarray, "rows columns 3"], instruction: str, answer: str, side: int = 8
) -> Float[Tensor, "row column"]:
    """By how much an answer's probability falls where each patch is covered with paper; below 0 it rises."""
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    covers = occlude(pixels, side, torch.from_numpy(paper_of(image)))
    shown = np.concatenate([image[None], covers.numpy()])
    probability = answer_probability(speaker, shown, instruction, answer)
    return (probability[0] - probability[1:]).unflatten(0, (len(image) // side, -1))


Explain = Callable[[Any, np.ndarray, str, str], Tensor]  # such as occlusion_map


def explain_all(
    explain: Explain, speaker: Any, images: _Images, questions: Sequence[Any]
) -> tuple[float, float]:
    """grounding_of the maps that a method makes of the right answers to questions of the scenes.

    Args:
        questions: one for each image, see world.questions.ask.
    """
    maps = []
    for image, question in zip(images, questions, strict=True):
        maps.append(explain(speaker, image, question.text, question.answer))
    side = images.shape[1] // maps[0].shape[0]
    return grounding_of(maps, [question.boxes for question in questions], side)
