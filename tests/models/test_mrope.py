"""Every rule of models/mrope.py by small numbers; equal to the library in tests/parity/test_mrope.py."""

import pytest
import torch

from vlmcourse.models.language import rope_angles
from vlmcourse.models.look import causal
from vlmcourse.models.mrope import (
    grid_positions,
    mrope_angles,
    mrope_look,
    mrope_positions,
    next_position,
    pair_axes,
)
from vlmcourse.models.qwen import Qwen, QwenConfig


def test_a_grid_counts_frames_then_rows_then_columns():
    assert grid_positions(3, (1, 2, 2)).tolist() == [[3, 3, 3, 3], [3, 3, 4, 4], [3, 4, 3, 4]]
    clip = grid_positions(1, (2, 1, 3)).tolist()
    assert clip == [[1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 1], [1, 2, 3, 1, 2, 3]]


def test_text_resumes_behind_the_largest_number_of_a_picture():
    row = mrope_positions(9, [(3, 7)], [(1, 2, 2)]).tolist()
    assert row == [[0, 1, 2, 3, 3, 3, 3, 5, 6], [0, 1, 2, 3, 3, 4, 4, 5, 6], [0, 1, 2, 3, 4, 3, 4, 5, 6]]
    wide = mrope_positions(5, [(0, 4)], [(1, 1, 4)]).tolist()
    assert wide == [[0, 0, 0, 0, 4], [0, 0, 0, 0, 4], [0, 1, 2, 3, 4]]
    long = mrope_positions(5, [(0, 3)], [(3, 1, 1)]).tolist()
    assert long == [[0, 1, 2, 3, 4], [0, 0, 0, 3, 4], [0, 0, 0, 3, 4]]


def test_several_pictures_with_and_without_words_between():
    row = mrope_positions(8, [(1, 3), (3, 5), (6, 8)], [(1, 1, 2), (1, 2, 1), (1, 1, 2)])
    assert row.tolist() == [[0, 1, 1, 3, 3, 5, 6, 6], [0, 1, 1, 3, 4, 5, 6, 6], [0, 1, 2, 3, 3, 5, 6, 7]]


def test_a_text_alone_counts_as_ever():
    assert mrope_positions(3, [], []).tolist() == [[0, 1, 2]] * 3


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="1 spans, but 2 grids"):
        mrope_positions(9, [(1, 5)], [(1, 2, 2), (1, 2, 2)])
    with pytest.raises(ValueError, match="a grid of 1 × 2 × 3 has 6 tokens, but its span has 4"):
        mrope_positions(9, [(1, 5)], [(1, 2, 3)])


def test_pairs_are_shared_out_in_chunks_or_in_turn():
    assert pair_axes((1, 2, 3), False).tolist() == [0, 1, 1, 2, 2, 2]
    assert pair_axes((4, 2, 1), True).tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert pair_axes((2, 2, 2), True).tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(ValueError, match="the time needs the most pairs"):
        pair_axes((1, 2, 2), True)


def test_each_pair_is_turned_by_its_own_number():
    positions = torch.tensor([[[5]], [[7]], [[11]]])
    speeds = rope_angles(torch.tensor([[1]]), 8, 100.0)[0, 0]
    angles = mrope_angles(positions, 8, 100.0, torch.tensor([0, 2, 1, 0]))[0, 0]
    assert torch.allclose(angles, speeds * torch.tensor([5, 11, 7, 5]))


def test_a_look_places_each_row_at_its_real_tokens():
    rows = [mrope_positions(4, [(1, 3)], [(1, 1, 2)]), mrope_positions(2, [], [])]
    real = torch.tensor([[True] * 4, [False, False, True, True]])
    look = mrope_look(rows, real)
    assert look.positions[:, 0].tolist() == rows[0].tolist()
    assert look.positions[:, 1].tolist() == [[0, 0, 0, 1]] * 3
    assert torch.equal(look.mask, causal(4, real=real).mask)
    whole = mrope_look(rows[:1])
    assert torch.equal(whole.positions[:, 0], rows[0]) and torch.equal(whole.mask, causal(4).mask)
    assert next_position(look).tolist() == [4, 2]
    with pytest.raises(ValueError, match=r"rows of \[4, 2\] tokens cannot fill \[4, 4\] places"):
        mrope_look(rows, torch.ones(2, 4, dtype=torch.bool))


def test_a_text_alone_is_read_as_with_rope():
    torch.manual_seed(0)
    model = Qwen(QwenConfig(20, width=32, depth=1, heads=2, groups=1, sections=(2, 3, 3))).eval()
    ids = torch.randint(20, (2, 5))
    look = mrope_look([mrope_positions(5, [], [])] * 2)
    assert torch.equal(model(ids, look), model(ids))


def test_sections_share_out_a_head():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) share out 9 pairs; a head has 8"):
        QwenConfig(20, width=32, heads=2, sections=(2, 3, 4))
