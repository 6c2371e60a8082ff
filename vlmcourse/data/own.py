"""Your own pictures: a folder, and a .jsonl or .csv of {image, instruction, output} (notebook 12).

    holiday/
        train.jsonl     {"image": "beach.jpg", "instruction": "What is the dog doing?", "output": "It swims."}
        test.jsonl      the same, never trained on (if there is one)
        beach.jpg ...

`open_pictures` reads every row and opens every picture once.  Whatever cannot be used is left out, counted
and shown with its file and row; if that is more than one row in a hundred, it stops and says why.  Pictures
in CMYK, with a palette, with 16 bits, with transparency or stored turned are read as they are meant; animated
ones and those smaller than 8 pixels are left out.  Nothing outside the folder is opened, and one picture at a
time.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmcourse.data.formats.reading import MOST_LINE, bounded_lines
from vlmcourse.data.records import (
    MOST_SKIPPED,
    Record,
    RowError,
    Skips,
    image_first,
    path_within,
    taken_record,
)
from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.slots import slot

OWN_COLUMNS = ("image", "instruction", "output")


@slot
def own_record(row: dict) -> Record:
    """An instruction about a picture, and the answer that is to be learned.

    "<image>" stands before the instruction whether it was written or not; spaces around texts are dropped.
    A row may have an "id".
    """
    asked = image_first(IMAGE_WORD + row["instruction"].replace(IMAGE_WORD, "", 1))
    turns = (("user", asked), ("assistant", row["output"].strip()))
    return Record(image=row["image"], turns=turns, key="" if row.get("id") is None else str(row["id"]))


@dataclass(frozen=True)
class OwnPictures:
    """A folder that was read: what can be used, and what was left out."""

    folder: Path
    file: Path
    records: list[Record]
    sizes: dict[str, tuple[int, int]]  # by the picture's name, its width and height
    looks: dict[str, Any]  # by the picture's name, what `look` gave
    skips: Skips

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        left_out = f", {len(self.skips)} left out" if len(self.skips) else ""
        return f"OwnPictures({self.file.name}: {len(self)} rows{left_out})"


def data_files(folder: str | Path) -> dict[str, Path]:
    """{"train": file, "test": file} of a folder; the test file is called test.jsonl or test.csv, if there.

    Raises:
        ValueError: if there is no folder, no file of rows, or more than one that could be meant.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name one that holds pictures and a .jsonl or .csv of rows")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jsonl", ".csv"))
    tests = [path for path in files if path.stem.lower() == "test"]
    trains = [path for path in files if path not in tests]
    if len(trains) != 1 or len(tests) > 1:
        names = ", ".join(path.name for path in files) or "none"
        needs = "one .jsonl or .csv of {image, instruction, output}, and at most one called test"
        raise ValueError(f"{folder} needs {needs}; there are: {names}")
    return dict(train=trains[0]) | ({"test": tests[0]} if tests else {})


def open_pictures(
    folder: str | Path,
    file: str | Path | None = None,
    *,
    most_skipped: float = MOST_SKIPPED,
    look: Callable[[Record], Any] | None = None,
) -> OwnPictures:
    """Read a folder of one's own pictures; see above.

    Args:
        file: which file of rows, if not the only one that is not called test.
        most_skipped: share of rows that may be left out.
        look: called once for every picture that can be read, with its first record; kept in `looks`.

    Raises:
        ValueError: if folder or file are not there or lie outside it, or no row can be used.
        TooManySkips: if more rows than allowed are unusable; lists the reasons with file and row.
    """
    folder = Path(folder)
    path = path_within(
        folder, data_files(folder)["train"].name if file is None else str(file), "file of rows"
    )
    mine = OwnPictures(folder, path, [], {}, {}, Skips(most_skipped))
    broken: dict[str, RowError] = {}  # many rows may be about one picture, which is opened once
    for record in read_own(path, folder, mine.skips):
        name = record.image
        if name not in mine.sizes and name not in broken:
            try:
                size = record.size()
                # Damage shows only when all of it is decoded
                mine.looks[name] = look(record) if look else record.load(side=8) is None
                mine.sizes[name] = size
            except RowError as error:
                broken[name] = error
        if name in broken:
            mine.skips.taken -= 1
            mine.skips.leave_out(path, record.row, broken[name])
        else:
            mine.records.append(record)
    mine.skips.finish()
    if not mine.records:
        needs = f"{path} has no row that can be used; write one line for each picture"
        raise ValueError(f"{needs}\n{mine.skips}".rstrip())
    return mine


def read_own(file: str | Path, folder: str | Path, skips: Skips) -> Iterator[Record]:
    """Records of a .jsonl or .csv, one at a time; pictures are not opened. What cannot be used is a skip."""
    seen: set[str] = set()

    def parse(row: Any) -> Record:
        if isinstance(row, RowError):
            raise row
        if not isinstance(row, dict):
            raise RowError("wrong type", f"a row should be an object, not {type(row).__name__}")
        if missing := [name for name in OWN_COLUMNS if row.get(name) is None]:
            raise RowError("missing column", f"no {', '.join(missing)}; a row needs {', '.join(OWN_COLUMNS)}")
        if wrong := [name for name in OWN_COLUMNS if not isinstance(row[name], str)]:
            raise RowError("wrong type", f"{wrong[0]} should be a text, not {type(row[wrong[0]]).__name__}")
        record = own_record(row)
        if record.key and record.key in seen:
            raise RowError("id is used twice", f"{record.key[:80]!r}")
        return record

    for number, row in _own_rows(Path(file), skips):
        if record := taken_record(parse, row, folder=folder, file=file, number=number, skips=skips):
            seen.add(record.key)
            yield record


def _own_rows(file: Path, skips: Skips) -> Iterator[tuple[int, Any]]:
    """(line, row), or in place of the row what is wrong with it."""
    lines = bounded_lines(file, skips)
    if file.suffix.lower() == ".csv":
        yield from _csv_rows(lines)
        return
    for number, line in lines:
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                row = RowError("broken JSON", f"{error}"[:200])
            yield number, row


def _csv_rows(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    """Rows by the names in the first line; a quoted text may go over several lines."""
    place = 0

    def texts() -> Iterator[str]:
        nonlocal place
        for number, line in lines:
            place = number
            yield line

    csv.field_size_limit(MOST_LINE)
    reader = csv.DictReader(texts(), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = RowError("broken CSV", f"{error}")
        if isinstance(row, dict) and None in row:
            row = RowError("broken CSV", "more values than columns; put texts with commas in quotes")
        yield place, row
