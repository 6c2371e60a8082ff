"""Records: one row of any data set, in whatever form it was published (notebook 12).

    Record           a picture, and what people said, asked, answered and drew about it
    BoxedObject      one annotated object: name, box, attributes
    Relationship     two objects and what holds between them
    Region           a part of the picture and what was said of it
    Skips            rows that were left out: counted by reason, with file and row; too many stop the run

A record holds the name of its picture, or its bytes, and opens it only when asked, so a million records are
a million texts.  Nothing outside a record's folder is ever opened, whatever its row says.  Boxes are (left,
top, right, bottom) in pixels, right and bottom exclusive.  Rows count from 1, as editors show them.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vlmcourse.data.chat import ROLES
from vlmcourse.data.photos import FORMATS, MOST_PIXELS, PictureError, load_picture
from vlmcourse.data.text import IMAGE_WORD

PixelBox = tuple[float, float, float, float]
SMALLEST = 8  # pixels: a picture with a shorter edge shows nothing; deleted ones are often replaced by 1×1
MOST_LETTERS = 65_536  # of one text; no context holds more
MOST_SKIPPED = 0.01  # share of rows
_ENOUGH = 1000  # rows after which a share of skips is believed before the end
_SWAPS = range(5, 9)  # EXIF orientations that exchange width and height


class RowError(ValueError):
    """A row that cannot be used: ``reason`` is a short name to count by, the message says which and why."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class TooManySkips(ValueError):
    """So many rows had to be left out that training on the rest would not be what was meant."""


class BoxedObject(NamedTuple):
    """One annotated object."""

    name: str
    box: PixelBox
    attributes: tuple[str, ...] = ()
    synsets: tuple[str, ...] = ()  # WordNet's names of the meaning, such as "tree.n.01"


class Relationship(NamedTuple):
    """objects[subject] PREDICATE objects[object]: numbers are places in the record's objects."""

    subject: int
    predicate: str
    object: int


class Region(NamedTuple):
    """A part of a picture and what was said of it."""

    text: str
    box: PixelBox


@dataclass(frozen=True)
class Record:
    """One row of a data set. Two are equal if they say the same, wherever they were read."""

    image: str | bytes | None = None  # a path inside the folder, or an encoded picture; None for text alone
    turns: tuple[tuple[str, str], ...] = ()  # (role, text), see chat.py; "<image>" stands for the picture
    captions: tuple[str, ...] = ()  # of several people, all about the same picture
    answers: tuple[str, ...] = ()  # of several people, all to the same question
    objects: tuple[BoxedObject, ...] = ()
    relationships: tuple[Relationship, ...] = ()
    regions: tuple[Region, ...] = ()
    kind: str = ""  # of the question, such as "yes/no"
    key: str = ""  # the row's own number or name in its data set
    facts: dict[str, Any] = field(default_factory=dict, hash=False)  # what only this format has
    folder: str = field(default="", compare=False)
    file: str = field(default="", compare=False)
    row: int = field(default=0, compare=False)

    @property
    def where(self) -> str:
        """ "captions.json, row 17", for messages."""
        return f"{Path(self.file).name or 'a record without a file'}, row {self.row}"

    def path(self) -> Path:
        """Where the picture lies; see `path_within`."""
        return path_within(self.folder, self.image)

    def load(self, side: int = 64) -> UInt8[np.ndarray, "{side} {side} 3"]:
        """The picture's middle square, as photos.load_picture gives it.

        Raises:
            RowError: with file and row, if there is no picture, it lies elsewhere or cannot be read.
        """
        return self._opened(lambda path: load_picture(path, side))

    def size(self) -> tuple[int, int]:
        """Width and height in pixels as the picture is shown, from the file's first bytes.

        Raises:
            RowError: as `load`; and if the picture is empty, animated, smaller than 8 pixels, or unpacks to
                more than photos.MOST_PIXELS.
        """
        return self._opened(_measure)

    def _opened(self, read: Callable[[Path], Any]) -> Any:
        try:
            if not isinstance(self.image, bytes):
                return read(self.path())
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "picture"
                path.write_bytes(self.image)
                return read(path)
        except RowError as error:
            raise RowError(error.reason, f"{self.where}: {error.detail}") from error
        except (PictureError, OSError) as error:
            raise RowError("picture cannot be read", f"{self.where}: {error}") from error


