"""From the cells of a notebook to HTML: text, code, and what a run has put below it."""

import base64
import hashlib
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

ADDRESS = re.compile(r"(\d\d_[a-z0-9_]+)\.ipynb(?:#cell-id=([A-Za-z0-9_-]+))?")
REFERRED = re.compile(r"""(?:url\(#|href="#)([^")]+)""")
ID = re.compile(r' id="([^"]*)"')
UNSHOWN = ("text/markdown", "text/latex", "application/javascript")
ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
)  # colours, links of a terminal


class Section(NamedTuple):
    """A heading: its level, where a link leads, and what it says."""

    level: int
    anchor: str
    title: str


class Page(NamedTuple):
    """What is known of the page that is being written; `files` gathers what it needs, by place."""

    lang: str
    root: str  # the way to the site's own folder: "" or "../"
    files: dict[str, bytes]
    taken: set[str]  # anchors


def coloured(code: str, language: str = "python") -> str:
    """Code with the parts of its grammar named by class."""
    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False)
    except ClassNotFound:
        lexer = get_lexer_by_name("text", stripnl=False)
    inner = highlight(code, lexer, HtmlFormatter(nowrap=True)).rstrip("\n")
    return f'<pre class="code"><code>{inner}</code></pre>'


def with_code(text: str) -> str:
    """A sentence in which `code` stands in backticks."""
    parts = html.escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def page_address(address: str) -> str:
    """Where a link of a notebook leads on the site; others stay as they are."""
    if address == "INDEX.md":
        return "terms.html"
    found = ADDRESS.fullmatch(address)
    return f"{found[1]}.html" + (f"#{found[2]}" if found[2] else "") if found else address


def slug(title: str, taken: set[str]) -> str:
    """An anchor that says what the title says, and that nothing else on the page has."""
    wanted = re.sub(r"\W+", "-", title.casefold()).strip("-") or "section"
    number, anchor = 1, wanted
    while anchor in taken:
        number += 1
        anchor = f"{wanted}-{number}"
    taken.add(anchor)
    return anchor


# ---- text --------------------------------------------------------------------------------------------------

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def text_cell(source: str, page: Page, figure: Callable[[str], str]) -> tuple[str, list[Section]]:
    """The HTML of a text, and its headings.

    Args:
        figure: takes the address of a picture in the repository, gives that on the site.
    """
    tokens, sections = MARKDOWN.parse(source), []
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            title = plain(tokens[number + 1].children)
            sections.append(Section(int(token.tag[1]), slug(title, page.taken), title))
            token.attrSet("id", sections[-1].anchor)
        for child in token.children or []:
            if child.type == "link_open":
                child.attrSet("href", page_address(child.attrGet("href")))
            elif child.type == "image" and not re.match(r"[a-z]+:", child.attrGet("src")):
                child.attrSet("src", figure(child.attrGet("src")))
    markup = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    markup = re.sub(
        r'<pre><code(?: class="language-(\w+)")?>(.*?)</code></pre>', _fence, markup, flags=re.DOTALL
    )
    return in_scrollers(markup), sections


def plain(children) -> str:
    """What a line of Markdown says, without its marks."""
    return "".join(child.content for child in children if child.type in ("text", "code_inline")).strip()


def _fence(found: re.Match) -> str:
    return coloured(html.unescape(found[2]), found[1] or "text")


def in_scrollers(markup: str) -> str:
    """Tables in a frame of their own, which scrolls where the page is narrow."""
    return markup.replace("<table", '<div class="scroll"><table').replace("</table>", "</table></div>")


# ---- outputs -----------------------------------------------------------------------------------------------


def output(one, cell: str, page: Page, widget: Callable[[str], str]) -> str:
    """The HTML of one output; "" for one that has no place in a book.

    Args:
        widget: takes the identity of a widget's model and gives its HTML.

    Raises:
        ValueError: for a picture without a description, or what the book cannot show.
    """
    if one.output_type == "stream":
        return (
            printed(one.text) if one.name == "stdout" else ""
        )  # what libraries warn of is no part of a book
    if one.output_type == "error":
        return printed("\n".join(one.traceback), "error")
    data = one.data
    if "application/vnd.jupyter.widget-view+json" in data:
        return widget(data["application/vnd.jupyter.widget-view+json"]["model_id"])
    if "text/html" in data:
        return markup_of(data["text/html"], cell, page.taken)
    if "image/png" in data:
        return picture(one, cell, page)
    if kinds := [kind for kind in data if kind.startswith("image/") or kind in UNSHOWN]:
        raise ValueError(f"cell {cell!r} shows {kinds[0]}, which the book cannot; show HTML or a PNG")
    return printed(data["text/plain"]) if "text/plain" in data else ""


def printed(text: str, kind: str = "stdout") -> str:
    """Lines that a cell has printed; of a line that was written over, its last state."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in ESCAPE.sub("", text).split("\n")]
    text = "\n".join(lines).rstrip()
    return f'<pre class="printed {kind}">{html.escape(text, quote=False)}</pre>' if text else ""


def markup_of(markup: str, cell: str, taken: set[str]) -> str:
    """A card, a table or a drawing of the course, with links and names that suit the page."""
    markup = markup.replace(' role="status"', "")  # nothing changes here that should be read aloud
    markup = re.sub(r'href="([^"]+\.ipynb[^"]*)"', lambda found: f'href="{page_address(found[1])}"', markup)
    if "<svg" in markup:
        return f'<div class="drawing">{own_names(markup, cell, taken)}</div>'
    return in_scrollers(markup)


def own_names(svg: str, cell: str, taken: set[str]) -> str:
    """Keep of an SVG's ids those that it refers to, named by the cell, as no page may have an id twice."""
    referred = set(REFERRED.findall(svg))
    mark = slug(f"{cell}-{hashlib.sha256(svg.encode()).hexdigest()[:6]}", taken) + "-"
    svg = ID.sub(lambda found: f' id="{mark}{found[1]}"' if found[1] in referred else "", svg)
    return REFERRED.sub(lambda found: found[0].replace(f"#{found[1]}", f"#{mark}{found[1]}"), svg)


def picture(one, cell: str, page: Page) -> str:
    """A picture as a file of the site."""
    told = one.metadata.get("image/png", {})
    alt = told.get("alt", "")
    if not alt:
        raise ValueError(f"cell {cell!r} shows a picture without a description; use figure(fig, alt=...)")
    data = base64.b64decode(one.data["image/png"])
    name = f"images/{cell}-{hashlib.sha256(data).hexdigest()[:8]}.png"
    page.files[name] = data
    width = f' width="{told["width"]}"' if "width" in told else ""
    return f'<img class="still" src="{page.root}{name}" alt="{html.escape(alt)}"{width} loading="lazy">'


def words_of(markup: str) -> str:
    """The text of some HTML, for the search; drawings have none."""
    markup = re.sub(r"<(svg|script|style|noscript)\b.*?</\1>", " ", markup, flags=re.DOTALL)
    markup = re.sub(r"</?(?:em|strong|code|a|span)\b[^>]*>", "", markup)  # within a word
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def file_of(address: str, notebook: Path) -> Path:
    """The file that a notebook's relative address names."""
    return (notebook.parent / unquote(address.split("#")[0])).resolve()
