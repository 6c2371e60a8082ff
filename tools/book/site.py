"""The site as a whole: a page for each chapter, the course's first page, its index of terms, and the search."""

import html
import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import jinja2
import nbformat

from book.cells import Page, Section, coloured, file_of, output, own_names, text_cell, words_of
from book.exercises import OPEN, asked, help_with
from book.recording import MIME
from book.running import ROOT, Notebook
from book.widgets import NEEDS_KERNEL, as_function, on_page, widgets_of
from book.words import WORDS

VIEW = "application/vnd.jupyter.widget-view+json"
HERE = Path(__file__).parent
HIDDEN = {"colab"}  # tags of cells that only a notebook needs
TABLE_ROW = re.compile(r"^\| \[(\d\d_\w+)\]\([^)]*\) \| (.*?) \| (\d+) \| (.*?) \|$", flags=re.MULTILINE)


class Chapter(NamedTuple):
    """A chapter as it stands on the site."""

    name: str
    title: str
    body: str
    sections: list[Section]
    scripts: list[str]
    entries: list[list[str]]  # of the search: address, chapter, section, words


class Site:
    """A folder that is filled page by page.

    Attributes:
        folder: the root of the site.
        lang: the edition that is being written.
        root: the way from its pages to the root of the site.
    """

    def __init__(self, folder: Path, lang: str, editions: list[str], repository: str = ""):
        self.folder, self.lang, self.editions, self.repository = folder, lang, editions, repository.rstrip("/")
        self.pages = folder if lang == "en" else folder / lang
        self.root = "" if lang == "en" else "../"
        self.scripts: dict[str, str] = {}
        self.images: dict[str, bytes] = {}
        loader = jinja2.FileSystemLoader(HERE)
        self.template = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True).get_template("page.html")

    # ---- chapters

    def chapter(self, notebook: Notebook, executed: Path, chapters: set[str]) -> Chapter:
        """The page of one executed notebook.

        Raises:
            ValueError: with what cannot be shown, and where.
        """
        copy = nbformat.read(executed, as_version=4)
        recorded = recorded_in(copy.cells[-1]) if copy.cells[-1].id == "book-last" else {}
        own = {"book-first", "book-last"}
        cells = [c for c in copy.cells if c.id not in own and not HIDDEN & set(c.metadata.get("tags", []))]
        page = Page(self.lang, self.root, self.images, {cell.id for cell in cells})
        writer = Writer(self, notebook, page, widgets_of(copy.metadata, recorded))
        for cell in cells:
            writer.add(cell)
        title = next((one.title for one in writer.sections if one.level == 1), notebook.name)
        sections = [one for one in writer.sections if one.level == 2]
        scripts = [f"{kind}.js" for kind in dict.fromkeys(writer.kinds)]
        return Chapter(notebook.name, title, linked_to("\n".join(writer.parts), chapters), sections, scripts, writer.entries(title))

    def figure(self, address: str, notebook: Path) -> str:
        """Copy a drawing of the repository to the site; its address there."""
        file = file_of(address, notebook)
        if not file.exists():
            raise ValueError(f"{notebook.name} shows {address}, which is not there")
        target = self.folder / "figures" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        return f"{self.root}figures/{file.name}"

    # ---- pages

    def write(self, name: str, title: str, body: str, chapters: list[Chapter], **parts) -> None:
        """One page; `parts` are what only some pages have: sections, scripts, launches, previous, next."""
        text = self.template.render(
            name=name, title=title, body=body, chapters=chapters, words=WORDS[self.lang], lang=self.lang,
            root=self.root, terms=self.has_terms(), others=self.others(name),
            description=html.escape(parts.pop("description", WORDS[self.lang]["course"])), **parts,
        )  # fmt: skip
        self.pages.mkdir(parents=True, exist_ok=True)
        (self.pages / f"{name}.html").write_text(text, encoding="utf-8")

    def has_terms(self) -> bool:
        return self.lang == "en" and (ROOT / "notebooks" / "INDEX.md").exists()

    def others(self, name: str) -> list[dict[str, str]]:
        """The same page in the other editions."""
        ways = {"en": "../" if self.lang != "en" else "", "ja": "ja/"}
        name = name if name != "terms" else "index"
        return [
            {"lang": lang, "language": WORDS[lang]["language"], "address": f"{ways[lang]}{name}.html"}
            for lang in self.editions
            if lang != self.lang
        ]

    def launches(self, notebook: Notebook) -> list[dict[str, str]]:
        """Where a chapter can be run: elsewhere if there is a repository, and its file in any case."""
        file = f"{notebook.name}.ipynb"
        place = f"notebooks/{file}" if notebook.lang == "en" else f"notebooks/{notebook.lang}/{file}"
        target = self.folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebook.path, target)
        here = {"name": WORDS[self.lang]["download"], "address": f"{self.root}{place}"}
        return [*launch_places(self.repository, place), here]

    def terms(self, chapters: list[Chapter]) -> None:
        """The index of terms as a page; what its head says of notebooks is said anew."""
        words, page = WORDS[self.lang], Page(self.lang, self.root, self.images, set())
        text = (ROOT / "notebooks" / "INDEX.md").read_text(encoding="utf-8")
        _, begins, tables = text.partition("\n## ")
        body, sections = text_cell(begins + tables, page, lambda address: address)
        body = f"<h1>{words['terms']}</h1><p>{words['terms_intro']}</p>{body}"
        body = linked_to(body, {chapter.name for chapter in chapters})
        self.write("terms", words["terms"], body, chapters, sections=sections)

    def first_page(self, chapters: list[Chapter]) -> None:
        """What the course is, and its chapters in a table."""
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        told = {row[0]: row[1:] for row in TABLE_ROW.findall(readme)}
        words = WORDS[self.lang]
        body = f"<h1>{words['course']}</h1><p>{words['intro']}</p><div class=\"drawing\">{whole_model()}</div>"
        body += "".join(f"<p>{words[name]}</p>" for name in ("read", "run"))
        rows = [self.row(chapter, *told.get(chapter.name, ("", "", ""))) for chapter in chapters]
        heads = "".join(f'<th scope="col">{words[name]}</th>' for name in ("chapter", "build", "minutes", "gpu"))
        body += f'<h2 id="chapter-map">{words["chapters"]}</h2><div class="scroll"><table class="map">'
        body += f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        self.write("index", words["course"], body, chapters)

    def row(self, chapter: Chapter, builds: str, minutes: str, gpu: str) -> str:
        """A chapter in the table of the first page."""
        link = f'<a href="{chapter.name}.html">{html.escape(chapter.title)}</a>'
        told = builds if self.lang == "en" else ""
        return f"<tr><td>{link}</td><td>{html.escape(told)}</td><td>{minutes}</td><td>{gpu}</td></tr>"

    def finish(self, entries: list[list[str]]) -> None:
        """Scripts, style and pictures, and the words of all sections for the search."""
        static = self.folder / "static"
        (static / "widgets").mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "book.css", static)
        shutil.copy(HERE / "book.js", static)
        shutil.copy(ROOT / "vlmcourse" / "widgets" / "widgets.css", static)
        for kind, script in self.scripts.items():
            (static / "widgets" / f"{kind}.js").write_text(script, encoding="utf-8")
        data = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
        (static / f"search-{self.lang}.js").write_text(f"window.bookSections = {data};\n", encoding="utf-8")
        (self.folder / "images").mkdir(exist_ok=True)
        for name, picture in self.images.items():
            (self.folder / "images" / name).write_bytes(picture)


