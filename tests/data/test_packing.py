"""A row holds the image once, and behind it one question after another, each with its answer."""

import pytest

from vlmcourse.data.packing import pack

TEXTS = [[([5, 6], [7]), ([8], [9, 10])], [([11], [12])]]


def test_rows_hold_image_questions_and_answers():
    ids, labels, packs = pack(TEXTS, image=[3, 39, 39], pad=1)
    assert ids.tolist() == [[3, 39, 39, 5, 6, 7, 8, 9, 10], [3, 39, 39, 11, 12, 1, 1, 1, 1]]
    assert labels.tolist() == [
        [-100, -100, -100, -100, -100, 7, -100, 9, 10],
        [-100, -100, -100, -100, 12, -100, -100, -100, -100],
    ]
    assert packs.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, -1, -1, -1, -1]]


def test_cut_keeps_what_is_needed():
    rows = pack(TEXTS, image=[39], pad=0)
    some = rows.rows(slice(1, 2))
    assert some.ids.tolist() == [[39, 11, 12]] and some.packs.tolist() == [[0, 1, 1]]
    assert rows.cut().ids.shape == rows.ids.shape


def test_an_image_without_a_question_is_named():
    with pytest.raises(ValueError, match="image 1 has no question"):
        pack([TEXTS[0], []], image=[39], pad=0)
