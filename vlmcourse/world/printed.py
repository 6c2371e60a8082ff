"""What is printed on pages: words, tables of numbers, bar charts, each with its questions (notebook 19).

    print_words    one word of 4 to 6 letters: what is written?
    print_tables   three rows and three columns of numbers: what is in row b, column y?
    print_charts   three to five bars on an axis from 0 to 9: which is highest, how high is the red one?

Each draws on the pages that it is given, and returns what may be asked about them. Splits never meet:

    words    two neighbouring letters are a pair; pairs have four kinds, by the sum of their places in LETTERS
             modulo 4. Train words have pairs of kinds 0 and 1 only, a validation word has one of kind 2 among
             them, a test word one of kind 3.
    tables   the sum of all nine numbers is 0, 1 or 2 modulo 3 in train, validation and test.
    charts   the same of the heights of all bars.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from vlmcourse.world import chance
from vlmcourse.world.render import PAINT
from vlmcourse.world.scenes import COLOURS, SPLITS
from vlmcourse.world.sheets import DRAWN, GLYPH_HEIGHT, GLYPH_WIDTH, Sheets, text_width

PageBox = tuple[int, int, int, int]
_EDGE = 2  # pixels that stay free along every edge of a page
CONSONANTS = "bcdfghjklmnpqrstvwxz"  # no vowels: no word of any language, nothing to be guessed
WORD_LENGTHS = (4, 5, 6)
TABLE_ROWS, TABLE_COLUMNS = "abc", "xyz"
ACROSS, DOWN = 16, 13  # pixels from one column of a table to the next, and from one row to the next
BAR_COUNTS = (3, 4, 5)
TOP_VALUE, UNIT = 9, 4  # of the axis; pixels for each of its steps
THICK, BAR_PITCH = 5, 8  # of a bar, in pixels; from one bar to the next
AXIS = 8  # pixels for the digits of the axis beside upright bars; below lying ones two more
_BLACK, _GREY = PAINT[0], np.array([0xB4, 0xB4, 0xB4])

_Page = Int64[np.ndarray, "page"]
_Keys = UInt64[np.ndarray, "page"]


class PageQuestion(NamedTuple):
    """A question about one page; boxes are pixel boxes of what one must see to answer it."""

    kind: str
    text: str
    answer: str
    boxes: tuple[PageBox, ...]
    letters: str = ""  # what must be read letter by letter, if anything must


PageAsked = list[list[PageQuestion]]


def spell_words(key: _Keys, split: str) -> list[str]:
    """A word for each key, of letters that stand together as the split allows."""
    number = len(CONSONANTS)
    draw = chance.uniform(chance.derive(key, "word"), 3 + 2 * max(WORD_LENGTHS))
    lengths = np.array(WORD_LENGTHS)[(draw[:, 0] * len(WORD_LENGTHS)).astype(int)]
    special = 1 + (draw[:, 1] * (lengths - 1)).astype(int)  # behind which pair the held-out kind is reached
    letters = [(draw[:, 2] * number).astype(int)]
    for place in range(1, max(WORD_LENGTHS)):
        kind = (draw[:, 1 + 2 * place] * 2).astype(int)
        if split != "train":
            kind = np.where(special == place, 1 + SPLITS[split], kind)
        choice = (draw[:, 2 + 2 * place] * (number // 4)).astype(int)
        letters.append((kind - letters[-1]) % 4 + 4 * choice)
    rows = np.array(list(CONSONANTS))[np.stack(letters, axis=1)]
    return ["".join(row[:length]) for row, length in zip(rows, lengths, strict=True)]


def print_words(sheets: Sheets, page: _Page, key: _Keys, split: str) -> PageAsked:
    """One word on each of these pages, anywhere."""
    words = spell_words(key, split)
    widths = np.array([text_width(word) for word in words], int)
    left, top = _anywhere(sheets, page, key, widths, np.full(len(page), GLYPH_HEIGHT))
    sheets.write(page, left, top, words, _BLACK)
    asked = []
    for x, y, width, word in zip(left.tolist(), top.tolist(), widths.tolist(), words, strict=True):
        box = (x, y, x + width, y + GLYPH_HEIGHT)
        asked.append([PageQuestion("word", "What is written?", word, (box,), word)])
    return asked


def fill_tables(key: _Keys, split: str) -> Int64[np.ndarray, "page 3 3"]:
    """Nine numbers for each key, half of them with one digit and half with two."""
    draw = chance.uniform(chance.derive(key, "table"), 19)
    short, value = draw[:, 1:10] < 0.5, draw[:, 10:]
    numbers = np.where(short, (value * 10).astype(int), 10 + (value * 90).astype(int))
    # one cell, anywhere, becomes the multiple of three below it, and then what the split needs
    balance = (draw[:, 0] * 9).astype(int)[:, None]
    chosen = np.take_along_axis(numbers, balance, axis=1)
    chosen = np.where(chosen < 10, chosen.clip(max=8), chosen.clip(12, 96)) // 3 * 3
    np.put_along_axis(numbers, balance, chosen, axis=1)
    missing = (SPLITS[split] - numbers.sum(axis=1, keepdims=True)) % 3
    np.put_along_axis(numbers, balance, chosen + missing, axis=1)
    return numbers.reshape(-1, 3, 3)


def print_tables(sheets: Sheets, page: _Page, key: _Keys, split: str) -> PageAsked:
    """One table on each of these pages, anywhere, with the names of its rows and columns."""
    numbers = fill_tables(key, split)
    wide, high = 3 * ACROSS + text_width("99"), 3 * DOWN + GLYPH_HEIGHT
    left, top = _anywhere(sheets, page, key, np.full(len(page), wide), np.full(len(page), high))
    line = top + GLYPH_HEIGHT + 2, left + GLYPH_WIDTH + 4  # below the names of columns, behind those of rows
    sheets.rectangles(page, left, line[0], left + wide, line[0] + 1, _GREY[None])
    sheets.rectangles(page, line[1], top, line[1] + 1, top + high, _GREY[None])
    for place, (row, column) in enumerate(zip(TABLE_ROWS, TABLE_COLUMNS, strict=True), start=1):
        sheets.write(page, left, top + place * DOWN, [row] * len(page), _BLACK)
        sheets.write(page, left + place * ACROSS, top, [column] * len(page), _BLACK)
    asked: PageAsked = [[] for _ in page]
    for row, column in np.ndindex(3, 3):
        texts = [str(number) for number in numbers[:, row, column].tolist()]
        x, y = left + (column + 1) * ACROSS, top + (row + 1) * DOWN
        sheets.write(page, x, y, texts, _BLACK, cell=3 * row + column)
        text = f"What is in row {TABLE_ROWS[row]}, column {TABLE_COLUMNS[column]}?"
        for questions, a, b, answer in zip(asked, x.tolist(), y.tolist(), texts, strict=True):
            box = (a, b, a + text_width(answer), b + GLYPH_HEIGHT)
            questions.append(PageQuestion("cell", text, answer, (box,), answer))
    return asked


def raise_bars(key: _Keys, split: str) -> tuple[Int64[np.ndarray, "page 5"], Int64[np.ndarray, "page 5"]]:
    """Heights from 1 to 9 and colours of the bars of each key, all different; 0 and -1 for none."""
    number = np.array(BAR_COUNTS)[
        (chance.uniform(chance.derive(key, "bars"), 1)[:, 0] * len(BAR_COUNTS)).astype(int)
    ]
    absent = np.arange(max(BAR_COUNTS)) >= number[:, None]
    colours = chance.uniform(chance.derive(key, "colours"), len(COLOURS)).argsort(axis=1)[
        :, : max(BAR_COUNTS)
    ]
    heights, waiting, attempt = np.zeros(absent.shape, int), np.arange(len(key)), 0
    while len(waiting):
        draw = chance.uniform(chance.derive(key[waiting], "heights", attempt), TOP_VALUE)
        tried = np.where(absent[waiting], 0, 1 + draw.argsort(axis=1)[:, : max(BAR_COUNTS)])
        fits = tried.sum(axis=1) % 3 == SPLITS[split]
        heights[waiting[fits]] = tried[fits]
        waiting, attempt = waiting[~fits], attempt + 1
    return heights, np.where(absent, -1, colours)


def print_charts(sheets: Sheets, page: _Page, key: _Keys, split: str) -> PageAsked:
    """One bar chart on each of these pages, anywhere; on a page wider than high the bars lie.

    So they grow along the page's longer edge.
    """
    heights, colours = raise_bars(key, split)
    lying = sheets.widths[page] > sheets.heights[page]
    count = (heights > 0).sum(axis=1)
    along, across = TOP_VALUE * UNIT + GLYPH_HEIGHT, AXIS + count * BAR_PITCH
    sizes = np.where(lying, along, across), np.where(lying, across + 2, along)
    left, top = _anywhere(sheets, page, key, *sizes)
    # where value 0 of the first bar's near side is
    x, y = left + np.where(lying, 3, AXIS), top + np.where(lying, 0, along - 3)
    _draw_axis(sheets, page, lying, x, y, count)
    boxes = np.zeros((*heights.shape, 4), int)
    for bar in range(max(BAR_COUNTS)):
        some, far, near = heights[:, bar] > 0, heights[:, bar] * UNIT, bar * BAR_PITCH + 2
        box = np.where(lying[:, None], np.stack([x, y + near, x + far, y + near + THICK], axis=1),
                       np.stack([x + near, y - far, x + near + THICK, y], axis=1))  # fmt: skip
        sheets.rectangles(page[some], *box[some].T, PAINT[colours[some, bar]])
        sheets.note(page[some], box[some], DRAWN.index("bar"), colours[some, bar], heights[some, bar])
        boxes[:, bar] = box
    rows = zip(heights, colours, boxes, count.tolist(), lying.tolist(), strict=True)
    return [_ask_chart(*(part[:n].tolist() for part in parts), lies) for *parts, n, lies in rows]


def _draw_axis(
    sheets: Sheets, page: _Page, lying: Bool[np.ndarray, "page"], x: _Page, y: _Page, count: _Page
) -> None:
    """A grey line and a digit at 0, 3, 6 and 9."""
    side = count * BAR_PITCH
    for value in range(0, TOP_VALUE + 1, 3):
        far = value * UNIT
        line = np.where(lying[:, None], np.stack([x + far, y, x + far + 1, y + side], axis=1),
                        np.stack([x, y - far - 1, x + side, y - far], axis=1))  # fmt: skip
        sheets.rectangles(page, *line.T, _GREY[None])
        left = np.where(lying, x + far - 2, x - AXIS)
        top = np.where(lying, y + side + 2, y - far - 4)
        sheets.write(page, left, top, [str(value)] * len(page), _BLACK)


def _ask_chart(heights: list, colours: list, boxes: list, lying: bool) -> list[PageQuestion]:
    most, much = ("longest", "long") if lying else ("highest", "high")
    names, every = [COLOURS[colour] for colour in colours], tuple(tuple(box) for box in boxes)
    best = max(range(len(heights)), key=heights.__getitem__)
    asked = [PageQuestion("highest", f"Which bar is {most}?", names[best], every)]
    for name, height, box in zip(names, heights, every, strict=True):
        asked.append(PageQuestion("height", f"How {much} is the {name} bar?", str(height), (box,)))
    return asked


def _anywhere(sheets: Sheets, page: _Page, key: _Keys, wide: _Page, high: _Page) -> tuple[_Page, _Page]:
    """Left and top of things of this size, wherever they have room."""
    draw = chance.uniform(chance.derive(key, "place"), 2)
    across = sheets.widths[page] - wide - 2 * _EDGE + 1
    down = sheets.heights[page] - high - 2 * _EDGE + 1
    return _EDGE + (draw[:, 0] * across).astype(int), _EDGE + (draw[:, 1] * down).astype(int)
