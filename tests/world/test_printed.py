"""What is printed can be read off the pixels, splits never meet, and every answer is as likely as said."""

import itertools
from collections import Counter

import numpy as np
import pytest

from vlmcourse.world import chance
from vlmcourse.world.pages import sample_pages
from vlmcourse.world.printed import CONSONANTS, fill_tables, raise_bars, spell_words
from vlmcourse.world.render import PAINT
from vlmcourse.world.scenes import COLOURS
from vlmcourse.world.sheets import glyphs

KEYS = chance.derive(np.arange(3000, dtype=np.uint64), "test")
SPLITS = ("train", "validation", "test")


def read(picture: np.ndarray, box: tuple[int, ...]) -> str:
    """Letters and digits in a box, by comparing with every form."""
    left, top, right, bottom = box
    ink = (picture[top:bottom, left:right] == PAINT[0]).all(axis=-1)
    every = "abcdefghijklmnopqrstuvwxyz0123456789"
    found = ""
    for x in range(0, right - left, 6):
        same = (glyphs(every) == ink[:, x : x + 5]).all(axis=(1, 2))
        found += every[int(same.argmax())] if same.any() else "?"
    return found


def pairs(word: str) -> list[int]:
    places = [CONSONANTS.index(letter) for letter in word]
    return [(first + second) % 4 for first, second in itertools.pairwise(places)]


def test_words_of_splits_have_no_held_out_pair_in_common():
    words = {split: spell_words(KEYS, split) for split in SPLITS}
    kinds = {split: [pairs(word) for word in some] for split, some in words.items()}
    assert {kind for row in kinds["train"] for kind in row} == {0, 1}
    for split, own in (("validation", 2), ("test", 3)):
        assert all(row.count(own) == 1 and set(row) <= {0, 1, own} for row in kinds[split])
    assert not set(words["train"]) & set(words["test"]) and not set(words["validation"]) & set(words["test"])


def test_words_are_of_all_letters_and_lengths_and_the_held_out_pair_stands_anywhere():
    words = spell_words(KEYS, "test")
    lengths = Counter(map(len, words))
    assert set(lengths) == {4, 5, 6} and min(lengths.values()) > 900
    for place in (0, 3):
        counts = Counter(word[place] for word in words)
        assert set(counts) == set(CONSONANTS) and min(counts.values()) > 90
    where = Counter(pairs(word).index(3) for word in words if len(word) == 4)
    assert set(where) == {0, 1, 2} and min(where.values()) > 250


def test_tables_of_splits_have_other_sums():
    for number, split in enumerate(SPLITS):
        tables = fill_tables(KEYS, split)
        assert tables.shape == (3000, 3, 3) and tables.min() == 0 and tables.max() == 99
        assert (tables.sum(axis=(1, 2)) % 3 == number).all()
        short = (tables < 10).mean(axis=0)
        assert (abs(short - 0.5) < 0.05).all()  # of one digit, in every cell
        assert all(len(np.unique(tables[:, row, column])) == 100 for row, column in np.ndindex(3, 3))


def test_bars_differ_in_height_and_colour_and_splits_in_their_sum():
    for number, split in enumerate(SPLITS):
        heights, colours = raise_bars(KEYS, split)
        present = heights > 0
        counts = Counter(present.sum(axis=1).tolist())
        assert set(counts) == {3, 4, 5} and min(counts.values()) > 900
        assert (present == (colours >= 0)).all() and heights.max() == 9 and colours.max() == 6
        assert (heights.sum(axis=1) % 3 == number).all()
        for row, paint, there in zip(heights, colours, present, strict=True):
            assert len({*row[there]}) == len({*paint[there]}) == there.sum()
        assert min(Counter(heights[present].tolist()).values()) > 900


@pytest.mark.parametrize("kind", ["words", "tables"])
def test_what_is_printed_can_be_read_off_the_pixels(kind):
    pages = sample_pages("test", 60, kind=kind)
    for picture, asked in zip(pages.pictures, pages.asked, strict=True):
        for question in asked:
            (box,) = question.boxes
            assert read(picture, box) == question.answer == question.letters
            assert box[0] >= 2 and box[1] >= 2 and box[2] <= picture.shape[1] - 2
            assert box[3] <= picture.shape[0] - 2


def test_a_table_has_all_its_cells_in_order_and_its_names_beside_them():
    pages = sample_pages("train", 20, kind="tables", seed=4)
    for picture, asked in zip(pages.pictures, pages.asked, strict=True):
        assert [question.text for question in asked] == [
            f"What is in row {row}, column {column}?" for row in "abc" for column in "xyz"
        ]
        boxes = [question.boxes[0] for question in asked]
        left, top = boxes[0][0] - 16, boxes[0][1] - 13
        for place in range(3):
            row, column = top + 13 * (place + 1), left + 16 * (place + 1)
            assert read(picture, (left, row, left + 5, row + 7)) == "abc"[place]
            assert read(picture, (column, top, column + 5, top + 7)) == "xyz"[place]
            assert {box[1] for box in boxes[3 * place : 3 * place + 3]} == {row}
            assert {box[0] for box in boxes[place::3]} == {column}


def test_bars_are_as_high_as_the_answer_says_and_lie_on_wide_pages():
    pages = sample_pages("test", 80, kind="charts")
    for picture, asked in zip(pages.pictures, pages.asked, strict=True):
        best, *bars = asked
        wide = picture.shape[1] > picture.shape[0]
        assert best.text == f"Which bar is {'longest' if wide else 'highest'}?"
        heights = {}
        for question in bars:
            (left, top, right, bottom), colour = question.boxes[0], question.text.split()[-2]
            name = f"How {'long' if wide else 'high'} is the {colour} bar?"
            assert question.text == name and question.kind == "height"
            along, thick = (right - left, bottom - top) if wide else (bottom - top, right - left)
            assert (along, thick) == (4 * int(question.answer), 5)
            shown = (picture == PAINT[COLOURS.index(colour)]).all(axis=-1)
            assert shown[top:bottom, left:right].all()
            heights[colour] = along
        assert best.answer == max(heights, key=heights.get)
        assert best.boxes == tuple(question.boxes[0] for question in bars)


@pytest.mark.parametrize("lying", [False, True])
def test_the_axis_bears_its_digits_at_their_height(lying):
    pages = sample_pages("train", 10, kind="charts", sizes=[(64, 192) if lying else (64, 64)])
    for picture, asked in zip(pages.pictures, pages.asked, strict=True):
        left, _, _, bottom = asked[0].boxes[0]  # of the first bar
        below = asked[0].boxes[-1][3] + 3  # the last one
        for value in (0, 3, 6, 9):
            x, y = (left + 4 * value - 2, below) if lying else (left - 10, bottom - 4 * value - 4)
            assert read(picture, (x, y, x + 5, y + 7)) == str(value)
