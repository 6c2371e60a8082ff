"""Copies of a learner's work in a folder that outlasts the session, such as one on Google Drive.

    $VLMCOURSE_KEEP      the folder; without it nothing here does anything
    keep_answers()       my_vlm/, attempts too: called when an exercise passes or a quiz is answered
    keep_trained(path)   a checkpoint or a file of weights: called when training has written it
    restore()            brings back what is missing here

A session on Colab may end at any moment, and a file on Drive may be there by half, or changed. So a copy is
one zip, written under another name, read back, and then renamed; its name holds the time and the SHA-256 of
its bytes. Restoring takes the newest copy whose bytes have that hash. It replaces nothing: what is in the
workspace stays, and only diaries are joined, line by line, so that two sessions at once lose nothing of each
other. What Drive uploads after the renaming, only the next session can check.
"""

import hashlib
import os
import re
import shutil
import tempfile
import time
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vlmcourse.data.assets import workspace, written_beside

KEEP = "VLMCOURSE_KEEP"  # name of the variable
COPIES = 3  # of one thing that stay
PAUSE = 300  # seconds at least between copies of one run's checkpoints
_ANSWERS = "my_vlm"
ATTEMPTS = "attempts"  # the folder in it for answers that are not right yet
DIARY = "diary.jsonl"
_NAME = re.compile(r"(?P<of>.+)\.(?P<time>\d{8}-\d{6}-\d{6})\.(?P<hash>[0-9a-f]{64})\.zip")
_TIME = "%Y%m%d-%H%M%S-%f"
_kept_at: dict[str, float] = {}  # by run, when its checkpoint was last copied
_joined: set[tuple[Path, str]] = set()  # workspaces, and copies of answers that are in them already


class Back(NamedTuple):
    """What restoring brought: files by their place in the workspace, and copies that were not whole."""

    files: list[str]
    damaged: list[str]


def keep_folder() -> Path | None:
    """The folder for copies, if one is set."""
    return Path(chosen) if (chosen := os.environ.get(KEEP)) else None


def keep_answers() -> None:
    """Copy the answers and the diary, joined with what other sessions have copied; a failure is a warning."""
    if (folder := keep_folder()) is None or not (home := workspace() / _ANSWERS).is_dir():
        return
    try:
        _join_answers(folder)
        kept = sorted([*home.iterdir(), *(home / ATTEMPTS).glob("*.py")])
        files = [path for path in kept if path.suffix in (".py", ".toml", ".jsonl")]
        places = {f"{_ANSWERS}/{path.relative_to(home).as_posix()}": path
                  for path in files if path.is_file()}  # links, too  # fmt: skip
        _joined.add((workspace(), _copy(folder, _ANSWERS, places)))
    except OSError as error:
        _not_kept(folder, error)


def keep_trained(*paths: Path) -> None:
    """Copy a checkpoint's folder, or a file of weights with its card, if it lies in the workspace.

    Checkpoints of one run are copied every PAUSE seconds at most. A failure is a warning: training goes on.
    """
    if (folder := keep_folder()) is None:
        return
    home, first = workspace().resolve(), paths[0].resolve()
    if not first.is_relative_to(home):
        return
    name = (first.parent if first.is_dir() else first).relative_to(home).as_posix()
    if first.is_dir() and time.monotonic() - _kept_at.get(name, -PAUSE) < PAUSE:
        return
    try:
        files = sorted(first.iterdir()) if first.is_dir() else [path.resolve() for path in paths]
        _copy(folder, name, {file.relative_to(home).as_posix(): file for file in files})
        _kept_at[name] = time.monotonic()
    except OSError as error:
        _not_kept(folder, error)


def restore() -> Back:
    """Bring back what is missing in the workspace, from the newest whole copies.

    Raises:
        OSError: if the folder cannot be read.
    """
    folder, back = keep_folder(), Back([], [])
    if folder is None or not folder.is_dir():
        return back
    names = set()
    for path in folder.rglob("*.zip"):
        if match := _NAME.fullmatch(path.name):
            names.add((path.parent.relative_to(folder) / match["of"]).as_posix())
    for name in sorted(names):
        brought = _join_answers(folder) if name == _ANSWERS else _bring_newest(folder, name)
        back.files.extend(brought.files)
        back.damaged.extend(brought.damaged)
    return back


def _copies(folder: Path, name: str) -> list[Path]:
    """The copies of one thing, the oldest first."""
    place = folder / name
    named = [(match["time"], path) for path in place.parent.glob("*.zip")
             if (match := _NAME.fullmatch(path.name)) and match["of"] == place.name]  # fmt: skip
    return [path for _, path in sorted(named)]


