"""What every command says to the terminal, and how: tables, one line for a mistake, nothing that steers it.

Imports nothing heavy, so that ``vlmcourse --help`` answers at once.
"""

import os
import shlex
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


def refuse_places(reports: dict[str, Path | None]) -> None:
    """A report that could not be written is refused before it is measured, and so is one that would replace
    a file that is none, such as the rows of a folder.

    Args:
        reports: by the ending of its name, where it is to be written, if at all.

    Raises:
        ValueError: if a name has another ending, or a folder has it.
        FileNotFoundError, NotADirectoryError, PermissionError: see refuse_place.
    """
    for ending, path in reports.items():
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise ValueError(f"{path} does not end in {ending}; name the report such as report{ending}")
        if path.is_dir():
            raise ValueError(f"{path} is a folder; name a file in it, such as {path / f'report{ending}'}")
        refuse_place(path)
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder {path.parent}; make it, or name {path.name} elsewhere"
            )


def refuse_place(path: Path) -> None:
    """Refuse a new file or folder that could not be written, before what takes minutes.

    Raises:
        NotADirectoryError, PermissionError: if it lies below a file, or where one may not write.
    """
    there = next(place for place in path.absolute().parents if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file, so {path} cannot lie below it; name another folder")
    try:
        allowed = os.access(there, os.W_OK)  # which lets the administrator everywhere: try it, too
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError:
        allowed = False
    if not allowed:
        raise PermissionError(f"{there} may not be written to; name another folder for {path.name}")


def refuse_old_folder(folder: Path) -> None:
    """Refuse what is to be a new folder if it is a file, holds something, or could not be made.

    Raises:
        ValueError, NotADirectoryError, PermissionError: see refuse_place.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder")
    refuse_place(folder / "config.json" if folder.is_dir() else folder)


@contextmanager
def explained() -> Iterator[None]:
    """A mistake of the user's ends with one line that names it, not with a traceback; so does a warning."""
    from vlmcourse.training.checkpoints import CheckpointError

    try:
        with warnings.catch_warnings(), _told_to_end():
            warnings.showwarning = lambda message, *_: typer.echo(printable(str(message)), err=True)
            yield
    except (ValueError, OSError, FloatingPointError, CheckpointError) as error:
        typer.echo(printable(str(error)), err=True)
        raise typer.Exit(1) from error
    except (RuntimeError, ToldToEnd) as error:
        from vlmcourse.training.sharing import lost_another

        if isinstance(error, ToldToEnd):
            lost = "told to end, as when another process of this training has ended, see there."
        elif lost_another(error):
            lost = "another process of this training has ended, see there; this one cannot go on alone."
        else:
            raise
        typer.echo(f"{lost} Checkpoints are whole: start the same command again, and it goes on.", err=True)
        raise typer.Exit(1) from error


class ToldToEnd(BaseException):
    """What the signal to end becomes in a training of several processes."""


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Whoever launched several processes ends the others when one has died, often before they notice that
    themselves. So that they can still say what to do, the signal raises ToldToEnd."""
    launched = os.environ.get("WORLD_SIZE", "1") != "1"
    if not launched or threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_it(*_: object) -> None:
        raise ToldToEnd

    before = signal.signal(signal.SIGTERM, raise_it)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends by itself, and is to say why
        raise
    signal.signal(signal.SIGTERM, before)


def is_first_process() -> bool:
    """Whether this process may write and print: of several that train together only the first one does."""
    return os.environ.get("RANK", "0") == "0"


def printable(text: str) -> str:
    """The text with escapes in place of what would steer the terminal, such as a file name may hold."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )


def quoted(path: object) -> str:
    """A path as it is written on a command line, spaces and all."""
    return printable(shlex.quote(f"{path}"))


def show(header: list[str], rows: list[list[str]]) -> None:
    """Print a table; a narrow terminal wraps its cells."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=SIMPLE)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)