def path_within(folder: str | Path, name: Any, what: str = "picture") -> Path:
    """The file `name` of a data folder, and never one outside it.

    Args:
        what: the word for it in messages.

    Raises:
        RowError: if the name is no text, absolute, leads upward or through a link out of the folder, or if no
            file is there.
    """
    if not isinstance(name, str) or not name.strip():
        raise RowError(f"no {what} is named", f"{name!r:.80} is not the name of a file")
    if "\0" in name or re.search("[\ud800-\udfff]", name):
        raise RowError(f"{what} has a bad name", f"{name[:80]!a} holds letters that no file name may have")
    parts = PureWindowsPath(name)  # knows both kinds of slashes, and drives
    if parts.drive or parts.root or ".." in parts.parts:
        raise RowError(f"{what} lies outside the folder", f"{name[:200]!r}; write a path inside the folder")
    base = Path(folder).resolve()
    try:
        path = (base / name).resolve()
        there = path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, a ring of links
        raise RowError(f"{what} is missing", f"{name[:200]!r} ({type(error).__name__})") from error
    if not path.is_relative_to(base):
        raise RowError(
            f"{what} lies outside the folder", f"{name[:200]!r} is a link out of it; copy the file"
        )
    if not there:
        raise RowError(f"{what} is missing", f"there is no file {name[:200]!r}")
    return path


def _measure(path: Path) -> tuple[int, int]:
    """See Record.size."""
    from PIL import Image

    if os.path.getsize(path) == 0:
        raise RowError("picture is empty", "the file has 0 bytes; copy it again")
    try:
        with Image.open(path, formats=FORMATS) as file:
            width, height = file.size
            if width * height > MOST_PIXELS:
                many = f"{width}×{height}; {MOST_PIXELS:,} are allowed"
                raise RowError("picture has too many pixels", many)
            animated = getattr(file, "is_animated", False)
            # Of a PNG, Pillow would decode everything to look for what nearly none has
            tagged = file.format != "PNG" or "exif" in file.info
            turned = tagged and file.getexif().get(0x0112) in _SWAPS
    except RowError:
        raise
    except Image.DecompressionBombError as error:
        raise RowError("picture has too many pixels", f"{error}; scale it down") from error
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        raise RowError("picture cannot be read", f"{error}; save it as PNG or JPEG") from error
    if min(width, height) < SMALLEST:
        raise RowError("picture is too small", f"{width}×{height} pixels; the shorter edge needs {SMALLEST}")
    if animated:
        raise RowError("picture is animated", "save the one frame that the text is about")
    return (height, width) if turned else (width, height)


def clean_text(name: str, value: Any) -> str:
    """A text that can be learned from, as it is.

    Raises:
        RowError: if it is no text, empty, longer than 65,536 letters, or holds NUL or half letters.
    """
    if not isinstance(value, str):
        raise RowError("wrong type", f"{name} should be a text, not {type(value).__name__}")
    if not value.strip():
        raise RowError("empty text", f"{name} says nothing")
    if len(value) > MOST_LETTERS:
        raise RowError("text too long", f"{name} has {len(value):,} letters, {MOST_LETTERS:,} are allowed")
    if "\0" in value or re.search("[\ud800-\udfff]", value):
        raise RowError("damaged text", f"{name} holds NUL or half letters: {value[:40]!a}")
    return value


def image_first(text: str) -> str:
    """A turn in the course's form: one "<image>" in front, wherever and with whatever spaces it stood.

    Raises:
        RowError: if it stands there several times; one record has one picture.
    """
    if text.count(IMAGE_WORD) > 1:
        raise RowError("several pictures", f"{text.count(IMAGE_WORD)} times {IMAGE_WORD} in one turn")
    said = text.replace(IMAGE_WORD, "").strip()
    return IMAGE_WORD + said if IMAGE_WORD in text else said


