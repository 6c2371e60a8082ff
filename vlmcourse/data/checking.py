"""What stands between a folder of pictures and a training (notebook 12; the command `vlmcourse check`).

    check_folder    reads everything once and says what it found
    Checkup         findings, each with its state and what to do; as a table, or as one HTML page

A finding stops a training if more rows than allowed cannot be used, if rows do not fit into the model's
context, or if test pictures are trained on, which makes every result worthless.  All else is said, and can be
left as it is.
"""

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from vlmcourse.data.assets import written_beside
from vlmcourse.data.chat import encode
from vlmcourse.data.own import OwnPictures, data_files, open_pictures
from vlmcourse.data.quality import exact_hash, leaked_pictures, likeness_of, picture_hashes
from vlmcourse.data.records import MOST_SKIPPED, Record
from vlmcourse.models.language import CONTEXT

LOOK_SIDE = 64  # pixels: what the course's models see
PICTURE_TOKENS = 64  # of the course's models
_HABIT = 0.6  # share of right answers by habit above which it is said
_BATCH = 32


class DataFinding(NamedTuple):
    """One thing that was looked at; state is "ok", "look" (may be as it should) or "stop"."""

    what: str
    found: str
    state: str = "ok"
    todo: str = ""


class Fingerprint(NamedTuple):
    """What is kept of a picture: a hash of its pixels, and 64 bits of how it looks."""

    exact: str
    looks: torch.Tensor


@dataclass(frozen=True)
class Checkup:
    """All that was found in a folder."""

    folder: Path
    findings: list[DataFinding]
    skips: list[list[str]]  # reason, count, the first one
    tokens: list[int]  # of each row
    context: int

    @property
    def stops(self) -> bool:
        """Whether a training would stop, or teach nothing that can be measured."""
        return any(finding.state == "stop" for finding in self.findings)

    def table(self) -> list[list[str]]:
        """Rows of [what, found, state]."""
        return [[finding.what, finding.found, finding.state] for finding in self.findings]

    def next_steps(self) -> list[str]:
        """What to do, the most urgent first; one sentence if there is nothing to do."""
        order = sorted(self.findings, key=lambda finding: finding.state != "stop")
        steps = [finding.todo for finding in order if finding.state != "ok"]
        return steps or ["Nothing to mend: this folder can be trained on."]


def check_folder(
    folder: str | Path,
    *,
    context: int = CONTEXT,
    image_tokens: int = PICTURE_TOKENS,
    most_skipped: float = MOST_SKIPPED,
) -> Checkup:
    """Look at every row and every picture of a folder; see own.py for what it holds.

    Args:
        context: tokens that the model can read at once.
        image_tokens: how many of them a picture takes.
        most_skipped: share of rows that may be left out.

    Raises:
        ValueError: if there is no folder or file of rows, or no row can be used.
    """
    files = data_files(folder)
    mine = open_pictures(folder, files["train"].name, most_skipped=1, look=fingerprint)
    tokens = token_counts(mine.records, image_tokens)
    findings = [_rows(mine), _left_out(mine, most_skipped), _sizes(mine), *_duplicates(mine)]
    skips = mine.skips.table()
    if "test" in files:
        test = open_pictures(folder, files["test"].name, most_skipped=1, look=fingerprint)
        findings += [_left_out(test, most_skipped), _leakage(mine, test)]
        skips += test.skips.table()
        tokens += token_counts(test.records, image_tokens)
    else:
        findings.append(DataFinding("leakage", "there is no test file to compare with"))
    findings += [_budget(tokens, context, image_tokens), _habits(mine.records)]
    return Checkup(Path(folder), findings, skips, tokens, context)


def fingerprint(record: Record) -> Fingerprint:
    """Of the picture's middle square, as the course's models see it."""
    pixels = record.load(LOOK_SIDE)
    return Fingerprint(exact_hash(pixels), picture_hashes([pixels])[0])


