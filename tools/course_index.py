"""The index of the course: each term beside the cell that teaches it and the cell that proves it.

    notebooks/src/index.toml  ->  notebooks/INDEX.md        `python tools/build_notebooks.py` builds it

A group of the file becomes a table of the page, an entry a row:

    [connector]
    title = "The connector"
    text = "A sentence below the title; may be left out."
    entries = [
      { term = "Q-Former", taught = "11#block-intro", proved = ["11#block-proof", "11#perturb"] },
      { term = "[IMG_1] …", says = "image tokens", taught = "06#inject-intro", proved = "06#inject" },
    ]

`11#block-intro` is a cell of chapter 11.  Where the course has other words than the term, `says` states them.
A group with `glossary = true` holds words: each `means` something, and needs no proof.

An entry is wrong, and the build stops, if its chapter or cell does not exist; if a cell that teaches is no
text, or stands in a section that never says the term; or if a cell that proves is neither code with an assert
nor an exercise, whose check proves it.  A chapter that is not ready yet may be named: its links are left out
until it is.
"""

import ast
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from IPython.core.inputtransformer2 import TransformerManager

GROUP_KEYS = {"title", "text", "glossary", "entries"}
ENTRY_KEYS = {"term", "says", "taught", "proved", "means"}
TEACHES_NOTHING = {"Recap", "Quiz", "References", "After this you can"}
PLACE = re.compile(r"(\d\d)#([A-Za-z0-9_-]+)")
HEADING = re.compile(r"^## +(.*)$", flags=re.MULTILINE)
INTRO = """\
# Index

Each term stands beside the cell that **teaches** it and the cell that **proves** it: code that measures a
claim and asserts it, or an exercise, whose check proves it. In JupyterLab a link opens the notebook at that
cell; elsewhere it opens the notebook, and the section stands in the link. A second cell of the same section
is linked by its name.

*Built from `notebooks/src/index.toml` by `python tools/build_notebooks.py`, which checks every entry.*
"""


class Piece(NamedTuple):
    """What a cell says within one section; a text cell in which a section begins has two."""

    section: int
    text: str


class Link(NamedTuple):
    """What one reads, the cell, and where it leads."""

    section: str
    cell: str
    target: str


class Source:
    """A chapter, split into sections by its headings of the second level.

    Attributes:
        name: the notebook's file without its ending.
        titles: what the link to each section says; section 0 is what stands before the first heading.
        said: the plain text of each section.
        pieces: the pieces of each cell, by its id.
        code: the source of each code cell, by its id.
    """

    def __init__(self, name: str, cells: Iterable):
        self.name, self.titles, self.said = name, ["start"], [""]
        self.pieces: dict[str, list[Piece]] = {}
        self.code: dict[str, str] = {}
        for cell in cells:
            if cell.metadata.get("lang") != "ja":
                self.add(cell.metadata["id"], cell.cell_type, cell.source)

    def add(self, name: str, kind: str, text: str) -> None:
        """Take in one more cell."""
        if kind == "code":
            self.code[name] = text
            self.pieces[name] = [Piece(len(self.titles) - 1, "")]
            return
        before, *rest = HEADING.split(text)  # text, then title and text by turns
        parts = [before] if before.strip() or not rest else []
        self.pieces[name] = [self.say(part) for part in parts]
        for title, part in zip(rest[::2], rest[1::2], strict=True):
            self.titles.append(plain(title).replace(" · ", " ", 1))
            self.said.append("")
            self.pieces[name].append(self.say(f"{title}\n{part}"))

    def say(self, text: str) -> Piece:
        """Add text to the current section."""
        self.said[-1] += f" {plain(text)}"
        return Piece(len(self.titles) - 1, plain(text))

    def section_that_says(self, cell: str, forms: list[str]) -> int | None:
        """The section of a cell that says one of the forms; of two, the one in which the cell itself does."""
        pieces = self.pieces[cell]
        found = [piece.section for piece in pieces if says(piece.text, forms)]
        found += [piece.section for piece in pieces if says(self.said[piece.section], forms)]
        return found[0] if found else None

    def link(self, cell: str, section: int) -> "Link":
        """Opens the notebook at the cell, in JupyterLab; what one reads is chapter and section."""
        title = re.sub(r"([|\[\]])", r"\\\1", self.titles[section])
        return Link(f"{self.name[:2]} · {title}", cell, f"{self.name}.ipynb#cell-id={cell}")