def _content(copy: Path, inside: str) -> dict[PurePosixPath, bytes] | None:
    """What a copy holds, by its places in the workspace; None if it is not whole.

    None as well if a place lies outside of the folder `inside`: it is no copy of this course.
    """
    try:
        if _hash(copy) != _NAME.fullmatch(copy.name)["hash"]:
            return None
        with zipfile.ZipFile(copy) as archive:
            content = {PurePosixPath(place): archive.read(place) for place in archive.namelist()}
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # Drive may list what it cannot read
    allowed = [place.is_relative_to(inside) and ".." not in place.parts for place in content]
    return content if all(allowed) else None


def _now(folder: Path, name: str) -> str:
    """The time as copies are named by, behind that of every other copy: clocks of sessions may differ."""
    now = datetime.now(UTC).strftime(_TIME)
    for copy in _copies(folder, name):
        last = _NAME.fullmatch(copy.name)["time"]
        with suppress(ValueError, OverflowError):  # it is no time
            now = max(now, (datetime.strptime(last, _TIME) + timedelta(microseconds=1)).strftime(_TIME))
    return now


def _copy(folder: Path, name: str, files: Mapping[str, Path]) -> str:
    """Write one copy, of files by their places in the workspace, and remove old ones; returns its name.

    Raises:
        OSError: if it cannot be written, or what is read back differs.
    """
    if not folder.is_dir():
        raise FileNotFoundError("the folder is not there, its drive may have gone")
    with tempfile.TemporaryDirectory() as place:
        packed = Path(place) / "packed.zip"
        with zipfile.ZipFile(packed, "w", strict_timestamps=False) as archive:
            for inner, file in files.items():
                archive.write(file, inner)
        final = folder / f"{name}.{_now(folder, name)}.{_hash(packed)}.zip"
        with written_beside(final, final.with_name(f"{uuid.uuid4().hex[:8]}.writing")) as draft:
            shutil.copyfile(packed, draft)
            if _hash(draft) != _hash(packed):
                raise OSError(f"what was written to {draft} reads differently")
    for old in _copies(folder, name)[:-COPIES]:
        if old != final:
            old.unlink(missing_ok=True)
    return final.name


def _bring_newest(folder: Path, name: str) -> Back:
    """A checkpoint or weights, unless the workspace has some of that name."""
    home, damaged = workspace(), []
    if any((home / name).glob("step-*")) or (home / name).is_file():
        return Back([], [])
    for copy in reversed(_copies(folder, name)):
        content = _content(copy, Path(name).parent.as_posix())
        if content is not None:
            _unpack(content, home, name)
            return Back([place.as_posix() for place in content], damaged)
        damaged.append(copy.name)
    return Back([], damaged)


def _unpack(content: Mapping[PurePosixPath, bytes], home: Path, name: str) -> None:
    """Put what a copy holds into its place: a checkpoint's folder at once, weights after their card."""
    folders = {place.parent for place in content if place.parent.as_posix() != Path(name).parent.as_posix()}
    for inner in folders:
        with written_beside(home / inner) as draft:
            draft.mkdir()
            for place in content:
                (draft / place.name).write_bytes(content[place])
    for place in sorted(content, key=lambda place: place.suffix) if not folders else []:
        with written_beside(home / place) as draft:
            draft.write_bytes(content[place])


def _join_answers(folder: Path) -> Back:
    """Answers that are missing here, from the newest copy that has them, and lines of all diaries."""
    home, back = workspace(), Back([], [])
    for copy in reversed(_copies(folder, _ANSWERS)):
        if (home, copy.name) in _joined:
            continue
        content = _content(copy, _ANSWERS)
        if content is None:
            back.damaged.append(copy.name)
            continue
        for place, text in content.items():
            if place.name == DIARY:
                _join_diary(home / place, text)
            elif not (home / place).exists():
                with written_beside(home / place) as draft:
                    draft.write_bytes(text)
                back.files.append(place.as_posix())
        _joined.add((home, copy.name))
    return back


def _join_diary(path: Path, other: bytes) -> None:
    """Add the lines of another diary that this one lacks."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=10):
        own = path.read_bytes().splitlines() if path.exists() else []
        known = set(own)
        lines = [line for line in other.splitlines() if line not in known]
        if lines:
            with written_beside(path) as draft:
                draft.write_bytes(b"\n".join([*lines, *own]) + b"\n")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_kept(folder: Path, error: Exception) -> None:
    warnings.warn(f"not kept in {folder}: {error}. Your work is in {workspace()} only.", stacklevel=3)
