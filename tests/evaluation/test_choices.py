"""A choice is a choice only in every order, read by a stated rule, and beside the score without the image."""

import random

import pytest

from vlmcourse.evaluation.choices import (
    any_option,
    circular_accuracy,
    gain_and_leakage,
    leading_option,
    rotations,
    strict_option,
    written_options,
)


def test_options_are_written_with_letters():
    assert written_options("What colour?", ["red", "blue", "B"]) == "What colour?\nA. red\nB. blue\nC. B"
    assert written_options("Which?", ["x", "y"]) == "Which?\nA. x\nB. y"
    for count in (0, 1, 27):
        with pytest.raises(ValueError, match=f"2 to 26 options, one for each letter; got {count}"):
            written_options("Which?", ["x"] * count)
    assert written_options("Which?", ["x"] * 26).endswith("\nZ. x")


def test_every_rotation_and_where_the_right_option_went():
    assert rotations(["red", "blue", "pink"], 1) == [
        (["red", "blue", "pink"], 1), (["blue", "pink", "red"], 0), (["pink", "red", "blue"], 2),
    ]  # fmt: skip
    for order, right in rotations(list("abcde"), 3):
        assert order[right] == "d" and sorted(order) == list("abcde")


def test_one_rotation_missed_is_a_question_missed():
    assert circular_accuracy([[True, True], [True, False], [False, False], [True] * 4]) == 0.5
    for empty in ([], [[True], []]):
        with pytest.raises(ValueError, match="a list is empty"):
            circular_accuracy(empty)


def test_who_always_says_a_is_never_right_in_every_rotation():
    questions = [rotations(list("wxyz"), random.Random(n).randrange(4)) for n in range(400)]
    passed = [[right == 0 for _, right in question] for question in questions]
    assert circular_accuracy(passed) == 0
    assert 0.2 < sum(question[0] for question in passed) / 400 < 0.3  # asked once, it looks like a guess


@pytest.mark.parametrize("answer, strict, leading, anywhere", [
    ("B", 1, 1, 1), (" (B)\n", 1, 1, 1), ("B.", 1, 1, 1), ("B):", 1, 1, 1), ("B. red", None, 1, 1),
    ("(B) red", None, 1, 1), ("I think it is B", None, None, 1), ("The answer is (C).", None, None, 2),
    ("A dog, so B", None, 0, 0), ("Not A but B", None, None, 0), ("b", None, None, None),
    ("Blue", None, None, None),
    ("E", None, None, None), ("", None, None, None), ("A or B", None, 0, 0), ("It is \"D\"", None, None, 3),
    ("BA", None, None, None), ("x D", None, None, 3),
])  # fmt: skip
def test_three_readings_of_one_answer(answer, strict, leading, anywhere):
    assert (strict_option(answer, 4), leading_option(answer, 4), any_option(answer, 4)) == (
        strict,
        leading,
        anywhere,
    )


@pytest.mark.parametrize("read", [strict_option, leading_option, any_option])
def test_letters_end_with_the_options(read):
    assert [read(letter, 3) for letter in "ABCD"] == [0, 1, 2, None]
    assert [read(letter, 26) for letter in "YZ"] == [24, 25]
    with pytest.raises(ValueError, match="2 to 26 options"):
        read("A", 1)


def test_gain_and_leakage():
    assert gain_and_leakage(0.75, 0.5, 0.25) == (0.25, 0.25)
    assert gain_and_leakage(0.5, 0.25, 0.5) == (0.25, 0)
    assert gain_and_leakage(0.25, 0.5, 0.5) == (-0.25, 0)