def plain(text: str) -> str:
    """A text without the marks of Markdown, pictures and addresses, in one line."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"[*`]", "", re.sub(r"[|#]", " ", text)).split())


def says(text: str, forms: list[str]) -> bool:
    """Whether one of the forms occurs as words of their own, in any case, perhaps in the plural."""
    patterns = (rf"(?<!\w){re.escape(plain(form))}(?:e?s)?(?!\w)" for form in forms)
    return any(re.search(pattern, text, flags=re.IGNORECASE) for pattern in patterns)


def proves(code: str) -> bool:
    """Whether a cell asserts something, or is an exercise."""
    tree = ast.parse(TransformerManager().transform_cell(code))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    decorators = (ast.unparse(one) for function in functions for one in function.decorator_list)
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    return asserts or any(one.startswith("exercise(") for one in decorators)


def one_line(links: list[Link]) -> str:
    """Links into one section: its title, then the names of further cells."""
    first, *more = links
    return ", ".join(
        [f"[{first.section}]({first.target})", *(f"[`{link.cell}`]({link.target})" for link in more)]
    )


class Index:
    """The page that is built, and what is wrong with the entries it is built from."""

    def __init__(self, chapters: Iterable, sources: dict[str, Source]):
        self.known = {chapter.name[:2]: chapter for chapter in chapters}
        self.sources = {name[:2]: source for name, source in sources.items()}
        self.problems: list[str] = []

    def page(self, path: Path) -> str:
        """INDEX.md, from the groups of a file."""
        try:
            groups = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.problems.append(f"the file cannot be read ({error})")
            return ""
        tables = [self.table(name, group) for name, group in groups.items()]
        return "\n".join([INTRO, *(table for table in tables if table)])

    def table(self, name: str, group) -> str:
        """One group; empty if none of its entries can be shown yet."""
        if not isinstance(group, dict) or not {"title", "entries"} <= set(group) <= GROUP_KEYS:
            self.problems.append(
                f"group {name!r} must have title and entries, and may have text and glossary"
            )
            return ""
        glossary = group.get("glossary", False)
        terms = [str(entry.get("term")) for entry in group["entries"]]
        twice = sorted({term for term in terms if terms.count(term) > 1})
        self.problems += [f"{term!r}: this term stands twice in group {name!r}" for term in twice]
        rows = [self.row(entry, glossary) for entry in group["entries"]]
        rows = [row for row in rows if row]
        if not rows:
            return ""
        head = ("word", "means", "introduced in") if glossary else ("term", "taught", "proved")
        lines = [head, ("---",) * 3, *rows]
        text = [group["text"], ""] if "text" in group else []
        shown = ["| " + " | ".join(cells) + " |" for cells in lines]
        return "\n".join([f"## {group['title']}", "", *text, *shown, ""])

    def row(self, entry: dict, glossary: bool) -> tuple[str, str, str] | None:
        """Three cells of the table; None if the chapters of the entry are not ready, or it is wrong."""
        term = str(entry.get("term"))
        needed = {"term", "taught", "means" if glossary else "proved"}
        if lacking := sorted(needed - set(entry)) or sorted(set(entry) - needed - {"says"}):
            what = "lacks" if needed - set(entry) else "may not have"
            self.problems.append(f"{term!r} {what} {', '.join(lacking)}")
            return None
        says_so = entry.get("says", [])
        forms = [term, *([says_so] if isinstance(says_so, str) else says_so)]
        taught = self.links(term, "taught", entry["taught"], forms)
        proved = entry["means"] if glossary else self.links(term, "proved", entry["proved"], forms)
        if not taught or not proved:
            return None
        shown = term.replace("|", "\\|")
        return (f"**{shown}**", proved, taught) if glossary else (shown, taught, proved)

    def links(self, term: str, role: str, places: str | list[str], forms: list[str]) -> str:
        """The links of one entry, each checked."""
        found: dict[str, list[Link]] = {}
        for place in [places] if isinstance(places, str) else places:
            link, problem = self.checked(place, role, forms)
            if problem:
                self.problems.append(f"{term!r}, {role} = {place!r}: {problem}")
            elif link:
                found.setdefault(link.section, []).append(link)
        return "<br>".join(map(one_line, found.values()))

    def checked(self, place: str, role: str, forms: list[str]) -> tuple[Link | None, str]:
        """(link, problem) of one place; neither if its chapter is not ready."""
        parts = PLACE.fullmatch(str(place))
        if not parts:
            return None, "a place is written 02#cell-id"
        number, cell = parts.groups()
        if number not in self.known:
            return None, f"there is no chapter {number}"
        if not self.known[number].ready:
            return None, ""
        source = self.sources.get(number)
        if source is None:
            return None, f"{self.known[number].name} is ready, but has no source"
        if cell not in source.pieces:
            return None, f"{source.name} has no cell {cell!r}"
        return self.teaching(source, cell, forms) if role == "taught" else self.proving(source, cell)

    def teaching(self, source: Source, cell: str, forms: list[str]) -> tuple[Link | None, str]:
        """A text whose section says the term."""
        if cell in source.code:
            return None, f"cell {cell!r} of {source.name} is code; name a text that teaches"
        section = source.section_that_says(cell, forms)
        if section is None:
            titles = " / ".join(source.titles[piece.section] for piece in source.pieces[cell])
            return None, f"section {titles!r} of {source.name} never says {' or '.join(map(repr, forms))}"
        if source.titles[section] in TEACHES_NOTHING:
            return None, f"{source.titles[section]!r} teaches nothing; name the cell that does"
        return source.link(cell, section), ""

    def proving(self, source: Source, cell: str) -> tuple[Link | None, str]:
        """The cell must be code that can fail."""
        if cell not in source.code:
            return None, f"cell {cell!r} of {source.name} is text; a proof is a code cell"
        if not proves(source.code[cell]):
            return None, f"cell {cell!r} of {source.name} proves nothing: no assert, and no exercise"
        return source.link(cell, source.pieces[cell][0].section), ""
