"""Token Lens: the words that stand nearest to every image token, laid over the image.

It takes words and scores as arrays and knows no model; diagnostics/lens.py computes them.  Cells count row by
row, as image tokens do.  All moments share one scale of colours, so that they compare.
"""

import math
import textwrap

import numpy as np
import traitlets

from vlmcourse.widgets.base import as_array, as_images, not_empty, one_name_each, script, shrink, visible
from vlmcourse.widgets.maps import MapWidget
from vlmcourse.widgets.stills import INK, Still, new_figure, open_corner, outline, overlay, scale_bar, tint

SIDE_UNDER_WORDS = 256
MOST_WORDS = 50_000


class TokenLens(MapWidget):
    """What would each image token be called?  The k nearest words of every cell, at one or two moments.

    A moment is a stage of training or a layer of the language model.

        near = [nearest_words(tokens, table, names) for tokens in (before, after)]
        TokenLens(image, [n.words for n in near], [n.scores for n in near], moments=["before", "after"])

    Args:
        image: uint8, (height, width, 3).
        words: texts, best first, (cell, k) or (moment, cell, k).
        scores: likewise; array, tensor, or a list of them.
        grid: (rows, columns) of image tokens; a square when not given.
        moments: one name per moment; opens with the first and the last side by side.
        measure: what the scores are, such as "cosine" or "probability".

    `view` holds what is shown: cell, and the moments left and right, which may be None for one picture alone.
    """

    _esm = script("maps.js", "lens.js")
    words = traitlets.List(help="(moment, cell, k), one after another").tag(sync=True)

    def __init__(self, image, words, scores, *, grid=None, moments=None, measure="cosine"):
        pictures = as_images(image)
        if len(pictures) != 1:
            many = len(pictures)
            raise ValueError(f"image must be one picture (height, width, 3), got {many}; pass image[0]")
        self._image = shrink(pictures[0], SIDE_UNDER_WORDS)
        self._words, self._scores = in_order(words, scores)
        count, cells, k = self._scores.shape
        rows, columns = [math.isqrt(cells)] * 2 if grid is None else map(int, grid)
        if rows * columns != cells:
            raise ValueError(f"{cells} cells do not fill a grid of {rows} × {columns}; pass (rows, columns)")
        if self._scores.size > MOST_WORDS:
            raise ValueError(
                f"{count} moments · {cells} cells · {k} words; at most {MOST_WORDS:,} are shown, so pass "
                "fewer moments or words"
            )
        middle = rows // 2 * columns + columns // 2
        view = {"cell": middle, "left": 0, "right": count - 1 if count > 1 else None}
        best = self._scores[..., 0]
        shape = {"size": list(self._image.shape[:2]), "rows": rows, "columns": columns, "k": k}
        shape |= {"moments": one_name_each(moments, "moment", count), "measure": measure}
        shape |= {"low": min(0.0, float(best.min())), "high": max(float(best.max()), 1e-9)}
        rules = {"cell": range(cells), "left": range(count), "right": (range(count), None)}
        self.allowed = {"view": rules}
        super().__init__(words=list(self._words.ravel()), view=view, shape=shape)
        self.offer({"image": self._image, "scores": self._scores.astype("<f4")})

    def static_figure(self) -> Still:
        """The moments shown now with the list of the chosen cell."""
        view = self.view
        shown = [moment for moment in (view["left"], view["right"]) if moment is not None]
        drawing = new_figure(3.4 if len(shown) == 1 else 4.6)
        if len(shown) == 1:
            axes = drawing.subplots(1, 2).reshape(2, 1)  # the map, and its list to the right
        else:
            axes = drawing.subplots(2, 2, height_ratios=[3, 1.2])  # two maps, and their lists below
        for place, moment in enumerate(shown):
            drawn = self._draw_map(axes[0, place], moment, view["cell"])
            self._draw_list(axes[1, place], moment, view["cell"])
        scale_bar(drawn, axes[0], f"{self.shape['measure']} of the nearest word")
        row, column = divmod(view["cell"], self.shape["columns"])
        words, scores = self._words[:, view["cell"], 0], self._scores[:, view["cell"], 0]
        best = [f"“{words[m]}” {scores[m]:.3f} ({self.shape['moments'][m]})" for m in shown]
        alt = f"Nearest words of the image token at row {row}, column {column}: {' and '.join(best)}"
        drawing.suptitle(textwrap.fill(alt, 95), fontsize=9)
        return Still(drawing, alt)

    def _draw_map(self, axes, moment: int, cell: int):
        rows, columns = grid = self.shape["rows"], self.shape["columns"]
        best = self._scores[moment, :, 0].reshape(grid)
        drawn = overlay(axes, self._image, best, low=self.shape["low"], high=self.shape["high"])
        down, across = self._image.shape[0] / rows, self._image.shape[1] / columns
        box = {"boxstyle": "square,pad=0.15", "fc": INK, "ec": "none", "alpha": 0.75}
        if columns <= 10:
            for place, (word, *_) in enumerate(self._words[moment]):
                size = max(3.5, min(8, 110 / columns / max(4, len(word)) * 1.6))
                x, y = (place % columns + 0.5) * across, (place // columns + 0.5) * down
                text = axes.text(x, y, word, fontsize=size, color="white", ha="center", va="center")
                text.set(bbox=box)
        outline(axes, cell, grid, self._image)
        axes.set_title(self.shape["moments"][moment], fontsize=9)
        return drawn

    def _draw_list(self, axes, moment: int, cell: int) -> None:
        scores, words = self._scores[moment, cell], self._words[moment][cell]
        part = (scores - self.shape["low"]) / (self.shape["high"] - self.shape["low"])
        axes.barh(range(len(words)), scores, color=tint(part))
        axes.set(ylim=(len(words) - 0.5, -0.5), xlim=(self.shape["low"], self.shape["high"]))
        axes.set_yticks(range(len(words)), words, fontsize=9)
        axes.tick_params(axis="x", labelsize=9)
        axes.set_xlabel(self.shape["measure"], fontsize=9)
        open_corner(axes)

    def __repr__(self) -> str:
        rows, columns, k = (self.shape[name] for name in ("rows", "columns", "k"))
        return f"TokenLens({rows}×{columns} image tokens, {k} words, {len(self.shape['moments'])} moments)"


def in_order(words, scores) -> tuple[np.ndarray, np.ndarray]:
    """Words and scores as (moment, cell, k); ValueError if they do not fit together or are not in order."""
    several = isinstance(scores, list | tuple)
    scores = np.stack([as_array(moment) for moment in scores]) if several else as_array(scores)
    scores = not_empty("scores", scores).astype(np.float32)
    words = np.array(words, dtype=object)
    if words.shape != scores.shape or scores.ndim not in (2, 3):
        raise ValueError(
            f"words {words.shape} and scores {scores.shape} must both be (cell, k) or (moment, cell, k), "
            "with as many words for every cell"
        )
    if not np.isfinite(scores).all() or (np.diff(scores) > 1e-6).any():
        raise ValueError("scores must be finite and best first along their last axis, as of nearest_words")
    words = np.vectorize(lambda word: visible(str(word)), otypes=[object])(words)
    return (words, scores) if scores.ndim == 3 else (words[None], scores[None])
