"""OpenMoji's drawings at any size: moved, scaled and turned (notebook 17).

    Move            where a drawing stands, how large, how far turned
    some_moves      moves by chance
    redraw          drawings of a split, each moved, as pixels

The drawings are vectors, so what is moved by half a pixel or made larger stays as sharp as it was. What goes
over the rim is cut off. Show openmoji.ATTRIBUTION wherever a drawing is shown.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vlmcourse.data import openmoji

CANVAS = 72  # units: the side of every drawing


class Move(NamedTuple):
    """First turned and scaled around the middle, then moved."""

    right: float = 0.0  # as a share of the side
    down: float = 0.0
    scale: float = 1.0
    turn: float = 0.0  # degrees, clockwise


UNMOVED = Move()


def some_moves(count: int, seed: int) -> list[Move]:
    """Moves by chance, each number evenly from its range: up to a tenth of the side in each direction, 0.7 to
    1.05 times as large, up to 20 degrees either way."""
    chance = np.random.default_rng(seed)
    ranges = (-0.1, 0.1), (-0.1, 0.1), (0.7, 1.05), (-20.0, 20.0)
    return [Move(*row) for row in np.stack([chance.uniform(*ends, count) for ends in ranges], 1).tolist()]


def redraw(
    split: str, rows: Sequence[int], moves: Move | Sequence[Move] = UNMOVED, side: int = 224
) -> UInt8[np.ndarray, "drawing side side 3"]:
    """Some drawings of a split, in the order of ``rows``, on white.

    Args:
        split, rows: as of openmoji.load; rows count from 0.
        moves: one for each drawing, or one for all.
        side: pixels; at least 1.

    Raises:
        ValueError: if the split is unknown, the side is no size, or there are not as many moves as drawings.
        IndexError: if the split has no such row.
        ModuleNotFoundError: if a package is missing; says what to install.
    """
    if side < 1:
        raise ValueError(f"side must be at least 1 pixel, got {side}")
    moves = [moves] * len(rows) if isinstance(moves, Move) else list(moves)
    if len(moves) != len(rows):
        raise ValueError(f"{len(rows)} drawings and {len(moves)} moves; give one of each")
    codes = openmoji.code_points(split)
    images = np.empty((len(rows), side, side, 3), np.uint8)
    for image, row, move in zip(images, rows, moves, strict=True):
        image[:] = _draw(codes[row], move, side)
    return images


def _draw(code: str, move: Move, side: int) -> np.ndarray:
    from PIL import Image

    _, folder, draw = openmoji.drawing_packages()
    svg, middle = (folder / f"{code}.svg").read_text(encoding="utf-8"), CANVAS / 2
    start, end = svg.index(">", svg.index("<svg")) + 1, svg.rindex("</svg>")
    place = f"translate({middle + CANVAS * move.right} {middle + CANVAS * move.down})"
    group = f'<g transform="{place} rotate({move.turn}) scale({move.scale}) translate({-middle} {-middle})">'
    moved = f"{svg[:start]}{group}{svg[start:end]}</g>{svg[end:]}"
    png = draw(svg_string=moved, width=side, height=side, background="#ffffff", skip_system_fonts=True)
    return np.array(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
