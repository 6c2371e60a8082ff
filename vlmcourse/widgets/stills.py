"""Still figures: what a widget leaves behind where no kernel answers, drawn with matplotlib."""

import base64
import io

import numpy as np

IMAGE, TEXT, ACCENT, MASKED, INK, GOOD = "#E69F00", "#0072B2", "#D55E00", "#9aa5b1", "#1f2933", "#5B8C7B"
CONTROL, FIRST, SECOND = "#7b8794", "#AA4499", "#1B9AAA"
"""The course's colours; what each of them means stands in workbook/figures.py, at `roles`."""
COVER = 0.45  # how much of its picture a map covers where one does not choose; maps.js has the same


def cividis() -> np.ndarray:
    """Colour table (256, 3), uint8: dark blue to yellow, evenly lighter for every kind of colour vision.

    Source: Nuñez, Anderton, Renslow 2018, PLoS ONE 13(7), as matplotlib has it.
    """
    from matplotlib import colormaps

    return (colormaps["cividis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def tint(fractions: np.ndarray) -> np.ndarray:
    """The colours (..., 3), 0 to 1, of fractions (...) of the scale; beyond an end, its colour."""
    codes = np.rint(np.clip(fractions, 0, 1) * 255).astype(int)
    return cividis()[codes] / 255


def new_figure(height: float):
    """An empty matplotlib figure, as wide as a notebook's text and `height` inches high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(7, height), layout="constrained")


def open_corner(axes) -> None:
    """Leave away the frame of matplotlib's axes above and to the right."""
    axes.spines[["top", "right"]].set_visible(False)


def take_as_written(figure) -> None:
    """Let dollars open no formula in any text of the figure; a log axis keeps its powers of ten."""
    from matplotlib.text import Text

    axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    powers = [label for axis in axes if axis.get_scale() == "log" for label in axis.get_ticklabels()]
    for text in set(figure.findobj(Text)) - set(powers):
        text.set_parse_math(False)


class Still:
    """A PNG with its description, shown as one output; `figure` is what it was drawn from."""

    def __init__(self, figure, alt: str):
        """Draws a matplotlib `figure` at twice its shown size, for sharp screens."""
        take_as_written(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=192, facecolor="white")
        self.data, self.alt, self.figure = buffer.getvalue(), alt, figure
        self.width = round(figure.get_figwidth() * 96)

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_):
        # JupyterLab turns "unconfined" into a class name on the picture; widgets.css finds stills by it.
        metadata = {"width": self.width, "alt": self.alt, "unconfined": True}
        data = {"image/png": base64.b64encode(self.data).decode(), "text/plain": self.alt}
        return data, {"image/png": metadata}


def overlay(axes, image: np.ndarray, values: np.ndarray, alpha=COVER, low=0.0, high: float | None = None):
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
    return axes.imshow(values, alpha=alpha, vmin=low, vmax=high, cmap="cividis", **frame)


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
