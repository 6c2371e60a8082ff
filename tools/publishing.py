"""What a built notebook has that no source has: the cell that brings the course, and a publisher's links.

    away_cell      below the title of every notebook: does nothing where the course is installed; elsewhere it
                   brings the course, from a wheel beside the notebook or from where it was published
    published      badges that open a notebook on Colab, Kaggle and Binder; figures by their whole address;
                   behind each link to another notebook one for Colab, which knows no file beside it
    unpublished    the inverse, for edits that are adopted

Only GitHub addresses can be published: of other hosts Colab and Kaggle open nothing. Badges are as in the
documentation of Colab, Kaggle and Binder.
"""

import json
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import nbformat
from nbformat.v4 import new_code_cell

AWAY = "away"  # the cell's id
WHEEL = "vlmcourse-*any.whl"  # not "... (1).whl", as a second upload is called: pip refuses that name
OWNER = r"[A-Za-z0-9][A-Za-z0-9-]*"
NAME = r"(?!\.{1,2}(?:/|$)|\.git(?:/|$))[A-Za-z0-9._-]+"
PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.))*"
BRANCH = rf"{PART}(?:/{PART})*"  # of what git takes, what links and pip take as well
HIDDEN = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "tags": ["remove-cell"],
}  # Colab, Lab, a book
TITLE = "Set-up, only where the course is not installed"  # all of the cell that JupyterLab shows
TITLE_BY_HAND = f"{TITLE}: put {WHEEL} beside this file"
CODE = """\
# @title {title}
import importlib.util; from glob import glob; at = ["{source}"]
if not importlib.util.find_spec("vlmcourse"):
    for on in ("/kaggle/**", "/content", "."): at += sorted(glob(f"{{on}}/{wheel}", recursive=True))
    get_ipython().run_line_magic("pip", f'install -q --no-deps "{{at[-1]}}"')
import vlmcourse.away; vlmcourse.away.set_up()"""


class Address(NamedTuple):
    """A repository on GitHub, and the branch whose files the links are to show."""

    owner: str
    name: str
    branch: str = "main"

    @property
    def pip(self) -> str:
        """What pip installs it from."""
        return f"git+https://github.com/{self.owner}/{self.name}@{self.branch}"

    @property
    def raw(self) -> str:
        """Where its files are read as they are; ends in "/"."""
        return f"https://raw.githubusercontent.com/{self.owner}/{self.name}/{quote(self.branch)}/"

    def file(self, place: str) -> str:
        """A file by its place in the repository, below a site that opens files of GitHub.

        A branch with a "/" is one part of the way: only so is it clear where the branch ends.
        """
        return f"{self.owner}/{self.name}/blob/{quote(self.branch, safe='')}/{place}"


def address_of(url: str, branch: str = "main") -> Address:
    """The address that a person writes, with or without .git.

    Raises:
        ValueError: if it is none of a repository on GitHub, or no branch can have that name.
    """
    match = re.fullmatch(rf"https://github\.com/({OWNER})/({NAME}?)(?:\.git)?/?", url)
    if not match:
        raise ValueError(f"{url!r} is no address like https://github.com/OWNER/NAME")
    if not re.fullmatch(BRANCH, branch) or re.search(r"\.(lock)?(/|$)", branch):
        raise ValueError(f"{branch!r} is no branch that links can name: A-Z a-z 0-9 . _ - / only, as in v1.0")
    return Address(*match.groups(), branch)


def address_given(url: str | None, branch: str | None) -> Address | None:
    """What `--repository` and `--branch` say, if anything.

    Raises:
        ValueError: as of address_of; and for a branch of nothing.
    """
    if url is None and branch is not None:
        raise ValueError("--branch is that of --repository; name both")
    return None if url is None else address_of(url, "main" if branch is None else branch)


def address_in(root: Path) -> Address | None:
    """The address for which the notebooks of a folder were built, if for any."""
    pattern = r'at = \["git\+(https://[^"@]+)@([^"@]+)"\]'
    for path in (*sorted(root.glob("*.ipynb")), *sorted(root.glob("ja/*.ipynb"))):
        if match := re.search(pattern, code_of(path, AWAY)):
            return address_of(*match.groups())
    return None


def code_of(path: Path, name: str) -> str:
    """The text of one cell of a notebook; "" if there is none, or the file is no notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return next(("".join(cell["source"]) for cell in cells if cell.get("id") == name), "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


def away_cell(address: Address | None) -> nbformat.NotebookNode:
    """The cell that brings the course to where it is not."""
    title, source = (TITLE, address.pip) if address else (TITLE_BY_HAND, WHEEL)
    code = CODE.format(title=title, source=source, wheel=WHEEL)
    return new_code_cell(code, id=AWAY, metadata=HIDDEN)


def badges(place: str, address: Address) -> str:
    """A line of badges for the notebook at this place of the repository."""
    binder = (
        f"{address.owner}/{address.name}/{quote(address.branch, safe='')}?labpath={quote(place, safe='')}"
    )
    page = address.file(place)
    opened = {
        "Colab": ("https://colab.research.google.com/assets/colab-badge.svg", on_colab(place, address)),
        "Kaggle": ("https://kaggle.com/static/images/open-in-kaggle.svg",
                   f"https://kaggle.com/kernels/welcome?src=https://github.com/{quote(page)}"),
        "Binder": ("https://mybinder.org/badge_logo.svg", f"https://mybinder.org/v2/gh/{binder}"),
    }  # fmt: skip
    return " ".join(f"[![Open in {site}]({image})]({link})" for site, (image, link) in opened.items())


def on_colab(place: str, address: Address) -> str:
    """What opens the notebook at this place of the repository on Colab."""
    return f"https://colab.research.google.com/github/{address.file(place)}"


def with_neighbours(source: str, place: str, address: Address) -> str:
    """The text of a cell with `([Colab](...))` behind each link to another file of the notebook's folder.

    The link itself stays, for whoever opens the notebook from a folder. Colab opens notebooks only: the index
    of terms is shown by GitHub.
    """

    def link(found: re.Match) -> str:
        there = posixpath.normpath(posixpath.join(posixpath.dirname(place), found[1]))
        if there.endswith(".ipynb"):
            return f"{found[0]} ([Colab]({on_colab(there, address)}))"
        return f"{found[0]} ([GitHub](https://github.com/{address.file(there)}))"

    return re.sub(r"\]\(((?:\.\./)*[\w-]+\.(?:ipynb|md))(?:#[^)\s]*)?\)", link, source)


def published(
    cells: Sequence[nbformat.NotebookNode], place: str, address: Address
) -> list[nbformat.NotebookNode]:
    """The cells of a notebook with badges below its title, and with links that need no file beside it."""
    for cell in cells:
        if cell.cell_type == "markdown":
            text = re.sub(r'(\]\(|src=")(?:\.\./)+assets/', rf"\1{address.raw}assets/", cell.source)
            cell.source = with_neighbours(text, place, address)
    title, _, rest = cells[0].source.partition("\n")
    cells[0].source = f"{title}\n\n{badges(place, address)}\n{rest}"
    return list(cells)


def unpublished(source: str, lang: str) -> str:
    """The text of a cell as it was before `published`."""
    up = "../" if lang == "en" else "../../"
    source = re.sub(r"\n\n\[!\[Open in Colab\].*\n", "\n", source)
    source = re.sub(r" \(\[(?:Colab|GitHub)\]\(https://[^)\s]+\.(?:ipynb|md)\)\)", "", source)
    return re.sub(r"https://raw\.githubusercontent\.com/[\w./%-]+?/assets/", f"{up}assets/", source)