def checked_record(record: Record) -> Record:
    """The record itself, once it is what a training can use.

    Raises:
        RowError: if nothing is said; a text is empty or damaged; a role is unknown; the picture and "<image>"
            do not belong together; a box is empty or no box; a relationship has no object.
    """
    if not isinstance(record.image, str | bytes | None):
        raise RowError("wrong type", f"a picture is a name or bytes, not {type(record.image).__name__}")
    if not (record.turns or record.captions or record.objects or record.regions):
        raise RowError("nothing is said", "neither captions nor turns nor objects")
    for role, said in record.turns:
        if role not in ROLES:
            raise RowError("unknown role", f"{role!r}; roles are {', '.join(ROLES)}")
        clean_text(f"what the {role} says", said.replace(IMAGE_WORD, "") if isinstance(said, str) else said)
    for name in ("captions", "answers"):
        for text in getattr(record, name):
            clean_text(name, text)
    shown = sum(said.count(IMAGE_WORD) for role, said in record.turns if role != "assistant")
    if record.turns and shown != (record.image is not None):
        pictures = "a picture" if record.image is not None else "no picture"
        raise RowError("picture and <image> do not match", f"{shown} times <image>, and {pictures}")
    _check_boxes(record)
    return record


def _check_boxes(record: Record) -> None:
    for name, box in [(one[0], one[1]) for one in (*record.objects, *record.regions)]:
        clean_text("the name of a box", name)
        left, top, right, bottom = box
        if not (left < right and top < bottom):  # false for NaN as well
            raise RowError("empty box", f"{name!r} has the box {box}")
    for one in record.relationships:
        if not all(0 <= end < len(record.objects) for end in (one.subject, one.object)):
            raise RowError("relationship without object", f"{one} among {len(record.objects)} objects")


class Skips:
    """Rows that were left out, by reason; and rows that are absent by design, which harm nobody.

    Args:
        most: the share of rows that may be left out; more stops the run.
    """

    def __init__(self, most: float = MOST_SKIPPED):
        if not 0 <= most <= 1:
            raise ValueError(f"most is a share of rows between 0 and 1, got {most}")
        self.most, self.taken = most, 0
        self.reasons: Counter[str] = Counter()
        self.absent: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return self.reasons.total()

    @property
    def share(self) -> float:
        """Rows left out, of all that should have been there."""
        return len(self) / max(1, len(self) + self.taken)

    def leave_out(self, file: str | Path, row: int, error: RowError) -> None:
        """Count a row. Raises TooManySkips as soon as that is beyond doubt."""
        self.reasons[error.reason] += 1
        shown = self.examples.setdefault(error.reason, [])
        if len(shown) < 3:
            place = f"{Path(file).name}, row {row}: "
            shown.append((place + error.detail.removeprefix(place))[:300])
        if len(self) + self.taken >= _ENOUGH:
            self.finish()

    def finish(self) -> "Skips":
        """Itself, at the end of the rows.

        Raises:
            TooManySkips: if more than the allowed share was left out; lists all reasons.
        """
        if self.share > self.most:
            counted = f"{len(self)} of {len(self) + self.taken} rows had to be left out ({self.share:.1%})"
            allowed = f"{self.most:.1%} are allowed. Mend them, or allow more: most_skipped=, --most-skipped"
            raise TooManySkips(f"{counted}, {allowed}\n{self}")
        return self

    def table(self) -> list[list[str]]:
        """Rows of [reason, count, the first one]."""
        rows = [[reason, f"{n}", self.examples[reason][0]] for reason, n in self.reasons.most_common()]
        return rows + [[reason, f"{n}", "expected"] for reason, n in self.absent.most_common()]

    def __str__(self) -> str:
        return "\n".join(f"  {count} × {reason}; {first}" for reason, count, first in self.table())


def taken_record(
    parse: Callable[..., Record], *row: Any, folder: str | Path, file: str | Path, number: int, skips: Skips
) -> Record | None:
    """What `parse` makes of one published row, checked; None, and a skip is counted, if that cannot be used.

    Args:
        row: what `parse` is called with.
        folder, file, number: where the pictures lie, and where the row stands.
    """
    try:
        record = parse(*row)
        record = checked_record(replace(record, folder=str(folder), file=str(file), row=number))
    except RowError as error:
        skips.leave_out(file, number, error)
        return None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        found = RowError("not in the published form", f"{type(error).__name__} {error}")
        skips.leave_out(file, number, found)
        return None
    skips.taken += 1
    return record