class Writer:
    """Writes the cells of one chapter, one after the other."""

    def __init__(self, site: Site, notebook: Notebook, page: Page, widgets: dict):
        self.site, self.notebook, self.page, self.widgets = site, notebook, page, widgets
        self.parts: list[str] = []
        self.sections: list[Section] = []
        self.kinds: list[str] = []
        self.said: list[list[str]] = []  # by section: anchor, title, words

    def add(self, cell) -> None:
        """Take in one more cell."""
        if cell.cell_type == "markdown":
            body, sections = text_cell(cell.source, self.page, self.figure)
            self.sections += sections
            self.listen(body, sections)
        else:
            body = self.code(cell)
            self.listen(coloured(cell.source), [])
        self.parts.append(f'<div class="cell {cell.cell_type}" id="{cell.id}">{body}</div>')

    def listen(self, body: str, sections: list[Section]) -> None:
        """Note the words of each section for the search."""
        pieces = re.split(r"<h[1-3] id=", body)
        if self.said and pieces[0].strip():
            self.said[-1][2] += " " + words_of(pieces[0])
        heads = [one for one in sections if one.level <= 3]
        for section, piece in zip(heads, pieces[1:], strict=True):
            self.said.append([section.anchor, section.title, words_of(f"<h2 id={piece}")])

    def entries(self, title: str) -> list[list[str]]:
        """What the search finds in this chapter."""
        return [[f"{self.notebook.name}.html#{anchor}", title, head, text] for anchor, head, text in self.said]

    def figure(self, address: str) -> str:
        return self.site.figure(address, self.notebook.path)

    def code(self, cell) -> str:
        """A code cell with what its run has shown; an exercise with its help instead."""
        task = asked(self.notebook.name, cell.source)
        outputs = [one for one in cell.outputs if not (task and is_open(one))]
        shown, alive = [], False
        for one in outputs:
            data = one.get("data", {})
            if alive and "image/png" in data and data_of(one).get("unconfined"):
                still = output(one, cell.id, self.page, self.widget)
                shown.append(f"<noscript>{still}</noscript>")
                continue
            alive = VIEW in data and self.kind(data[VIEW]["model_id"]) not in NEEDS_KERNEL
            shown.append(output(one, cell.id, self.page, self.widget))
        body = coloured(cell.source) + "".join(f'<div class="output">{one}</div>' for one in shown if one)
        return body + (help_with(self.notebook.name, task, self.page.lang) if task else "")

    def kind(self, identity: str) -> str:
        return self.widgets[identity].kind if identity in self.widgets else ""

    def widget(self, identity: str) -> str:
        """A widget that runs in the page, or what to say beside its picture."""
        if identity not in self.widgets:
            return ""
        widget = self.widgets[identity]
        if widget.kind in NEEDS_KERNEL:
            return f'<p class="note">{html.escape(WORDS[self.page.lang]["kernel"])}</p>'
        self.kinds.append(widget.kind)
        self.site.scripts[widget.kind] = as_function(widget.kind, widget.script)
        return on_page(identity, widget, self.page.lang)


