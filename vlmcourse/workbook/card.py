"""Cards: what the learner sees after running a cell, as HTML in a browser and as text in a terminal.

A card says its state three times, in colour, symbol and words, and reads well in light and dark themes.
"""

import base64
import html
import io
from dataclasses import dataclass, field

SYMBOLS = {"passed": "✅", "wrong": "❌", "todo": "⬜", "note": "💡", "plain": "▪️"}
SIGNS = {"passed": "✓", "wrong": "✗", "todo": "○", "note": "i", "plain": "·"}
STATE_COLOURS = {
    "passed": "#2E8B6F",
    "wrong": "#D55E00",
    "todo": "#7A869A",
    "note": "#0072B2",
    "plain": "#7A869A",
}


@dataclass
class Card:
    """One message.

    Attributes:
        kind: "passed", "wrong", "todo", "note" or "plain"; decides colour and symbol.
        title: one line, what it is about.
        lines: sentences below it.
        code: source code to show, if any.
        printed: what the learner's code printed, if anything.
        pictures: title -> nested list (height, width) or (height, width, 3), drawn side by side.
        table: (header, rows) of strings, if any.
    """

    kind: str
    title: str
    lines: list[str] = field(default_factory=list)
    code: str = ""
    printed: str = ""
    pictures: dict[str, list] = field(default_factory=dict)
    table: tuple[list[str], list[list[str]]] | None = None

    def __repr__(self) -> str:
        parts = [f"{SYMBOLS[self.kind]} {self.title}", *(f"   {line}" for line in self.lines)]
        if self.table:
            parts += ["   " + row for row in _plain_table(*self.table)]
        if self.code:
            parts += ["", self.code]
        if self.printed:
            parts += ["   Your code printed:", self.printed]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        colour = STATE_COLOURS[self.kind]
        body = [f'<div style="font-weight:600">{_badge(self.kind)} '
                f'<span style="{HIDDEN}">{self.kind}: </span>{_rich(self.title)}</div>']  # fmt: skip
        body += [f'<div style="margin-top:2px">{_rich(line)}</div>' for line in self.lines]
        if self.pictures:
            body.append('<div style="display:flex;gap:16px;margin-top:8px">')
            body += [_figure(title, array) for title, array in self.pictures.items()]
            body.append("</div>")
        if self.table:
            body.append(_html_table(*self.table))
        if self.code:
            body.append(f'<pre style="{PRE}">{html.escape(self.code)}</pre>')
        if self.printed:
            body.append(f'<div style="margin-top:6px">Your code printed:</div><pre style="{PRE}">'
                        f"{html.escape(self.printed)}</pre>")  # fmt: skip
        style = (
            f"border-left:4px solid {colour};background:{colour}14;padding:8px 12px;border-radius:4px;{FONT}"
        )
        return f'<div role="status" style="{style}">{"".join(body)}</div>'

    def show(self) -> None:
        """Display the card in a notebook, or print its text."""
        from IPython import get_ipython

        if get_ipython() is None:
            print(self)
        else:
            from IPython.display import display

            display(self)


FONT = "line-height:1.5;color:var(--jp-content-font-color1,inherit);font-size:14px;max-width:820px"
PRE = ("margin:6px 0 0;padding:8px;overflow-x:auto;border-radius:4px;font-size:13px;line-height:1.4;"
       "color:inherit;background:rgba(127,127,127,.12)")  # fmt: skip
CELL = "text-align:left;padding:2px 14px 2px 0;border-bottom:1px solid rgba(127,127,127,.25)"
HIDDEN = (
    "position:absolute;width:1px;height:1px;overflow:hidden;clip:rect(0 0 0 0)"  # for screen readers only
)


def _badge(kind: str) -> str:
    """The state as a coloured disc with a plain sign: colour emoji are missing on many machines."""
    style = (
        "display:inline-block;width:1.35em;text-align:center;border-radius:3px;"
        f"background:{STATE_COLOURS[kind]};color:#fff;font-weight:700;font-size:85%"
    )
    return f'<span aria-hidden="true" style="{style}">{SIGNS[kind]}</span>'


def _rich(text: str) -> str:
    """Escape everything; `code` in backticks becomes <code>, and a state's symbol its badge."""
    parts = html.escape(text).split("`")
    text = "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
    for kind, symbol in SYMBOLS.items():
        text = text.replace(symbol, _badge(kind))
    return text


def _html_table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col" style="{CELL}">{_rich(cell)}</th>' for cell in header)
    cells = ["".join(f'<td style="{CELL}">{_rich(cell)}</td>' for cell in row) for row in rows]
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    style = "border-collapse:collapse;margin-top:6px;font-size:13px"
    return f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _plain_table(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [header, *rows]]  # fmt: skip


def _figure(title: str, array: list) -> str:
    return (f'<figure style="margin:0"><img alt="{html.escape(title)}" src="{picture_source(array)}" '
            'style="height:110px;image-rendering:pixelated;border:1px solid rgba(127,127,127,.4)">'
            f'<figcaption style="font-size:12px">{html.escape(title)}</figcaption></figure>')  # fmt: skip


def picture_source(array: list) -> str:
    """A small array as a PNG data address, stretched to its own range; NaN shows as black."""
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(array, dtype=np.float32))
    low, high = values.min(), values.max()
    pixels = ((values - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
