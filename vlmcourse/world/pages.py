"""Pages: pictures of many sizes on which small things decide (notebook 19).

    batch = pages.sample_pages("train", 1000)             # the same thousand on every machine
    batch.pictures                                        # list of uint8 (rows, columns, 3)
    batch.asked[0]                                        # all that can be asked about the first page
    pages.ask_pages(batch)                                # one question for each page
    pages.place_of_answer(batch.asked[0][0], batch.sizes[0])  # the same asked for as a box
    pages.placed_things(batch, 0)                         # every such question with its answer and its box
    pages.read_page(batch, 0)                             # all that stands on it, as READ asks for
    pages.sample_pages("test", 100, kind="marks", sizes=[(64, 256)])

Kinds of pages: "marks" is four to eight marks of 7 × 7 pixels (how many, what, where); words, tables and
charts are in printed.py. All is as small on a large page as on a small one: who squashes a page of 64 × 256
to 64 × 64 loses it. Splits never meet: marks stand on pixels of their split as objects of scenes do, see
scenes.py; for the others see printed.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from vlmcourse.data.coordinates import spell_box
from vlmcourse.world import chance
from vlmcourse.world.pointing import BOXED
from vlmcourse.world.printed import PageAsked, PageBox, PageQuestion, print_charts, print_tables, print_words
from vlmcourse.world.render import draw_sprites
from vlmcourse.world.scenes import COLOURS, SHAPES, SPLITS, palette
from vlmcourse.world.sheets import DRAWN, OnPage, Sheets
from vlmcourse.world.truth import Thing, Who

# height, width in pixels
PAGE_SIZES = (
    (64, 64), (64, 128), (128, 64), (64, 192), (192, 64), (64, 256), (256, 64), (128, 128), (128, 192),
    (192, 128), (128, 256), (256, 128),
)  # fmt: skip
MARK_RADIUS, CELL = 3, 12  # a mark has 2 · 3 + 1 pixels; each stands in a cell of its own
MARKS = (4, 5, 6, 7, 8)  # how many on a page
READ = "Read the page."
READING_LINE = 16  # pixels; marks at about one height are read from left to right
MOST_COUNTED = 4  # of what is counted, 0 to 4 are there, each number equally often


@dataclass(frozen=True)
class Pages:
    """A batch of pages; `batch[3]` and `batch[10:20]` are Pages again."""

    split: str
    kinds: list[str]
    pictures: list[UInt8[np.ndarray, "_ _ 3"]]
    asked: PageAsked
    shown: list[OnPage]  # what stands where on each page, see sheets.py
    key: np.ndarray  # uint64: source of all chance about each page

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        return f"Pages({len(self)} of {self.split}, {len(set(self.sizes))} sizes)"

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray) -> "Pages":
        rows = np.atleast_1d(np.arange(len(self))[which])
        lists = ([part[row] for row in rows] for part in (self.kinds, self.pictures, self.asked, self.shown))
        return Pages(self.split, *lists, self.key[rows])

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each page."""
        return [picture.shape[:2] for picture in self.pictures]


class Mark(Thing):
    """A thing of a page; all are of one size, and smaller than any of a scene."""

    @property
    def radius(self) -> int:
        return MARK_RADIUS


