"""Run a notebook once, and keep the executed copy for as long as notebook and package stay the same.

    build/book/02_vit-en-3f2a….ipynb     executed: outputs, the widgets' data, and what was recorded of them

Two cells are added for the run, and left out of the page: one lets widgets carry more of their data, the
other presses the buttons of widgets that ask a model, and records the answers.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[2]
SECONDS_PER_CELL = 1200
SECONDS_TO_START = 300  # a kernel; more than nbclient's 60, for a busy computer
FIRST_CELL, LAST_CELL = "book-first", "book-last"
PERSONS = ("VLMCOURSE_WORKSPACE", "VLMCOURSE_KEEP")  # answers of a person have no place in a book
PRELOADED = 12_000_000  # bytes of data in a widget on a page, before compression
FIRST = f"import vlmcourse.widgets.base\nvlmcourse.widgets.base.PRELOAD = {PRELOADED}"
LAST = """\
from IPython.display import display as _display
from book.recording import MIME, recorded
_display({MIME: recorded()}, raw=True)"""


class Notebook(NamedTuple):
    """One edition of one chapter."""

    name: str  # such as "02_vit"
    lang: str
    path: Path


class RunError(Exception):
    """What a notebook stopped at."""


def package_hash(package: Path) -> str:
    """16 hex digits of all that a notebook's results depend on: code and tables of the package, and what is
    shipped beside it."""
    digest = hashlib.sha256()
    shipped = package.parent / "assets" / "checkpoints"
    for path in [*sorted(package.rglob("*")), *sorted(shipped.glob("*.*"))]:
        if path.suffix in (".py", ".js", ".css", ".json", ".toml", ".safetensors"):
            place = path.relative_to(package.parent).as_posix()
            digest.update(place.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def is_hidden(cell) -> bool:
    """Whether only a notebook needs a cell: the one that brings the course to where it is not."""
    return "remove-cell" in cell.metadata.get("tags", [])


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """A notebook from its file.

    Raises:
        ValueError: if it is none, has no cells, or cells without ids; names the file.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        whole = bool(notebook.cells) and all(cell.get("id") for cell in notebook.cells)
    except Exception as error:  # of JSON, of the format, of the file
        raise ValueError(f"{path} is no notebook that can be read: {error}") from error
    if not whole:
        raise ValueError(f"{path} has no cells, or cells without ids; `make notebooks` builds it anew")
    return notebook


def kept(notebook: Notebook, cache: Path, package: str) -> Path:
    """Where the executed copy lies, once there is one."""
    parts = [package, FIRST, LAST]
    parts += [Path(__file__).with_name(name).read_text("utf-8") for name in ("recording.py", "speaking.py")]
    cells = [cell for cell in read_notebook(notebook.path).cells if not is_hidden(cell)]
    parts += [part for cell in cells for part in (cell.id, cell.cell_type, cell.source)]
    digest = hashlib.sha256("\0".join(parts).encode())
    return cache / f"{notebook.name}-{notebook.lang}-{digest.hexdigest()[:16]}.ipynb"


def execute(notebook: Notebook, target: Path) -> Path:
    """Run a notebook in an empty folder, and keep the copy.

    Raises:
        RunError: with the cell that failed, and how.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    copy = read_notebook(notebook.path)
    copy.cells = [new_code_cell(FIRST, id=FIRST_CELL), *copy.cells, new_code_cell(LAST, id=LAST_CELL)]
    with tempfile.TemporaryDirectory(prefix="vlm-book-") as folder:
        place = Path(folder).resolve() / "notebooks"
        place.mkdir()
        for other in notebook.path.parent.glob("*.ipynb"):  # so that progress() links to the chapters
            shutil.copy(other, place)
        resources = {"metadata": {"path": str(place)}}
        quiet = ["--IPKernelApp.log_level=ERROR"]
        patience = {"timeout": SECONDS_PER_CELL, "startup_timeout": SECONDS_TO_START}
        client = NotebookClient(copy, resources=resources, extra_arguments=quiet, **patience)
        try:
            client.execute(env=environment())
        except (CellExecutionError, CellTimeoutError, RuntimeError) as problem:  # it died, or never came
            raise RunError(f"{notebook.name} ({notebook.lang}): {problem}") from None
        text = nbformat.writes(without_places(copy, place))
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".part")
    draft.write_text(text, encoding="utf-8")
    draft.rename(target)
    return target


def environment() -> dict[str, str]:
    """The kernel's: people will look, so widgets are live; one thread, as two notebooks run at once."""
    own = {"CI": "", "VLMCOURSE_REFERENCE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    paths = [str(ROOT), str(ROOT / "tools"), *filter(None, [os.environ.get("PYTHONPATH")])]
    others = {name: value for name, value in os.environ.items() if name not in PERSONS}
    return {**others, **own, "PYTHONPATH": os.pathsep.join(paths)}


def without_places(found: Any, place: Path) -> Any:
    """Texts, dicts and lists without the names of this machine's folders.

    A name counts where a path begins and a part of it ends: the letters of a short one, such as /app, stand
    in the base64 of pictures as well.
    """
    if isinstance(found, dict):
        return type(found)({key: without_places(value, place) for key, value in found.items()})
    if isinstance(found, list):
        return [without_places(value, place) for value in found]
    if not isinstance(found, str):
        return found
    names = {str(place): "notebooks", str(place.parent): ".", str(ROOT): ".", str(Path.home()): "~"}
    for folder, name in names.items():
        if len(folder) > 1:
            found = re.sub(rf"(?:(?<=://)|(?<![\w+/])){re.escape(folder)}(?![\w+-])", name, found)
    return found


class Inline(Executor):
    """Does everything at once, in this process."""

    def submit(self, function, /, *arguments):
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except RunError as problem:
            future.set_exception(problem)
        return future


def executed(
    notebooks: list[Notebook], cache: Path, processes: int = 2, reuse: bool = False, tell=print
) -> dict[Notebook, Path]:
    """The executed copy of each notebook, made where it is missing.

    Args:
        reuse: whether a copy of an earlier package or notebook will do.

    Raises:
        RunError: with what went wrong, of all notebooks, after the others were kept.
    """
    package = package_hash(ROOT / "vlmcourse")
    places = {notebook: kept(notebook, cache, package) for notebook in notebooks}
    if reuse:
        places = {one: newest(one, cache) or place for one, place in places.items()}
    missing = [notebook for notebook, place in places.items() if not place.exists()]
    tell(f"{len(notebooks) - len(missing)} of {len(notebooks)} notebooks are executed already")
    problems, pool = [], Inline()
    if processes > 1 and len(missing) > 1:
        pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    with pool:
        runs = [pool.submit(execute, notebook, places[notebook]) for notebook in missing]
        for run in runs:
            try:
                tell(f"executed: {run.result().name}")
            except RunError as problem:
                problems.append(str(problem))
    if problems:
        raise RunError("\n".join(problems))
    return places


def newest(notebook: Notebook, cache: Path) -> Path | None:
    """The copy that was executed last, of whatever package."""
    copies: Iterable[Path] = cache.glob(f"{notebook.name}-{notebook.lang}-*.ipynb")
    return max(copies, key=lambda path: path.stat().st_mtime, default=None)
