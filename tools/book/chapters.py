"""One chapter: its cells one after the other, its sections, its widgets, and what the search finds in it."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from publishing import unpublished

from book.cells import Page, Section, coloured, output, text_cell, words_of
from book.exercises import OPEN, asked, help_with
from book.recording import MIME
from book.running import FIRST_CELL, LAST_CELL, Notebook, is_hidden, read_notebook
from book.widgets import WidgetState, as_function, on_page, widgets_of
from book.words import WORDS

SPEAKER = "static/speaker.js"  # asks a small model in the page
VIEW = "application/vnd.jupyter.widget-view+json"


class Chapter(NamedTuple):
    """A chapter as it stands on the site."""

    name: str
    title: str
    body: str
    sections: list[Section]
    scripts: list[str]  # of its widgets, by their places on the site
    entries: list[list[str]]  # of the search: address, chapter, section, words


def read_chapter(
    notebook: Notebook, executed: Path, page: Page, figure: Callable[[str, Path], str], chapters: set[str]
) -> Chapter:
    """The text of one executed notebook's page.

    Args:
        figure: takes the address of a picture and the notebook that shows it, gives that on the site.
        chapters: the names of those that are built; links to others are left out.

    Raises:
        ValueError, LookupError: with what cannot be shown, and where.
    """
    copy = read_notebook(executed)
    recorded = recorded_in(copy.cells[-1]) if copy.cells[-1].id == LAST_CELL else {}
    own = {FIRST_CELL, LAST_CELL}
    cells = [cell for cell in copy.cells if cell.id not in own and not is_hidden(cell)]
    page.taken.update(cell.id for cell in cells)
    writer = Writer(notebook, page, widgets_of(copy.metadata, recorded), figure)
    for cell in cells:
        try:
            writer.add(cell)
        except (ValueError, LookupError) as problem:
            raise ValueError(f"{notebook.name} ({notebook.lang}), cell {cell.id!r}: {problem}") from problem
    title = next((one.title for one in writer.sections if one.level == 1), notebook.name)
    body = linked_to("\n".join(writer.parts), chapters)
    sections = [one for one in writer.sections if one.level == 2]
    return Chapter(notebook.name, title, body, sections, writer.scripts, writer.entries(title))


class Writer:
    """Writes the cells of one chapter, one after the other."""

    def __init__(self, notebook: Notebook, page: Page, widgets: dict[str, WidgetState], figure: Callable):
        self.notebook, self.page, self.widgets, self.shown = notebook, page, widgets, figure
        self.parts: list[str] = []
        self.sections: list[Section] = []
        self.scripts: list[str] = []
        self.said: list[list[str]] = []  # by section: anchor, title, words

    def add(self, cell) -> None:
        """Take in one more cell."""
        if cell.cell_type == "markdown":
            text = unpublished(cell.source, self.page.lang)  # badges: the page has its own
            body, sections = text_cell(text, self.page, self.figure)
            self.sections += sections
            self.listen(body, sections)
        else:
            body = self.code(cell)
            self.listen(coloured(cell.source), [])
        self.parts.append(f'<div class="cell {cell.cell_type}" id="{cell.id}">{body}</div>')

    def listen(self, body: str, sections: list[Section]) -> None:
        """Note the words of each section for the search."""
        before, *pieces = re.split(r"(?=<h[1-3] id=)", body)
        if self.said and before.strip():
            self.said[-1][2] += f" {words_of(before)}"
        heads = [one for one in sections if one.level <= 3]
        for section, piece in zip(heads, pieces, strict=True):
            self.said.append([section.anchor, section.title, words_of(piece.partition("</h")[2][2:])])

    def entries(self, title: str) -> list[list[str]]:
        """What the search finds in this chapter."""
        file = f"{self.notebook.name}.html"
        return [[f"{file}#{anchor}", title, head, text] for anchor, head, text in self.said]

    def figure(self, address: str) -> str:
        """The address on the site of a picture that the notebook shows."""
        return self.shown(address, self.notebook.path)

    def code(self, cell) -> str:
        """A code cell with what its run has shown; an exercise with its help instead."""
        task = asked(cell.source)
        outputs = [one for one in cell.outputs if not (task and is_open(one))]
        shown, alive = [], False
        for one in outputs:
            alive = self.runs_here(one.data) if VIEW in one.get("data", {}) else alive
            shown.append(self.output(one, cell.id, alive))
        body = coloured(cell.source) + "".join(f'<div class="output">{one}</div>' for one in shown if one)
        return body + (help_with(self.notebook.name, task, self.page.lang) if task else "")

    def output(self, one, cell: str, alive: bool) -> str:
        """An output; the picture of a widget that is `alive` in the page is for those without scripts."""
        shown = output(one, cell, self.page, self.widget)
        is_still = bool(one.get("metadata", {}).get("image/png", {}).get("unconfined"))
        return f"<noscript>{shown}</noscript>" if is_still and alive else shown

    def runs_here(self, data: dict) -> bool:
        """Whether a widget needs no kernel."""
        widget = self.widgets.get(data[VIEW]["model_id"])
        return widget is not None and widget.runs_here

    def widget(self, identity: str) -> str:
        """A widget that runs in the page, or what to say beside its picture."""
        if identity not in self.widgets:
            return ""
        widget = self.widgets[identity]
        if not widget.runs_here:
            return f'<p class="note">{html.escape(WORDS[self.page.lang]["kernel"])}</p>'
        script = f"static/widgets/{widget.kind}.js"
        self.page.files[script] = as_function(widget.kind, widget.script).encode()
        more = [SPEAKER] if "speaker" in widget.state else []
        self.scripts = list(dict.fromkeys([*self.scripts, script, *more]))
        return on_page(widget, self.page)


def linked_to(body: str, chapters: set[str]) -> str:
    """The body without links to chapters that are not built; what they say stays."""
    link = r'<a [^>]*href="(\d\d_[a-z0-9_]+)\.html[^"]*"[^>]*>(.*?)</a>'
    return re.sub(link, lambda found: found[0] if found[1] in chapters else found[2], body, flags=re.DOTALL)


def is_open(one) -> bool:
    """Whether an output is the card of an exercise that is not written."""
    return one.get("data", {}).get("text/plain", "").startswith(OPEN)


def recorded_in(cell) -> dict:
    """What recording.py has left."""
    return next((one.data[MIME] for one in cell.outputs if MIME in one.get("data", {})), {})
