"""The site as a whole: pages of the chapters, the course's first page, its index of terms, and the search."""

import html
import json
import re
import shutil
from pathlib import Path
from urllib.parse import quote

import jinja2
from publishing import Address

from book.cells import Page, file_of, own_names, text_cell, words_of
from book.chapters import Chapter, linked_to, read_chapter
from book.running import ROOT, Notebook
from book.words import WORDS

HERE = Path(__file__).parent
TABLE_ROW = re.compile(r"^\| \[(\d\d_\w+)\]\([^)]*\) \| (.*?) \| (\d+) \| (.*?) \|$", flags=re.MULTILINE)


class Site:
    """A folder that is filled page by page.

    Attributes:
        folder: the root of the site.
        lang: the edition that is being written.
        root: the way from its pages to the root of the site.
    """

    def __init__(self, folder: Path, lang: str, editions: list[str], repository: Address | None = None):
        self.folder, self.lang, self.editions, self.repository = folder, lang, editions, repository
        self.index: Path | None = None  # of terms
        self.found: list[list[str]] = []  # what the search finds in it
        self.pages = folder if lang == "en" else folder / lang
        self.root = "" if lang == "en" else "../"
        self.files: dict[str, bytes] = {}
        loader = jinja2.FileSystemLoader(HERE)
        pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        self.template = pages.get_template("page.html")

    def fill(self, notebooks: list[Notebook], copies: dict[Notebook, Path]) -> None:
        """Write all pages of the edition.

        Raises:
            ValueError, LookupError: with what cannot be shown, and where.
        """
        names = {notebook.name for notebook in notebooks}
        index = notebooks[0].path.with_name("INDEX.md")
        self.index = index if index.exists() else None
        chapters = [
            read_chapter(notebook, copies[notebook], self.new_page(), self.figure, names)
            for notebook in notebooks
        ]
        beside = zip(notebooks, chapters, [None, *chapters], [*chapters[1:], None])  # noqa: B905
        for notebook, chapter, before, after in beside:
            launches = self.launches(notebook)
            parts = {"sections": chapter.sections, "scripts": chapter.scripts, "launches": launches}
            parts |= {"previous": before, "next": after}
            self.write(chapter.name, chapter.title, chapter.body, chapters, **parts)
        self.first_page(chapters)
        if self.index:
            self.terms(chapters, self.index)
        self.finish(chapters)

    def new_page(self) -> Page:
        return Page(self.lang, self.root, self.files, set())

    def figure(self, address: str, notebook: Path) -> str:
        """Copy a drawing of the repository to the site; its address there.

        Raises:
            ValueError: if it is not there, or another picture of the site has its name.
        """
        file = file_of(address, notebook)
        if not file.is_file():
            raise ValueError(f"{notebook.name} shows {address}, which is not there")
        target = self.folder / "figures" / file.name
        if target.exists() and target.read_bytes() != file.read_bytes():
            raise ValueError(f"{notebook.name} shows {address}; another picture is called {file.name}, too")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        return f"{self.root}figures/{quote(file.name)}"

    # ---- pages

    def write(self, name: str, title: str, body: str, chapters: list[Chapter], **parts) -> None:
        """One page; `parts` are what only some pages have: sections, scripts, launches, previous, next."""
        text = self.template.render(
            name=name, title=title, body=body, chapters=chapters, words=WORDS[self.lang], lang=self.lang,
            root=self.root, terms=self.index, others=self.others(name),
            **parts,
        )  # fmt: skip
        self.pages.mkdir(parents=True, exist_ok=True)
        (self.pages / f"{name}.html").write_text(text, encoding="utf-8")

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
        elsewhere = launch_places(place, self.repository) if self.repository else []
        return [*elsewhere, here]

    def terms(self, chapters: list[Chapter], index: Path) -> None:
        """The index of terms as a page; what its head says of notebooks is said anew."""
        words, page = WORDS[self.lang], self.new_page()
        _, begins, tables = index.read_text(encoding="utf-8").partition("\n## ")
        body, sections = text_cell(begins + tables, page, lambda address: address)
        body = f"<h1>{words['terms']}</h1><p>{words['terms_intro']}</p>{body}"
        body = linked_to(body, {chapter.name for chapter in chapters})
        self.found = term_entries(body, {chapter.name: chapter.title for chapter in chapters})
        self.write("terms", words["terms"], body, chapters, sections=sections)

    def first_page(self, chapters: list[Chapter]) -> None:
        """What the course is, and its chapters in a table."""
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        told = {row[0]: row[1:] for row in TABLE_ROW.findall(readme)}
        words = WORDS[self.lang]
        body = f'<h1>{words["course"]}</h1><p>{words["intro"]}</p><div class="drawing">{whole_model()}</div>'
        body += "".join(f"<p>{words[name]}</p>" for name in ("read", "run"))
        rows = [self.row(chapter, *told.get(chapter.name, ("", "", ""))) for chapter in chapters]
        heads = "".join(
            f'<th scope="col">{words[name]}</th>' for name in ("chapter", "build", "minutes", "gpu")
        )
        body += f'<h2 id="chapter-map">{words["chapters"]}</h2><div class="scroll"><table class="map">'
        body += f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        self.write("index", words["course"], body, chapters)

    def row(self, chapter: Chapter, builds: str, minutes: str, gpu: str) -> str:
        """A chapter in the table of the first page."""
        link = f'<a href="{chapter.name}.html">{html.escape(chapter.title)}</a>'
        told = builds if self.lang == "en" else ""
        return f"<tr><td>{link}</td><td>{html.escape(told)}</td><td>{minutes}</td><td>{gpu}</td></tr>"

    def finish(self, chapters: list[Chapter]) -> None:
        """Scripts, style and pictures, and the words of all sections for the search."""
        static = self.folder / "static"
        static.mkdir(parents=True, exist_ok=True)
        own = [HERE / name for name in ("book.css", "book.js", "speaker.js")]
        for file in (*own, ROOT / "vlmcourse" / "widgets" / "widgets.css"):
            shutil.copy(file, static)
        entries = self.found + [entry for chapter in chapters for entry in chapter.entries]
        data = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
        (static / f"search-{self.lang}.js").write_text(f"window.bookSections = {data};\n", encoding="utf-8")
        for place, data in self.files.items():
            (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / place).write_bytes(data)


