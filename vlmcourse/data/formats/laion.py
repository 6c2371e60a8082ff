"""LAION and its like: links and captions from the web, with scores (notebook 12).

    Parquet      URL, TEXT, WIDTH, HEIGHT, similarity; LAION-400M has NSFW ("UNLIKELY", "UNSURE", "NSFW") and
                 LICENSE, the joined tables of LAION-5B have punsafe and pwatermark; no pictures
    WebDataset   what img2dataset makes of it: 00000.tar with KEY.jpg, KEY.txt and KEY.json of every picture
                 that could be fetched, and 00000.parquet with one row of *every* link, its "status" and the
                 "error_message" of those that could not

So many rows have no picture: links die.  That is counted as absent, and is no fault of the data.
Source: Schuhmann et al. 2021, arXiv:2111.02114, and 2022, arXiv:2210.08402; img2dataset, writer.py.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmcourse.data.formats.reading import stream_rows, tar_samples
from vlmcourse.data.records import Record, RowError, Skips, TooManySkips, taken_record
from vlmcourse.slots import slot

SCORES = ("similarity", "punsafe", "pwatermark")
_PICTURES = ("jpg", "jpeg", "png", "webp", "image")


@slot
def laion_record(row: Mapping[str, Any]) -> Record:
    """A caption from the web, with its picture if there is one.

    Column names come in capitals or not. The caption is "txt", "text" or "caption". Scores that are absent or
    NaN are left out of the facts; 0.0 is a score.

    Returns:
        facts: url, nsfw (a word), similarity, punsafe, pwatermark, as far as the row has them.
    """
    columns = {name.lower(): value for name, value in row.items()}
    caption = next((columns[name] for name in ("txt", "text", "caption") if columns.get(name)), None)
    facts = {name: columns[name] for name in ("url", "nsfw") if columns.get(name)}
    for name in SCORES:
        score = columns.get(name)
        if score is not None and not math.isnan(score):
            facts[name] = score
    key = columns.get("key", columns.get("sample_id", ""))
    return Record(columns.get("picture"), captions=(caption,) if caption else (), facts=facts, key=str(key))


def flat_sample(row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample of a shard, or a row of a table, as one row with its picture's bytes as "picture".

    What the .json of a sample says are columns, and so is its .txt; its name is the key.

    Raises:
        RowError: if the .json is none.
    """
    flat = dict(row)
    if "__key__" in row:
        try:
            flat |= json.loads(flat.pop("json", b"{}"))
        except (ValueError, TypeError, RecursionError) as error:
            raise RowError("broken JSON", f"{error}"[:200]) from error
        flat["key"] = flat.pop("__key__")
        flat["txt"] = str(flat.get("txt", b""), "utf-8", "surrogateescape")
    for name in _PICTURES:
        picture = flat.pop(name, None)
        picture = picture.get("bytes") if isinstance(picture, dict) else picture
        if isinstance(picture, bytes):
            flat["picture"] = picture
    return flat


def read_laion(files: Sequence[str | Path], skips: Skips | None = None) -> Iterator[Record]:
    """Records of Parquet files and of .tar shards, one row in memory at a time.

    Rows of Parquet have no pictures and give captions and scores. In a shard, a sample without picture is
    counted as absent; so are links of a table of img2dataset with another status than "success".
    """
    skips = Skips() if skips is None else skips
    for file in map(Path, files):
        if file.suffix not in (".tar", ".parquet"):
            raise ValueError(f"{file} is neither a .tar shard nor a .parquet table")
        shard = file.suffix == ".tar"
        for number, row in _rows(file, skips):
            try:
                row = flat_sample(row)
            except RowError as error:
                skips.leave_out(file, number, error)
                continue
            if row.get("status", "success") != "success" or (shard and "picture" not in row):
                skips.absent["no picture could be fetched"] += 1
            elif record := taken_record(laion_record, row, folder="", file=file, number=number, skips=skips):
                yield record
    skips.finish()


def _rows(file: Path, skips: Skips) -> Iterator[tuple[int, dict]]:
    """Rows; a file that cannot be read to its end stops the run and is named."""
    number = 0
    try:
        for number, row in tar_samples(file, skips) if file.suffix == ".tar" else stream_rows(file):
            yield number, row
    except TooManySkips:
        raise
    except Exception as error:  # datasets, pyarrow and tarfile each have errors of their own
        raise ValueError(f"{file} cannot be read behind row {number}: {error}; fetch it again") from error
