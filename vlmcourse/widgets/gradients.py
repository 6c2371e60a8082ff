"""Gradient-Flow chart: how much gradient every part of a model gets, and how much only passes through it.

It takes rows of numbers and knows no model; diagnostics/gradients.py makes them.  Parts stand in the order of
the data flow, left to right; gradients flow from right to left.  All norms share one logarithmic scale.

    trained       a filled bar: the norm of the gradient with respect to the part's own parameters
    frozen        a hatched column without such a bar
    pass-through  the line: the norm of the gradient that reaches a part's output; it ends where learning ends
"""

import math
from collections.abc import Mapping

import traitlets

from vlmcourse.widgets.base import Widget, script
from vlmcourse.widgets.stills import GOOD, INK, MASKED, TEXT, Still, new_figure, open_corner

FIELDS = ("name", "parameters", "trained", "gradient", "weight", "ratio", "through")
MEASURES = {"gradient": "gradient norm", "weight": "weight norm", "ratio": "gradient / weight"}
MOST_PARTS = 40


class GradientFlow(Widget):
    """Which parts learn, which only pass the gradient on, and which it never reaches.

        GradientFlow(gradient_report(model, loss, llava_parts(model)))

    Args:
        rows: one per part in the order of the data flow, each a named tuple or a mapping with the fields of
            diagnostics.gradients.Row: name, parameters, trained, gradient, weight, ratio, through.

    `view` holds what is shown: part (its index; at first the first that is trained), and measure.
    """

    _esm = script("gradients.js")
    parts = traitlets.List(help="the rows, each a dict").tag(sync=True)
    ranges = traitlets.Dict(help="lowest and highest power of ten of every measure").tag(sync=True)

    def __init__(self, rows):
        rows = [fields(row) for row in rows]
        if not 1 <= len(rows) <= MOST_PARTS:
            raise ValueError(f"{len(rows)} parts; 1 to {MOST_PARTS} can be told apart, so group some of them")
        first = next((place for place, row in enumerate(rows) if row["trained"]), 0)
        norms = {measure: [row[measure] for row in rows] for measure in MEASURES}
        norms["gradient"] += [row["through"] for row in rows]  # the line shares the scale of the bars
        ranges = {measure: powers(values) for measure, values in norms.items()}
        self.allowed = {"view": {"part": range(len(rows)), "measure": tuple(MEASURES)}}
        super().__init__(parts=rows, view={"part": first, "measure": "gradient"}, ranges=ranges)

    def static_figure(self) -> Still:
        """The chart of the measure shown now as a picture."""
        from matplotlib.patches import Patch

        rows, measure = self.parts, self.view["measure"]
        low, high = (10.0**power for power in self.ranges[measure])
        drawing = new_figure(3.3)
        axes = drawing.subplots()
        for place, row in enumerate(rows):
            if not row["trained"]:
                axes.bar(place, high - low, 0.9, bottom=low, fc="none", ec=MASKED, hatch="////", lw=0)
            if row[measure] > 0:
                colour = GOOD if row["trained"] else MASKED
                axes.bar(place, row[measure] - low, 0.62, bottom=low, color=colour)
            if measure == "gradient":
                value = row["through"] or math.nan
                axes.plot([place - 0.45, place + 0.45], [value, value], color=TEXT, linewidth=2.5)
                axes.plot(place - 0.42, value, "<", color=TEXT, markersize=6)
        axes.set(yscale="log", ylim=(low, high), ylabel=MEASURES[measure], xlim=(-0.5, len(rows) - 0.5))
        look = {"rotation": 45, "ha": "right"} if len(rows) > 8 else {}
        axes.set_xticks(range(len(rows)), [row["name"] for row in rows], fontsize=9, **look)
        open_corner(axes)
        shown = [Patch(fc=GOOD, label="trained"), Patch(fc="white", ec=MASKED, hatch="////", label="frozen")]
        if measure == "gradient":
            shown += axes.plot([], [], "<-", color=TEXT, label="gradient that reaches its output")
        drawing.legend(handles=shown, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        words = "; ".join(f"{row['name']} {say(row, measure)}" for row in rows)
        title = MEASURES[measure].capitalize()
        drawing.suptitle(title, fontsize=10, color=INK)
        return Still(drawing, f"{title}: {words}")

    def __repr__(self) -> str:
        trained = sum(row["trained"] > 0 for row in self.parts)
        return f"GradientFlow({len(self.parts)} parts, {trained} trained)"


def fields(row) -> dict:
    """One row as a dict of plain numbers; ValueError if a field is missing or no norm."""
    row = row._asdict() if hasattr(row, "_asdict") else row
    if not isinstance(row, Mapping) or set(FIELDS) - set(row):
        raise ValueError(f"a row has the fields {', '.join(FIELDS)}; got {row!r}")
    plain = {"name": str(row["name"]), "parameters": int(row["parameters"]), "trained": int(row["trained"])}
    for name in FIELDS[3:]:
        plain[name] = float(row[name])
        if not (math.isfinite(plain[name]) and plain[name] >= 0):
            raise ValueError(
                f"part {plain['name']!r} has {name}={plain[name]}, expected a norm: finite, not negative; "
                "if training diverged, report an earlier step"
            )
    return plain


def powers(values: list[float]) -> list[int]:
    """The powers of ten between which all positive values lie; never the same two."""
    positive = [value for value in values if value > 0] or [1.0]
    low = math.floor(math.log10(min(positive)) - 0.05)
    return [low, max(math.ceil(math.log10(max(positive)) + 0.05), low + 1)]


def say(row: dict, measure: str) -> str:
    """The norm of one part in words."""
    if measure != "gradient" or row["trained"]:
        return f"{row[measure]:.3g}"
    kind = "frozen" if row["parameters"] else "without parameters"
    return f"{kind}, passes on {row['through']:.3g}" if row["through"] else f"{kind}, no gradient comes here"
