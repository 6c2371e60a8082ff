"""What the report card says of a model that takes pictures of any size: pages (notebooks 13 and 19).

page_lines   resolution, reading and boxes, each beside what is got without looking, or without pixels
"""

from collections.abc import Sequence

from torch import Tensor

from vlmcourse.evaluation.boxes import box_middles, mean_boxes, points_inside
from vlmcourse.evaluation.intervals import bootstrap_interval, by_rule_of_three
from vlmcourse.evaluation.report import ReportLine
from vlmcourse.families.resolving import (
    about_pages,
    page_grades,
    reading_errors,
    things_to_point_at,
    told_boxes,
)
from vlmcourse.speak import Speaker
from vlmcourse.world.pages import sample_pages

RESOLUTION, READING, BOXES = "what a picture may cost", "does it read", "does it point to the right place"
FEW_TOKENS = 16  # as many as a square page of 64 pixels has


def page_lines(speaker: Speaker, count: int = 200, seed: int = 0) -> list[ReportLine]:
    """Lines of the report card about test pages of every size and kind.

    Args:
        speaker: whose model takes pictures of any size.
        count: pages asked about, as many with words, and as many with something to point at.
    """
    return [
        *_resolution(speaker, count, seed),
        *_reading(speaker, count, seed),
        *_boxes(speaker, count, seed),
    ]


def _resolution(speaker: Speaker, count: int, seed: int) -> list[ReportLine]:
    exam, lines = about_pages(sample_pages("test", count, seed=seed), seed), []
    ways = {
        "pages, as they are": (exam, "native"),
        f"pages, in {FEW_TOKENS} tokens": (exam, "native", FEW_TOKENS),
        "pages, squashed": (exam, "squash", FEW_TOKENS),
        "pages, empty": (exam.blank(), "native"),
    }
    for name, given in ways.items():
        right, tokens = page_grades(speaker, *given)
        lines.append(_share(RESOLUTION, name, right, f"{tokens.mean():.0f} tokens on average"))
    return lines


def _reading(speaker: Speaker, count: int, seed: int) -> list[ReportLine]:
    errors = reading_errors(speaker, sample_pages("test", count, kind="words", seed=seed))
    names = {
        "letters wrong": ("native", "letters to mend, for each letter that stands there"),
        "letters wrong, squashed": ("squash", f"the same in {FEW_TOKENS} tokens"),
        "letters wrong, empty": ("blank", "what is said of an empty page"),
    }
    return [ReportLine(READING, name, errors[way], says=says) for name, (way, says) in names.items()]


def _boxes(speaker: Speaker, count: int, seed: int) -> list[ReportLine]:
    asked = things_to_point_at(sample_pages("test", count, seed=seed))
    known = things_to_point_at(sample_pages("train", count, seed=seed))
    told = told_boxes(speaker, asked)
    mean = mean_boxes(known.true, known.sizes, asked.sizes)
    lines, says = [], "the middle of the box that it tells lies in the true one"
    for name, boxes in {"points into the box": told, "always the mean box": mean}.items():
        lines.append(
            _share(BOXES, name, points_inside(box_middles(boxes), asked.true[:, None]).float(), says)
        )
    return lines


def _share(part: str, name: str, right: Sequence[float] | Tensor, says: str) -> ReportLine:
    mean, low, high = by_rule_of_three(bootstrap_interval(right), len(right))
    return ReportLine(part, name, mean, low, high, says=says)
