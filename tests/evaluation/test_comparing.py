"""A difference has its own interval; a claim is held against the report."""

import pytest

from vlmcourse.evaluation.claims import lines_of, said_of, unproved
from vlmcourse.evaluation.comparing import bands, measured_lines, square_and_add, told_apart
from vlmcourse.evaluation.report import Report, ReportLine


def test_newcombes_example_by_hand():
    # (0.7 ± 0.3 down 0.2 up) - (0.4 ± 0.4 down 0.1 up): below √(0.09 + 0.01), above √(0.04 + 0.16)
    difference, low, high = square_and_add((0.7, 0.4, 0.9), (0.4, 0.0, 0.5))
    assert (difference, low, high) == pytest.approx((0.3, 0.3 - 0.1**0.5, 0.3 + 0.2**0.5))


def test_it_is_narrower_than_both_worst_cases_and_wider_than_either():
    _, low, high = square_and_add((0.6, 0.5, 0.7), (0.5, 0.4, 0.6))
    assert -0.1 < low < 0.0 and 0.2 < high < 0.3


def test_overlapping_intervals_may_still_be_told_apart():
    first, second = (0.96, 0.945, 0.975), (0.985, 0.974, 0.996)
    assert first[2] > second[1]
    assert (
        told_apart("all kinds", first, second) == "worse"
        and told_apart("all kinds", second, first) == "better"
    )
    for fewer in ("CHAIR_i", "CHAIR_s", "calibration error"):
        assert told_apart(fewer, first, second) == "better", "fewer inventions are better"
    assert told_apart("all kinds", first, first) == "not told apart"


def test_a_difference_whose_interval_only_touches_zero_is_none():
    assert told_apart("all kinds", (0.75, 0.5, 0.75), (0.5, 0.5, 0.5)) == "not told apart"
    assert told_apart("all kinds", (0.5, 0.5, 0.5), (0.75, 0.5, 0.75)) == "not told apart"
    assert told_apart("all kinds", (0.75, 0.625, 0.75), (0.5, 0.5, 0.5)) == "better"


def test_bands_are_the_lines_with_an_interval():
    band = bands("nano-vlm")
    assert 0.97 < band["all kinds"][0] < 1 and "by habit alone" not in band
    with pytest.raises(ValueError, match="there are nano-words"):
        bands("gpt")


def test_a_report_gives_the_lines_and_the_claims_their_words():
    lines = (
        ReportLine("a", "x", 0.5, 0.4, 0.6),
        ReportLine("a", "y", 0.25),
        ReportLine("b", "ms", 3.0, unit="ms"),
    )
    report = Report("m", "d", lines)
    assert measured_lines(report) == {"x": (0.5, 0.4, 0.6)}
    assert lines_of(report) == {"x": (0.5, 0.4, 0.6), "y": (0.25, None, None)}
    claims = [("x", "at least", 0.4), ("x", "at least", 0.5), ("y", "is", 0.25), ("ms", "is", 3.0)]
    assert unproved(claims, lines_of(report)) == [claims[1], claims[3]]
    assert said_of(claims[1]) == "x: at least 50.0%" and said_of(claims[2]) == "y: 25.0%"


def test_a_claim_is_borne_out_to_its_very_end_and_no_further():
    lines = {"x": (0.5, 0.25, 0.75), "small": (0.0005, None, None)}
    borne = [("x", "at least", 0.25), ("x", "at most", 0.75), ("x", "is", 0.5004), ("small", "is", 0.0)]
    borne += [("small", "at most", 0.0005), ("small", "at least", 0.0005)]
    assert unproved(borne, lines) == []
    beyond = [("x", "at least", 0.2501), ("x", "at most", 0.7499), ("x", "is", 0.5006), ("x", "is", 0.4994)]
    assert unproved(beyond, lines) == beyond
