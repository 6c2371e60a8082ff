"""Riddles: the examples alone tell what a made-up word asks for."""

import numpy as np
import pytest

from vlmcourse.world import scenes
from vlmcourse.world.riddles import ASKED_FOR, riddles

BATCH = scenes.sample("train", 60, objects=(1, 1))


def truth(kind, number):
    return ASKED_FOR[kind][getattr(BATCH, kind)[number, 0]]


def test_every_picture_is_answered_with_what_the_word_means():
    told = riddles(BATCH, 40)
    assert set(told.kinds) == set(ASKED_FOR)
    for row, answers, kind in zip(told.pictures, told.answers, told.kinds, strict=True):
        assert len(set(row.tolist())) == 5
        assert answers == [truth(kind, number) for number in row]


def test_wrong_examples_are_of_the_right_kind_and_untrue():
    told = riddles(BATCH, 40, spoiled="wrong")
    for row, answers, kind in zip(told.pictures, told.answers, told.kinds, strict=True):
        assert set(answers) <= set(ASKED_FOR[kind])
        for number, answer in zip(row[:-1], answers[:-1], strict=True):
            assert answer != truth(kind, number)
        assert answers[-1] == truth(kind, row[-1])


def test_examples_of_another_kind_are_true():
    told = riddles(BATCH, 40, spoiled="another")
    for row, answers, kind in zip(told.pictures, told.answers, told.kinds, strict=True):
        for number, answer in zip(row[:-1], answers[:-1], strict=True):
            others = {truth(other, number) for other in ASKED_FOR if other != kind}
            assert answer in others and answer not in ASKED_FOR[kind]


def test_spoiling_changes_the_examples_alone_and_the_seed_everything():
    right, wrong = riddles(BATCH, 20, seed=3), riddles(BATCH, 20, seed=3, spoiled="wrong")
    assert np.array_equal(right.pictures, wrong.pictures) and right.kinds == wrong.kinds
    assert [row[-1] for row in right.answers] == [row[-1] for row in wrong.answers]
    assert not np.array_equal(right.pictures, riddles(BATCH, 20, seed=4).pictures)
    assert riddles(BATCH, 20, examples=2).pictures.shape == (20, 3)


@pytest.mark.parametrize("given, complaint", [
    (dict(batch=scenes.sample("train", 9, objects=(2, 2)), count=3), "objects=\\(1, 1\\)"),
    (dict(batch=BATCH[:4], count=3), "need 5 scenes, not 4"),
    (dict(batch=BATCH, count=3, spoiled="false"), "spoiled is 'false'; choose one of right, wrong, another"),
])  # fmt: skip
def test_what_cannot_be_asked_is_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        riddles(**given)