def term_entries(body: str, titles: dict[str, str]) -> list[list[str]]:
    """What the search finds in the index of terms: for each the cell that teaches it.

    Args:
        body: the tables of the index; a term's first link opens the cell.
        titles: of the chapters, by their names.
    """
    row = r'<tr>\s*<td>((?:(?!<tr).)*?)</td>\s*<td><a [^>]*href="((\d\d_\w+)\.html[^"]*)"[^>]*>(.*?)</a>'
    entries = []
    for term, address, chapter, section in re.findall(row, body, re.DOTALL):
        name, _, meaning = term.partition("</td>")  # a glossary has one
        text = words_of(f"{meaning} {section}").strip()
        entries.append([address, titles[chapter], words_of(name).strip(), text])
    return entries


def whole_model() -> str:
    """The drawing of a vision-language model, in the page's colours."""
    from vlmcourse.workbook.figures import ON_ANY_PAPER, Described

    svg = (ROOT / "assets" / "figures" / "vlm.svg").read_text(encoding="utf-8")
    for colour, other in ON_ANY_PAPER.items():
        svg = svg.replace(colour, other)
    alt = "An image and a question enter a vision encoder, a connector and a language model; an answer leaves"
    return own_names(Described(svg, 820, alt)._repr_html_(), "whole", set())


def launch_places(place: str, address: Address) -> list[dict[str, str]]:
    """Where the notebook at a place of a published repository can be opened."""
    page, branch = address.file(place), quote(address.branch, safe="")
    repository = f"{address.owner}/{address.name}"
    lab = f"{repository}/{branch}?labpath={quote(place, safe='')}"
    places = {
        "Colab": f"https://colab.research.google.com/github/{page}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://github.com/{quote(page)}",
        "Codespaces": f"https://codespaces.new/{repository}?ref={branch}",
        "Binder": f"https://mybinder.org/v2/gh/{lab}",
        "GitHub": f"https://github.com/{page}",
    }
    return [{"name": name, "address": link} for name, link in places.items()]