def sample_pages(
    split: str = "train",
    count: int = 1,
    start: int = 0,
    *,
    kind: str | Sequence[str] | None = None,
    sizes: Sequence[tuple[int, int]] = PAGE_SIZES,
    seed: int = 0,
) -> Pages:
    """Pages number start, start+1, ... of a split; page i does not depend on how many are asked for.

    Args:
        split: "train", "validation" or "test".
        kind: one of PAGE_KINDS; or several, each equally likely, and twice as likely if it comes twice; or
            None for any.
        sizes: (height, width) of pages, each equally likely; both edges at least 64 pixels.
        seed: another seed is another world of pages, of the same splits.

    Raises:
        ValueError: for an unknown split or kind, a negative number, or sizes that are too small.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"unknown split {split!r} of pages; choose one of train, validation, test")
    kinds = [*PAGE_KINDS] if kind is None else [kind] if isinstance(kind, str) else list(kind)
    if unknown := [name for name in kinds if name not in PAGE_KINDS]:
        raise ValueError(f"unknown kind of page {unknown[0]!r}; choose one of {', '.join(PAGE_KINDS)}")
    if count < 0 or start < 0:
        raise ValueError(f"count and start must not be negative, got count={count}, start={start}")
    if not sizes or min(map(min, sizes)) < 64:
        raise ValueError(f"pages need sizes of 64 pixels at least along both edges, got {list(sizes)}")
    world = chance.derive(np.uint64(seed % 2**64), "pages", split)
    number = np.arange(start, start + count).astype(np.uint64)
    key = chance.derive(world ^ chance.mix(number), "page")
    draw = chance.uniform(key, 3)
    heights, widths = np.array(sizes)[(draw[:, 0] * len(sizes)).astype(int)].T
    sheets = Sheets(heights, widths, (draw[:, 1] * 8).astype(int))
    names = [kinds[place] for place in (draw[:, 2] * len(kinds)).astype(int)]
    asked: PageAsked = [[] for _ in range(count)]
    for name, put in PAGE_KINDS.items():
        page = np.nonzero(np.array(names, dtype=str) == name)[0]
        questions = put(sheets, page, key[page], split) if len(page) else []
        for row, those in zip(page, questions, strict=True):
            asked[row] = those
    return Pages(split, names, sheets.pictures(), asked, sheets.shown(), key)


def ask_pages(pages: Pages, seed: int = 0, kind: str | None = None) -> list[PageQuestion | None]:
    """One question for each page, any of its own equally likely.

    Args:
        seed: another seed asks something else.
        kind: of the question, such as "count" or "cell"; None is any. None is asked of a page without one.
    """
    draws, chosen = chance.uniform(chance.derive(pages.key, "ask", seed), 1)[:, 0], []
    for questions, draw in zip(pages.asked, draws, strict=True):
        fitting = [question for question in questions if kind in (None, question.kind)]
        chosen.append(fitting[int(draw * len(fitting))] if fitting else None)
    return chosen


def read_page(pages: Pages, page: int) -> str:
    """All that stands on one page, in the order in which one reads: what READ asks for.

    Marks line by line, lines being READING_LINE pixels high; a table's cells row by row; a chart's bars with
    their heights.
    """
    asked = pages.asked[page]
    if pages.kinds[page] == "marks":
        things = pages.shown[page].tolist()
        order = sorted(things, key=lambda one: ((one[1] + one[3]) // 2 // READING_LINE, one[0]))
        return ", ".join(f"{COLOURS[one[5]]} {DRAWN[one[4]]}" for one in order)
    if pages.kinds[page] == "charts":
        return ", ".join(f"{one.text.split()[-2]} {one.answer}" for one in asked if one.kind == "height")
    if pages.kinds[page] == "tables":
        cells = [one.answer for one in asked]
        return ", ".join(" ".join(cells[start : start + 3]) for start in (0, 3, 6))
    return asked[0].answer


def placed_things(pages: Pages, page: int) -> list[tuple[str, str, PageBox]]:
    """All things of a page that can be asked for, see place_of_answer: question, answer, box in pixels."""
    found, size = [], pages.pictures[page].shape[:2]
    for question in pages.asked[page]:
        if placed := place_of_answer(question, size):
            found.append((*placed, question.boxes[0]))
    return found


def put_marks(sheets: Sheets, page: np.ndarray, key: np.ndarray, split: str) -> PageAsked:
    """Four to eight marks on each of these pages; of a shape or a colour there are 0 to 4."""
    target, marks = _choose_marks(key)
    shape, colour = np.moveaxis(_LOOKS[marks], -1, 0)  # (page, mark)
    present = marks >= 0
    x, y = _places(sheets, page, key, split)
    rows, columns = np.nonzero(present)
    sprites = np.moveaxis(draw_sprites(MARK_RADIUS), 3, -1)  # (shape, colour, shade, row, column, 3)
    looks = shape[rows, columns], colour[rows, columns], sheets.shades[page[rows]]
    left, top = x[rows, columns] - MARK_RADIUS, y[rows, columns] - MARK_RADIUS
    sheets.stamp(page[rows], left, top, sprites[looks])
    side = 2 * MARK_RADIUS + 1
    boxes = np.stack([left, top, left + side, top + side], axis=1)
    sheets.note(page[rows], boxes, DRAWN.index(SHAPES[0]) + looks[0], looks[1])
    asked = []
    sizes = np.stack([sheets.heights[page], sheets.widths[page]], axis=1)
    for row in zip(shape, colour, x, y, present.sum(axis=1), target, sizes, strict=True):
        *parts, count, what, size = row
        columns = (part[:count].tolist() for part in parts)
        things = [Mark(s, c, 0, a, b) for s, c, a, b in zip(*columns, strict=True)]
        asked.append(_ask_marks(things, int(what), tuple(size.tolist())))
    return asked


_LOOKS = np.array([(shape, colour) for shape, colours in enumerate(palette("train")) for colour in colours])
_TARGETS = [Who(shape=shape) for shape in range(len(SHAPES))] + [Who(colour=c) for c in range(len(COLOURS))]
_IS_TARGET = np.array(
    [[who.only([Mark(*look, 0, 0, 0)]) is not None for look in _LOOKS.tolist()] for who in _TARGETS]
)
_ORDER = np.argsort(~_IS_TARGET, axis=1, kind="stable")  # for each target: looks that have it come first
_HOW_MANY = _IS_TARGET.sum(axis=1)


def _choose_marks(key: np.ndarray) -> tuple[Int64[np.ndarray, "page"], Int64[np.ndarray, "page mark"]]:
    """What is counted on each page, and which of _LOOKS its marks have; -1 where there is none."""
    most = max(MARKS)
    draw = chance.uniform(chance.derive(key, "marks"), 3 + 2 * most)
    target = (draw[:, 0] * len(_TARGETS)).astype(int)
    total = np.array(MARKS)[(draw[:, 1] * len(MARKS)).astype(int)]
    counted = (draw[:, 2] * (MOST_COUNTED + 1)).astype(int)
    order, number = draw[:, 3 : 3 + most], np.arange(most)
    has, looks = _HOW_MANY[target][:, None], draw[:, 3 + most :]
    among = np.where(number < counted[:, None], looks * has, has + looks * (len(_LOOKS) - has)).astype(int)
    marks = np.where(number < total[:, None], _ORDER[target[:, None], among], -1)
    # those that count must not come first
    shuffled = np.argsort(order + (marks < 0), axis=1)
    return target, np.take_along_axis(marks, shuffled, axis=1)


def _places(sheets: Sheets, page: np.ndarray, key: np.ndarray, split: str) -> np.ndarray:
    """Centres x and y of eight marks of each page, each in another cell, on pixels of the split."""
    free = sheets.heights[page][:, None] - 2, sheets.widths[page][:, None] - 2
    rows, columns = free[0] // CELL, free[1] // CELL
    cells = int((rows * columns).max(initial=1))
    # what each page draws comes before what the largest one needs, so that none depends on its neighbours
    draw = chance.uniform(chance.derive(key, "cells"), 2 + max(MARKS) + cells)
    shift = [(draw[:, n, None] * (space % CELL + 1)).astype(int) for n, space in enumerate(free)]
    jitter = (draw[:, 2 : 2 + max(MARKS)] * 3).astype(int)
    exists = np.arange(cells) < rows * columns
    cell = np.argsort(draw[:, 2 + max(MARKS) :] + ~exists, axis=1)[:, : max(MARKS)]
    x = 2 + shift[1] + cell % columns * CELL + jitter + MARK_RADIUS
    y = 2 + shift[0] + cell // columns * CELL + MARK_RADIUS
    return np.stack([x, y + (SPLITS[split] - x - y) % 3])


def _ask_marks(things: list[Mark], what: int, size: tuple[int, int]) -> list[PageQuestion]:
    """How many there are of what is counted; of each mark that is alone in it its colour, shape and place."""
    target = _TARGETS[what]
    meant = target.among(things)
    boxes = tuple(mark.box for mark in meant or things)
    asked = [PageQuestion("count", f"How many {target.many} are there?", str(len(meant)), boxes)]
    for mark in things:
        shape, colour = Who(shape=mark.shape), Who(colour=mark.colour)
        both = Who(mark.shape, mark.colour)
        if shape.only(things):
            asked.append(
                PageQuestion("colour", f"What colour is the {shape}?", COLOURS[mark.colour], (mark.box,))
            )
        if colour.only(things):
            asked.append(
                PageQuestion("shape", f"What shape is the {colour}?", SHAPES[mark.shape], (mark.box,))
            )
        if both.only(things):
            answer = spell_box(mark.box, size)
            asked.append(PageQuestion("where", f"Where is the {both}?{BOXED}", answer, (mark.box,)))
    return asked


def place_of_answer(question: PageQuestion, size: tuple[int, int]) -> tuple[str, str] | None:
    """A question for a box and its answer: where a mark, the word, a cell or a bar is; None for others.

    Args:
        size: height and width of the page.
    """
    if question.kind == "where":
        return question.text, question.answer
    if question.kind not in THINGS_PLACED:
        return None
    thing = THINGS_PLACED[question.kind](question.text)
    return f"Where is {thing}?{BOXED}", spell_box(question.boxes[0], size)


# by kind of question what its box shows: "What is in row b, column y?" that cell
THINGS_PLACED = dict(
    word=lambda text: "the word",
    cell=lambda text: f"the number in {text.removeprefix('What is in ').removesuffix('?')}",
    height=lambda text: f"the {text.split()[-2]} bar",
)


PAGE_KINDS = dict(marks=put_marks, words=print_words, tables=print_tables, charts=print_charts)
