"""Does a report bear out what a model card claims? (notebook 18)

    unproved    the claims that it does not
    said_of    a claim as a sentence says it

A claim is (name of the measure, "is" or "at least" or "at most", number as a share).
"""

from collections.abc import Mapping, Sequence

from vlmcourse.evaluation.report import Report
from vlmcourse.slots import slot

Claim = tuple[str, str, float]
_Line = tuple[float, float | None, float | None]  # value, and its interval where there is one


@slot
def unproved(
    claims: Sequence[tuple[str, str, float]], lines: Mapping[str, tuple[float, float | None, float | None]]
) -> list[tuple[str, str, float]]:
    """The claims that a report does not bear out, in their order.

    "is" says what was measured, rounded to a tenth of a percent: no more than 0.0005 away. "at least" speaks
    of all other questions, too, so the low end of the interval has to reach the number; "at most" likewise
    the high end. Where a line has no interval its value counts. What was never measured is not borne out.

    Args:
        claims: (name, "is" or "at least" or "at most", share).
        lines: of the report, by name: (value, low, high), the last two None where there is no interval.
    """
    open_claims = []
    for name, relation, number in claims:
        if name not in lines:
            open_claims.append((name, relation, number))
            continue
        value, low, high = lines[name]
        low, high = (value, value) if low is None else (low, high)
        borne = {"is": abs(value - number) <= 0.0005, "at least": low >= number, "at most": high <= number}
        if not borne[relation]:
            open_claims.append((name, relation, number))
    return open_claims


def lines_of(report: Report) -> dict[str, _Line]:
    """The lines of a report that are shares, as unproved takes them."""
    return {line.name: (line.value, line.low, line.high) for line in report.lines if line.unit == "%"}


def said_of(claim: Claim) -> str:
    """Such as "all kinds: at least 95.0%"."""
    name, relation, number = claim
    return f"{name}: {number:.1%}" if relation == "is" else f"{name}: {relation} {number:.1%}"
