"""A report card: what was measured of a model, with intervals, as a table, a page and plain data.

What is measured stands in families/report_card.py; here is only how it is said.
"""

import html
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vlmcourse.training.reading import CheckpointError, read_json


@dataclass(frozen=True)
class ReportLine:
    """One number of a report card.

    Attributes:
        part: the heading under which it stands, such as "answers".
        name: what was measured.
        value: in its unit.
        low, high: a 95 % interval, where one was computed.
        unit: "%" for shares, which are stored as 0…1; else what stands behind the number, such as "ms".
        says: one sentence on how to read it.
    """

    part: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = "%"
    says: str = ""

    def shown(self, number: float | None) -> str:
        """A number as it is printed; nothing for None."""
        if number is None:
            return ""
        if self.unit == "%":
            return f"{number:.1%}"
        digits = f"{number:,.0f}" if abs(number) >= 999.5 else f"{number:.3g}"
        return f"{digits} {self.unit}".strip()

    @property
    def interval(self) -> str:
        """Such as "88.1% to 93.0%"; nothing without one."""
        return f"{self.shown(self.low)} to {self.shown(self.high)}" if self.low is not None else ""


@dataclass(frozen=True)
class Report:
    """All lines of one model."""

    model: str
    data: str  # on what it was measured
    lines: tuple[ReportLine, ...]

    def __getitem__(self, name: str) -> float:
        """The value of the line of this name.

        Raises:
            KeyError: if there is none; names those that there are.
        """
        values = {line.name: line.value for line in self.lines}
        if name not in values:
            raise KeyError(f"the report has no line {name!r}; it has {', '.join(values)}")
        return values[name]

    def rows(self) -> list[list[str]]:
        """(part, name, value, interval, how to read it) as texts; a part is named in its first row."""
        rows, part = [], ""
        for line in self.lines:
            heading = "" if line.part == part else line.part
            rows.append([heading, line.name, line.shown(line.value), line.interval, line.says])
            part = line.part
        return rows

    def to_json(self) -> str:
        """Plain data; `read_report` reads it back."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    def to_html(self) -> str:
        """One page that needs nothing else: a table with a bar for every share, in light and dark."""
        rows = [_row(line, heading) for line, (heading, *_) in zip(self.lines, self.rows(), strict=True)]
        title = html.escape(f"{self.model}: report card")
        head = "".join(f"<th>{name}</th>" for name in HEADER)
        body = f"<h1>{title}</h1><p>Measured on {html.escape(self.data)}.</p>"
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        start = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>{_STYLE}'
        return f"{start}{body}{table}</html>\n"


def read_report(path: str | Path) -> Report:
    """A report that `Report.to_json` wrote.

    Raises:
        CheckpointError: if the file is no report; says what is wrong with it.
    """
    held = read_json(path)
    try:
        lines = tuple(ReportLine(**line) for line in held["lines"])
        return Report(held["model"], held["data"], lines)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no report card ({error}); `vlmcourse evaluate` writes one"
        ) from error


HEADER = ["", "measured", "value", "95 % interval", "how to read it"]
_STYLE = (
    "<style>:root{color-scheme:light dark}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884;vertical-align:top}"
    "td:nth-child(3){white-space:nowrap;font-variant-numeric:tabular-nums}"
    "svg{display:block}.part{font-weight:600}</style>"
)
_WIDE = 120  # pixels of a bar that stands for 100 %


def _row(line: ReportLine, heading: str) -> str:
    cells = [html.escape(text) for text in (line.name, line.shown(line.value), line.interval, line.says)]
    if line.unit == "%" and 0 <= line.value <= 1:
        cells[1] += _bar(line)
    first = f'<td class="part">{html.escape(heading)}</td>'
    return f"<tr>{first}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _bar(line: ReportLine) -> str:
    """A bar from 0 to 100 % with its interval as a whisker."""
    bar = f'<rect width="{_WIDE * line.value:.0f}" height="8" y="2" fill="#5B8C7B"/>'
    if line.low is not None:
        low, high = (_WIDE * number for number in (line.low, line.high))
        bar += f'<path d="M{low:.1f} 6H{high:.1f}M{low:.1f} 2v8M{high:.1f} 2v8" stroke="currentColor"/>'
    label = f'width="{_WIDE + 2}" height="12" role="img" aria-label="{line.shown(line.value)}"'
    return f"<svg {label}>{bar}</svg>"
