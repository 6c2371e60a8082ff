"""What the widgets that show weights as colours share: codes, checks, colours, and a picture under a map.

quantise      weights as one byte each, and the largest of every row
check_rows    refuses what is no distribution
MapWidget     a widget that brings the colour table along
overlay       a grey picture under the colours of a map, in a still figure
"""

import numpy as np
import traitlets

from vlmcourse.widgets.base import ACCENT, Widget


def cividis() -> np.ndarray:
    """Colour table (256, 3), uint8: dark blue to yellow, evenly lighter for every kind of colour vision.

    Nine support points of cividis (Nuñez, Anderton, Renslow 2018, PLoS ONE 13(7)), linear in between.
    """
    points = np.array([
        (0, 34, 78), (26, 56, 111), (67, 78, 108), (97, 101, 111), (125, 124, 120),
        (154, 147, 118), (187, 173, 109), (221, 200, 88), (254, 232, 56),
    ])  # fmt: skip
    support = np.linspace(0, 255, len(points))
    channels = [np.interp(np.arange(256), support, channel) for channel in points.T]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def colour_map():
    """The colour table for matplotlib."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(cividis() / 255)


def tint(fractions: np.ndarray) -> np.ndarray:
    """The colours (..., 3), 0 to 1, of fractions (...) of the scale; beyond an end, its colour."""
    codes = np.rint(np.clip(fractions, 0, 1) * 255).astype(int)
    return cividis()[codes] / 255


def quantise(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of weights (..., key), none negative, as bytes, and the largest weight of each row (...), float32.

    weight = code · largest / 255, off by at most largest / 510.
    """
    largest = weights.max(axis=-1).astype(np.float32)
    scale = np.where(largest > 0, largest, 1)[..., None]
    return np.rint(weights / scale * 255).astype(np.uint8), largest


def check_rows(name: str, rows: np.ndarray) -> None:
    """ValueError unless every row (..., key) is a distribution: finite, not negative, its sum 1 (± 0.01)."""
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} holds NaN or infinity; was a softmax taken over a row masked everywhere?")
    if rows.min() < 0:
        raise ValueError(f"{name} holds {rows.min():.3g}; pass weights after the softmax, not scores")
    sums = rows.sum(axis=-1)
    worst = sums.flat[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > 0.01:
        raise ValueError(
            f"every row of {name} must sum to 1 over its keys (the last axis), one sums to {worst:.4g}; "
            "is the softmax over another axis, or was dropout still on? Call model.eval() first"
        )


class MapWidget(Widget):
    """A widget that shows weights as colours; the browser gets the colour table with it."""

    colours = traitlets.Bytes(cividis().tobytes()).tag(sync=True)


def overlay(
    axes, image: np.ndarray, values: np.ndarray, alpha: float, low: float = 0.0, high: float | None = None
):
    """Draw `values` (row, column) as colours over the picture (height, width, 3), which turns grey.

    Grey lets no colour of the picture pass for a colour of the map.  The scale ends at the largest value if
    `high` is not given.  Returns what `scale_bar` is made from.
    """
    from PIL import Image

    height, width = image.shape[:2]
    frame = {"extent": (0, width, height, 0), "interpolation": "nearest"}
    grey = np.asarray(Image.fromarray(image).convert("L"))
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, **frame)
    axes.axis("off")
    return axes.imshow(values, alpha=alpha, vmin=low, vmax=high, cmap=colour_map(), **frame)


def scale_bar(drawn, axes, label: str = ""):
    """The colour bar beside one or more axes with a map that `overlay` has drawn, in its full colours."""
    axes = np.atleast_1d(axes)
    bar = axes[0].figure.colorbar(drawn, ax=axes.tolist(), label=label, fraction=0.046)
    bar.solids.set_alpha(1)
    return bar


def outline(axes, cell: int, grid: tuple[int, int], image: np.ndarray) -> None:
    """Frame one cell of the grid (rows, columns) that lies over the picture."""
    from matplotlib.patches import Rectangle

    (row, column), (height, width) = divmod(cell, grid[1]), image.shape[:2]
    down, across = height / grid[0], width / grid[1]
    corner = (column * across, row * down)
    axes.add_patch(Rectangle(corner, across, down, fill=False, edgecolor=ACCENT, linewidth=2))
