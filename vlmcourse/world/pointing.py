"""Pointing in words: where a thing is, answered with location tokens (notebook 16).

    pointing.point_talks(batch)            # "Where is the red circle? Answer with a box.", "<loc_17><loc_68>"
    pointing.read_box("<loc_17><loc_68>")  # left, top, right, bottom in pixels; None if it is no box
    pointing.location_words()              # "<loc_0>" ... "<loc_255>", the words a model needs for it

Two cells of a 16 × 16 grid, so 4 pixels each: that of the upper left corner and that of the lower right one.

Source: Peng et al. 2023 (Kosmos-2), arXiv:2306.14824, section 3.1; see models/locations.py.
"""

import re

import numpy as np
import torch
from jaxtyping import Int64

from vlmcourse.models.locations import box_to_locations, locations_to_boxes
from vlmcourse.world import chance
from vlmcourse.world.scenes import SIDE, Scenes
from vlmcourse.world.truth import Thing, Who, list_things

CELLS = 16  # cells to a side of the picture
BOXED = " Answer with a box."  # behind a question: no word, but where
Box = tuple[float, float, float, float]


def location_words() -> list[str]:
    """The words for all cells, row by row."""
    return [f"<loc_{cell}>" for cell in range(CELLS**2)]


def write_box(thing: Thing) -> str:
    """Where a thing is, in two words."""
    first, last = box_to_locations(torch.tensor([thing.box]) / SIDE, CELLS)[0].tolist()
    return f"<loc_{first}><loc_{last}>"


def read_box(text: str) -> Box | None:
    """The box in pixels that two location words tell of; None for other texts, or where it ends too early."""
    cells = re.fullmatch(r"\s*<loc_(\d+)>\s*<loc_(\d+)>\s*", text)
    if cells is None:
        return None
    first, last = int(cells[1]), int(cells[2])
    forward = first // CELLS <= last // CELLS and first % CELLS <= last % CELLS
    if not forward or max(first, last) >= CELLS**2:
        return None
    return tuple((locations_to_boxes(torch.tensor([[first, last]]), CELLS)[0] * SIDE).tolist())


def point_talks(batch: Scenes, seed: int = 0) -> list[list[tuple[str, str]]]:
    """For each scene where one of its things is; nothing where none has a name of colour and shape.

    Args:
        seed: another seed asks for another thing.
    """
    things = _pointed_at(batch, seed)
    return [[(f"Where is the {Who(*t[:2])}?{BOXED}", write_box(t))] if t else [] for t in things]


def true_boxes(batch: Scenes, seed: int = 0) -> Int64[np.ndarray, "scene side"]:
    """The boxes in pixels that point_talks asks for; zeros where it asks for none."""
    return np.array([thing.box if thing else (0,) * 4 for thing in _pointed_at(batch, seed)]).reshape(-1, 4)


def _pointed_at(batch: Scenes, seed: int) -> list[Thing | None]:
    draws, found = chance.uniform(chance.derive(batch.key, "pointing", seed), 1)[:, 0], []
    for scene, draw in enumerate(draws):
        things = list_things(batch, scene)
        named = [thing for thing in things if Who(thing.shape, thing.colour).only(things)]
        found.append(named[int(draw * len(named))] if named else None)
    return found
