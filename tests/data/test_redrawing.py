"""Drawings at any size, moved, scaled and turned."""

import numpy as np
import pytest

from vlmcourse.data import openmoji
from vlmcourse.data.redrawing import Move, redraw, some_moves


def where(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle and extent (down, right) of what is not white, in pixels."""
    ends = np.array([(rows.min(), rows.max()) for rows in np.nonzero((image < 200).any(-1))])
    return ends.mean(1), ends[:, 1] - ends[:, 0]


def test_unmoved_drawings_are_those_of_the_split():
    for split in openmoji.EMOJI_SPLITS:
        loaded, rows = openmoji.load(split).images, [7, 3, 150]
        assert np.array_equal(redraw(split, rows, side=64), loaded[rows])
    assert len(openmoji.code_points("heldout")) == 400


def test_a_move_does_what_it_says():
    row = [openmoji.load("train").captions.index("red apple")]
    (middle, extent), side = where(redraw("train", row, side=144)[0]), 144
    moved, same = where(redraw("train", row, Move(right=0.05, down=-0.1), side)[0])
    assert np.abs(moved - middle - [-14.4, 7.2]).max() < 1.5 and np.abs(same - extent).max() < 2
    scaled, smaller = where(redraw("train", row, Move(scale=0.5), side)[0])
    assert np.abs(smaller / extent - 0.5).max() < 0.05
    assert np.abs(scaled - 72 - (middle - 72) / 2).max() < 1.5
    turned, _ = where(redraw("train", row, Move(turn=180), side)[0])
    assert np.abs(turned - (143 - middle)).max() < 1.5
    two = redraw("train", row * 2, [Move(), Move(turn=90)], side)
    # clockwise: the upper rim comes to the right
    assert np.abs(two[1].astype(int) - np.rot90(two[0], -1)).mean() < 1


def test_first_turned_and_scaled_then_moved():
    row, side = [openmoji.load("train").captions.index("red apple")], 144
    scaled, extent = where(redraw("train", row, Move(scale=0.5), side)[0])
    both, same = where(redraw("train", row, Move(right=0.1, down=0.2, scale=0.5), side)[0])
    # a move is a share of the side, however small the drawing
    assert np.abs(both - scaled - [28.8, 14.4]).max() < 1.5 and np.abs(same - extent).max() < 2
    turned, _ = where(redraw("train", row, Move(turn=90, scale=0.5), side)[0])
    all_three, _ = where(redraw("train", row, Move(0.1, 0.2, 0.5, 90), side)[0])
    assert np.abs(all_three - turned - [28.8, 14.4]).max() < 1.5


def test_what_goes_over_the_rim_is_cut_off_and_all_else_is_white():
    row = [openmoji.load("train").captions.index("red apple")]
    gone = redraw("train", row, Move(right=2.0), side=32)
    assert (gone == 255).all() and gone.shape == (1, 32, 32, 3) and gone.dtype == np.uint8
    half = redraw("train", row, Move(right=0.5), side=32)[0]
    assert (half[:, :12] == 255).all() and (half[:, 20:] < 200).any()
    assert redraw("train", row).shape == (1, 224, 224, 3) and redraw("train", []).shape == (0, 224, 224, 3)
    assert redraw("train", row, side=1).shape == (1, 1, 1, 3)


def test_moves_by_chance_fill_their_ranges_and_come_again():
    moves = np.array(some_moves(2000, seed=3))
    assert np.array_equal(moves, some_moves(2000, seed=3)) and not np.array_equal(moves, some_moves(2000, 4))
    assert len(some_moves(7, 0)) == 7 and np.abs(np.corrcoef(moves.T) - np.eye(4)).max() < 0.1
    for column, low, high in zip(moves.T, (-0.1, -0.1, 0.7, -20), (0.1, 0.1, 1.05, 20), strict=True):
        width = high - low
        assert low <= column.min() < low + 0.02 * width and high - 0.02 * width < column.max() <= high


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="side must be at least 1 pixel, got 0"):
        redraw("train", [0], side=0)
    with pytest.raises(ValueError, match="2 drawings and 1 moves"):
        redraw("train", [0, 1], [Move()])
    with pytest.raises(ValueError, match="unknown split 'tests'"):
        redraw("tests", [0])
    with pytest.raises(IndexError):
        redraw("heldout", [400])
