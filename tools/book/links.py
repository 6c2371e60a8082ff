"""Follow every link of a site that lies in a folder: each must lead to a file and a place that are there."""

from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

ADDRESSES = {"href", "src", "poster", "data-index"}
ELSEWHERE = ("http", "https", "mailto", "data")


class Checked(NamedTuple):
    """How many pages and links there are, and one line for each that leads nowhere."""

    pages: int
    links: int
    problems: list[str]


class Reader(HTMLParser):
    """What a page refers to, and the places in it."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors += [given["id"]] if given.get("id") else []
        self.addresses += [given[name] for name in sorted(ADDRESSES & set(given)) if given[name] is not None]
        for part in (given.get("srcset") or "").split(","):
            self.addresses += part.split()[:1]


def check_links(folder: Path) -> Checked:
    """Check a site; links to other sites are counted, not followed."""
    folder = folder.resolve()
    pages = {path: Reader(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    problems, links = [], 0
    for path, page in pages.items():
        name = path.relative_to(folder)
        twice = sorted({anchor for anchor in page.anchors if page.anchors.count(anchor) > 1})
        problems += [f"{name}: the id {anchor!r} stands twice" for anchor in twice]
        for address in page.addresses:
            links += 1
            if problem := where_wrong(address, path, pages, folder):
                problems.append(f"{name}: {address} {problem}")
    return Checked(len(pages), links, problems)


def where_wrong(address: str, page: Path, pages: dict[Path, Reader], folder: Path) -> str:
    """Why an address on a page leads nowhere; "" if it leads somewhere."""
    try:
        parts = urlsplit(address)
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        is_there = target.is_file()
    except (ValueError, OSError):  # brackets that are no host, a letter or a length that no file can have
        return "is no address"
    if parts.scheme in ELSEWHERE:
        return ""
    if parts.scheme or parts.netloc or parts.path.startswith("/"):
        return "does not work from a folder; it must be relative"
    if not target.is_relative_to(folder.resolve()):
        return "leads out of the site"
    if not is_there:
        return "is not there"
    if parts.fragment and (target not in pages or unquote(parts.fragment) not in pages[target].anchors):
        return "has no such place"
    return ""
