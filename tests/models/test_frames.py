"""Every rule of models/frames.py by small numbers."""

import pytest
import torch

from vlmcourse.models.frames import interleave, pool_frame, sample_frames, timestamps


@pytest.mark.parametrize(("count", "budget", "expected"), [
    (8, 4, [1, 3, 5, 7]), (10, 4, [1, 3, 6, 8]), (9, 1, [4]), (5, 2, [1, 3]), (7, 3, [1, 3, 5]),
    (6, 5, [0, 1, 3, 4, 5]),
])  # fmt: skip
def test_each_equal_span_gives_its_middle_frame(count, budget, expected):
    assert sample_frames(count, budget).tolist() == expected


@pytest.mark.parametrize("budget", [3, 4, 100])
def test_all_frames_if_the_budget_allows_it(budget):
    assert sample_frames(3, budget).tolist() == [0, 1, 2]
    assert sample_frames(1, budget).tolist() == [0]


def test_of_many_frames_none_comes_twice_and_all_parts_are_seen():
    for count, budget in ((1000, 7), (64, 63), (31, 30)):
        frames = sample_frames(count, budget)
        assert len(frames.unique()) == budget and frames.min() >= 0 and frames.max() < count
        spans = torch.arange(budget + 1) * count / budget
        assert (spans[:-1].floor() <= frames).all() and (frames < spans[1:]).all()


@pytest.mark.parametrize("wrong", [(0, 2), (3, 0), (3, -1)])
def test_nothing_cannot_be_chosen(wrong):
    with pytest.raises(ValueError, match="both must be at least 1"):
        sample_frames(*wrong)


def test_squares_of_patches_become_their_mean():
    tokens = torch.arange(8.0).reshape(1, 8, 1)  # two rows of four
    assert pool_frame(tokens, 2, (2, 4)).flatten().tolist() == [(0 + 1 + 4 + 5) / 4, (2 + 3 + 6 + 7) / 4]
    assert pool_frame(tokens, 1, (2, 4)).tolist() == tokens.tolist()
    square = torch.arange(32.0).reshape(1, 16, 2)
    assert pool_frame(square, 4).tolist() == [[[15.0, 16.0]]] and pool_frame(square, 2).shape == (1, 4, 2)


def test_frames_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="65 patches do not fill a grid of 8 × 8"):
        pool_frame(torch.zeros(1, 65, 2), 2)
    with pytest.raises(ValueError, match="squares of 3 × 3 do not tile a grid of 6 × 4"):
        pool_frame(torch.zeros(1, 24, 2), 3, (6, 4))
    with pytest.raises(ValueError, match="squares of 3 × 3 do not tile a grid of 4 × 6"):
        pool_frame(torch.zeros(1, 24, 2), 3, (4, 6))


def test_times_are_written_in_seconds():
    assert timestamps([0, 2, 3], 4) == ["<0.0 seconds>", "<0.5 seconds>", "<0.8 seconds>"]
    assert timestamps([], 4) == []


def test_frames_that_are_joined_share_the_middle_of_their_times():
    assert timestamps([0, 10, 20, 30], 10, 2) == ["<0.5 seconds>", "<2.5 seconds>"]
    assert timestamps([0, 10, 40], 10, 3) == ["<2.0 seconds>"]
    assert timestamps([0, 10, 20], 10, 2) == ["<0.5 seconds>", "<2.0 seconds>"]


def test_every_marker_becomes_its_picture():
    assert interleave([5, 9, 6, 9, 9, 7], 9, [2, 1, 3]) == (
        [5, 9, 9, 6, 9, 9, 9, 9, 7],
        [(1, 3), (4, 5), (5, 8)],
    )
    assert interleave([5, 6], 9, []) == ([5, 6], [])


@pytest.mark.parametrize("sizes", [[], [2], [2, 2, 2]])
def test_markers_and_pictures_are_equally_many(sizes):
    with pytest.raises(ValueError, match=f"the row has 2 markers, but {len(sizes)} pictures"):
        interleave([9, 1, 9], 9, sizes)
