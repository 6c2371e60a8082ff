"""Cards: what the learner sees after running a cell, as HTML in a browser and as text in a terminal.

A card says its state three times, in colour, symbol and words, and reads well in light and dark themes.
"""

import base64
import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SIGNS = {
    "passed": "✓",
    "wrong": "✗",
    "todo": "○",
    "note": "ℹ",
    "plain": "▪",
}  # no emoji: many machines lack them
IDLE = "#7A869A"
STATE_COLOURS = {"passed": "#2E8B6F", "wrong": "#D55E00", "todo": IDLE, "note": "#0072B2", "plain": IDLE}

FONT = "line-height:1.5;color:var(--jp-content-font-color1,inherit);font-size:14px;max-width:820px"
PRE = ("margin:6px 0 0;padding:8px;overflow-x:auto;border-radius:4px;font-size:13px;line-height:1.4;"
       "color:inherit;background:rgba(127,127,127,.12)")  # fmt: skip
CELL = "padding:2px 14px 2px 0;border-bottom:1px solid rgba(127,127,127,.25)"
LINK = "color:var(--jp-content-link-color,#0072B2);text-decoration:underline"
NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]\d+)?\s?(%|s|×|px|MB)?|–")  # stands to the right in its column
FOR_SCREEN_READERS = "position:absolute;width:1px;height:1px;overflow:hidden;clip:rect(0 0 0 0)"


CODE_COLOURS = {
    "Comment": "comment",
    "Keyword": "keyword",
    "Literal.Number": "number",
    "Literal.String": "string",
    "Name.Builtin": "builtin",
    "Name.Function": "def",
    "Operator.Word": "keyword",
    "Operator": "operator",
}
"""Beginnings of Pygments' names for parts of a program, and JupyterLab's name for their colour."""


def tabulate(rows: Mapping[Any, Any], what: str = "", /, **columns: str) -> None:
    """Show results as a table: a row for each name, with its values.

        tabulate(results, "model", right=".0%", loss=".2f")

    Args:
        rows: name -> its value, or one value per column; a name of several parts is joined by commas.
        what: heads the column of names.
        columns: name ("_" reads as a space) -> how its values are written, as in f-strings; NaN is "–".

    Raises:
        ValueError: if a row has more or fewer values than there are columns.
    """
    table = []
    for name, values in rows.items():
        values = values if isinstance(values, (tuple, list)) else [values]
        if len(values) != len(columns):
            raise ValueError(f"row {name!r} has {len(values)} values for {len(columns)} columns")
        name = ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)
        written = zip(values, columns.values(), strict=True)
        table.append([name, *[format(value, how) if value == value else "–" for value, how in written]])
    header = [what, *[column.replace("_", " ") for column in columns]]
    Card("plain", "", table=(header, table)).show()


def number_of(count: int, thing: str) -> str:
    """ "1 thread", "2 threads"."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


@dataclass
class Card:
    """One message: its title and what stands below it, in this order."""

    kind: str  # "passed", "wrong", "todo", "note" or "plain"; decides colour and symbol
    title: str
    lines: list[str] = field(default_factory=list)
    code: str = ""
    printed: str = ""  # by the learner's code
    pictures: dict[str, list] = field(
        default_factory=dict
    )  # title -> (height, width) or (…, …, 3), same scale
    table: tuple[list[str], list[list[str]]] | None = None  # header and rows
    links: dict[str, str] = field(default_factory=dict)  # text of a cell -> address

    def __repr__(self) -> str:
        parts = [f"{SIGNS[self.kind]} {self.title}"] if self.title else []
        parts += [f"   {line}" for line in self.lines]
        if self.table:
            parts += ["   " + row for row in _plain_table(*self.table)]
        if self.code:
            parts += ["", self.code]
        if self.printed:
            parts += ["   Your code printed:", self.printed]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        kind = f'{_badge(self.kind)} <span style="{FOR_SCREEN_READERS}">{self.kind}: </span>'
        body = f'<div style="font-weight:600">{kind}{_rich(self.title)}</div>' if self.title else ""
        body += "".join(f'<div style="margin-top:2px">{_rich(line)}</div>' for line in self.lines)
        if self.pictures:
            scale = next(iter(self.pictures.values()))
            figures = "".join(_figure(title, array, scale) for title, array in self.pictures.items())
            body += f'<div style="display:flex;gap:16px;margin-top:8px">{figures}</div>'
        if self.table:
            body += _html_table(*self.table, self.links)
        if self.code:
            body += _pre(_coloured(self.code))
        if self.printed:
            body += '<div style="margin-top:6px">Your code printed:</div>' + _pre(html.escape(self.printed))
        colour = STATE_COLOURS[self.kind]
        edge = f"border-left:4px solid {colour};background:{colour}14;padding:8px 12px;border-radius:4px"
        return f'<div role="status" style="{edge};{FONT}">{body}</div>'

    def show(self) -> None:
        """Display the card in a notebook, or print its text."""
        from IPython.display import display

        display(self)


def _badge(kind: str) -> str:
    """The state as its sign on its colour."""
    style = "display:inline-block;width:1.35em;text-align:center;border-radius:3px;"
    style += f"background:{STATE_COLOURS[kind]};color:#fff;font-weight:700;font-size:85%"
    return f'<span aria-hidden="true" style="{style}">{SIGNS[kind]}</span>'


def _rich(text: str) -> str:
    """Escape everything; `code` in backticks becomes <code>."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _pre(markup: str) -> str:
    return f'<pre style="{PRE}">{markup}</pre>'


