"""Statements of captions are found, and judged against the scene."""

import pytest

from vlmcourse.evaluation.statements import true_and_complete, true_share
from vlmcourse.world import captions, scenes


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
