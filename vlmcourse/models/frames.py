"""Frames: many pictures, or the frames of a clip, in one row of tokens (notebook 16).

    sample_frames   which frames of a clip are looked at, when not all of them can be
    pool_frame      fewer tokens for a frame: the means of small squares of patches
    timestamps      when a frame was taken, as a text before it
    interleave      a row with room for every picture, and where each of them stands

In shapes, frame counts pictures; a clip is nothing but pictures in their order.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmcourse.slots import slot

Span = tuple[int, int]  # of a row: the first place of a picture, and the first one behind it


@slot
def sample_frames(count: int, budget: int) -> Int[Tensor, "frame"]:
    """Numbers of the frames to look at: the middle one of each of ``budget`` equal spans of a clip.

    Span k of a clip of ``count`` frames begins at k · count / budget; its middle is rounded down to a
    frame. All frames, if the budget allows it.

    Raises:
        ValueError: if there is nothing to choose from, or nothing may be chosen.

    Source: the middles of equal spans as in the test of Wang et al. 2016 (TSN), arXiv:1608.00859. Qwen2-VL
        in transformers takes the first frame of each span, LLaVA-Video's code frames from 0 to the last one.
    """
    if count < 1 or budget < 1:
        raise ValueError(f"{budget} of {count} frames cannot be chosen; both must be at least 1")
    if budget >= count:
        return torch.arange(count)
    middles = 2 * torch.arange(budget) + 1  # in half spans
    return middles * count // (2 * budget)


@slot
def pool_frame(
    tokens: Float[Tensor, "frame patch width"], side: int, grid: tuple[int, int] | None = None
) -> Float[Tensor, "frame fewer width"]:
    """The mean of every side × side square of neighbouring patches: fewer = patch / side², row by row.

    Unlike pixel_shuffle, which keeps every number, this forgets where in its square something was.

    Args:
        grid: rows and columns of patches; a square grid when not given.

    Raises:
        ValueError: if the patches do not fill the grid, or the squares do not tile it.

    Source: frames with fewer tokens as in Li et al. 2024 (LLaVA-OneVision), arXiv:2408.03326, section 3.2.
        Equal to transformers' LlavaNextVideoPooler, and on an even grid with side 2 to LLaVA-OneVision's own
        bilinear resizing.
    """
    frame, patch, width = tokens.shape
    rows, columns = grid or (math.isqrt(patch),) * 2
    if rows * columns != patch:
        raise ValueError(f"{patch} patches do not fill a grid of {rows} × {columns}")
    if rows % side or columns % side:
        raise ValueError(f"squares of {side} × {side} do not tile a grid of {rows} × {columns} patches")
    squares = tokens.reshape(frame, rows // side, side, columns // side, side, width)
    return squares.mean(dim=(2, 4)).flatten(1, 2)


def timestamps(frames: Sequence[int], rate: float, merge: int = 1) -> list[str]:
    """When frames were taken, as texts to write before them: "<0.5 seconds>", one digit behind the point.

    Args:
        frames: their numbers in the clip, from 0.
        rate: frames a second of the clip.
        merge: how many sampled frames share one text, as where the encoder joins frames (Qwen3-VL: 2); it
            tells the time halfway between the first and the last of them. Where the last group is short,
            its last frame counts again.

    Source: Bai et al. 2025 (Qwen3-VL), arXiv:2511.21631, section 2.3; equal to transformers'
        Qwen3VLProcessor.
    """
    seconds = [number / rate for number in frames]
    texts = []
    for first in range(0, len(seconds), merge):
        last = min(first + merge, len(seconds)) - 1
        texts.append(f"<{(seconds[first] + seconds[last]) / 2:.1f} seconds>")
    return texts


@slot
def interleave(ids: Sequence[int], marker: int, sizes: Sequence[int]) -> tuple[list[int], list[Span]]:
    """A row with room for its pictures: the k-th marker becomes sizes[k] of them.

    Args:
        ids: a row in which each picture is one ``marker``, at its place among the words.
        sizes: tokens of each picture, in the order of the markers.

    Returns:
        (row, spans): the longer row; and of each picture the first place in it, and the first one behind.

    Raises:
        ValueError: if there are not as many markers as sizes.

    Source: interleaved input as in Alayrac et al. 2022 (Flamingo), arXiv:2204.14198, section 2.1.
    """
    if (markers := list(ids).count(marker)) != len(sizes):
        raise ValueError(f"the row has {markers} markers, but {len(sizes)} pictures were given; "
                         "every picture needs its own")  # fmt: skip
    row: list[int] = []
    spans: list[Span] = []
    for one in ids:
        if one != marker:
            row.append(one)
            continue
        begin = len(row)
        row += [marker] * sizes[len(spans)]
        spans.append((begin, len(row)))
    return row, spans
