"""Row Browser: thousands of pictures with texts, numbers and tags; sort, cut, search, and open one.

What to look at is decided here, in the kernel (see rows.py): one page of small pictures and one large picture
travel to the browser, so that 5,000 rows open as fast as fifty.  How rows are made of a data set, or of the
answers of models, stands in browsing.py.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import traitlets

from vlmcourse.widgets.base import THUMBNAIL, Between, Widget, as_images, script, shrink
from vlmcourse.widgets.rows import RowTable
from vlmcourse.widgets.stills import ACCENT, GOOD, INK, MASKED, TEXT, Still, new_figure, open_corner

ON_A_PAGE, IN_THE_STILL = 24, 10
LARGE = 320  # the longest side of an opened picture, in pixels
KEPT_SMALL = 2048  # small pictures that are kept once they are made
BLANK = 128  # the grey around a picture that is no square, and of one that cannot be shown
ANY_NUMBER = Between(-1e300, 1e300)


class LazyPictures(Sequence):
    """`count` pictures, each made by `make(number)` when it is looked at."""

    def __init__(self, count: int, make: Callable[[int], np.ndarray]):
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number):
        return self._make(number)


class RowBrowser(Widget):
    """Pages of small pictures; search, cuts of scores and tags say which; one of them stands open, large.

    The kernel answers every change of `view`, which Python may set as well:

        browser.view = browser.view | {"text": "red circle"}
        browser.found  # the numbers of the rows that stay, in the order shown

    A picture that cannot be opened is named where it would stand; all else goes on.

    Args:
        pictures: one per row, uint8 (height, width, 3): an array, or a sequence that opens them when asked.
        texts, scores, tags: columns, see rows.RowTable.  There is a text, and the first names a row.
        boxes: for each row a list of (left, top, right, bottom) in pixels of its picture, right and bottom
            exclusive; they are drawn on the opened picture.
        outcome: the tag that says how a row ended, such as "verdict"; the summary does not depend on it.
        signs: value of that tag -> a sign such as "✓" or "✗", shown at each picture; values come in
            this order.
        start: tag -> the value that is chosen at first.
        summary: takes the numbers of the rows that pass all but the outcome, (row,), and says something
            about them, a line each.
        title: what these rows are, in words.

    Raises:
        ValueError: as RowTable; if there are not as many pictures or lists of boxes as rows, or a tag or a
            value is not there.
    """

    _esm = script("browser.js")
    answer = traitlets.Dict(help="what the kernel says to a view").tag(sync=True)
    small = traitlets.Bytes(help="uint8 (picture of the page, THUMBNAIL, THUMBNAIL, 3)").tag(sync=True)
    large = traitlets.Bytes(help="uint8 (height, width, 3), the opened picture").tag(sync=True)

    def __init__(
        self,
        pictures: Sequence,
        texts: Mapping[str, Sequence],
        scores: Mapping[str, Any] | None = None,
        tags: Mapping[str, Sequence] | None = None,
        *,
        boxes: Sequence[Sequence] | None = None,
        outcome: str | None = None,
        signs: Mapping[str, str] | None = None,
        start: Mapping[str, str] | None = None,
        summary: Callable[[np.ndarray], str] | None = None,
        title: str = "Rows",
    ):
        pictures = pictures if isinstance(pictures, Sequence) else as_images(pictures)
        self.table = RowTable(len(pictures), texts, scores or {}, tags or {}, {outcome: list(signs or {})})
        if boxes is not None and len(boxes) != len(pictures):
            raise ValueError(f"{len(boxes)} lists of boxes for {len(pictures)} rows; pass one list per row")
        if outcome is not None and outcome not in self.table.values:
            raise ValueError(f"outcome {outcome!r} is none of the tags {', '.join(self.table.values)}")
        self._pictures, self._boxes, self._title = pictures, boxes, title
        self._outcome, self._signs, self._summary = outcome, signs or {}, summary
        self._thumbnail = lru_cache(KEPT_SMALL)(self._make_thumbnail)
        columns = len(self.table.scores)
        self.allowed = {
            "view": {
                "by": (None, range(columns)),
                "down": bool,
                "cuts": [[(None, ANY_NUMBER)] * 2] * columns,
                "tags": [(None, range(len(values))) for values in self.table.values.values()],
                "text": str,
                "page": range(self._pages(len(pictures))),
                "opened": (None, range(len(pictures))),
            }
        }
        shape = {
            "title": title, "count": len(pictures), "page": ON_A_PAGE, "side": THUMBNAIL,
            "scores": list(self.table.scores), "tags": [[*pair] for pair in self.table.values.items()],
        }  # fmt: skip
        super().__init__(shape=shape)
        self.view = {
            "by": 0 if columns else None,
            "down": True,
            "cuts": [[None, None] for _ in range(columns)],
            "tags": self._first_tags(start or {}),
            "text": "",
            "page": 0,
            "opened": None,
        }
        if len(self.found):
            self.view = self.view | {"opened": int(self.found[0])}

    @property
    def found(self) -> np.ndarray:
        """The numbers of the rows that stay, in the order shown, (row,)."""
        return self.table.order(self.view, self.table.stays(self.view))

    @staticmethod
    def _pages(rows: int) -> int:
        return max(1, -(-rows // ON_A_PAGE))

    def _first_tags(self, start: Mapping[str, str]) -> list[int | None]:
        for name, value in start.items():
            if value not in self.table.values.get(name, []):
                there = {tag: values[:6] for tag, values in self.table.values.items()}
                raise ValueError(f"no row has {name}={value!r}; tags and their values are {there}")
        return [
            values.index(start[name]) if name in start else None for name, values in self.table.values.items()
        ]

    @traitlets.observe("view")
    def _look(self, change):
        # in one order, since the page compares texts
        view = {field: change["new"][field] for field in self.allowed["view"]}
        problem = self._crossed(view)
        if problem:  # the rows shown last stay
            self.answer = {**self.answer, "view": view, "problem": problem}
            return
        stay = self.table.stays(view)
        order = self.table.order(view, stay)
        page = min(view["page"], self._pages(len(order)) - 1)
        shown = order[page * ON_A_PAGE : (page + 1) * ON_A_PAGE].tolist()
        with self.hold_sync():  # pictures and numbers change together
            self.small = b"".join(self._thumbnail(number) for number in shown)
            opened = None if view["opened"] is None else self._open(view["opened"])
            self.answer = {
                "view": view, "problem": "", "stay": len(order), "page": page,
                "rows": [self._in_short(number, view) for number in shown],
                "groups": self.table.groups(view), "bars": self.table.bars(view),
                "summary": self._said_of(view), "opened": opened,
            }  # fmt: skip

    def _crossed(self, view: Mapping) -> str:
        """What is wrong with a cut that leaves nothing, or nothing."""
        for name, (low, high) in zip(self.table.scores, view["cuts"], strict=True):
            if None not in (low, high) and low > high:
                return f"{name} from {low:g} to {high:g} holds nothing; the first number must be the smaller"
        return ""

    def _said_of(self, view: Mapping) -> list[str]:
        """The lines of the summary; what it raises is one of them."""
        if self._summary is None:
            return []
        try:
            numbers = np.flatnonzero(self.table.stays(view, without=self._outcome))
            return self._summary(numbers).splitlines()
        except Exception as problem:  # it is not ours; whatever it raises, the widget lives
            return [f"{type(problem).__name__}: {problem}".splitlines()[0]]

    def _sign(self, number: int) -> str:
        if self._outcome is None:
            return ""
        value = self.table.values[self._outcome][self.table.codes[self._outcome][number]]
        return self._signs.get(value, "")

    def _in_short(self, number: int, view: Mapping) -> dict:
        """A row as it stands at its small picture."""
        name = next(iter(self.table.texts.values()))[number]
        score = "" if view["by"] is None else shown_number([*self.table.scores.values()][view["by"]][number])
        return {"number": number, "name": name[:200], "score": score, "sign": self._sign(number)}

    def _open(self, number: int) -> dict:
        """All that is known of a row; its picture goes into `large`."""
        table = self.table
        picture, fault = self._picture(number)
        height, width = picture.shape[:2]
        boxes = [] if self._boxes is None else self._boxes[number]
        sides = np.array([width, height, width, height])
        picture = shrink(picture, LARGE)
        self.large = picture.tobytes()
        return {
            "number": number, "size": list(picture.shape[:2]), "fault": fault, "sign": self._sign(number),
            "boxes": [(np.array(box, float) / sides).tolist() for box in boxes],
            "texts": [[name, column[number]] for name, column in table.texts.items()],
            "scores": [[name, shown_number(values[number])] for name, values in table.scores.items()],
            "tags": [[name, table.values[name][codes[number]]] for name, codes in table.codes.items()],
        }  # fmt: skip

    def _picture(self, number: int) -> tuple[np.ndarray, str]:
        """A picture, and what is wrong with it: grey and a line, if it cannot be shown."""
        try:
            return as_images(self._pictures[number])[0], ""
        except Exception as problem:  # a file may be damaged in any way
            line = f"{type(problem).__name__}: {problem}".splitlines()[0]
            return np.full((THUMBNAIL, THUMBNAIL, 3), BLANK, np.uint8), line

    def _make_thumbnail(self, number: int) -> bytes:
        return in_a_square(self._picture(number)[0], THUMBNAIL).tobytes()

    def static_figure(self) -> Still:
        """The histogram with what stays, and the first rows, as a picture."""
        answer, bars = self.answer, self.answer["bars"]
        lines = 2 if len(answer["rows"]) > IN_THE_STILL // 2 else 1
        figure = new_figure(2.4 * lines + (1.4 if bars else 0) + 0.4)
        top, below = figure.subfigures(2, 1, height_ratios=[1.4 if bars else 0.01, 2.4 * lines])
        if bars:
            self._draw_bars(top.subplots(), bars)
        places = below.subplots(lines, IN_THE_STILL // 2, squeeze=False).ravel()
        for axes in places:
            axes.axis("off")
        for axes, row in zip(places, answer["rows"]):  # noqa: B905 - one of them may be longer
            axes.imshow(in_a_square(self._picture(row["number"])[0], THUMBNAIL))
            colour = ACCENT if "✗" in row["sign"] else INK
            axes.set_title(self._in_lines(row), fontsize=9, color=colour)
        stay = f"{self._title}: {answer['stay']:,} of {self.table.count:,} rows stay"
        figure.suptitle("\n".join([stay, *answer["summary"]]), fontsize=10)
        names = "; ".join(row["name"] for row in answer["rows"][:3])
        return Still(figure, f"{stay}; the first: {names}")

    def _in_lines(self, row: dict) -> str:
        """What stands over a picture of the still figure: sign and score, and the first three texts."""
        name, *others = ((name, column[row["number"]]) for name, column in self.table.texts.items())
        head = " ".join(part for part in (row["sign"], row["score"]) if part)
        lines = [head] if head else []
        lines += textwrap.wrap(name[1], 20, max_lines=3, placeholder=" …")
        for what, text in others[:2]:
            lines += textwrap.wrap(f"{what}: {text}", 22, max_lines=2, placeholder=" …")
        return "\n".join(lines)

    def _draw_bars(self, axes, bars: dict) -> None:
        """The histogram: what is cut off light, what stays dark."""
        edges = np.linspace(*bars["edges"], len(bars["stay"]) + 1)
        width = edges[1] - edges[0]
        axes.bar(edges[:-1], bars["uncut"], width, align="edge", color=MASKED, alpha=0.5, label="cut off")
        axes.bar(edges[:-1], bars["stay"], width, align="edge", color=GOOD, label="stay")
        axes.set_xlabel([*self.table.scores][self.view["by"]], fontsize=9, color=TEXT)
        axes.legend(frameon=False, fontsize=9)
        axes.tick_params(labelsize=9)
        open_corner(axes)

    def __repr__(self) -> str:
        return f"RowBrowser({self.table.count} rows, {len(self.table.scores)} scores)"


def shown_number(value: float) -> str:
    """A score as it is written: three digits that count; "–" if it is unknown."""
    if np.isnan(value):
        return "–"
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"


def in_a_square(picture: np.ndarray, side: int) -> np.ndarray:
    """The whole picture in the middle of a grey square (side, side, 3), as large as fits."""
    picture = shrink(picture, side)
    zoom = max(1, side // max(picture.shape[:2]))  # small ones in crisp squares
    picture = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
    height, width = picture.shape[:2]
    square = np.full((side, side, 3), BLANK, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square
