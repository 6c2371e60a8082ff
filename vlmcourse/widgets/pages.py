"""Page Reader: a page as a model sees it for so many tokens, what it answers then, and where it points.

The widget knows no model: it calls the two functions it was given, in the kernel (families/sights.py,
sights_for, makes them of a speaker).  The browser draws the page and sends the newest state, one request at a
time; the kernel makes the picture that the model sees, asks about it, and sends both back together.

A page is one of world/pages.py, of any size.  Boxes are (left, top, right, bottom) in its pixels, right and
bottom exclusive; a point is (x, y).
"""

import textwrap
import time
from typing import Any, NamedTuple

import numpy as np
import traitlets

from vlmcourse.widgets.base import AskedWidget, Between, as_images, same_words, script
from vlmcourse.widgets.playground import percent
from vlmcourse.widgets.stills import ACCENT, IMAGE, INK, Still, new_figure

PAGE_BUDGETS = (16, 32, 64, 128, 256, 512)  # tokens at most
PAGE_WAYS = {
    "squash": "squashed into a square",
    "tiles": "as a thumbnail and tiles",
    "native": "at its own aspect",
}
"""How a page is seen, see models/tiles.py, plan_picture."""
FOUND = 0.5  # the least IoU of a box that counts as found


class _Known(NamedTuple):
    """What is known of a question about a page."""

    answer: str
    boxes: list  # of what one must see for it
    name: str  # what it asks the place of; "" if it asks for anything else


