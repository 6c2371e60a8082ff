"""What a learner hands in: one zip with their answers as source, their diary, versions and plan.

write_submission    the zip of this workspace
read_submission     what is in a zip that somebody handed in; whatever is wrong with it is named

submission.json     format, name, time, versions, seed of the cases, hash of each answer and attempt
answers/SLOT.py     the saved functions, as portfolio.written makes them
attempts/SLOT.py    of exercises that have not passed, the latest answer; zips of before have none
diary.jsonl         events: checks, hints, solutions looked at, quizzes
vlm.toml            the plan of the capstone, if there is one
"""

import hashlib
import importlib.metadata
import json
import platform
import re
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmcourse.data.assets import written_beside
from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook import portfolio
from vlmcourse.workbook.outcomes import SEED

FORMAT = 1
ANSWERS, TRIED = "answers/", "attempts/"  # folders of a zip
NOTED = ("vlmcourse", "torch", "numpy")  # whose versions are noted
MOST_ANSWER = 200_000  # bytes of one answer
MOST_DIARY = 5_000_000
MOST_TOTAL = 40_000_000
MOST_ENTRIES = 1000
MOST_PROBLEMS = 20  # that are told one by one
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may take gigabytes to unpack a few bytes
_MONTHS_1980 = (1980, 1, 1, 0, 0, 0)  # of every entry: the same work gives the same bytes


class BadSubmission(ValueError):
    """A file that was handed in cannot be read; says what is wrong with it."""


@dataclass(frozen=True)
class Submission:
    """What one person handed in.

    Attributes:
        file: the name of the zip.
        name: of the person, as they wrote it.
        answers: by slot, the text of the saved file.
        attempts: slots whose answer had not passed when it was handed in.
        diary: events, as portfolio.note wrote them.
        versions: of Python and packages.
        problems: what was left out, and why.
    """

    file: str
    name: str
    answers: Mapping[str, str]
    diary: list[dict[str, Any]]
    versions: Mapping[str, str]
    made: float = 0.0
    problems: tuple[str, ...] = field(default=())
    attempts: frozenset[str] = frozenset()


def usual_file(name: str) -> str:
    """How the zip of a person is called, such as submission-ada-lovelace.zip."""
    words = re.sub(r"[^\w]+", "-", name.lower()).strip("-_") or "nameless"
    return f"submission-{words[:60]}.zip"


def write_submission(path: str | Path, name: str) -> Submission:
    """Write the zip of this workspace.

    Raises:
        ValueError: if there is no name, no answer at all, or the file is no .zip.
        OSError: if it cannot be written, or an answer cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() != ".zip":
        raise ValueError(f"{path} does not end in .zip; name it such as {usual_file(name)}")
    if not plain_name(name):
        raise ValueError("say whose it is: --name 'Ada Lovelace'")
    answers = _saved_answers(all_exercises())
    attempts = _saved_answers(all_exercises().keys() - answers.keys(), passed=False)
    if not answers and not attempts:
        raise ValueError(
            f"no answer has passed in {portfolio.workspace()}, and none was wrong; write one in a notebook, "
            "run its cell, and submit then"
        )
    about = dict(format=FORMAT, name=plain_name(name), made=round(time.time()), seed=SEED,
                 versions=_versions(),
                 answers={slot: _hash(text) for slot, text in answers.items()},
                 attempts={slot: _hash(text) for slot, text in attempts.items()})  # fmt: skip
    files = {"submission.json": json.dumps(about, indent=1).encode(), **_files(answers, attempts)}
    with written_beside(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in files.items():
            archive.writestr(zipfile.ZipInfo(entry, _MONTHS_1980), content, zipfile.ZIP_DEFLATED)
    return read_submission(path)


def _saved_answers(slots: Iterable[str], passed: bool = True) -> dict[str, str]:
    saved = portfolio.saved(slots, passed)
    for slot, one in saved.items():
        if isinstance(one, Exception):
            raise OSError(f"an answer cannot be read: {portfolio.file_of(slot, passed)}: {one}")
    return {slot: one.text for slot, one in saved.items()}


def _files(answers: Mapping[str, str], attempts: Mapping[str, str]) -> dict[str, bytes]:
    """What the zip holds beside submission.json, by its place in it."""
    home = portfolio.workspace() / "my_vlm"
    files = {f"{ANSWERS}{portfolio.file_name(slot)}": text.encode() for slot, text in answers.items()}
    files |= {f"{TRIED}{portfolio.file_name(slot)}": text.encode() for slot, text in attempts.items()}
    notes = home / "diary.jsonl", home / "vlm.toml"
    return files | {place.name: place.read_bytes() for place in notes if place.is_file()}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in NOTED:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_submission(path: str | Path) -> Submission:
    """What is in a zip that somebody handed in. Nothing of it is run, and nothing is written.

    An answer that is too long or no text is left out and named in ``problems``, and so is a file that no
    submission has.

    Raises:
        BadSubmission: if it is no whole zip, holds a file twice, is far too large, or lacks submission.json.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise OSError("it is no file")
        if path.stat().st_size > MOST_TOTAL:
            raise BadSubmission(f"{path.name} has more than {MOST_TOTAL:,} bytes")
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _refuse_entries(entries)
            limits = {entry.filename: _limit_of(entry.filename) for entry in entries}
            held, problems = {}, []
            for entry in entries:
                _take(archive, entry, limits[entry.filename], held, problems)
    except BadSubmission:
        raise
    except Exception as error:  # zipfile raises a dozen types for bytes that are no zip
        raise BadSubmission(f"{path.name} is no whole zip: {error}") from error
    return _submission(path.name, held, problems)


