"""Scenes: a laboratory world whose truth is known exactly (first used in notebooks 00 and 02).

A scene is a 64×64 picture with one to four objects; each has a shape, a colour, a size and a place, and none
hides another.  A batch of scenes is one struct of arrays, so tens of thousands fit in a few lines:

    from vlmcourse.world import captions, questions, render, scenes, twins

    train = scenes.sample("train", 10_000, objects=(1, 2))      # the same 10,000 on every machine
    images = render.render(train)                               # uint8 (scene, 64, 64, 3)
    train.shape[:, 0], train.colour[:, 0], train.place[:, 0]    # indices into SHAPES, COLOURS, PLACES
    scenes.relation(train, 0, 1)                                # index into RELATIONS: object 0 is ... 1
    train.boxes(), train.cover(grid=8)                          # pixel boxes; which object covers which patch
    captions.captions(train, "short")                           # "a red circle left of a blue square"
    asked = questions.ask(train[:100])                          # text, answer, evidence boxes
    edited, answers = twins.twins(train[:100], asked)           # scenes changed so that each answer changes

Splits never meet.  Each object of a train scene stands on a pixel with (x + y) mod 3 = 0, of a validation
scene on 1, of a test scene on 2; so no object of a test picture ever stood there in a train picture, whatever
the seed. The fourth split, "novel", stands on test pixels and has the colours of shapes that no other has.
Knobs of `sample` spoil the data on purpose: language_bias, printed_words, duplicates.  `captions` has more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from vlmcourse.world import chance

SIDE = 64  # pixels
MOST = 4  # objects in one scene
SHAPES = ("circle", "square", "triangle", "cross", "star")
COLOURS = ("black", "purple", "red", "blue", "green", "pink", "yellow")  # from dark to light, almost
SIZES = ("small", "medium", "large")
RADII = np.array([6, 8, 11])  # an object of radius r fills a box of 2r + 1 pixels
PLACES = ("top left", "top right", "bottom left", "bottom right")
RELATIONS = ("left of", "right of", "above", "below")
SPLITS = {"train": 0, "validation": 1, "test": 2, "novel": 2}  # split: (x + y) mod 3 of every object
WORD_STRIP = 10  # rows at the top that stay free of objects when words are printed
MARGIN, GAP, SLANT = 1, 2, 2  # pixels to the edge; between boxes; least ||dx| - |dy||, so relations are clear
TRIES = 16

_PALETTE = (2 + np.arange(7) - 3 * np.arange(len(SHAPES))[:, None]) % len(COLOURS)  # (shape, colour)


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes.  There is room for four objects in each; fields are -1 where a scene has fewer.

    Index it like an array: `s[3]`, `s[10:20]` and `s[s.count == 2]` are Scenes again.
    """

    split: str
    key: UInt64[np.ndarray, "scene"]  # source of all chance about this scene
    count: Int64[np.ndarray, "scene"]  # 1 to 4
    shape: Int64[np.ndarray, "scene 4"]  # index into SHAPES
    colour: Int64[np.ndarray, "scene 4"]  # index into COLOURS
    size: Int64[np.ndarray, "scene 4"]  # index into SIZES
    x: Int64[np.ndarray, "scene 4"]  # column of the centre pixel, from the left
    y: Int64[np.ndarray, "scene 4"]  # row of the centre pixel, from the top
    light: Int64[np.ndarray, "scene"]  # index of the background shade
    word: Int64[np.ndarray, "scene"]  # printed colour name as index into COLOURS, -1 for none

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, which: int | np.integer | slice | Sequence[int] | np.ndarray) -> "Scenes":
        if isinstance(which, int | np.integer):
            which = range(len(self))[which]  # IndexError beyond the end; negative numbers count from it
            which = slice(which, which + 1)
        return replace(self, **{name: getattr(self, name)[which] for name in ARRAYS})

    def __repr__(self) -> str:
        return f"Scenes({len(self)} of {self.split}, {int(self.count.sum())} objects)"

    @property
    def present(self) -> Bool[np.ndarray, "scene 4"]:
        """Where there is an object: always the first `count` of the four."""
        return np.arange(MOST) < self.count[:, None]

    @property
    def place(self) -> Int64[np.ndarray, "scene 4"]:
        """Quadrant of each centre, index into PLACES; -1 where there is no object."""
        return np.where(self.present, 2 * (self.y >= SIDE // 2) + (self.x >= SIDE // 2), -1)

    def boxes(self) -> Int64[np.ndarray, "scene 4 side"]:
        """left, top, right, bottom of each object in pixels, right and bottom exclusive; zeros if absent."""
        r = RADII[self.size]
        corners = np.stack([self.x - r, self.y - r, self.x + r + 1, self.y + r + 1], axis=-1)
        return np.where(self.present[..., None], corners, 0)

    def cover(self, grid: int = 8) -> Int64[np.ndarray, "scene {grid} {grid}"]:
        """For each patch (row, column) of a grid the object whose box holds its middle, or -1."""
        middle = (np.arange(grid) + 0.5) * SIDE / grid
        left, top, right, bottom = np.moveaxis(self.boxes()[:, :, None], -1, 0)  # each (scene, object, 1)
        rows, columns = (top <= middle) & (middle < bottom), (left <= middle) & (middle < right)
        inside = rows[..., :, None] & columns[..., None, :]
        return np.where(inside.any(1), inside.argmax(1), -1)


ARRAYS = tuple(field.name for field in fields(Scenes) if field.name != "split")


def concatenate(batches: list[Scenes]) -> Scenes:
    """One batch from several of the same split."""
    splits = {batch.split for batch in batches}
    if len(splits) != 1:
        raise ValueError(f"concatenate needs scenes of one split, got {sorted(splits)}")
    columns = {}
    for name in ARRAYS:
        columns[name] = np.concatenate([getattr(batch, name) for batch in batches])
    return replace(batches[0], **columns)


def in_reading_order(scenes: Scenes) -> Scenes:
    """The same scenes with their objects in the order of PLACES, those of one place from left to right."""
    first = np.where(scenes.present, SIDE * scenes.place + scenes.x, SIDE * len(PLACES))
    order = np.argsort(first, axis=1, kind="stable")
    columns = {name: getattr(scenes, name) for name in ("shape", "colour", "size", "x", "y")}
    return replace(scenes, **{n: np.take_along_axis(c, order, axis=1) for n, c in columns.items()})


def distinct_looks(scenes: Scenes) -> Scenes:
    """The same scenes, with another shape for each object that looks like one before it.

    So shape and colour together name one object of a scene.
    """
    shape, colour, colours = scenes.shape.copy(), scenes.colour.copy(), palette(scenes.split)
    column = (colours[shape] == colour[..., None]).argmax(-1)
    for new in range(1, MOST):
        for _ in range(new):  # a new shape may be that of another object
            same = (shape[:, :new] == shape[:, new:][:, :1]) & (colour[:, :new] == colour[:, new:][:, :1])
            same = same.any(axis=1) & scenes.present[:, new]
            shape[same, new] = (shape[same, new] + 1) % len(SHAPES)
            colour[same, new] = colours[shape[same, new], column[same, new]]
    return replace(scenes, shape=shape, colour=colour)


def palette(split: str) -> Int64[np.ndarray, "shape colour"]:
    """The colours each shape may have in this split: five seen ones, or the two novel ones."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    return _PALETTE[:, 5:] if split == "novel" else _PALETTE[:, :5]


def editable(split: str) -> Bool[np.ndarray, "shape colour"]:
    """What an edited scene may show: `palette`; in the novel split, where that is too little, everything."""
    allowed = np.full((len(SHAPES), len(COLOURS)), split == "novel")
    np.put_along_axis(allowed, palette(split), True, axis=1)
    return allowed


def relation(scenes: Scenes, first: int = 0, second: int = 1) -> Int64[np.ndarray, "scene"]:
    """Object `first` is RELATIONS[...] object `second`, along their longer axis; -1 where one is absent."""
    right, down = scenes.x[:, first] - scenes.x[:, second], scenes.y[:, first] - scenes.y[:, second]
    answer = np.where(np.abs(right) > np.abs(down), right >= 0, 2 + (down >= 0))
    return np.where(scenes.count > max(first, second), answer, -1)


def apart(x1, y1, r1, x2, y2, r2):
    """Whether two objects may stand like this: boxes at least GAP apart, and clearly not on a diagonal."""
    across, down = np.abs(x1 - x2), np.abs(y1 - y2)
    return (np.maximum(across, down) > r1 + r2 + GAP) & (np.abs(across - down) >= SLANT)


def ranges(radius, words):
    """(first, positions, first row, rows) for centres of this radius.

    Both counts are multiples of three, so that every (x + y) mod 3 is equally frequent.
    """
    first, span = radius + MARGIN, SIDE - 2 * (radius + MARGIN)
    strip = np.where(words, WORD_STRIP, 0)
    return first, span // 3 * 3, first + strip, (span - strip) // 3 * 3


def sample(
    split: str = "train",
    count: int = 1,
    start: int = 0,
    *,
    seed: int = 0,
    objects: tuple[int, int] = (1, 4),
    language_bias: float = 0.0,
    printed_words: float = 0.0,
    duplicates: float = 0.0,
) -> Scenes:
    """Scenes number start, start+1, ... of a split; scene i does not depend on how many are asked for.

    Args:
        split: "train", "validation", "test" or "novel" (see above).
        count, start: how many, and from which number on.
        seed: another seed is another world of scenes, of the same splits.
        objects: fewest and most objects in a scene, each count equally likely; 1 to 4.
        language_bias: share of objects whose colour follows from their shape (all circles red, ...); the
            other objects take any colour of `palette(split)` with equal probability.
        printed_words: share of pictures that bear the name of a colour which none of their objects has.
        duplicates: share of scenes which repeat the first scene of their group of eight in another light.

    Raises:
        ValueError: if the split is unknown, a number is out of range, or a share is outside [0, 1].
    """
    if count < 0 or start < 0:
        raise ValueError(f"count and start must not be negative, got count={count}, start={start}")
    if len(objects) != 2 or not 1 <= objects[0] <= objects[1] <= MOST:
        raise ValueError(f"objects must be (fewest, most) with 1 <= fewest <= most <= {MOST}, got {objects}")
    chance.check_shares(language_bias=language_bias, printed_words=printed_words, duplicates=duplicates)
    world = chance.derive(np.uint64(seed % 2**64), "scenes", split)
    number = np.arange(start, start + count)
    own = chance.derive(world ^ chance.mix(number.astype(np.uint64)), "scene")
    light, repeats = chance.uniform(own, 2).T
    number = np.where((repeats < duplicates) & (number % 8 > 0), number - number % 8, number)
    key = chance.derive(world ^ chance.mix(number.astype(np.uint64)), "content")
    things = _things(key, split, objects, language_bias)
    things["word"] = _words(key, things["colour"], printed_words)
    things |= _places(key, split, things)
    return Scenes(split, own, light=(light * 8).astype(int), **things)


def _things(key: np.ndarray, split: str, objects: tuple[int, int], bias: float) -> dict[str, np.ndarray]:
    """Count, shape, colour and size, each drawn independently."""
    draw = chance.uniform(chance.derive(key, "things"), 1 + 4 * MOST)
    count = objects[0] + (draw[:, 0] * (objects[1] - objects[0] + 1)).astype(int)
    draw = draw[:, 1:].reshape(-1, 4, MOST)
    shape, size = (draw[:, 0] * len(SHAPES)).astype(int), (draw[:, 1] * len(SIZES)).astype(int)
    colours = palette(split)
    choice = np.where(draw[:, 3] < bias, 0, (draw[:, 2] * colours.shape[1]).astype(int))
    absent = np.arange(MOST) >= count[:, None]
    columns = dict(shape=shape, colour=colours[shape, choice], size=size)
    return dict(count=count) | {name: np.where(absent, -1, column) for name, column in columns.items()}


def _words(key: np.ndarray, colour: np.ndarray, share: float) -> np.ndarray:
    """A colour name that lies about the picture, or -1."""
    draw = chance.uniform(chance.derive(key, "words"), 1 + len(COLOURS))
    missing = (colour[:, :, None] != np.arange(len(COLOURS))).all(1)
    return np.where(draw[:, 0] < share, np.where(missing, draw[:, 1:], -1).argmax(1), -1)


def _places(key: np.ndarray, split: str, things: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Centres of all objects, in an order of chance."""
    place = settle(key, split, RADII[things["size"]], things["size"] >= 0, things["word"])
    order = np.argsort(chance.uniform(chance.derive(key, "order"), MOST) + (things["size"] < 0), axis=1)
    for name in ("shape", "colour", "size"):  # whoever stood down first must not be first in captions
        things[name] = np.take_along_axis(things[name], order, 1)
    return dict(zip("xy", np.take_along_axis(place, order[None], 2), strict=True))


def settle(
    key: UInt64[np.ndarray, "scene"],
    split: str,
    radius: Int64[np.ndarray, "scene 4"],
    exists: Bool[np.ndarray, "scene 4"],
    word: Int64[np.ndarray, "scene"],
) -> Int64[np.ndarray, "2 scene 4"]:
    """Centres x and y of objects that need so much room, -1 where none exists.

    Objects stand down one after the other where there is room; without room all start again.
    """
    place = np.full((2, len(key), MOST), -1)
    waiting, attempt = np.arange(len(key)), 0
    while len(waiting):
        draw = chance.uniform(chance.derive(key[waiting], "places", attempt), 2 * MOST * TRIES)
        draw = draw.reshape(-1, 2, MOST, TRIES)
        stood, fits = _stand(draw, split, radius[waiting], exists[waiting], word[waiting])
        place[:, waiting[fits]] = stood[:, fits]
        waiting, attempt = waiting[~fits], attempt + 1
    return place


def _stand(draw: np.ndarray, split: str, radius: np.ndarray, present: np.ndarray, word: np.ndarray):
    """One attempt with TRIES candidate places per object: (x and y, scene, 4), and whether all found room."""
    first, columns, top, rows = (a[..., None] for a in ranges(radius, word[:, None] >= 0))
    xs = first + (draw[:, 0] * columns).astype(int)
    ys = top + 3 * (draw[:, 1] * (rows // 3)).astype(int)
    ys += (SPLITS[split] - xs - ys) % 3
    place, fits, each = np.full((2, *radius.shape), -1), np.ones(len(radius), bool), np.arange(len(radius))
    x, y = place
    for new in range(MOST):
        room = np.ones(xs[:, new].shape, bool)
        for old in range(new):
            at = x[:, old, None], y[:, old, None], radius[:, old, None]
            room &= apart(xs[:, new], ys[:, new], radius[:, new, None], *at)
        exists, best = present[:, new], room.argmax(1)
        place[..., new] = np.where(exists, [xs[each, new, best], ys[each, new, best]], -1)
        fits &= room.any(1) | ~exists
    return place, fits
