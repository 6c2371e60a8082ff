"""Live Plot: curves that grow while a model trains, without flicker and without slowing it."""

import math
import time

import numpy as np
import traitlets
from IPython.display import display

from vlmcourse.widgets.base import Widget, script, under_ci
from vlmcourse.widgets.stills import TEXT, Still, new_figure, open_corner

MOST_STEPS = 2_000
SECONDS = 0.1


class LivePlot(Widget):
    """Curves over training steps, one panel beside the other.

        with LivePlot("ViT on digits", series=("loss", "accuracy")) as plot:
            for step in range(1000):
                ...
                plot.add(step, loss=loss, accuracy=accuracy)

    Entering shows the plot, leaving it writes the picture.  At most ten messages a second go to the browser,
    each with at most 2,000 steps, evenly thinned; the numbers kept in Python stay whole.

    Args:
        title: plain text above the panels.
        series: one name per panel, the keywords of `add`; underscores are shown as spaces.
    """

    _esm = script("plot.js")
    title = traitlets.Unicode().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    points = traitlets.Bytes(help="float32 (point, 1 + series): step, then values or NaN").tag(sync=True)

    def __init__(self, title: str, series=("loss",)):
        if not 0 < len(series) == len(set(series)):
            raise ValueError(f"series must be different names, got {series!r}")
        self._rows: list[list[float]] = []
        self._sent = -math.inf
        super().__init__(title=title, names=list(series))

    @property
    def history(self) -> dict[str, np.ndarray]:
        """All numbers so far, float64: "step" and each series, NaN where a step did not have it."""
        table = np.array(self._rows, dtype=float).reshape(-1, 1 + len(self.names))
        return dict(zip(["step", *self.names], table.T, strict=True))

    def add(self, step: int, **values: float) -> None:
        """Append one step; a series may be left out.  KeyError for a name the plot was not made with."""
        if unknown := set(values) - set(self.names):
            raise KeyError(f"{sorted(unknown)} not in {self.names}; name them in LivePlot(series=...)")
        self._rows.append([float(step), *(float(values.get(name, math.nan)) for name in self.names)])
        if not under_ci() and time.monotonic() - self._sent >= SECONDS:
            self._send_points()

    def _send_points(self) -> None:
        self._sent = time.monotonic()
        stride = -(-len(self._rows) // MOST_STEPS)
        kept = self._rows[::-1][::stride][::-1]  # from the end, so the newest step is always among them
        self.points = np.array(kept, dtype="<f4").tobytes()

    def static_figure(self) -> Still:
        """All curves so far as a picture."""
        drawing, history = new_figure(2.6), self.history
        all_axes = drawing.subplots(1, len(self.names), squeeze=False).flat
        for axes, name in zip(all_axes, self.names, strict=True):
            there, label = np.isfinite(history[name]), name.replace("_", " ")
            axes.plot(history["step"][there], history[name][there], color=TEXT, label=label)
            axes.set_xlabel("step")
            open_corner(axes)
            axes.legend(frameon=False)
        drawing.suptitle(self.title, fontsize=10)
        known = {name: values[np.isfinite(values)] for name, values in history.items()}
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in known.items() if len(values))
        return Still(drawing, f"{self.title}: last {last}" if last else f"{self.title}: no points yet")

    def __enter__(self) -> "LivePlot":
        display(self)
        return self

    def __exit__(self, *_) -> None:
        if self._rows and not under_ci():
            self._send_points()
        display(self.static_figure())

    def __repr__(self) -> str:
        return f"LivePlot({self.title!r}, {', '.join(self.names)})"

    def _ipython_display_(self, **_):
        self._show_live()  # the picture follows in __exit__, when there is something to see
