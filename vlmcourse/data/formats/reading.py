"""How published files are read: piece by piece, so that a file may be larger than the memory (notebook 12).

    json_items       the entries of a JSON file's lists, one after the other; json_rows counts broken ones
    bounded_lines    lines of a text, none longer than a limit
    tar_samples      samples of a WebDataset shard
    stream_rows      rows of a Parquet file or of a data set on the hub, through the `datasets` library

That library reads a JSON file that is one long list, as COCO, VQA v2, Visual Genome and LLaVA publish them,
whole, and needs one type for each column; and it takes the types of a shard from its first five samples, so a
score that is absent there is lost.  Hence the first three.
"""

import itertools
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from vlmcourse.data.records import RowError, Skips

MOST_ENTRY = 1 << 24  # letters of one entry of a list; Visual Genome's largest has some 100,000
MOST_LINE = 1 << 20  # bytes
MOST_FILE = 1 << 26  # bytes of one file in a shard
_CHUNK = 1 << 16
_BEHIND = frozenset(" \t\n\r,:]}")  # what may stand behind a value
_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


class _Text:
    """A window on a JSON text that moves forward."""

    def __init__(self, file: TextIO, name: str):
        self.file, self.name, self.window, self.place, self.ended = file, name, "", 0, False

    def more(self) -> bool:
        """Read on; False at the end. Reads twice as much each time a value is not complete."""
        if self.ended:
            return False
        rest = self.window[self.place :]
        if len(rest) > MOST_ENTRY:
            raise ValueError(
                f"{self.name} holds a value of more than {MOST_ENTRY:,} letters: no such data set"
            )
        read = self.file.read(max(_CHUNK, len(rest)))
        self.window, self.place, self.ended = rest + read, 0, not read
        return bool(read)

    def peek(self) -> str:
        """The next letter that is no space, or "" at the end."""
        while True:
            self.place = _SPACE.match(self.window, self.place).end()
            if self.place < len(self.window) or not self.more():
                return self.window[self.place : self.place + 1]

    def take(self, allowed: str) -> str:
        """That letter, if it is one of those allowed."""
        letter = self.peek()
        if not letter or letter not in allowed:
            found = repr(letter) if letter else "the end"
            raise ValueError(f"{self.name} is no whole JSON: expected one of {allowed!r}, found {found}")
        self.place += 1
        return letter

    def value(self) -> Any:
        """The next value. What ends at the end of the window may go on there, such as 12 in 12.5."""
        self.peek()
        while True:
            try:
                value, end = _decode(self.window, self.place)
                if self.ended or self.window[end : end + 1] in _BEHIND:
                    self.place = end
                    return value
            except RecursionError as error:
                raise ValueError(f"{self.name} is nested too deeply for a data set") from error
            except ValueError as error:
                if self.ended:
                    raise ValueError(f"{self.name} is no whole JSON: {error}") from error
            self.more()