def _refuse_entries(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > MOST_TOTAL:
        raise BadSubmission(f"it holds more than {MOST_ENTRIES} files, or more than {MOST_TOTAL:,} bytes")
    counts = Counter(entry.filename for entry in entries)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise BadSubmission(f"it holds {twice[0]!r:.100} twice, so nobody knows which one counts")
    if other := [entry.filename for entry in entries if entry.compress_type not in PACKED]:
        raise BadSubmission(f"{other[0]!r:.100} is packed in another way than `vlmcourse submit` packs it")


def _limit_of(name: str) -> int:
    """Bytes that a file of this name may have; 0 for one that no submission has."""
    if name.startswith((ANSWERS, TRIED)):
        return MOST_ANSWER if name.partition("/")[2] in _slots_by_file() else 0
    return {"submission.json": MOST_ANSWER, "vlm.toml": MOST_ANSWER, "diary.jsonl": MOST_DIARY}.get(name, 0)


def _slots_by_file() -> dict[str, str]:
    return {portfolio.file_name(slot): slot for slot in all_exercises()}


def _take(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int, held: dict[str, str], problems: list[str]
) -> None:
    """Read one file into ``held``, or say in ``problems`` why not."""
    if not most:
        problems.append(f"{entry.filename!r:.100} is no part of a submission; left out")
        return
    with archive.open(entry) as stream:
        content = stream.read(most + 1)  # whatever size the zip states
    if len(content) > most:
        problems.append(f"{entry.filename} has more than {most:,} bytes; left out")
        return
    try:
        held[entry.filename] = content.decode("utf-8")
    except UnicodeDecodeError:
        problems.append(f"{entry.filename} is no text; left out")


def _submission(file: str, held: Mapping[str, str], problems: list[str]) -> Submission:
    try:
        about = json.loads(held["submission.json"])
        name, made, versions = plain_name(about["name"]), float(about["made"]), _texts(about["versions"])
        hashes, tried = _texts(about["answers"]), _texts(about.get("attempts", {}))
        written = int(about["format"])
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadSubmission(
            f"{file} has no whole submission.json ({error}); `vlmcourse submit` writes one"
        ) from error
    if written != FORMAT:
        raise BadSubmission(f"{file} has format {written}, this course reads {FORMAT}; update the course")
    answers, attempts = _by_slot(held, ANSWERS), _by_slot(held, TRIED)
    problems = [*problems, *([] if name else ["it bears no name"])]
    problems += _changed("the answer to", hashes, answers) + _changed("the attempt at", tried, attempts)
    diary = [event for event in map(portfolio.event_of, held.get("diary.jsonl", "").splitlines()) if event]
    return Submission(file, name, attempts | answers, diary, versions, made, tuple(_first(problems)),
                      frozenset(attempts.keys() - answers.keys()))  # fmt: skip


def _by_slot(held: Mapping[str, str], folder: str) -> dict[str, str]:
    slots = _slots_by_file()
    found = {entry.removeprefix(folder): text for entry, text in held.items() if entry.startswith(folder)}
    return {slots[file]: text for file, text in found.items()}


def _changed(what: str, hashes: Mapping[str, str], texts: Mapping[str, str]) -> list[str]:
    """What to say of texts that are not those whose hashes are listed."""
    problems = []
    for slot in sorted(hashes.keys() | texts.keys()):
        if slot not in texts:
            problems.append(f"{what} {slot!r:.100} is listed, but not there")
        elif hashes.get(slot) != _hash(texts[slot]):
            problems.append(f"{what} {slot} is not as it was when it was submitted")
    return problems


def _first(problems: list[str]) -> list[str]:
    more = len(problems) - MOST_PROBLEMS
    return [*problems[:MOST_PROBLEMS], f"and {more} more of such problems"] if more > 0 else problems


def plain_name(name: str) -> str:
    """A name on one line: without what would steer a terminal, a table or the direction of writing."""
    plain = unicodedata.normalize("NFC", name)[:200].encode("utf-8", "replace").decode()
    return " ".join("".join(" " if _steers(letter) else letter for letter in plain).split())


def _steers(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc" or unicodedata.bidirectional(letter) in _DIRECTIONS


_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _texts(pairs: dict) -> dict[str, str]:
    """A dictionary of texts by texts, whatever was sent in its place."""
    return {str(key): str(value) for key, value in pairs.items()}
