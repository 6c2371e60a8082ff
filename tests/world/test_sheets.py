"""What is drawn lands on its own page, at its own place, and nowhere else."""

import numpy as np
import pytest

from vlmcourse.world.render import LETTERS, PAPER
from vlmcourse.world.sheets import CHARACTERS, DRAWN, Sheets, glyphs, text_width

SIZES = np.array([(10, 30), (20, 12), (9, 9)])
RED = np.array([200, 10, 10])


@pytest.fixture
def sheets() -> Sheets:
    return Sheets(*SIZES.T, np.array([0, 7, 3]))


def inked(picture: np.ndarray, shade: int) -> np.ndarray:
    return (picture != PAPER[shade]).any(axis=-1)


def test_pages_begin_as_paper_of_their_size(sheets):
    pictures = sheets.pictures()
    assert [picture.shape for picture in pictures] == [(10, 30, 3), (20, 12, 3), (9, 9, 3)]
    for picture, shade in zip(pictures, (0, 7, 3), strict=True):
        assert picture.dtype == np.uint8 and (picture == PAPER[shade]).all()


def test_rectangles_fill_what_their_corners_say(sheets):
    page, left, top = np.array([1, 0]), np.array([2, 20]), np.array([5, 0])
    colours = np.stack([RED, RED // 2])
    sheets.rectangles(page, left, top, np.array([6, 30]), np.array([8, 1]), colours)
    first, second, third = sheets.pictures()
    expected = np.zeros((20, 12), bool)
    expected[5:8, 2:6] = True
    assert (inked(second, 7) == expected).all() and (second[5:8, 2:6] == RED).all()
    assert inked(first, 0).sum() == 10 and (first[0, 20:] == RED // 2).all()
    assert not inked(third, 3).any()


def test_texts_stand_where_they_begin(sheets):
    sheets.write(np.array([0, 1]), np.array([1, 3]), np.array([2, 4]), ["l7", "i"], RED)
    first, second, third = sheets.pictures()
    shown = inked(first, 0)
    assert ["".join(".#"[int(pixel)] for pixel in row) for row in shown[2:9, 1:12]] == [
        "#.....#####",
        "#.........#",
        "#........#.",
        "#.......#..",
        "#......#...",
        "#......#...",
        "#####..#...",
    ]
    assert shown.sum() == shown[2:9, 1:12].sum() and (first[2, 1] == RED).all()
    assert inked(second, 7)[4:11, 3:8].sum() == inked(second, 7).sum() == glyphs("i").sum()
    assert not inked(third, 3).any()


def test_small_pictures_are_stamped(sheets):
    patches = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    sheets.stamp(np.array([2, 0]), np.array([6, 0]), np.array([7, 8]), patches)
    first, _, third = sheets.pictures()
    assert (third[7:9, 6:9] == patches[0]).all() and (first[8:10, :3] == patches[1]).all()
    assert inked(third, 3).sum() == inked(first, 0).sum() == 6


def test_every_letter_and_digit_has_a_form_of_its_own():
    every = "abcdefghijklmnopqrstuvwxyz0123456789"
    forms = glyphs(every)
    assert forms.shape == (36, 7, 5) and forms.any(axis=(1, 2)).all()
    different = (forms[:, None] != forms[None]).sum(axis=(2, 3)) + 99 * np.eye(36, dtype=int)
    assert different.min() >= 2, [every[n] for n in np.unravel_index(different.argmin(), (36, 36))]
    assert forms.any(axis=1).any(axis=0).all()  # all five columns are used
    known = glyphs("".join(LETTERS))
    assert (known == forms[[every.index(letter) for letter in LETTERS]]).all()
    with pytest.raises(KeyError):
        glyphs("é")


def test_a_text_is_as_wide_as_it_is_drawn():
    assert text_width("a") == 5 and text_width("99") == 11 and text_width("bcdfgh") == 35


def test_what_stands_where_is_remembered_page_by_page(sheets):
    sheets.write(np.array([2, 0]), np.array([1, 3]), np.array([2, 4]), ["l7", "a"], RED)
    sheets.note(np.array([0]), np.array([[1, 2, 5, 6]]), DRAWN.index("bar"), 4)
    first, second, third = sheets.shown()
    a, seven = DRAWN.index("a"), DRAWN.index("7")
    assert first.tolist() == [[3, 4, 8, 11, a, -1, 0, -1], [1, 2, 5, 6, DRAWN.index("bar"), 4, 0, -1]]
    assert second.shape == (0, 8)
    assert third.tolist() == [[1, 2, 6, 9, DRAWN.index("l"), -1, 0, -1], [7, 2, 12, 9, seven, -1, 1, -1]]
    sheets.write(np.array([1, 1]), np.array([1, 1]), np.array([2, 10]), ["47", "b"], RED, cell=5)
    assert sheets.shown()[1][:, 6:].tolist() == [[0, 5], [1, 5], [0, 5]]
    assert DRAWN[: len(CHARACTERS)] == tuple(CHARACTERS) and len({*DRAWN}) == len(DRAWN) == 36 + 5 + 1


def test_blank_pages_show_nothing():
    assert [len(page) for page in Sheets(*SIZES.T, np.array([0, 7, 3])).shown()] == [0, 0, 0]
