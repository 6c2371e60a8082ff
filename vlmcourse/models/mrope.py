"""M-RoPE: three numbers say where a token stands, its time, its row and its column (notebook 16).

    grid_positions    of the tokens of one picture, or of all frames of a clip
    mrope_positions   of a whole row: words and pictures in turn
    pair_axes         which of the three numbers turns which pair of a query or key
    mrope_angles      by how much each pair is turned, which rope then does
    mrope_look        all of it as the Look of a batch, see models/look.py

For a word the three numbers are the same, so a text alone is read exactly as with RoPE. In shapes, axis is
(time, row, column), and half counts the pairs of a head.

Source: Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191, section 2.1; interleaved axes: Bai et al. 2025
    (Qwen3-VL), arXiv:2511.21631, section 2.1.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlmcourse.models.frames import Span
from vlmcourse.models.language import rope_angles
from vlmcourse.models.look import Look, causal
from vlmcourse.slots import slot

Grid = tuple[int, int, int]  # frames, rows, columns of a picture's tokens; a picture has one frame


def grid_positions(start: int, grid: Grid) -> Int[Tensor, "axis token"]:
    """Time, row and column of each token, all counted from ``start``: frame by frame, row by row.

    Source: Wang et al. 2024, arXiv:2409.12191, section 2.1 and figure 3.
    """
    frames, rows, columns = (torch.arange(length) for length in grid)
    return start + torch.stack(torch.meshgrid(frames, rows, columns, indexing="ij")).flatten(1)


@slot
def mrope_positions(length: int, spans: Sequence[Span], grids: Sequence[Grid]) -> Int[Tensor, "axis token"]:
    """Time, row and column of every token of a row.

    A word stands one behind the token before it, in all three numbers. A picture is a grid that starts there
    (see grid_positions), and what follows stands one behind the largest number in it.

    Args:
        length: of the row.
        spans: where its pictures stand, in order; see frames.interleave.
        grids: frames, rows and columns of the tokens of each.

    Raises:
        ValueError: if there are not as many grids as spans, or a grid does not fill its span.

    Source: Wang et al. 2024, arXiv:2409.12191, section 2.1. Equal to Qwen2-VL's and Qwen3-VL's
        get_rope_index, see tests/parity; Qwen3-VL gives every frame of a clip a span of its own.
    """
    if len(spans) != len(grids):
        raise ValueError(f"{len(spans)} spans, but {len(grids)} grids; every picture has one of each")
    parts, place, start = [], 0, 0
    for (begin, end), grid in zip(spans, grids, strict=True):
        words = torch.arange(start, start + begin - place).expand(3, -1)
        picture = grid_positions(start + begin - place, grid)
        if picture.shape[1] != end - begin:
            raise ValueError(f"a grid of {' × '.join(map(str, grid))} has {picture.shape[1]} tokens, "
                             f"but its span has {end - begin}")  # fmt: skip
        parts += [words, picture]
        place, start = end, int(picture.max()) + 1
    parts.append(torch.arange(start, start + length - place).expand(3, -1))
    return torch.cat(parts, dim=1)


@slot
def pair_axes(sections: tuple[int, int, int], interleaved: bool) -> Int[Tensor, "half"]:
    """For each pair of a head which number turns it: 0 the time, 1 the row, 2 the column.

    Early pairs turn fast, late ones slowly (rope_angles). In three chunks, as Qwen2-VL has them, the time
    gets the fast pairs alone and the column the slow ones. Interleaved, as in Qwen3-VL, each has some of all:
    0, 1, 2, 0, 1, 2, ... as long as a row or column has pairs left, then the time.

    Args:
        sections: how many pairs each number turns; their sum is half a head.

    Raises:
        ValueError: interleaved, if the time has fewer pairs than the row or the column.
    """
    if not interleaved:
        return torch.arange(3).repeat_interleave(torch.tensor(sections))
    if sections[0] < max(sections):
        raise ValueError(f"interleaved, the time needs the most pairs of all; the sections are {sections}")
    axes = torch.zeros(sum(sections), dtype=torch.long)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return axes


def mrope_angles(
    positions: Int[Tensor, "axis batch token"], part: int, base: float, axes: Int[Tensor, "half"]
) -> Float[Tensor, "batch token half"]:
    """rope_angles, each pair's by the number that ``axes`` names, see pair_axes; part is a head's width."""
    angles = rope_angles(positions, part, base)  # (axis, batch, token, half)
    chosen = axes.to(angles.device).expand(1, *angles.shape[1:])
    return angles.gather(0, chosen)[0]


def mrope_look(
    rows: Sequence[Int[Tensor, "axis _"]],
    real: Bool[Tensor, "batch token"] | None = None,
    device: torch.device | str | None = None,
) -> Look:
    """Rows that are read from left to right, with these positions.

    Args:
        rows: mrope_positions of each row.
        real: True for as many tokens as each row has, False for padding, which may stand on either side;
            None if all rows are of one length.

    Raises:
        ValueError: if the rows do not fill the places of ``real``.
    """
    if real is None:
        return Look(causal(rows[0].shape[1], device=device).mask, torch.stack(list(rows), dim=1).to(device))
    counts, lengths = real.sum(dim=1).tolist(), [row.shape[1] for row in rows]
    if counts != lengths:
        raise ValueError(f"rows of {lengths} tokens cannot fill {counts} places")
    positions = torch.zeros(3, *real.shape, dtype=torch.long, device=real.device)
    positions[:, real] = torch.cat(list(rows), dim=1).to(real.device)
    return Look(causal(real.shape[1], real=real).mask, positions)


def next_position(look: Look) -> Int[Tensor, "batch"]:
    """Where the first token that is written behind each row stands, in all three numbers."""
    return look.positions.amax(dim=(0, 2)) + 1