def _coloured(code: str) -> str:
    """Python in the colours of JupyterLab's own cells, in its light and dark theme."""
    from pygments.lexers import PythonLexer

    markup = ""
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(code):
        named = str(kind).removeprefix("Token.")
        colours = [colour for part, colour in CODE_COLOURS.items() if named.startswith(part)]
        style = f"color:var(--jp-mirror-editor-{colours[0]}-color,inherit)" if colours else ""
        markup += f'<span style="{style}">{html.escape(text)}</span>' if style else html.escape(text)
    return markup


def _html_table(header: list[str], rows: list[list[str]], links: dict[str, str]) -> str:
    sides = [f"text-align:{'right' if right else 'left'};{CELL}" for right in _numeric(header, rows)]
    cells = [
        f'<th scope="col" style="{side}">{_rich(cell)}</th>' for side, cell in zip(sides, header, strict=True)
    ]
    head, body = "".join(cells), ""
    for row in rows:
        cells = [
            f'<td style="{side}">{_cell(cell, links)}</td>' for side, cell in zip(sides, row, strict=True)
        ]
        body += f"<tr>{''.join(cells)}</tr>"
    style = "border-collapse:collapse;margin-top:6px;font-size:13px;font-variant-numeric:tabular-nums"
    return f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(text: str, links: dict[str, str]) -> str:
    """A text of a table; a state's sign by itself becomes its badge."""
    for kind, sign in SIGNS.items():
        if text == sign:
            return _badge(kind)
    if text in links:
        return f'<a style="{LINK}" href="{html.escape(links[text])}">{_rich(text)}</a>'
    return _rich(text)


def _plain_table(header: list[str], rows: list[list[str]]) -> list[str]:
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    pads = [str.rjust if right else str.ljust for right in _numeric(header, rows)]
    return [
        "  ".join(pad(cell, wide) for pad, cell, wide in zip(pads, row, widths, strict=True)).rstrip()
        for row in table
    ]


def _numeric(header: list[str], rows: list[list[str]]) -> list[bool]:
    """Which columns hold nothing but numbers."""
    return [all(NUMBER.fullmatch(row[place]) for row in rows) for place in range(len(header))]


def _figure(title: str, array: list, scale: list) -> str:
    return (f'<figure style="margin:0"><img alt="{html.escape(title)}" src="{picture_source(array, scale)}" '
            'style="height:110px;image-rendering:pixelated;border:1px solid rgba(127,127,127,.4)">'
            f'<figcaption style="font-size:12px">{html.escape(title)}</figcaption></figure>')  # fmt: skip


def picture_source(array: list, scale: list) -> str:
    """A small array as a PNG data address; black is the least number of `scale` or NaN, white the largest."""
    import numpy as np
    from PIL import Image

    low, high = np.nanmin(scale), np.nanmax(scale)
    shares = (np.asarray(array, dtype=np.float64) - low) / max(high - low, 1e-9)
    pixels = (np.nan_to_num(shares).clip(0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
