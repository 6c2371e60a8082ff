"""Mistakes of reading are counted letter by letter."""

import pytest

from vlmcourse.evaluation.spelling import character_error_rate


@pytest.mark.parametrize(("answers", "truths", "expected"), [
    (["bcdf"], ["bcdf"], 0), (["bcdg"], ["bcdf"], 1 / 4), (["bcd"], ["bcdf"], 1 / 4),
    (["bcdff"], ["bcdf"], 1 / 4), ([""], ["bcdf"], 1), (["xxxxxxxx"], ["bcdf"], 2), (["BcDf "], ["bcdf"], 0),
    (["b  c"], ["B c"], 0), (["bc"], ["b c"], 1 / 3),
    (["bcdf", "k"], ["bcdf", "kklmnp"], 5 / 10),  # not the mean of 0 and 5 / 6
    (["bcfd"], ["bcdf"], 2 / 4), (["a", ""], ["a", ""], 0),
])  # fmt: skip
def test_mistakes_for_each_letter(answers, truths, expected):
    assert character_error_rate(answers, truths) == pytest.approx(expected)


def test_what_cannot_be_read_is_named():
    with pytest.raises(ValueError, match="1 answers for 2 texts; give one for each"):
        character_error_rate(["a"], ["a", "b"])
    for nothing in ([], ["", " "]):
        with pytest.raises(ValueError, match="there is no letter to read"):
            character_error_rate(["a"] * len(nothing), nothing)