def json_items(path: str | Path, wanted: str | None = None) -> Iterator[tuple[int, Any]]:
    """(number from 1, entry) for the entries of one list of a JSON file; nothing else is kept in memory.

    Args:
        wanted: the list's name in the file's object, such as "annotations"; None if the file is a list.

    Raises:
        ValueError: if the file is cut off, is no JSON, or has no such list; names the file.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        text = _Text(file, str(path))
        if wanted is None:
            yield from _entries(text)
            return
        text.take("{")
        while text.peek() != "}":
            key = text.value()
            text.take(":")
            if key == wanted:
                yield from _entries(text)
                return
            _pass_over(text)
            if text.take(",}") == "}":
                break
    raise ValueError(f"{path} has no list {wanted!r}; is it another file of the data set?")


def _entries(text: _Text) -> Iterator[tuple[int, Any]]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    for number in itertools.count(1):
        yield number, text.value()
        if text.take(",]") == "]":
            return


def _pass_over(text: _Text) -> None:
    """Leave one value behind, a long list entry by entry."""
    if text.peek() == "[":
        for _ in _entries(text):
            pass
    else:
        text.value()


def json_rows(
    path: str | Path, wanted: str | None, needs: Mapping[str, type], skips: Skips
) -> Iterator[tuple[int, dict]]:
    """As json_items; entries that are no object, or lack one of `needs` in its type, are skips."""
    for number, entry in json_items(path, wanted):
        if not isinstance(entry, dict):
            wrong = f"an entry should be an object, not {type(entry).__name__}"
        else:
            lacks = [name for name, kind in needs.items() if not isinstance(entry.get(name), kind)]
            wrong = f"{lacks[0]} should be {needs[lacks[0]].__name__}" if lacks else ""
        if wrong:
            skips.leave_out(path, number, RowError("not in the published form", wrong))
        else:
            yield number, entry


def json_value(path: str | Path, key: str) -> Any:
    """One small value of a JSON file's object, such as VQA's "data_subtype"; None if there is none."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        text = _Text(file, str(path))
        text.take("{")
        while text.peek() != "}":
            found = text.value()
            text.take(":")
            if found == key:
                return text.value()
            _pass_over(text)
            if text.take(",}") == "}":
                break
    return None


def bounded_lines(path: str | Path, skips: Skips, most: int = MOST_LINE) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a UTF-8 text; a line of more than `most` bytes is skipped, and never held."""
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(most + 1):
            number += 1
            if len(line) > most and not line.endswith(b"\n"):
                length = len(line)
                while line and not line.endswith(b"\n"):
                    line = file.readline(most)
                    length += len(line)
                skips.leave_out(
                    path, number, RowError("line too long", f"{length:,} bytes, {most:,} allowed")
                )
                continue
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                skips.leave_out(path, number, RowError("damaged text", f"no UTF-8 ({error.reason})"))


def tar_samples(path: str | Path, skips: Skips) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, {"__key__": "000000017", "jpg": bytes, "txt": bytes, ...}) of a WebDataset shard.

    Files of one sample follow each other; their names are equal up to the first dot behind the folder. Links
    and the like in the archive are passed over, nothing is unpacked, and a sample with a file of more than
    64 MB is a skip.

    Raises:
        tarfile.ReadError: if the archive is damaged or cut off.
    """
    _check_end(path)
    number, sample, large = 0, {}, ""
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            archive.members.clear()  # it would remember every file
            if not member.isfile():
                continue
            folder, _, name = member.name.rpartition("/")
            key, _, suffix = name.partition(".")
            key = f"{folder}/{key}" if folder else key
            if sample.get("__key__") != key:
                if sample and not large:
                    yield number, sample
                number, sample, large = number + 1, {"__key__": key}, ""
            if member.size > MOST_FILE:
                large = f"{member.name} has {member.size:,} bytes, {MOST_FILE:,} are allowed"
                skips.leave_out(path, number, RowError("file too large", large))
            elif not large:
                sample[suffix.lower()] = archive.extractfile(member).read()
    if sample and not large:
        yield number, sample


def _check_end(path: str | Path) -> None:
    """An archive ends with a block of zeros; the library would take one without for a shorter one."""
    with open(path, "rb") as file:
        head = file.read(512)
        if head[257:262] == b"ustar":  # else it is compressed
            file.seek(-512, 2)
            if any(file.read(512)):
                raise tarfile.ReadError("it was cut off, its end mark is missing")


def stream_rows(source: str | Path, split: str = "train") -> Iterator[tuple[int, dict]]:
    """(number from 1, row) through the `datasets` library, streamed; pictures stay the bytes they are.

    Args:
        source: a Parquet file, or the name of a data set on the hub, such as "lmms-lab/VQAv2".
    """
    import datasets

    # One file at a time, so that a number is a place in it
    table = str(source).endswith(".parquet")
    kind, files = ("parquet", dict(data_files={split: [str(source)]})) if table else (str(source), {})
    rows = datasets.load_dataset(kind, split=split, streaming=True, **files)
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    yield from enumerate(rows, 1)
