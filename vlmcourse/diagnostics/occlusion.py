"""What if this part of the image were not there? Occlusion, and evidence inside its box (notebook 14).

    occlude             an image many times, each with one patch covered
    covered             which patches a box of pixels touches
    grounding           how much of a map lies in a box, against boxes of this size anywhere
    answer_probability  how likely a model finds an answer about each of many images
    occlusion_map       by how much that falls where each patch is covered
    rivals_for          the likeliest answers to a question, and how likely each is about other images

Source: Zeiler and Fergus 2013, arXiv:1311.2901, section 4.2.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vlmcourse.data.packing import Packs
from vlmcourse.diagnostics.alternatives import look_and_answer, one_thread
from vlmcourse.diagnostics.swaps import paper_of
from vlmcourse.evaluation.answers import chances_of_rows
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


def answer_probability(
    speaker: Any, images: _Images, instruction: str, answer: str
) -> Float[Tensor, "image"]:
    """How likely a model would give exactly this answer, end included, about each image; 0 to 1."""
    return _chances(speaker, images, speaker.encode([[(instruction, answer)]]), 1)[:, 0]


def occlusion_map(
    speaker: Any, image: UInt8[np.ndarray, "rows columns 3"], instruction: str, answer: str, side: int = 8
) -> Float[Tensor, "row column"]:
    """By how much an answer's probability falls where each patch is covered with paper; below 0 it rises."""
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    covers = occlude(pixels, side, torch.from_numpy(paper_of(image)))
    shown = np.concatenate([image[None], covers.numpy()])
    probability = answer_probability(speaker, shown, instruction, answer)
    return (probability[0] - probability[1:]).unflatten(0, (len(image) // side, -1))


Chances = Callable[[_Images], Float[Tensor, "image answer"]]  # how likely each of some answers is, 0 to 1


def rivals_for(speaker: Any, count: int = 5) -> Callable[[np.ndarray, str], tuple[list[str], Chances]]:
    """What widgets/occlusion.py asks of a speaker: a function (image, question) -> (answers, chances).

    The answers are whole ones, at most ``count``, the likeliest about this image first. Chances tells how
    likely each of them is about other images; what a row lacks to 1 goes to all other texts. The text side is
    written once for a question, and all its answers share one row with the image, so that each image is read
    once, whatever the number of answers (data/packing.py).
    """

    @one_thread()
    def rivals(image: np.ndarray, question: str) -> tuple[list[str], Chances]:
        found = look_and_answer(speaker, image, question, count, least=-math.inf)["choices"]
        row = speaker.encode([[(question, answer) for answer, _ in found]])
        chances = _chances(speaker, image[None], row, len(found))[0].tolist()
        pairs = zip(found, chances, strict=True)
        # a text may be read as other tokens than it was written with: then it is another answer
        same = [answer for (answer, written), read in pairs if math.isclose(written, read, rel_tol=0.05)]
        if not same:
            raise ValueError(f"no answer to {question!r} reads as it was written; ask in other words")
        answers = list(dict.fromkeys(same))
        row = speaker.encode([[(question, answer) for answer in answers]])
        return answers, one_thread()(lambda images: _chances(speaker, images, row, len(answers)))

    return rivals


def _chances(speaker: Any, images: _Images, row: Packs, count: int) -> Float[Tensor, "image answer"]:
    """How likely the ``count`` answers of a row are about each image."""
    rows = Packs(*(part.expand(len(images), -1) for part in row))
    chances = chances_of_rows(speaker, images, rows, len(images) * count)
    return chances.unflatten(0, (len(images), count))


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
