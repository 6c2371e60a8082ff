"""Token Lens: the words that stand nearest to every image token, laid over the image.

It takes words and scores as arrays and knows no model; diagnostics/lens.py computes them.  Cells count row by
row from 0, as image tokens do.  All moments share one scale of colours, so that they compare; the scale
states its ends.
"""

import math

import numpy as np
import traitlets

from vlmcourse.widgets.base import (
    ACCENT,
    INK,
    Still,
    Widget,
    as_array,
    as_images,
    cividis,
    script,
    shrink,
    visible,
)

LARGEST_SIDE = 256
MOST_WORDS = 50_000


class TokenLens(Widget):
    """What would each image token be called?  The k nearest words of every cell, at one moment or at two side by side.

    A moment is a stage of training or a layer of the language model.  Click a cell, or walk with the arrow
    keys, to see its list.

        near = [nearest_words(tokens, table, names) for tokens in (before, after)]
        TokenLens(image, [n.words for n in near], [n.scores for n in near], moments=["before", "after"])

    Args:
        image: uint8, (height, width, 3).
        words: texts, best first, (cell, k) or (moment, cell, k).
        scores: likewise; array, tensor, or a list of them.
        grid: (rows, columns) of image tokens; a square when not given.
        moments: one name per moment; opens with the first and the last side by side.
        measure: what the scores are, such as "cosine" or "probability".
        view: where to open, any of cell, left, right: indices; right may be None for one picture alone.

    Raises:
        ValueError: naming what does not fit, the numbers, and what to do.
    """

    _esm = script("maps.js", "lens.js")
    shape = traitlets.Dict().tag(sync=True)
    words = traitlets.List(help="(moment, cell, k), one after another").tag(sync=True)
    view = traitlets.Dict(help="what is shown now: cell, left, right").tag(sync=True)
    colours = traitlets.Bytes(cividis().tobytes()).tag(sync=True)

    def __init__(
        self,
        image,
        words,
        scores,
        *,
        grid=None,
        moments=None,
        measure: str = "cosine",
        view: dict | None = None,
    ):
        pictures = as_images(image)
        if len(pictures) != 1:
            raise ValueError(
                f"image must be one picture (height, width, 3), got {len(pictures)}; pass image[0]"
            )
        self._image = shrink(pictures[0], LARGEST_SIDE)
        words, scores = named(words, scores)
        count, cells, k = scores.shape
        side = math.isqrt(cells)
        rows, columns = (side, side) if grid is None else map(int, grid)
        if rows * columns != cells:
            raise ValueError(
                f"{cells} cells do not fill a grid of {rows} × {columns}; pass grid=(rows, columns)"
            )
        if scores.size > MOST_WORDS:
            raise ValueError(
                f"{count} moments · {cells} cells · {k} words; at most {MOST_WORDS:,} are shown, so pass "
                "fewer moments or words"
            )
        moments = (
            [f"moment {i}" for i in range(count)] if moments is None else [str(moment) for moment in moments]
        )
        if len(moments) != count:
            raise ValueError(f"{len(moments)} names for {count} moments; pass one per moment")
        self._scores = scores
        best = scores[..., 0]
        start = {
            "cell": rows // 2 * columns + columns // 2,
            "left": 0,
            "right": count - 1 if count > 1 else None,
            **(view or {}),
        }
        super().__init__(
            words=list(words.ravel()),
            view=start,
            shape={
                "size": list(self._image.shape[:2]),
                "rows": rows,
                "columns": columns,
                "k": k,
                "moments": moments,
                "measure": measure,
                "low": min(0.0, float(best.min())),
                "high": max(float(best.max()), 1e-9),
            },
        )
        self._words = words
        for name, value in start.items():
            size = cells if name == "cell" else count
            if not (name == "right" and value is None) and not 0 <= value < size:
                raise ValueError(
                    f"view has {name}={value!r}, expected 0..{size - 1}{' or None' * (name == 'right')}"
                )
        self.preload(["image", "scores"])

    def blob(self, name: str) -> bytes:
        """image: uint8 (height, width, 3).  scores: float32 (moment, cell, k)."""
        return {"image": self._image, "scores": self._scores.astype("<f4")}[name].tobytes()

    def static_figure(self, **view) -> Still:
        """The moments shown now with the list of the chosen cell, as a picture; `view` overrides cell, left, right."""
        from matplotlib.figure import Figure

        view = {**self.view, **view}
        shown = [moment for moment in (view["left"], view["right"]) if moment is not None]
        figure = Figure(figsize=(7, 4.6 if len(shown) > 1 else 3.4), layout="constrained")
        wide = len(shown) == 1
        axes = figure.subplots(1, 2) if wide else figure.subplots(2, 2, height_ratios=[3, 1.2])
        axes = np.reshape(axes, (1, 2)).T if wide else axes
        for place, moment in enumerate(shown):
            drawn = self._draw_map(axes[0, place], moment, view["cell"])
            self._draw_list(axes[1, place], moment, view["cell"])
        figure.colorbar(
            drawn,
            ax=axes[0, :].tolist(),
            label=f"{self.shape['measure']} of the nearest word",
            fraction=0.046,
        ).solids.set_alpha(1)
        row, column = divmod(view["cell"], self.shape["columns"])
        best = " and ".join(
            f"“{self._words[m][view['cell'], 0]}” {self._scores[m, view['cell'], 0]:.3f} "
            f"({self.shape['moments'][m]})"
            for m in shown
        )
        alt = f"Nearest words of the image token at row {row}, column {column}: {best}"
        figure.suptitle(alt, fontsize=8, parse_math=False)
        return Still(figure, alt)

    def _draw_map(self, axes, moment: int, cell: int):
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Rectangle

        rows, columns, (height, width) = self.shape["rows"], self.shape["columns"], self._image.shape[:2]
        frame = {"extent": (0, width, height, 0), "interpolation": "nearest"}
        axes.imshow(self._image @ [0.299, 0.587, 0.114], cmap="gray", vmin=0, vmax=255, **frame)
        drawn = axes.imshow(
            self._scores[moment, :, 0].reshape(rows, columns),
            alpha=0.5,
            vmin=self.shape["low"],
            vmax=self.shape["high"],
            cmap=ListedColormap(cividis() / 255),
            **frame,
        )
        down, across = height / rows, width / columns
        if columns <= 10:
            for place, (word, *_) in enumerate(self._words[moment]):
                size = max(3.5, min(8, 110 / columns / max(4, len(word)) * 1.6))
                axes.text(
                    (place % columns + 0.5) * across,
                    (place // columns + 0.5) * down,
                    word,
                    fontsize=size,
                    ha="center",
                    va="center",
                    color="white",
                    parse_math=False,
                    bbox={"boxstyle": "square,pad=0.15", "fc": INK, "ec": "none", "alpha": 0.75},
                )
        corner = (cell % columns * across, cell // columns * down)
        axes.add_patch(Rectangle(corner, across, down, fill=False, ec=ACCENT, lw=2))
        axes.set_title(self.shape["moments"][moment], fontsize=9, parse_math=False)
        axes.axis("off")
        return drawn

    def _draw_list(self, axes, moment: int, cell: int) -> None:
        scores, words = self._scores[moment, cell], self._words[moment][cell]
        part = (scores - self.shape["low"]) / (self.shape["high"] - self.shape["low"])
        axes.barh(
            range(len(words)), scores, color=cividis()[np.rint(part.clip(0, 1) * 255).astype(int)] / 255
        )
        axes.set(ylim=(len(words) - 0.5, -0.5), xlim=(self.shape["low"], self.shape["high"]))
        axes.set_yticks(range(len(words)), words, fontsize=8, parse_math=False)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_xlabel(self.shape["measure"], fontsize=8, parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)

    def __repr__(self) -> str:
        rows, columns, k = (self.shape[name] for name in ("rows", "columns", "k"))
        return f"TokenLens({rows}×{columns} image tokens, {k} words, {len(self.shape['moments'])} moments)"


def named(words, scores) -> tuple[np.ndarray, np.ndarray]:
    """Words and scores as (moment, cell, k); ValueError if they do not belong together or are not in order."""
    scores = (
        np.stack([as_array(each) for each in scores])
        if isinstance(scores, list | tuple)
        else as_array(scores)
    )
    words, scores = np.array(words, dtype=object), scores.astype(np.float32)
    if words.shape != scores.shape or scores.ndim not in (2, 3):
        raise ValueError(
            f"words {words.shape} and scores {scores.shape} must both be (cell, k) or (moment, cell, k), "
            "with as many words for every cell"
        )
    if not np.isfinite(scores).all() or (np.diff(scores) > 1e-6).any():
        raise ValueError(
            "scores must be finite and best first along their last axis, as nearest_words gives them"
        )
    words = np.vectorize(lambda word: visible(str(word)), otypes=[object])(words)
    return (words, scores) if scores.ndim == 3 else (words[None], scores[None])
