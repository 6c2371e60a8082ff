"""VQA accuracy follows the benchmark to its oddities; ANLS forgives misread letters and nothing else."""

import pytest

from vlmcourse.evaluation.vqa import (
    PUNCTUATION,
    anls,
    edit_distance,
    normalise_answer,
    standardise_words,
    strip_punctuation,
    vqa_accuracy,
)
from vlmcourse.world import questions, scenes


@pytest.mark.parametrize("text, stripped", [
    ("red/blue", "red blue"), ("yes!", "yes "), ("wait - what-ever", "wait  whatever"),
    ("t-shirt", "t shirt"), ("(red), blue", " red  blue"), ("1,000", "1000"),
    ("1,000 t-shirts", "1000 tshirts"), ("1,,2", "1  2"),
    ("3.5", "3.5"), (".5", ".5"), ("3.", "3"), ("U.S.", "US"), ("v.2", "v.2"), ("he's 5:30", "he's 5:30"),
    ("a.,b", "a b"), ("", ""),
])  # fmt: skip
def test_marks_become_spaces_unless_they_stand_beside_one(text, stripped):
    assert strip_punctuation(text) == stripped


@pytest.mark.parametrize("mark", PUNCTUATION)
def test_every_mark_goes_and_is_judged_by_the_text_as_it_was_given(mark):
    assert strip_punctuation(f"x{mark}y") == "x y"
    assert strip_punctuation(f"x{mark}y {mark}z") == strip_punctuation(f"x{mark}y{mark} z") == "xy z"
    other = ";" if mark != ";" else "?"
    assert strip_punctuation(f"x{mark}{other} y") == "x  y"  # though nothing is left between mark and space


def test_only_32_periods_go():
    assert strip_punctuation("." * 40) == "." * 8


@pytest.mark.parametrize("text, words", [
    ("The  Red\tcircle\n", "red circle"), ("AN a the", ""), ("none", "0"), ("Two of TEN", "2 of 10"),
    ("twenty one", "twenty 1"), ("dont", "don't"), ("couldnt've couldn'tve", "couldn't've couldn't've"),
    ("couldntve", "couldntve"), ("im", "im"), ("somebody'd", "somebodyd"), ("a\u00a0b", "b"), ("11", "11"),
])  # fmt: skip
def test_words_are_lowered_counted_and_contracted(text, words):
    assert standardise_words(text) == words


def test_all_number_words():
    words = "none zero one two three four five six seven eight nine ten eleven"
    assert standardise_words(words) == "0 0 1 2 3 4 5 6 7 8 9 10 eleven"


def test_an_answer_is_one_line_before_its_punctuation_is_judged():
    assert normalise_answer(" The two,\nmaybe-so ") == "2 maybe so"
    assert normalise_answer("left,\tright") == "left right"
    assert normalise_answer("left,right") == "left right"
    assert normalise_answer("-a\n") == ""


@pytest.mark.parametrize("agree, accuracy", [*enumerate([0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1])])
def test_three_of_ten_are_worth_nine_tenths(agree, accuracy):
    people = ["red"] * agree + ["blue"] * (10 - agree)
    assert vqa_accuracy("red", people) == pytest.approx(accuracy)
    assert vqa_accuracy("red", people[::-1]) == pytest.approx(accuracy)


def test_of_four_people_all_must_agree():
    assert vqa_accuracy("red", ["red"] * 4) == 1
    assert vqa_accuracy("red", ["red"] * 3 + ["blue"]) == pytest.approx((2 / 3 * 3 + 1) / 4)
    with pytest.raises(ValueError, match="3 people answered"):
        vqa_accuracy("red", ["red"] * 3)


def test_answers_are_normalised_only_where_people_disagree():
    assert vqa_accuracy("Two.", ["two"] * 10) == vqa_accuracy("Two.", ["Two"] * 10) == 0
    assert vqa_accuracy(" two\n", ["two", "two "] * 5) == 1
    assert vqa_accuracy("Two.", ["two"] * 9 + ["three"]) == vqa_accuracy("2", ["the two"] * 9 + ["3"]) == 1
    assert vqa_accuracy("two", ["Two", "2", "two!", "a two"] + ["blue"] * 6) == 1


def test_people_of_the_course_agree_with_the_truth_and_less_with_habit():
    batch = scenes.sample("test", 300)
    asked = questions.ask(batch, "existence")
    people = questions.annotators(batch, asked)
    told = [vqa_accuracy(question.answer, ten) for question, ten in zip(asked, people, strict=True)]
    habit = [vqa_accuracy("yes", ten) for ten in people]
    assert sum(told) == len(told)  # six or more say what is true
    assert 0.5 < sum(habit) / len(habit) < 0.75  # dissenters pay whoever is wrong


@pytest.mark.parametrize("first, second, distance", [
    ("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("abc", "acb", 2),
    ("a", "a", 0), ("青い", "青", 1),
])  # fmt: skip
def test_edits_are_counted_either_way(first, second, distance):
    assert edit_distance(first, second) == edit_distance(second, first) == distance


@pytest.mark.parametrize("answer, accepted, similarity", [
    ("stop", ["stop"], 1), ("ST0P", ["stop"], 0.75), ("stxx", ["stop"], 0), ("sto", ["stop", "step"], 0.75),
    ("main  street\n", ["Main Street"], 1), ("", ["stop"], 0), ("", [""], 1), ("ab", ["abc", "xy"], 2 / 3),
    ("abcde", ["abc"], 0.6), ("x", ["stop", "x"], 1),
])  # fmt: skip
def test_letters_count_up_to_half(answer, accepted, similarity):
    assert anls(answer, accepted) == pytest.approx(similarity)


def test_something_must_be_accepted():
    with pytest.raises(ValueError, match="no answer is accepted"):
        anls("stop", [])
