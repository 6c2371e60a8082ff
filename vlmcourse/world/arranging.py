"""Scenes arranged by hand, inside the rules of the world or outside (notebook 00, the Scene Playground).

Sprites are every object as a small picture, cut from pictures of it alone; pasted together, they may overlap.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vlmcourse.world.scenes import COLOURS, GAP, MARGIN, MOST, RADII, SHAPES, SIDE, SLANT, Scenes, palette
from vlmcourse.world.truth import ATTRIBUTES, Thing

TRAINED = [(shape, int(colour)) for shape, colours in enumerate(palette("train")) for colour in colours]
"""Pairs of shape and colour that occur in training."""

OUTSIDE = {
    "empty": "there is no object",
    "new": "no {colour} {shape} occurs in training",
    "overlap": "objects overlap",
    "close": "objects stand closer than {gap} pixels",
    "slant": "objects stand on a diagonal",
}
"""Why a scene may lie outside the world of training; pages that ask a model without a kernel say the same."""

Sprites = list[np.ndarray]  # for each size uint8 (shape, colour, side, side, 3), side = 2·radius + 1


def arrange(like: Scenes, groups: Sequence[Sequence[Thing]]) -> Scenes:
    """For each group of things a scene; its paper, printed word and chance are those of ``like``.

    Raises:
        ValueError: if ``like`` is neither one scene for all groups nor one for each.
    """
    if len(like) == 1:
        like = like[np.zeros(len(groups), int)]
    if len(like) != len(groups):
        raise ValueError(f"{len(groups)} groups of things for {len(like)} scenes; give one, or one for each")
    table = np.full((len(groups), MOST, len(Thing._fields)), -1)
    for row, things in zip(table, groups, strict=True):
        for slot, thing in enumerate(things):
            row[slot] = thing
    columns = dict(zip(Thing._fields, np.moveaxis(table, 2, 0), strict=True))
    return replace(like, count=np.array([len(things) for things in groups], int), **columns)


def check_things(things: Sequence[Thing]) -> None:
    """ValueError unless there are at most four things that exist and stand inside the frame."""
    if len(things) > MOST:
        raise ValueError(f"{len(things)} things; a scene has at most {MOST}")
    for number, thing in enumerate(things):
        for name, index in zip(Thing._fields, thing[:3], strict=False):
            if not 0 <= index < (names := len(ATTRIBUTES[name])):
                raise ValueError(f"thing {number} has {name} {index}, expected 0..{names - 1}")
        low, high = thing.radius + MARGIN, SIDE - 1 - thing.radius - MARGIN
        if not (low <= thing.x <= high and low <= thing.y <= high):
            raise ValueError(
                f"thing {number} leaves the frame at ({thing.x}, {thing.y}); a "
                f"{ATTRIBUTES['size'][thing.size]} one has its centre at {low}..{high}"
            )


def room(a: Thing, b: Thing) -> int:
    """Free pixels between two boxes, along the axis where they are farther apart; negative in an overlap."""
    return max(abs(a.x - b.x), abs(a.y - b.y)) - a.radius - b.radius - 1


def outside(things: Sequence[Thing]) -> str:
    """Why a scene lies outside the world that models are trained on, from OUTSIDE; "" if it does not."""
    reasons = [] if things else [OUTSIDE["empty"]]
    for thing in things:
        if (thing.shape, thing.colour) not in TRAINED:
            reasons.append(OUTSIDE["new"].format(colour=COLOURS[thing.colour], shape=SHAPES[thing.shape]))
    for number, a in enumerate(things):
        for b in things[number + 1 :]:
            if room(a, b) < 0:
                reasons.append(OUTSIDE["overlap"])
            elif room(a, b) < GAP:
                reasons.append(OUTSIDE["close"].format(gap=GAP))
            elif abs(abs(a.x - b.x) - abs(a.y - b.y)) < SLANT:
                reasons.append(OUTSIDE["slant"])
    return "; ".join(dict.fromkeys(reasons))


def cut_sprites(draw: Callable[[Scenes], np.ndarray], like: Scenes) -> Sprites:
    """Every object of every size, on the background shade of ``like``; ``draw`` is a renderer of scenes."""
    middle, bare, sheets = SIDE // 2, replace(like, word=np.full_like(like.word, -1)), []
    for size, radius in enumerate(RADII):
        alone = [[Thing(s, c, size, middle, middle)] for s in range(len(SHAPES)) for c in range(len(COLOURS))]
        box = slice(middle - radius, middle + radius + 1)
        cut = draw(arrange(bare, alone))[:, box, box]
        sheets.append(cut.reshape(len(SHAPES), len(COLOURS), *cut.shape[1:]))
    return sheets


def paste(paper: np.ndarray, sprites: Sprites, things: Sequence[Thing]) -> np.ndarray:
    """The things on `paper`, uint8 (64, 64, 3), whose top left pixel is background.

    Equal to the renderer's picture where none overlap (it copies whole boxes); else a larger one lies on top.
    """
    image = paper.copy()
    for thing in sorted(things, key=lambda thing: thing.size):
        left, top, right, bottom = thing.box
        sprite = sprites[thing.size][thing.shape, thing.colour]
        own = (sprite != paper[0, 0]).any(axis=-1)
        image[top:bottom, left:right][own] = sprite[own]
    return image
