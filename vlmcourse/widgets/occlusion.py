"""Live Occlusion: cover patches of a picture with paper, and the answers move at once.

The widget knows no model: it calls the functions it was given, in the kernel (diagnostics/occlusion.py,
rivals_for, makes them of a speaker).  Who does what: the browser covers patches and draws them at once, and
sends the newest state, one request at a time.  The kernel covers the same patches and asks how likely each
answer is now; what can be known of a question once, its answers and their tokens, is kept.

The answers are the likeliest ones about the uncovered picture; all other texts together are one more bar.
"""

import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import traitlets

from vlmcourse.widgets.base import AskedWidget, UpTo, as_array, as_images, not_empty, same_words, script
from vlmcourse.widgets.maps import MapWidget
from vlmcourse.widgets.playground import percent
from vlmcourse.widgets.stills import ACCENT, CONTROL, TEXT, Still, new_figure, open_corner

ELSE = "anything else"
KEPT = 16  # questions whose answers are remembered


@dataclass
class _Known:
    """What is known of a question, whatever is covered."""

    answers: list[str]
    chances: Callable
    before: np.ndarray  # (answer,): how likely each is about the uncovered picture
    fall: np.ndarray | None = None  # (patch,)


class LiveOcclusion(AskedWidget, MapWidget):
    """What if this part of the picture were not there?  Cover it, and see how likely each answer is.

    `board.change(covered=[9, 10])` does from Python what a click does; patches count row by row from 0.
    `board.state` holds what is set, `board.answer` what came of it.

        LiveOcclusion(rivals_for(speaker), image, [question.text], boxes=[question.boxes])

    Args:
        rivals: takes the picture and a question; returns (answers, chances): texts, the likeliest first, and
            a function of pictures (image, height, width, 3) that returns how likely each answer is about each
            of them, (image, answer), 0 to 1; a row sums to at most 1.
        image: uint8, (height, width, 3).
        questions: texts to choose from, the first is asked first; others can be typed.
        boxes: for each question the boxes of its evidence, (left, top, right, bottom) in pixels, right and
            bottom exclusive.
        right: for each question its right answer.
        side: of a patch, in pixels.

    Raises:
        ValueError: if patches do not tile the picture, or there are not as many boxes or right answers as
            questions, or `chances` returns anything else.
        Exception: whatever the functions raise for the first question; later, the message is shown in one
            line and the last answer stays.
    """

    _esm = script("maps.js", "occlusion.js")
    fall = traitlets.Bytes(help="float32 (patch,): by how much the likeliest answer falls").tag(sync=True)

    def __init__(self, rivals, image, questions, *, boxes=None, right=None, side: int = 8):
        pictures = as_images(image)
        if len(pictures) != 1:
            raise ValueError(
                f"image must be one picture (height, width, 3), got {len(pictures)}; pass image[0]"
            )
        self._image, self._side, self._rivals, self._known = pictures[0], int(side), rivals, {}
        height, width = self._image.shape[:2]
        if side < 1 or height % side or width % side:
            raise ValueError(f"patches of {side} pixels do not tile a picture of {height} × {width}")
        self._grid = (height // side, width // side)
        questions = [str(text) for text in questions]
        not_empty("questions", np.array(questions))
        self._evidence = dict(zip(questions, self._boxes(boxes, questions), strict=True))
        self._right = dict(zip(questions, _one_each("right answer", right, questions), strict=True))
        cells = self._grid[0] * self._grid[1]
        rules = {"turn": int, "by": str, "question": str, "covered": UpTo(cells, range(cells)), "map": bool}
        self.allowed = {"state": rules}
        from vlmcourse.diagnostics.swaps import paper_of  # torch loads only where a model answers

        self._paper = paper_of(self._image)
        shape = {"size": [height, width], "grid": list(self._grid), "paper": self._paper.tolist()}
        listed = [self._about(text) for text in questions]
        super().__init__(shape={**shape, "questions": listed, "else": ELSE})
        state = {"turn": 0, "by": "python", "question": questions[0], "covered": [], "map": False}
        self._show(state)
        self.state = state
        self.offer({"image": self._image})

    def _boxes(self, boxes, questions: list[str]) -> list[list]:
        (height, width), all_boxes = self._image.shape[:2], _one_each("list of boxes", boxes, questions)
        for box in (box for some in all_boxes for box in some or []):
            left, top, right, bottom = box
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                raise ValueError(
                    f"box {tuple(box)} is no (left, top, right, bottom) in {width} × {height} pixels"
                )
        return [[[int(edge) for edge in box] for box in some or []] for some in all_boxes]

    def _about(self, question: str) -> dict:
        boxes = self._evidence[question]
        return {"text": question, "boxes": boxes, "evidence": self._patches_of(boxes)}

    def _patches_of(self, boxes: list) -> list[int]:
        """Numbers of the patches that boxes touch."""
        from vlmcourse.diagnostics.occlusion import covered

        inside = np.zeros(self._grid, bool)
        for box in boxes:
            inside |= covered(tuple(box), self._side, self._grid).numpy()
        return np.flatnonzero(inside).tolist()

    def change(self, **what) -> None:
        """Set any of question, covered (numbers of patches), map (whether it is shown).

        Raises:
            ValueError: if there is nothing of this name, or no such patch.
        """
        if unknown := ", ".join(sorted(set(what) - {"question", "covered", "map"})):
            raise ValueError(f"there is no {unknown}; set question, covered or map")
        if "covered" in what:
            what["covered"] = sorted({int(patch) for patch in what["covered"]})
        self.state = {**self.state, **what, "turn": self.state["turn"] + 1, "by": "python"}

    def covering(self, patches) -> np.ndarray:
        """The picture (height, width, 3) with patches of these numbers covered, as the model gets it."""
        side, picture = self._side, self._image.copy()
        for patch in patches:
            row, column = divmod(patch, self._grid[1])
            picture[row * side : (row + 1) * side, column * side : (column + 1) * side] = self._paper
        return picture

    def _asked(self, question: str) -> _Known:
        """What is known of a question; the model is asked once."""
        if question not in self._known:
            answers, chances = self._rivals(self._image, question)
            known = _Known([str(text) for text in answers], chances, np.zeros(0))
            known.before = self._likely(known, [[]])[0]
            while len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[question] = known
        return self._known[question]

    def _likely(self, known: _Known, coverings: list[list[int]]) -> np.ndarray:
        """How likely each answer is under each covering, (covering, answer)."""
        found = as_array(known.chances(np.stack([self.covering(patches) for patches in coverings])))
        check_chances(found, (len(coverings), len(known.answers)))
        return found.astype(float)

    def _fall(self, known: _Known) -> np.ndarray:
        """By how much the likeliest answer falls where each patch alone is covered, (patch,)."""
        if known.fall is None:
            cells = self._grid[0] * self._grid[1]
            alone = self._likely(known, [[patch] for patch in range(cells)])
            known.fall = known.before[0] - alone[:, 0]
        return known.fall.astype("<f4")

    def _show(self, state: dict) -> None:
        question = state["question"]
        if not question.strip():
            raise ValueError("the question is empty; choose one or type one")
        start = time.perf_counter()
        known = self._asked(question)
        (now,) = self._likely(known, [state["covered"]]) if state["covered"] else [known.before]
        fall = self._fall(known) if state["map"] else np.zeros(0, "<f4")
        took, right = time.perf_counter() - start, self._right.get(question) or ELSE
        rows = []
        for text, p, before in zip(
            with_rest(known.answers), rest_of(now), rest_of(known.before), strict=True
        ):
            rows.append(
                {
                    "text": text,
                    "p": p,
                    "before": before,
                    "right": text is not ELSE and same_words(text, right),
                }
            )
        answer = {name: state[name] for name in ("by", "turn", "question")} | {"error": "", "rows": rows}
        with self.hold_sync():  # bars and map change together
            self.fall, self.answer = fall.tobytes(), answer | {"milliseconds": round(1000 * took)}

    def static_figure(self) -> Still:
        """The picture and the answers in three states: as it is, without the evidence, with nothing else.

        Where no evidence is known the last two are what is covered now, and everything covered.
        """
        question, cells = self.answer["question"], self._grid[0] * self._grid[1]
        evidence = self._patches_of(self._evidence.get(question, []))
        others = [patch for patch in range(cells) if patch not in evidence]
        states = {"nothing covered": [], "the evidence covered": evidence, "all but the evidence": others}
        if not evidence:
            now = self.state["covered"]
            states = {"nothing covered": [], f"{len(now)} patches covered": now, "all covered": others}
        known = self._asked(question)
        chances = self._likely(known, list(states.values()))
        drawing = new_figure(4.0)
        axes = drawing.subplots(2, 3, height_ratios=(1.5, 1))
        frame = {"extent": (0, self._image.shape[1], self._image.shape[0], 0), "interpolation": "nearest"}
        for place, (name, patches) in enumerate(states.items()):
            axes[0, place].imshow(self.covering(patches), **frame)
            axes[0, place].set_title(name, fontsize=9)
            axes[0, place].set(xticks=[], yticks=[])
            _draw_bars(axes[1, place], known.answers, chances[place], named=place == 0)
        drawing.suptitle(question, fontsize=10)
        rows = zip(states, chances, strict=True)
        said = "; ".join(f"{name}: {_likeliest(known.answers, row)}" for name, row in rows)
        return Still(drawing, f"A picture and the answers to “{question}”. {said}")

    def __repr__(self) -> str:
        rows, columns = self._grid
        return f"LiveOcclusion({len(self._evidence)} questions, {rows}×{columns} patches)"


def _one_each(thing: str, values, questions: list[str]) -> list:
    if values is None:
        return [None] * len(questions)
    if len(values) != len(questions):
        raise ValueError(f"{len(values)} times {thing} for {len(questions)} questions; pass one per question")
    return list(values)


def check_chances(found: np.ndarray, shape: tuple[int, int]) -> None:
    """ValueError unless these are probabilities (image, answer), of which no row sums to more than 1."""
    good = found.shape == shape and bool(np.isfinite(found).all())
    if not good or found.min() < 0 or found.sum(axis=1).max() > 1.01:
        raise ValueError(
            f"chances returned {found.shape}; expected {shape} probabilities, (image, answer), of which a "
            "row sums to at most 1"
        )


def with_rest(answers: list[str]) -> list[str]:
    """The answers, and what stands for all other texts."""
    return [*answers, ELSE]


def rest_of(chances: np.ndarray) -> list[float]:
    """Probabilities of the answers, and what they lack to 1."""
    return [*map(float, chances), max(0.0, 1 - float(chances.sum()))]


def _likeliest(answers: list[str], chances: np.ndarray) -> str:
    """The likeliest answer with its probability, in words."""
    values = rest_of(chances)
    best = int(np.argmax(values))
    return f"{with_rest(answers)[best]} {percent(values[best])}"


def _draw_bars(axes, answers: list[str], chances: np.ndarray, *, named: bool) -> None:
    """Bars of the answers, the likeliest about the uncovered picture on top; another likeliest stands out."""
    values, names = rest_of(chances), with_rest(answers)
    places, colours = range(len(values))[::-1], [*[TEXT] * len(answers), CONTROL]
    if best := int(np.argmax(values)):
        colours[best] = ACCENT
    axes.barh(places, values, color=colours)
    names = [textwrap.shorten(name, 22, placeholder="…") for name in names]
    axes.set_yticks(places, names if named else [""] * len(names), fontsize=9)
    for place, value in zip(places, values, strict=True):
        axes.text(value + 0.02, place, percent(value), va="center", fontsize=9)
    axes.set(xlim=(0, 1.4), xticks=[])
    open_corner(axes)
    axes.spines["bottom"].set_visible(False)
