"""Where files are: what the course ships (figures, checkpoints, tokenizer) or keeps, and the learner's."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_WHEEL = "carried"  # the package's folder in which a wheel has notebooks and assets, see setup.py
LEARNERS = "vlm-workbook"  # the folder that `vlmcourse lab` makes from a wheel, where the command is given
FIRST = "notebooks/00_start_here.ipynb"


def cache_folder() -> Path:
    """What was made once and is kept, drawings say: $XDG_CACHE_HOME/vlmcourse, or ~/.cache/vlmcourse."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmcourse"


def course_folder() -> Path:
    """The folder with the course's `notebooks` and `assets`: the repository, or what a wheel carries.

    Raises:
        FileNotFoundError: if the package stands by itself.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / IN_WHEEL, package.parent):
        if (folder / "assets" / "checkpoints").is_dir():
            return folder
    raise FileNotFoundError(
        f"there is no folder {package.parent / 'assets'}: the course's figures and checkpoints come with its "
        "repository; clone it and run `pip install -e .` there, or install the wheel that `make wheel` builds"
    )


def from_a_wheel() -> bool:
    """Whether the course was installed from a wheel, and is no repository."""
    return course_folder().name == IN_WHEEL


def assets_folder() -> Path:
    """The folder of the course's figures, examples and checkpoints; errors as of course_folder."""
    return course_folder() / "assets"


def shipped(name: str) -> Path:
    """The path of a shipped checkpoint or tokenizer, such as "tokenizer.json".

    Raises:
        FileNotFoundError: if the course ships no such file; lists what there is.
    """
    folder = assets_folder() / "checkpoints"
    path = folder / name
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in folder.glob("*"))) or "nothing"
        raise FileNotFoundError(f"{path} does not exist (there is {there}); `make checkpoints` makes it")
    return path


def workspace() -> Path:
    """Where the learner works.

    $VLMCOURSE_WORKSPACE; else the folder, here or above, that holds ``notebooks/``; else ``vlm-workbook/`` in
    this folder, if ``vlmcourse lab`` made one; else here.

    Raises:
        FileNotFoundError: if the folder in which Python was started is gone.
    """
    if chosen := os.environ.get("VLMCOURSE_WORKSPACE"):
        return Path(chosen)
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise FileNotFoundError("the folder this notebook runs in is gone; restart it from another") from None
    for folder in (here, *here.parents):
        if folder.name == "notebooks":
            return folder.parent
        if (folder / FIRST).is_file():
            return folder
    made = here / LEARNERS
    return made if (made / FIRST).is_file() else here


@contextmanager
def written_beside(path: Path, draft: Path | None = None) -> Iterator[Path]:
    """Where to write a file or a folder that is to be `path`: beside it (`draft`), and renamed at the end.

    A rename happens or does not, so nobody ever reads half of it. If the block fails, the draft is removed
    and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft or path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.writing")
    try:
        yield draft
        os.replace(draft, path)
    except BaseException:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
        raise
