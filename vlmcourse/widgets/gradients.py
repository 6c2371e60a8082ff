"""Gradient-Flow chart: how much gradient every part of a model gets, and how much only passes through it.

It takes rows of numbers and knows no model; diagnostics/gradients.py makes them.  Parts stand in the order of
the data flow, left to right; gradients flow from right to left.

    trained       a filled bar: the norm of the gradient with respect to the part's own parameters
    frozen        a hatched column without such a bar
    pass-through  the line: the norm of the gradient that reaches a part's output; where it ends, learning
    ends

All norms are drawn on one logarithmic scale, the same for every step.
"""

import math
from collections.abc import Mapping

import numpy as np
import traitlets

from vlmcourse.widgets.base import Widget, check_view, script
from vlmcourse.widgets.stills import GOOD, INK, MASKED, TEXT, Still, new_figure, open_corner

FIELDS = ("name", "parameters", "trained", "gradient", "weight", "ratio", "through")
MEASURES = {"gradient": "gradient norm", "weight": "weight norm", "ratio": "gradient / weight"}
MOST_PARTS = 40


class GradientFlow(Widget):
    """Which parts learn, which only pass the gradient on, and which it never reaches.

        GradientFlow(gradient_report(model, loss, llava_parts(model)))
        GradientFlow([report_0, report_10, report_100], steps=[0, 10, 100])

    Args:
        rows: one row per part in the order of the data flow, each a mapping or a named tuple with the fields
            name, parameters, trained (how many of them), gradient, weight, ratio, through
            (diagnostics.gradients.Row); or, if steps are given, one such list for every step.
        steps: names of the training steps or stages, such as [0, 10, 100]; opens at the last.
        view: where to open, any of step, part (indices), measure ("gradient", "weight" or "ratio"); opens at
            the first part that is trained.

    Raises:
        ValueError: naming what does not fit, the numbers, and what to do.
    """

    _esm = script("gradients.js")
    parts = traitlets.List(help="name, parameters and trained of every part and step").tag(sync=True)
    steps = traitlets.List().tag(sync=True)
    ranges = traitlets.Dict(help="lowest and highest power of ten of every measure").tag(sync=True)
    view = traitlets.Dict(help="what is shown now: step, part, measure").tag(sync=True)

    def __init__(self, rows, *, steps=None, view: dict | None = None):
        reports = [rows] if steps is None else list(rows)
        names = [""] if steps is None else [str(step) for step in steps]
        if len(names) != len(reports):
            raise ValueError(f"{len(reports)} reports for {len(names)} steps; pass one list of rows per step")
        reports = [[fields(row) for row in report] for report in reports]
        known = [row["name"] for row in reports[0]] if reports else []
        if not 1 <= len(known) <= MOST_PARTS:
            raise ValueError(
                f"{len(known)} parts; 1 to {MOST_PARTS} can be told apart, so group some of them"
            )
        for name, report in zip(names, reports, strict=True):
            if [row["name"] for row in report] != known:
                raise ValueError(
                    f"step {name} has parts {[row['name'] for row in report]}, the first has {known}; "
                    "pass the same groups to every report"
                )
        self._rows = reports
        measured = {
            measure: [row[field] for report in reports for row in report for field in drawn(measure)]
            for measure in MEASURES
        }
        first = next((place for place, row in enumerate(reports[-1]) if row["trained"]), 0)
        start = {"step": len(names) - 1, "part": first, "measure": "gradient", **(view or {})}
        if start["measure"] not in MEASURES:
            raise ValueError(f"view has measure={start['measure']!r}, expected one of {', '.join(MEASURES)}")
        check_view(start, {"step": len(names), "part": len(known)})
        ranges = {measure: powers(values) for measure, values in measured.items()}
        super().__init__(parts=reports, steps=names, view=start, ranges=ranges)

    def static_figure(self, **view) -> Still:
        """The current step as a picture; `view` overrides any of step, part, measure."""
        from matplotlib.patches import Patch

        view = {**self.view, **view}
        rows, measure = self._rows[view["step"]], view["measure"]
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
            reach = np.array([row["through"] or np.nan for row in rows])
            for place, value in enumerate(reach):
                axes.plot([place - 0.45, place + 0.45], [value, value], color=TEXT, linewidth=2.5)
                axes.plot(place - 0.42, value, "<", color=TEXT, markersize=6)
        axes.set(yscale="log", ylim=(low, high), ylabel=MEASURES[measure], xlim=(-0.5, len(rows) - 0.5))
        slanted = {"rotation": 45, "ha": "right"} if len(rows) > 8 else {}
        axes.set_xticks(
            range(len(rows)), [row["name"] for row in rows], fontsize=8, parse_math=False, **slanted
        )
        open_corner(axes)
        shown = [Patch(fc=GOOD, label="trained"), Patch(fc="white", ec=MASKED, hatch="////", label="frozen")]
        if measure == "gradient":
            shown += axes.plot([], [], "<-", color=TEXT, label="gradient that reaches its output")
        drawing.legend(handles=shown, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        words = "; ".join(f"{row['name']} {say(row, measure)}" for row in rows)
        step = self.steps[view["step"]]
        title = MEASURES[measure].capitalize() + f", {'step ' * step.isdigit()}{step}" * bool(step)
        drawing.suptitle(title, fontsize=10, color=INK, parse_math=False)
        return Still(drawing, f"{title}: {words}")

    def __repr__(self) -> str:
        trained = sum(row["trained"] > 0 for row in self._rows[-1])
        steps = f", {len(self.steps)} steps" if len(self.steps) > 1 else ""
        return f"GradientFlow({len(self._rows[0])} parts, {trained} trained{steps})"


def fields(row) -> dict:
    """One row as a dict of plain numbers; ValueError if a field is missing or no norm."""
    row = row._asdict() if hasattr(row, "_asdict") else row
    if not isinstance(row, Mapping) or set(FIELDS) - set(row):
        raise ValueError(
            f"a row has the fields {', '.join(FIELDS)}; got {row!r}. If rows of several steps are meant, "
            "pass steps="
        )
    plain = {"name": str(row["name"]), "parameters": int(row["parameters"]), "trained": int(row["trained"])}
    plain |= {name: float(row[name]) for name in FIELDS[3:]}
    for name in FIELDS[3:]:
        if not (math.isfinite(plain[name]) and plain[name] >= 0):
            raise ValueError(
                f"part {plain['name']!r} has {name}={plain[name]}, expected a norm: finite, not negative; "
                "if training diverged, report an earlier step"
            )
    return plain


def drawn(measure: str) -> tuple[str, ...]:
    """The fields that share the scale of a measure."""
    return ("gradient", "through") if measure == "gradient" else (measure,)


def powers(values: list[float]) -> list[int]:
    """The powers of ten between which all positive values lie; never the same two."""
    positive = [value for value in values if value > 0] or [1.0]
    low = math.floor(math.log10(min(positive)) - 0.05)
    return [low, max(math.ceil(math.log10(max(positive)) + 0.05), low + 1)]


def say(row: dict, measure: str) -> str:
    """One part in words."""
    if measure != "gradient" or row["trained"]:
        return f"{row[measure]:.3g}"
    kind = "frozen" if row["parameters"] else "without parameters"
    return f"{kind}, passes on {row['through']:.3g}" if row["through"] else f"{kind}, no gradient comes here"