def token_counts(records: Sequence[Record], image_tokens: int = PICTURE_TOKENS) -> list[int]:
    """How many tokens of the course's tokenizer each record's conversation has, its picture included."""
    counts = []
    for start in range(0, len(records), _BATCH):
        chats = encode([record.turns for record in records[start : start + _BATCH]], image_tokens)
        counts += chats.mask.sum(dim=1).tolist()
    return counts


def _number(count: int, one: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def _rows(mine: OwnPictures) -> DataFinding:
    return DataFinding(
        "rows", f"{len(mine):,} in {mine.file.name}, about {_number(len(mine.sizes), 'picture')}"
    )


def _left_out(mine: OwnPictures, most: float) -> DataFinding:
    skips, name = mine.skips, f"left out of {mine.file.name}"
    if not len(skips):
        return DataFinding(name, "none")
    found = f"{_number(len(skips), 'row')}, {skips.share:.1%}: {', '.join(skips.reasons)}"
    if skips.share > most:
        todo = f"Mend {mine.file.name}: {most:.1%} of its rows may be left out, {skips.share:.1%} have to be."
        return DataFinding(name, found, "stop", todo)
    return DataFinding(name, found, "look", f"Look at the rows that were left out of {mine.file.name}.")


def _sizes(mine: OwnPictures) -> DataFinding:
    edges = sorted(min(size) for size in mine.sizes.values())
    small = sum(edge < LOOK_SIDE for edge in edges)
    found = f"shorter edge {edges[0]} to {edges[-1]} pixels, half of them {median(edges):g} or more"
    if small:
        pictures = _number(small, "picture")
        todo = f"Take {pictures} from a larger original: below {LOOK_SIDE} pixels they are enlarged."
        return DataFinding("picture sizes", found, "look", todo)
    return DataFinding("picture sizes", found)


def _duplicates(mine: OwnPictures) -> list[DataFinding]:
    """Pictures that are there twice under two names, and rows that say the same twice."""
    exact = Counter(look.exact for look in mine.looks.values())
    same = len(mine.looks) - len(exact)
    first = {look.exact: look.looks for look in mine.looks.values()}
    alike = int((likeness_of(torch.stack([*first.values()])) >= 0).sum())
    said = Counter((mine.looks[one.image].exact, one.turns) for one in mine.records)
    again = len(mine.records) - len(said)
    pictures = DataFinding("duplicate pictures", f"{same:,} the same, {alike:,} more that look alike")
    if same or alike:
        todo = "Keep one of each group of pictures that are the same or look alike, unless both are meant."
        pictures = pictures._replace(state="look", todo=todo)
    rows = DataFinding("repeated rows", f"{again:,}")
    if again:
        todo = f"Take out {_number(again, 'row')}: an earlier one says the same about the same picture."
        rows = rows._replace(state="look", todo=todo)
    return [pictures, rows]


def _leakage(mine: OwnPictures, test: OwnPictures) -> DataFinding:
    trained = {look.exact for look in mine.looks.values()}
    same = {name for name, look in test.looks.items() if look.exact in trained}
    codes = [torch.stack([look.looks for look in part.looks.values()]) for part in (mine, test)]
    near = leaked_pictures(*codes).tolist()
    alike = {name for name, is_near in zip(test.looks, near, strict=True) if is_near} - same
    found = f"of {_number(len(test.looks), 'test picture')} {len(same):,} are trained on, "
    found += f"{len(alike):,} more look alike"
    if same:
        names = ", ".join(sorted(same)[:3])
        todo = f"Take {_number(len(same), 'test picture')} out of training, or out of the test ({names} …)."
        return DataFinding("leakage", found, "stop", todo)
    if alike:
        names = ", ".join(sorted(alike)[:3])
        return DataFinding(
            "leakage", found, "look", f"Compare test pictures that look trained on ({names} …)."
        )
    return DataFinding("leakage", found)


def _budget(tokens: Sequence[int], context: int, image_tokens: int) -> DataFinding:
    over = sum(count > context for count in tokens)
    found = f"half of the rows have {median(tokens):g} or more, the longest {max(tokens):,} of {context:,}"
    found += f", {image_tokens} of them for a picture"
    if over:
        todo = f"Shorten {_number(over, 'row')} to {context:,} tokens, or give a picture fewer of them."
        return DataFinding("tokens", f"{found}; {_number(over, 'row')} too long", "stop", todo)
    return DataFinding("tokens", found)


def _habits(records: Sequence[Record]) -> DataFinding:
    """What share of answers is right if a question gets the answer it most often has in other rows."""
    answers: dict[str, Counter] = {}
    for record in records:
        answers.setdefault(record.turns[0][1].lower(), Counter())[record.turns[1][1].lower()] += 1
    repeated = [count for count in answers.values() if count.total() > 1]
    asked = sum(count.total() for count in repeated)
    if not repeated:
        return DataFinding("answers by habit", "no question is asked twice")
    share = sum(map(right_by_habit, repeated)) / asked
    found = f"right to {share:.0%} of {asked:,} questions that are asked more than once"
    if share > _HABIT and max(map(len, repeated)) > 1:
        todo = "Balance the answers (quality.balanced_records), or a model may answer without looking."
        return DataFinding("answers by habit", found, "look", todo)
    return DataFinding("answers by habit", found)


def right_by_habit(answers: Counter) -> float:
    """How many rows of one question have the answer that most of its other rows have; of a draw one half.

    A row does not count for itself: of two rows, its own answer would always be among the most frequent.
    """
    right, best = 0.0, answers.most_common(2)
    for answer, often in answers.items():
        rivals = [count for other, count in best if other != answer]
        rival = rivals[0] if rivals else 0
        right += often * (0.5 if often - 1 == rival else often - 1 > rival)
    return right


_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem .3rem 0 }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); vertical-align: top }
td { overflow-wrap: anywhere }
.stop, .look, .ok { white-space: nowrap } .stop { font-weight: bold } .stop::before { content: "✗ " }
.look::before { content: "! " } .ok::before { content: "✓ " }
.bar { background: #56b4e9; height: 1rem }
"""


def write_page(checkup: Checkup, path: str | Path) -> Path:
    """One HTML file that needs no other file and loads nothing; all texts are shown as texts."""
    verdict = "A training would stop here" if checkup.stops else "This folder can be trained on"
    steps = "".join(f"<li>{html.escape(step)}</li>" for step in checkup.next_steps())
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta http-equiv='Content-Security-Policy' ",
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>Data check</title><style>{_STYLE}</style></head><body>",
        f"<h1>{verdict}</h1><p>{html.escape(str(checkup.folder))}</p>",
        _html_table(["looked at", "found", "state"], checkup.table(), states=True),
        f"<h2>What to do next</h2><ol>{steps}</ol>",
    ]
    if checkup.skips:
        parts += ["<h2>Left out</h2>", _html_table(["reason", "rows", "the first one"], checkup.skips)]
    parts += [f"<h2>Tokens of each row</h2>{_html_bars(checkup.tokens)}", "</body></html>"]
    # A name on the disk may hold bytes that are no letters
    text = "\n".join(parts).encode("utf-8", "replace")
    with written_beside(Path(path)) as draft:
        draft.write_bytes(text)
    return Path(path)


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]], states: bool = False) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in header) + "</tr>"]
    for row in rows:
        cells = [f"<td>{html.escape(cell)}</td>" for cell in row]
        if states:
            cells[-1] = f"<td class='{row[-1]}'>{row[-1]}</td>"
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])


def _html_bars(values: Sequence[int], bins: int = 12) -> str:
    """A histogram: how many values fall into each of some equal ranges."""
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // bins))
    counts = Counter((value - low) // width for value in values)
    rows = []
    for number in range(max(counts) + 1):
        first = low + number * width
        share = 100 * counts[number] / max(counts.values())
        bar = f"<td style='width:60%'><div class='bar' style='width:{share:.1f}%'></div></td>"
        rows.append(f"<tr><td>{first} to {first + width - 1}</td><td>{counts[number]}</td>{bar}</tr>")
    return f"<table><tr><th>tokens</th><th>rows</th><th></th></tr>{''.join(rows)}</table>"
