"""Statements of captions are found, and judged against the scene."""

import pytest

from vlmcourse.evaluation.statements import true_and_complete, true_share, true_statement
from vlmcourse.world import captions, scenes
from vlmcourse.world.truth import Thing


@pytest.mark.parametrize("style", ["short", "full"])
def test_true_captions_are_true_in_any_order(style):
    batch = scenes.sample("test", 200)
    texts = captions.captions(batch, style)
    assert true_share(texts, batch) == 1
    assert true_share([" and ".join(reversed(text.split(" and "))) for text in texts], batch) == 1
    assert 0.3 < true_share(texts[1:] + texts[:1], batch) < 0.7


def test_false_statements_count():
    batch = scenes.sample("test", 50, objects=(1, 1))
    texts = captions.captions(batch, "full")
    assert true_share([text + " and " + text for text in texts], batch) == 0.5  # there is no second object
    wrong = captions.captions(batch, "full", wrong=1.0)
    assert true_share(wrong, batch) == 0.75  # one of four attributes
    with pytest.raises(ValueError, match="49 captions for 50 scenes"):
        true_share(texts[1:], batch)
    with pytest.raises(ValueError, match="no caption states a colour"):
        true_share([""] * 50, batch)


def test_many_things_are_matched_with_few_objects():
    one = scenes.sample("test", 1, objects=(1, 1))
    text = " and ".join(captions.captions(one, "full") * 9)
    assert true_share([text], one) == pytest.approx(1 / 9)


def test_a_whole_caption_names_each_object_once_and_nothing_wrong():
    batch = scenes.sample("test", 40, objects=(2, 3))
    texts = captions.captions(batch, "full")
    assert true_and_complete(texts, batch).all()
    assert not true_and_complete([f"{text} and {text}" for text in texts], batch).any()  # each twice
    assert not true_and_complete([text.rpartition(" and ")[0] for text in texts], batch).any()  # one left out
    assert not true_and_complete(captions.captions(batch, "full", wrong=1.0), batch).any()
    first = [texts[1], *texts[1:]]
    assert true_and_complete(first, batch).tolist() == [False] + [True] * 39


TWO = [Thing(0, 2, 0, 10, 10), Thing(0, 3, 2, 50, 40), Thing(4, 4, 1, 34, 12)]  # red, blue circle; green star


@pytest.mark.parametrize("statement, true", [
    ("there is a red circle", True), ("there is a green circle", False),
    ("a small red circle at the top left", True),
    ("a small red circle at the top right", False), ("a large red circle", False), ("a thing", True),
    ("a blue circle at the bottom right", True), ("a green star at the top right", True),
    ("there are 2 circles", True), ("there are two circles", True), ("there are 3 circles", False),
    ("there is no cross", True), ("there is no star", False), ("there is 1 star", True),
    ("yes, there is 1 star", True),
    ("the star is green", True), ("the star is red", False), ("the star is not red", True),
    ("the star is not green", False), ("the circle is red", False), ("the circle is not red", False),
    ("the cross is red", False), ("the red thing is a circle", True), ("the star is medium", True),
    ("the large thing is blue", True), ("the blue circle is at the bottom right", True),
    ("the blue circle is at the top left", False), ("the blue circle is not at the top left", True),
    ("the star is at the top right", False), ("the star is left of the blue circle", True),
    ("the star is right of the blue circle", False), ("no, the star is not right of the blue circle", True),
    ("the star is above the red circle", False), ("the star is not above the red circle", False),
    ("the star is larger than the red circle", True), ("the red circle is not larger than the star", True),
    ("a circle left of a star", True), ("a star left of a circle", True), ("a star below a circle", False),
    ("a cross left of a star", False), ("a circle left of a circle", True),
    ("a red circle left of a red circle", False),
    ("a dog left of a star", False), ("a dog", False), ("dogs", False), ("", False),
    ("there are 0 dogs", False),
])  # fmt: skip
def test_single_statements_are_put_as_questions(statement, true):
    assert true_statement(statement, TWO) is true
