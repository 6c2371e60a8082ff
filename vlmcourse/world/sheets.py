"""Sheets: pictures of different sizes, drawn all at once (used by world/pages.py, notebook 19).

    sheets = Sheets(heights, widths, shades)      # blank paper
    sheets.rectangles(page, left, top, right, bottom, colour)
    sheets.write(page, left, top, texts, colour)  # letters and digits, 5 × 7 pixels each
    sheets.stamp(page, left, top, patches)        # small pictures
    sheets.pictures()                             # list of uint8 (rows, columns, 3)
    sheets.shown()                                # what stands where on each of them

All pixels of all pictures lie in one row, so a thousand pages are drawn by as many calls as one. In shapes,
thing counts what is drawn, and page says on which picture.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from vlmcourse.world.render import LETTERS, PAPER
from vlmcourse.world.scenes import SHAPES

GLYPH_HEIGHT, GLYPH_WIDTH, PITCH = 7, 5, 6  # pixels of a letter; from one letter to the next
_MORE = "vgguggg hhhvhhh 72222ic hrllhhh ehhhlid fgge11u v444444 hhhhha4 hha4ahh v1248gv"
_DIGITS = "ehjlphe 4c4444e eh1248v v2421he 26aiv22 vgu11he 68guhhe v124888 ehhehhe ehhf12c"
_FONT = LETTERS | dict(zip("fhjmqstvxz0123456789", f"{_MORE} {_DIGITS}".split(), strict=True))
CHARACTERS = "".join(sorted(_FONT))  # what can be written
DRAWN = (*CHARACTERS, *SHAPES, "bar")  # what can stand on a page
PLAIN = NO_CELL = -1  # colour of what is black; cell of what stands in no table
# what stands on a page: left, top, right, bottom, indices into DRAWN and COLOURS, number and cell, see note
OnPage = Int64[np.ndarray, "_ 8"]

_Numbers = Int64[np.ndarray, "thing"]


def glyphs(text: str) -> Bool[np.ndarray, "letter 7 5"]:
    """Which pixels of each letter are ink, as small capitals.

    Raises:
        KeyError: for what is neither a letter from a to z nor a digit.
    """
    rows = np.array([int(digit, 32) for letter in text for digit in _FONT[letter]]).reshape(-1, GLYPH_HEIGHT)
    return (rows[..., None] >> np.arange(GLYPH_WIDTH - 1, -1, -1) & 1).astype(bool)


def text_width(text: str) -> int:
    """Pixels from the first letter's left edge to the last one's right."""
    return PITCH * len(text) - (PITCH - GLYPH_WIDTH)


class Sheets:
    """Blank pages of different sizes, to be drawn on.

    Args:
        heights, widths: of each page in pixels.
        shades: of each page's paper, as in Scenes.light.
    """

    def __init__(
        self,
        heights: Int64[np.ndarray, "page"],
        widths: Int64[np.ndarray, "page"],
        shades: Int64[np.ndarray, "page"],
    ):
        self.heights, self.widths, self.shades = heights, widths, shades
        areas = heights * widths
        self._starts = np.cumsum(areas) - areas
        self._pixels = PAPER[shades].astype(np.uint8).repeat(areas, axis=0)  # (pixel, 3), page behind page
        self._shown: list[np.ndarray] = []  # (thing, 1 + 8): page, and what shown() says

    def _put(self, page: np.ndarray, x: np.ndarray, y: np.ndarray, colour: np.ndarray) -> None:
        self._pixels[self._starts[page] + y * self.widths[page] + x] = colour

    def rectangles(
        self, page: _Numbers, left: _Numbers, top: _Numbers, right: _Numbers, bottom: _Numbers,
        colour: Shaped[np.ndarray, "#thing 3"],
    ) -> None:  # fmt: skip
        """Filled ones; right and bottom exclusive, and colours from 0 to 255."""
        widths, areas = right - left, (right - left) * (bottom - top)
        thing = np.repeat(np.arange(len(page)), areas)
        number = np.arange(len(thing)) - np.repeat(
            np.cumsum(areas) - areas, areas
        )  # of the pixel in its thing
        down, across = np.divmod(number, widths[thing])
        colours = np.broadcast_to(colour, (len(page), 3))
        self._put(page[thing], left[thing] + across, top[thing] + down, colours[thing])

    def write(
        self, page: _Numbers, left: _Numbers, top: _Numbers, texts: Sequence[str],
        colour: Shaped[np.ndarray, "3"], cell: int = NO_CELL,
    ) -> None:  # fmt: skip
        """One text for each place, from its upper left pixel on.

        Args:
            cell: of a table that they stand in, see note.
        """
        lengths = np.array([len(text) for text in texts], int)
        thing = np.repeat(np.arange(len(texts)), lengths)
        number = np.arange(len(thing)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        letter, row, column = np.nonzero(glyphs("".join(texts)))
        x, y = left[thing] + PITCH * number, top[thing]
        self._put(page[thing][letter], x[letter] + column, y[letter] + row, colour)
        boxes = np.stack([x, y, x + GLYPH_WIDTH, y + GLYPH_HEIGHT], axis=1)
        what = [DRAWN.index(sign) for sign in "".join(texts)]
        self.note(page[thing], boxes, what, PLAIN, number, np.broadcast_to(cell, len(texts))[thing])

    def stamp(
        self, page: _Numbers, left: _Numbers, top: _Numbers,
        patches: UInt8[np.ndarray, "thing rows columns 3"],
    ) -> None:  # fmt: skip
        """One small picture for each place."""
        rows, columns = np.arange(patches.shape[1])[:, None], np.arange(patches.shape[2])
        at = (slice(None), None, None)
        self._put(page[at], left[at] + columns, top[at] + rows, patches)

    def note(
        self, page: _Numbers, boxes: Int64[np.ndarray, "thing 4"], what: Sequence[int] | _Numbers | int,
        colour: _Numbers | int, number: _Numbers | int = 0, cell: _Numbers | int = NO_CELL,
    ) -> None:  # fmt: skip
        """Remember that something stands there; letters and digits are noted when they are written.

        Args:
            boxes: left, top, right, bottom in pixels.
            what, colour: indices into DRAWN and COLOURS; PLAIN for what has no colour.
            number: which letter of its text it is, from 0; of a bar how high it is.
            cell: of a table, counted row by row; NO_CELL for what stands in none.
        """
        columns = (np.broadcast_to(part, len(page)) for part in (what, colour, number, cell))
        self._shown.append(np.column_stack([page, boxes, *columns]))

    def shown(self) -> list[OnPage]:
        """Of each page what stands on it, in the order in which it was drawn."""
        rows = np.concatenate([np.zeros((0, 9), int), *self._shown])
        rows = rows[rows[:, 0].argsort(kind="stable")]
        return np.split(rows[:, 1:], rows[:, 0].searchsorted(np.arange(1, len(self.heights))))

    def pictures(self) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """One for each page."""
        sizes = zip(self._starts, self.heights, self.widths, strict=True)
        return [self._pixels[start : start + h * w].reshape(h, w, 3) for start, h, w in sizes]