def linked_to(body: str, chapters: set[str]) -> str:
    """The body without links to chapters that are not built; what they say stays."""
    link = r'<a [^>]*href="(\d\d_[a-z0-9_]+)\.html[^"]*"[^>]*>(.*?)</a>'
    return re.sub(link, lambda found: found[0] if found[1] in chapters else found[2], body)


def data_of(one) -> dict:
    """What an output says of its picture."""
    return one.get("metadata", {}).get("image/png", {})


def is_open(one) -> bool:
    """Whether an output is the card of an exercise that is not written."""
    return one.get("data", {}).get("text/plain", "").startswith(OPEN)


def recorded_in(cell) -> dict:
    """What recording.py has left."""
    return next((one.data[MIME] for one in cell.outputs if MIME in one.get("data", {})), {})


def whole_model() -> str:
    """The drawing of a vision-language model, in the page's colours."""
    from vlmcourse.workbook.figures import FIGURES, ON_ANY_PAPER, Described

    svg = (FIGURES / "vlm.svg").read_text(encoding="utf-8")
    for colour, other in ON_ANY_PAPER.items():
        svg = svg.replace(colour, other)
    alt = "An image and a question enter a vision encoder, a connector and a language model; an answer leaves"
    return own_names(Described(svg, 820, alt)._repr_html_(), "whole")


def launch_places(repository: str, place: str) -> list[dict[str, str]]:
    """Where a notebook of a GitHub repository can be opened; nowhere without one.

    Raises:
        ValueError: if the address is not of the form https://github.com/OWNER/NAME.
    """
    if not repository:
        return []
    found = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?", repository)
    if not found:
        raise ValueError(f"a repository is given as https://github.com/OWNER/NAME, not {repository!r}")
    owner, name = found.groups()
    blob = f"https://github.com/{owner}/{name}/blob/main/{place}"
    places = {
        "Colab": f"https://colab.research.google.com/github/{owner}/{name}/blob/main/{place}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src={blob}",
        "Codespaces": f"https://codespaces.new/{owner}/{name}",
        "Binder": f"https://mybinder.org/v2/gh/{owner}/{name}/HEAD?urlpath=lab/tree/{place}",
        "GitHub": blob,
    }
    return [{"name": label, "address": address} for label, address in places.items()]
