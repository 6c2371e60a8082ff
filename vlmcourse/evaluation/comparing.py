"""Is one model better than another, where only their report cards are there? (notebook 18)

    square_and_add   the interval of a difference, from the intervals of two means
    told_apart       "better", "worse" or "not told apart"
    bands            what the course's models reached, with intervals

Whoever has the answers of both models to the same questions compares them question by question, which is
sharper: evaluation/intervals.py, paired_interval.
"""

import json
import math
from collections.abc import Mapping

from vlmcourse.data.assets import shipped
from vlmcourse.evaluation.report import Report
from vlmcourse.slots import slot

Measured = tuple[float, float, float]  # a mean, and the two ends of its interval
LOWER_IS_BETTER = ("CHAIR_i", "CHAIR_s", "calibration error")


@slot
def square_and_add(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """How much larger the first mean is, with an interval: (difference, low, high).

    The difference is lowest where the first is low and the second high. Both at once is rarer than either, so
    the two distances are not added but their squares, and the root is taken.

    Args:
        first, second: (mean, low, high) of two independent samples; the ends need not be equally far away.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions: comparison
        of eleven methods", Statistics in Medicine 17, method 10.
    """
    (mean, low, high), (other, other_low, other_high) = first, second
    below = math.hypot(mean - low, other_high - other)
    above = math.hypot(high - mean, other - other_low)
    return mean - other, mean - other - below, mean - other + above


def told_apart(name: str, first: Measured, second: Measured) -> str:
    """Whether the first model is "better" or "worse" at a measure of the report card, or "not told apart"."""
    _, low, high = square_and_add(first, second)
    if low <= 0 <= high:
        return "not told apart"
    return "better" if (low > 0) != (name in LOWER_IS_BETTER) else "worse"


def measured_lines(report: Report) -> dict[str, Measured]:
    """The lines of a report that have an interval, by name."""
    return {line.name: (line.value, line.low, line.high) for line in report.lines if line.low is not None}


def bands(name: str) -> dict[str, Measured]:
    """What a model of the course reached: the lines of its report card that have an interval.

    Raises:
        ValueError: if there is no card of this name; names those that there are.
    """
    cards = json.loads(shipped("report-cards.json").read_text(encoding="utf-8"))["cards"]
    if name not in cards:
        raise ValueError(f"there is no report card of {name!r}; there are {', '.join(cards)}")
    return with_interval(cards[name]["lines"])


def with_interval(lines: Mapping[str, list]) -> dict[str, Measured]:
    """Of stored lines, [mean, low, high] by name, those that have an interval."""
    return {name: tuple(numbers) for name, numbers in lines.items() if numbers[1] is not None}
