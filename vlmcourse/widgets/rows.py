"""Rows by the thousand, for browser.py: which stay, in what order, and how many there are of each kind.

    RowTable       texts, scores and tags of all rows
    stays          which rows pass a search, cuts of scores and tags
    order          their numbers, sorted
    groups, bars   how many rows have each tag; a histogram of a score and its cut

Nothing here draws, or knows a picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlmcourse.widgets.base import as_array

MOST_VALUES = 24  # of one tag: each gets a button
MOST_BARS = 30


class RowTable:
    """Texts, scores and tags, each a column with one entry per row.

    What is chosen comes as a dict: "by" is the number of the score to sort by or None, "down" whether the
    largest comes first, "cuts" [lowest, highest] for each score, each None if open, "tags" for each tag the
    number of the value that rows must have or None, and "text" what is searched for.

    Args:
        count: the number of rows.
        texts: name -> a text per row; one column at least.
        scores: name -> a number per row; NaN where it is unknown.
        tags: name -> a value per row; at most 24 different ones.
        order: name of a tag -> values that come first, in this order; the others follow as they come.

    Raises:
        ValueError: if there is no row, a column has another length, a score is infinite, or a tag has too
            many values.
    """

    def __init__(
        self,
        count: int,
        texts: Mapping[str, Sequence],
        scores: Mapping[str, Any],
        tags: Mapping[str, Sequence],
        order: Mapping[str, Sequence[str]] | None = None,
    ):
        if not count:
            raise ValueError("there are no rows; pass at least one")
        if not texts:
            raise ValueError("there are no texts; pass at least one column, whose texts name the rows")
        for kind, columns in (("text", texts), ("score", scores), ("tag", tags)):
            for name, column in columns.items():
                if len(column) != count:
                    raise ValueError(
                        f"{kind} {name!r} has {len(column)} entries for {count} rows; pass one each"
                    )
        self.count = count
        self.texts = {name: [str(text) for text in column] for name, column in texts.items()}
        self.scores = {name: _numbers(name, column) for name, column in scores.items()}
        order = order or {}
        self.values = {name: _values(name, column, order.get(name, ())) for name, column in tags.items()}
        self.codes = {
            name: np.array([self.values[name].index(str(value)) for value in column])
            for name, column in tags.items()
        }
        self._searched = [" ".join(row).casefold() for row in zip(*self.texts.values(), strict=True)]

    def stays(self, view: Mapping, without: str | None = None, uncut: int | None = None) -> np.ndarray:
        """Which rows pass all that is chosen, bool (row,).

        Each word of the search must occur in one of a row's texts, in any case.  A row whose score is unknown
        does not pass a cut of it.

        Args:
            without: the name of a tag that does not count.
            uncut: the number of a score whose cut does not count.
        """
        stay = np.ones(self.count, bool)
        for score, (values, (low, high)) in enumerate(zip(self.scores.values(), view["cuts"], strict=True)):
            if low is not None and score != uncut:
                stay &= values >= low
            if high is not None and score != uncut:
                stay &= values <= high
        for (name, codes), code in zip(self.codes.items(), view["tags"], strict=True):
            if code is not None and name != without:
                stay &= codes == code
        words = view["text"].casefold().split()
        if words:
            stay &= np.array([all(word in text for word in words) for text in self._searched])
        return stay

    def order(self, view: Mapping, stay: np.ndarray) -> np.ndarray:
        """The numbers of the rows that stay, sorted; equal ones as they stood, unknown scores at the end."""
        numbers = np.flatnonzero(stay)
        values = self._chosen(view)
        if values is None:
            return numbers
        sign = -1 if view["down"] else 1
        return numbers[np.argsort(sign * values[numbers], kind="stable")]

    def groups(self, view: Mapping) -> list[list[int]]:
        """For each tag the number of rows with each value that pass all but this tag."""
        counts = []
        for name, codes in self.codes.items():
            stay = self.stays(view, without=name)
            counts.append(np.bincount(codes[stay], minlength=len(self.values[name])).tolist())
        return counts

    def bars(self, view: Mapping) -> dict | None:
        """The histogram of the score that is sorted by; None if there is none, or no number is known.

        Whole numbers that lie close together get a bar each, others MOST_BARS bars of equal width.

        Returns:
            low, high: the smallest and the largest number of all rows.
            edges: where the first bar begins and the last one ends.
            uncut, stay: for each bar the rows that pass all but this score's cut, and those that pass it too.
            unknown: rows without a number.
        """
        values = self._chosen(view)
        if values is None or np.isnan(values).all():
            return None
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        whole = high - low < MOST_BARS and np.all((values % 1 == 0) | np.isnan(values))
        edges = [low - 0.5, high + 0.5] if whole else [low, high if high > low else low + 1]
        number = round(high - low) + 1 if whole else MOST_BARS
        heights = []
        for some in (self.stays(view, uncut=view["by"]), self.stays(view)):
            known = values[some & ~np.isnan(values)]
            heights.append(np.histogram(known, number, edges)[0].tolist())
        unknown = int(np.isnan(values).sum())
        numbers = {"low": low, "high": high, "edges": edges, "unknown": unknown}
        return numbers | {"uncut": heights[0], "stay": heights[1]}

    def _chosen(self, view: Mapping) -> np.ndarray | None:
        return None if view["by"] is None else [*self.scores.values()][view["by"]]


def _numbers(name: str, column: Any) -> np.ndarray:
    """A score as float64 (row,); what is None is NaN."""
    numbers = as_array(column).astype(float)
    if numbers.ndim != 1 or np.isinf(numbers).any():
        fault = "is infinite somewhere" if numbers.ndim == 1 else f"has the shape {numbers.shape}"
        raise ValueError(f"score {name!r} {fault}; pass one number per row, NaN where it is unknown")
    return numbers


def _values(name: str, column: Sequence, first: Sequence[str]) -> list[str]:
    """The different values of a tag, as texts: those of `first`, then the others as they come."""
    there = list(dict.fromkeys(map(str, column)))
    values = sorted(there, key=lambda value: first.index(value) if value in first else len(first))
    if len(values) > MOST_VALUES:
        raise ValueError(
            f"tag {name!r} has {len(values)} different values, {MOST_VALUES} at most; pass it as a text, "
            "which can be searched"
        )
    return values