class PageReader(AskedWidget):
    """A page, the same page as the model sees it and what that costs, and the answer to a question about it.

    A click on the page asks where the nearest thing is; the box that the model tells is drawn beside the true
    one.  Ways to see the page and budgets of tokens are chosen beside it, and the answer follows.

        reader = PageReader(*sights_for(speaker), sample_pages("test", 12))
        reader.change(way="squash", budget=16)     # from Python what the controls do
        reader.point(40, 20)                       # what a click does
        reader.answer                              # what came of it

    Args:
        see: takes a page, uint8 (rows, columns, 3), a way and a budget; returns (pieces, plan, square) as
            families.sights.SeenPage: what the model sees, uint8 (piece, rows, columns, 3), a
            models.tiles.PicturePlan, and the edge in pixels of what becomes one token.
        answer: takes a page, a question, a way and a budget; returns a text and how likely it was, 0 to 1.
        pages: world.pages.Pages; the first is shown first, and its first question asked.
        way: "squash", "tiles" or "native".
        budget: tokens at most, one of PAGE_BUDGETS.
        question: about the first page, in any words.

    Raises:
        ValueError: if there are no pages, no such way or budget, or a function returns anything else.
        Exception: whatever the functions raise for the first page, so that a broken model is noticed at once.
            Later, the message is shown in one line and the last answer stays.
    """

    _esm = script("pages.js")
    seen = traitlets.Bytes(help="uint8, what the model sees; of tiles, all put together").tag(sync=True)
    thumbnail = traitlets.Bytes(help="uint8, what it sees before the tiles").tag(sync=True)

    def __init__(self, see, answer, pages, *, way: str = "native", budget: int = 256, question=None):
        if not len(pages):
            raise ValueError("there are no pages to read; pass some, such as sample_pages('test', 12)")
        self._see, self._answer_to, self._pages = see, answer, pages
        self._known = [_known_of(asked, size) for asked, size in zip(pages.asked, pages.sizes, strict=True)]
        listed = [self._about(number) for number in range(len(pages))]
        shape = {"pages": listed, "ways": PAGE_WAYS, "budgets": PAGE_BUDGETS, "found": FOUND}
        place = [Between(0, max(size[axis] for size in pages.sizes)) for axis in (1, 0)]
        rules = {"turn": int, "by": str, "number": range(len(pages)), "way": tuple(PAGE_WAYS)}
        rules |= {"budget": PAGE_BUDGETS, "question": str, "point": (None, place)}
        self.allowed = {"state": rules}
        first = next(iter(self._known[0]), "") if question is None else str(question)
        state = {"turn": 0, "by": "python", "number": 0, "way": way, "budget": budget, "question": first}
        state["point"] = None
        self.check("state", state)
        super().__init__(shape=shape)
        self._show(state)
        self.state = state
        beside = sum(len(data) for data in (self.seen, self.thumbnail))
        self.offer({f"page/{number}": page for number, page in enumerate(pages.pictures)}, beside)

    def _about(self, number: int) -> dict:
        """What the browser gets to know of a page: its questions, and things that it can point at."""
        known = self._known[number]
        things = [{"name": one.name, "box": one.boxes[0]} for one in known.values() if one.name]
        questions = [text for text, one in known.items() if not one.name]
        where = [text for text, one in known.items() if one.name]
        about = {"kind": self._pages.kinds[number], "size": list(self._pages.sizes[number])}
        return about | {"questions": questions, "where": where, "things": things}

    def change(self, **what: Any) -> None:
        """Set any of number (of the page), way, budget, question.

        Another page is asked the same if that is one of its own questions, and else its first one.

        Raises:
            ValueError: if there is nothing of this name, or no such value; what there is, is named.
        """
        names = ("number", "way", "budget", "question")
        if unknown := ", ".join(sorted(set(what) - {*names})):
            raise ValueError(f"there is no {unknown}; set number, way, budget or question")
        state = {**self.state, **what, "turn": self.state["turn"] + 1, "by": "python"}
        self.check("state", state)
        if state["number"] != self.state["number"] or "question" in what:
            state["point"] = None
        if state["number"] != self.state["number"] and "question" not in what:
            asked, known = self.answer["question"], self._known[state["number"]]
            state["question"] = asked if asked in known else next(iter(known))
        self.state = state

    def point(self, x: float, y: float) -> None:
        """Ask where the thing is that is nearest to a point of the page, in pixels.

        Raises:
            ValueError: if nothing on this page can be pointed at.
        """
        self._nearest(self.state["number"], (x, y))
        self.state = {**self.state, "point": [x, y], "turn": self.state["turn"] + 1, "by": "python"}

    def _nearest(self, number: int, point: tuple[float, float]) -> str:
        """The question for the place of the thing whose box is nearest; of equally near ones the first."""
        away = {}
        for text, one in self._known[number].items():
            if one.name:
                away[text] = _distance(point, one.boxes[0])
        if not away:
            raise ValueError(
                "nothing on this page has a name to point at; ask in words, or take another page"
            )
        return min(away, key=away.get)

    def _show(self, state: dict) -> None:
        number, way, budget = state["number"], state["way"], state["budget"]
        page, size = self._pages.pictures[number], self._pages.sizes[number]
        question = self._nearest(number, state["point"]) if state["point"] else state["question"].strip()
        if not question:
            raise ValueError("the question is empty; choose one or type one")
        start = time.perf_counter()
        frame, thumbnail, looks = self._look(page, way, budget)
        text, chance = self._answer_to(page, question, way, budget)
        took = time.perf_counter() - start
        if not 0 <= chance <= 1.001:
            raise ValueError(f"answer returned {chance!r:.80} beside a text; expected a probability, 0 to 1")
        answer = {name: state[name] for name in ("by", "turn", "number", "way", "budget")} | {"error": ""}
        answer |= looks | {"question": question, "answer": str(text), "p": float(chance)}
        answer |= _judged(self._known[number].get(question), str(text), size)
        answer["shown"] = _in_frame(answer["boxes"], size, looks, frame)
        with self.hold_sync():  # picture and answer change together
            self.seen, self.thumbnail = frame.tobytes(), thumbnail.tobytes()
            self.answer = answer | {"milliseconds": round(1000 * took)}

    def _look(self, page: np.ndarray, way: str, budget: int) -> tuple[np.ndarray, np.ndarray, dict]:
        """What the model sees: one picture, a thumbnail before it or nothing, and what is known of both."""
        pieces, plan, square = self._see(page, way, budget)
        pieces, (rows, columns) = as_images(pieces), plan.grid
        tiles = rows * columns if rows * columns > 1 else 0
        if len(pieces) != 1 + tiles or pieces.shape[1] % square or pieces.shape[2] % square:
            raise ValueError(
                f"see returned pieces {pieces.shape} for a grid of {rows} × {columns}; expected {1 + tiles}, "
                f"the thumbnail first, of whole squares of {square} pixels"
            )
        frame, thumbnail = pieces[0], pieces[:0]
        if tiles:
            lines = pieces[1:].reshape(rows, columns, *pieces.shape[1:]).swapaxes(1, 2)
            frame, thumbnail = lines.reshape(rows * pieces.shape[1], columns * pieces.shape[2], 3), pieces[0]
        looks = {"grid": [rows, columns], "tokens": int(plan.tokens), "square": square}
        looks |= {"size": list(plan.size), "frame": list(frame.shape[:2]), "small": list(pieces.shape[1:3])}
        return frame, thumbnail, looks | {"left": _share_left(page.shape[:2], plan.size)}

    def static_figure(self) -> Still:
        """The page with what one must see, and the same page as the model sees it, with its tokens."""
        said = self.answer
        page, kind = self._pages.pictures[said["number"]], self._pages.kinds[said["number"]]
        frame = np.frombuffer(self.seen, np.uint8).reshape(*said["frame"], 3)
        drawing = new_figure(3.6)
        whole, seen = drawing.subplots(1, 2)
        for axes, picture in ((whole, page), (seen, frame)):
            height, width = picture.shape[:2]
            axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
            axes.axis("off")
        _frame_boxes(whole, said["told"], ACCENT, "-")
        _frame_boxes(whole, said["boxes"], INK, "--")  # dashes over a line: both are seen where they meet
        _frame_boxes(seen, said["shown"], INK, "--")
        _draw_lattice(seen, said)
        height, width = page.shape[:2]
        whole.set_title(f"the page: {height} × {width} pixels", fontsize=9)
        cost = f"{said['tokens']} tokens, {percent(said['left'])} of the pixels"
        seen.set_title(f"what the model sees, {PAGE_WAYS[said['way']]}:\n{cost}", fontsize=9)
        words = f"{said['answer'] or '–'} ({percent(said['p'])}){_verdict(said)}"
        colour = ACCENT if said["right"] is False else "black"
        title = textwrap.wrap(f"{said['question']}  {words}", 90)
        drawing.suptitle("\n".join(title), fontsize=10, color=colour)
        drawing.supxlabel("dashed: what one must see · solid: a box that the answer names", fontsize=9)
        alt = f"A page of {kind}, {height} × {width} pixels, seen {PAGE_WAYS[said['way']]} for {cost}; "
        alt += f"asked “{said['question']}” the model says “{said['answer']}”"
        return Still(drawing, alt + _verdict(said))

    def __repr__(self) -> str:
        return f"PageReader({len(self._pages)} pages)"


