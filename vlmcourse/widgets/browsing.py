"""Rows for the Row Browser: of data sets, of the answers of a model, and of two models side by side.

browse_records    rows of any data set, see data/records.py
browse_set        questions about pictures, as a training set of notebook 12 has them
browse_answers    what a model said: right or wrong, of what kind, and how sure it was
browse_two        two models on the same questions: both right, one of them, neither; and whether that
                  may be chance
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from vlmcourse.data.quality import answer_entropy
from vlmcourse.data.records import Record
from vlmcourse.evaluation.intervals import (
    bootstrap_interval,
    discordant,
    mcnemar_exact,
    paired_interval,
    sign_flip_test,
)
from vlmcourse.widgets.browser import BLANK, LazyPictures, RowBrowser

_SIDE = 256  # pixels: the square of a photo that is opened


def browse_records(
    records: Sequence[Record],
    scores: Mapping[str, Any] | None = None,
    tags: Mapping[str, Sequence] | None = None,
    title: str = "Records",
) -> RowBrowser:
    """A browser of records; pictures are opened when a page shows them.

    Where several people answered, "disagreement" is the entropy of their answers, in bits.

    Args:
        scores: name -> a number per record, such as CLIP's similarity; NaN where it is unknown.
        tags: name -> a value per record.  The records' own kinds and whether they have a picture are tags
            already, where they differ.
    """
    texts = {
        "said": [" / ".join(record.captions) or _talk(record) for record in records],
        "answers": [", ".join(record.answers) for record in records],
        "where": [f"{record.key} ({record.where})" if record.key else record.where for record in records],
    }
    entropies = [answer_entropy(one.answers) if len(one.answers) > 1 else math.nan for one in records]
    known = {} if all(map(math.isnan, entropies)) else {"disagreement": entropies}
    own = {
        "kind": [record.kind or "none" for record in records],
        "picture": ["none" if record.image is None else "there" for record in records],
    }
    own = {name: values for name, values in own.items() if len(set(values)) > 1}

    def open_one(number: int) -> np.ndarray:
        if records[number].image is None:
            return np.full((_SIDE, _SIDE, 3), BLANK, np.uint8)
        return records[number].load(_SIDE)

    pictures = LazyPictures(len(records), open_one)
    return RowBrowser(
        pictures, _not_blank(texts), {**(scores or {}), **known}, {**own, **(tags or {})}, title=title
    )


def browse_set(
    found: Any,
    of_pictures: Mapping[str, Any] | None = None,
    of_rows: Mapping[str, Any] | None = None,
    tags: Mapping[str, Sequence] | None = None,
    *,
    sign: str | None = None,
    start: Mapping[str, str] | None = None,
    title: str = "Training set",
) -> RowBrowser:
    """A browser of a training set: a row for each question, with the caption of its picture.

    Args:
        found: images (picture, height, width, 3), `told`, a caption for each, and `rows` of (picture,
            question, answer, kind), see families.spoiling.TrainingSet.
        of_pictures, of_rows: name -> a number per picture, or per row.
        tags: name -> a value per picture.
        sign: the tag that is marked: "true" gets ✓ and "false" ✗.
        start: tag -> the value that is chosen at first.

    Raises:
        ValueError: if a column has another length than there are pictures or rows.
    """
    places = [row.picture for row in found.rows]
    texts = {
        "question": [row.question for row in found.rows],
        "answer": [row.answer for row in found.rows],
        "caption": [found.told[place] for place in places],
    }
    spread = {}
    for name, column in {**(of_pictures or {}), **(tags or {})}.items():
        if len(column) != len(found.images):
            raise ValueError(
                f"{name!r} has {len(column)} entries for {len(found.images)} pictures; pass one each"
            )
        spread[name] = [column[place] for place in places]
    scores = {name: spread[name] for name in of_pictures or {}} | dict(of_rows or {})
    kinds = [row.kind or "none" for row in found.rows]
    labels = {"kind": kinds} | {name: spread[name] for name in tags or {}}
    pictures = LazyPictures(len(places), lambda number: found.images[places[number]])
    signs = {"true": "✓", "false": "✗"}
    return RowBrowser(pictures, texts, scores, labels, outcome=sign, signs=signs, start=start, title=title)


def browse_answers(
    images: Sequence,
    asked: Sequence[Any],
    said: Sequence[str],
    right: Sequence[Any],
    *,
    probability: Sequence[float] | None = None,
    groups: Sequence[Hashable] | None = None,
    name: str = "The model",
) -> RowBrowser:
    """A browser of a model's answers that begins with its mistakes; the evidence is framed where it is known.

    Args:
        images: the picture of each question.
        asked: questions with text, answer and kind, and boxes where the evidence is known, such as
            world.truth.Question.
        said: the model's answers.
        right: whether each is right; 1 and 0, or bools.
        probability: how likely the model was to say what it said, 0 to 1, see
            evaluation.answers.answer_probabilities.
        groups: the image of each question, for the interval; None if each has its own.

    Raises:
        ValueError: if there is not one of each per question.
    """
    marks = _marks(right, len(asked), "grades")
    groups = list(range(len(asked))) if groups is None else list(groups)
    texts = _asked(asked) | {"said": said}
    scores = {} if probability is None else {"probability of what it said": probability}
    verdicts = ["right" if mark else "wrong" for mark in marks]

    def summary(numbers: np.ndarray) -> str:
        wrong = int((~marks[numbers]).sum())
        line = f"{name}: {wrong:,} of {len(numbers):,} answers are wrong"
        if len({groups[number] for number in numbers}) < 2:
            return f"{line}; too few images for an interval"
        mean, low, high = bootstrap_interval(marks[numbers], [groups[number] for number in numbers])
        return f"{line}; right {mean:.1%}, 95 % interval {low:.1%} to {high:.1%}, by image"

    return RowBrowser(
        images, texts, scores, {"verdict": verdicts, "kind": [one.kind for one in asked]},
        boxes=_boxes(asked), outcome="verdict", signs={"right": "✓", "wrong": "✗"},
        start={"verdict": "wrong"} if not marks.all() else None, summary=summary,
        title=f"What {name} said",
    )  # fmt: skip


def browse_two(
    images: Sequence,
    asked: Sequence[Any],
    said: Mapping[str, Sequence[str]],
    right: Mapping[str, Sequence[Any]],
    *,
    groups: Sequence[Hashable] | None = None,
) -> RowBrowser:
    """A browser of two models' answers to the same questions, with the tests of evaluation/intervals.py.

    The tests are made of all rows that pass the other filters, whatever the outcome that is chosen.

    Args:
        said, right: the names of the two models -> their answers, and whether each is right.  More may
            stand in `right`.
        images, asked, groups: as browse_answers.

    Raises:
        ValueError: if there are not two models, or not one answer and grade per question.
    """
    if len(said) != 2 or not set(said) <= set(right):
        raise ValueError(
            f"answers of {list(said)} and grades of {list(right)}; pass two models, the same in both"
        )
    (first, second) = said
    one, other = (_marks(right[name], len(asked), f"grades of {name}") for name in said)
    groups = list(range(len(asked))) if groups is None else list(groups)
    names = {
        (True, True): "both right",
        (True, False): f"only {first}",
        (False, True): f"only {second}",
        (False, False): "neither",
    }
    outcomes = [names[pair] for pair in zip(one.tolist(), other.tolist(), strict=True)]
    signs = dict(zip(names.values(), ["✓✓", "✓✗", "✗✓", "✗✗"], strict=True))
    texts = _asked(asked) | {f"{name} said": answers for name, answers in said.items()}

    def summary(numbers: np.ndarray) -> str:
        of = [groups[number] for number in numbers]
        return compared_in_words((first, second), one[numbers], other[numbers], of)

    return RowBrowser(
        images, texts, {}, {"right": outcomes, "kind": [question.kind for question in asked]},
        boxes=_boxes(asked), outcome="right", signs=signs, summary=summary,
        start={"right": f"only {first}"} if f"only {first}" in outcomes else None,
        title=f"{first} (first sign) and {second} (second)",
    )  # fmt: skip


def compared_in_words(
    names: tuple[str, str], one: np.ndarray, other: np.ndarray, groups: Sequence[Hashable]
) -> str:
    """Two models' shares of right answers, the interval of their difference and two tests, in two lines.

    Args:
        names: of the two models.
        one, other: whether each answer is right, bool (question,).
        groups: the image of each question.
    """
    only_one, only_other = discordant(one.tolist(), other.tolist())
    lines = [f"only {names[0]} right: {only_one}, only {names[1]}: {only_other}"]
    if len(set(groups)) < 2:
        return f"{lines[0]}; too few images for a test"
    mean, low, high = (100 * number for number in paired_interval(one, other, groups))
    p, by_question = sign_flip_test(one, other, groups), mcnemar_exact(only_one, only_other)
    lines[0] += f"; p = {p:.2g} by image, {by_question:.2g} by question (McNemar)"
    lines.append(f"difference {mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, by image")
    return "\n".join(lines)


def _asked(asked: Sequence[Any]) -> dict[str, list[str]]:
    return {
        "question": [question.text for question in asked],
        "right answer": [question.answer for question in asked],
    }


def _boxes(asked: Sequence[Any]) -> list[Sequence]:
    return [getattr(question, "boxes", ()) for question in asked]


def _marks(right: Sequence[Any], count: int, what: str) -> np.ndarray:
    """Grades as bool (question,)."""
    marks = np.array([float(mark) for mark in right])
    if len(marks) != count or not np.isin(marks, (0, 1)).all():
        raise ValueError(
            f"{len(marks)} {what} for {count} questions; pass one for each, 1 (right) or 0 (wrong)"
        )
    return marks.astype(bool)


def _talk(record: Record) -> str:
    return " / ".join(f"{role}: {text}" for role, text in record.turns)


def _not_blank(texts: dict[str, list[str]]) -> dict[str, list[str]]:
    """Only columns in which something stands."""
    return {name: column for name, column in texts.items() if any(column)}
