"""Eyes: read a scene from its pixels, answer a question from its words.  Knows nothing of the truth."""

import re
from typing import NamedTuple

import numpy as np
from scipy import ndimage

# What people call these colours, not what the renderer paints.
NAMED = dict(
    black=(20, 20, 20),
    purple=(110, 20, 130),
    red=(210, 20, 20),
    blue=(20, 100, 230),
    green=(30, 180, 90),
    pink=(255, 150, 200),
    yellow=(255, 225, 30),
)
FILLED = dict(square=1.0, circle=np.pi / 4, cross=1 - 0.61**2, triangle=0.5, star=0.39)  # share of its box
WIDE = dict(small=13, medium=17, large=23)


class Seen(NamedTuple):
    shape: str
    colour: str
    size: str
    box: tuple[int, int, int, int]

    @property
    def x(self) -> float:
        return (self.box[0] + self.box[2] - 1) / 2

    @property
    def y(self) -> float:
        return (self.box[1] + self.box[3] - 1) / 2


def look(image: np.ndarray, top: int = 0) -> list[Seen]:
    """The objects in a picture (rows above `top` are not looked at)."""
    image = image.astype(int)
    paper = image[-1, 0]
    off = np.abs(image - paper).sum(-1)
    off[:top] = 0
    labels, _ = ndimage.label(off > 6, np.ones((3, 3)))
    return [
        _see(image, paper, labels == n + 1, where) for n, where in enumerate(ndimage.find_objects(labels))
    ]


def _see(image, paper, mask, where) -> Seen:
    pixels = image[mask]
    paint = pixels[np.abs(pixels - paper).sum(1).argmax()]  # the pixel least like the background
    colour = min(NAMED, key=lambda name: np.linalg.norm(paint - NAMED[name]))
    rows, columns = where
    box = columns.start, rows.start, columns.stop, rows.stop
    width = max(box[2] - box[0], box[3] - box[1])
    covered = ((pixels - paper) @ (paint - paper)).sum() / ((paint - paper) @ (paint - paper))
    shape = min(FILLED, key=lambda name: abs(FILLED[name] - covered / width**2))
    return Seen(shape, colour, min(WIDE, key=lambda name: abs(WIDE[name] - width)), box)


def answer(text: str, seen: list[Seen]) -> str:
    """The answer to a question in English; fails if it is not well-posed."""

    def all_of(words: str) -> list[Seen]:
        single = re.sub(r"(?<=cross)es$|(?<!s)s$", "", words)
        return [
            s for s in seen if all(w in (s.shape, s.colour, s.size) for w in single.split() if w != "thing")
        ]

    def one(words: str) -> Seen:
        (found,) = all_of(words)
        return found

    yes = {True: "yes", False: "no"}
    if m := re.fullmatch(r"What (colour|shape|size) is the (.+)\?", text):
        return getattr(one(m[2]), m[1])
    if m := re.fullmatch(r"Where is the (.+)\?", text):
        s = one(m[1])
        return f"{'top' if s.y < 31.5 else 'bottom'} {'left' if s.x < 31.5 else 'right'}"
    if m := re.fullmatch(r"How many (.+) are there\?", text):
        return str(len(all_of(m[1])))
    if m := re.fullmatch(r"Is there a (.+)\?", text):
        return yes[bool(all_of(m[1]))]
    if m := re.fullmatch(r"Is the (.+) (left of|right of|above|below) the (.+)\?", text):
        a, b = one(m[1]), one(m[3])
        assert a != b
        return yes[
            {"left of": a.x < b.x, "right of": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}[m[2]]
        ]
    if m := re.fullmatch(r"Is the (.+) larger than the (.+)\?", text):
        a, b = one(m[1]), one(m[2])
        assert a.size != b.size
        return yes[WIDE[a.size] > WIDE[b.size]]
    if m := re.fullmatch(r"Do the (.+) and the (.+) have the same colour\?", text):
        a, b = one(m[1]), one(m[2])
        assert a != b
        return yes[a.colour == b.colour]
    m = re.fullmatch(r"Are there more (.+) than (.+)\?", text)
    return yes[len(all_of(m[1])) > len(all_of(m[2]))]


def different(before: list[Seen], after: list[Seen]) -> int:
    """How many objects differ between two pictures."""
    return max(len(set(before) - set(after)), len(set(after) - set(before)))


def close(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two boxes agree within a pixel on each side (the tip of a star is fainter than a pixel)."""
    return all(abs(p - q) <= 1 for p, q in zip(a, b, strict=True))