def _known_of(asked: list, size: tuple[int, int]) -> dict[str, _Known]:
    """By its words, every question of a page: its own, and the same asked for as a box."""
    from vlmcourse.world.pages import place_of_answer  # torch loads only where a model answers
    from vlmcourse.world.pointing import BOXED

    known = {}
    for question in asked:
        boxes = _plain_boxes(question.boxes)
        known[question.text] = _Known(question.answer, boxes, "")
        if placed := place_of_answer(question, size):
            name = placed[0].removeprefix("Where is ").removesuffix(f"?{BOXED}")
            known[placed[0]] = _Known(placed[1], boxes[:1], name)
    return known


def _distance(point: tuple[float, float], box: list[int]) -> float:
    """The square of how far a point lies from a box; 0 inside."""
    (x, y), (left, top, right, bottom) = point, box
    return max(left - x, x - right, 0) ** 2 + max(top - y, y - bottom, 0) ** 2


def _plain_boxes(boxes) -> list[list[int]]:
    return [[int(edge) for edge in box] for box in boxes]


def _judged(known: _Known | None, text: str, size: tuple[int, int]) -> dict:
    """The boxes that a text names, and whether it is right: a box if its IoU is FOUND at least.

    `right` and `iou` are None where nobody knows what is right, and where no place was asked for.
    """
    import torch

    from vlmcourse.data.coordinates import read_boxes
    from vlmcourse.evaluation.boxes import paired_iou

    told = read_boxes(text, size)
    said = {"told": told.tolist(), "truth": None, "right": None, "iou": None, "boxes": [], "name": ""}
    if known is None:
        return said
    said |= {"truth": known.answer, "boxes": known.boxes, "name": known.name}
    if not known.name:
        return said | {"right": same_words(text, known.answer)}
    first = told[:1] if len(told) else torch.zeros(1, 4)
    iou = paired_iou(first, torch.tensor(known.boxes).float()).item()
    return said | {"right": iou >= FOUND, "iou": iou}


def _in_frame(boxes: list, size: tuple[int, int], looks: dict, frame: np.ndarray) -> list[list[float]]:
    """Boxes of a page in pixels of what the model sees of it."""
    import torch

    from vlmcourse.data.coordinates import place_in_letterbox, place_in_squash, to_model

    place = place_in_squash if looks["grid"] == [1, 1] else place_in_letterbox
    found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return to_model(found, place(size, frame.shape[:2])).tolist()


def _share_left(size: tuple[int, int], seen: tuple[int, int]) -> float:
    """How many of a page's pixels are left at another size, 0 to 1; an edge that grows wins none."""
    (height, width), (rows, columns) = size, seen
    return min(rows, height) * min(columns, width) / (height * width)


def _verdict(said: dict) -> str:
    if said["right"] is None:
        return ""
    sign = "✓" if said["right"] else "✗"
    if said["iou"] is not None:
        return f" {sign} IoU {said['iou']:.2f}"
    return f" {sign}" if said["right"] else f" {sign} ({said['truth']})"


def _frame_boxes(axes, boxes: list, colour: str, line: str) -> None:
    from matplotlib.patches import Rectangle

    for left, top, right, bottom in boxes:
        corner, sides = (left - 1, top - 1), (right - left + 2, bottom - top + 2)
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colour, linestyle=line, linewidth=1.5))


def _draw_lattice(axes, said: dict) -> None:
    """Where one token ends and the next begins, and with thick lines where one tile does."""
    (height, width), (rows, columns) = said["frame"], said["grid"]
    for step in range(0, width + 1, said["square"]):
        axes.plot([step, step], [0, height], color=IMAGE, linewidth=0.6)
    for step in range(0, height + 1, said["square"]):
        axes.plot([0, width], [step, step], color=IMAGE, linewidth=0.6)
    if rows * columns > 1:
        for step in np.linspace(0, width, columns + 1):
            axes.plot([step, step], [0, height], color=IMAGE, linewidth=2.5)
        for step in np.linspace(0, height, rows + 1):
            axes.plot([0, width], [step, step], color=IMAGE, linewidth=2.5)
