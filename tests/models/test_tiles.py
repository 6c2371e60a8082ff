"""Every rule of models/tiles.py by small numbers."""

import pytest
import torch

from vlmcourse.models.tiles import (
    READING_WAYS,
    choose_grid,
    covering_grid,
    cut_tiles,
    empty_lines,
    fitted_size,
    grids_within,
    lay_tiles,
    letterbox,
    plan_picture,
    smart_size,
    squash,
    tile_tokens,
)

ALL = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 1)]


@pytest.mark.parametrize(("size", "expected"), [
    ((64, 64), (1, 1)), ((64, 128), (1, 2)), ((128, 64), (2, 1)), ((128, 128), (2, 2)), ((64, 256), (1, 4)),
    ((256, 64), (4, 1)), ((20, 20), (1, 1)), ((100, 200), (1, 2)), ((65, 64), (2, 1)), ((60, 70), (1, 2)),
])  # fmt: skip
def test_the_grid_shows_most_and_then_wastes_least(size, expected):
    assert choose_grid(*size, ALL, 64) == expected
    assert choose_grid(*size, ALL[::-1], 64) == expected


def test_what_fits_counts_in_whole_pixels_and_never_more_than_there_are():
    # 3 × 10 in 4 × 4: scaled by 0.4 it covers int(1.2) · 4 = 4 pixels; in 4 × 8 by 0.8: 2 · 8 = 16
    assert choose_grid(3, 10, [(1, 1), (1, 2)], 4) == (1, 2)
    # 3 × 25 in 4 × 4: int(0.48) is no row at all, and so it is in 4 × 8; the smaller frame wastes less
    assert choose_grid(3, 25, [(1, 2), (1, 1)], 4) == (1, 1)
    # 4 × 4 has 16 pixels in either grid; the smaller one wastes none, whatever the order
    assert choose_grid(4, 4, [(2, 2), (1, 1)], 4) == (1, 1)
    # two grids alike: the first in the list
    assert choose_grid(8, 8, [(1, 2), (2, 1)], 4) == (1, 2)
    assert choose_grid(8, 8, [(2, 1), (1, 2)], 4) == (2, 1)
    assert choose_grid(1, 500, [(1, 1), (2, 2)], 4) == (1, 1)  # nothing can be seen of it in any


def test_no_grid_is_named():
    with pytest.raises(ValueError, match="allow more tokens"):
        choose_grid(64, 64, [], 64)


def test_a_picture_fits_into_a_frame_with_its_aspect():
    assert fitted_size((64, 128), (64, 64)) == (32, 64)
    assert fitted_size((128, 64), (64, 64)) == (64, 32)
    assert fitted_size((10, 30), (64, 64)) == (22, 64)  # 21.3 rounded up
    assert fitted_size((30, 10), (64, 64)) == (64, 22)
    assert fitted_size((20, 20), (64, 128)) == (64, 64)
    assert fitted_size((1, 64), (1, 64)) == (1, 64)
    assert fitted_size((20, 20), (128, 64)) == (64, 64) and fitted_size((10, 20), (64, 192)) == (64, 128)


def test_a_letterbox_keeps_the_middle_and_pads_the_far_side_more():
    image = torch.ones(2, 3, 8)
    boxed = letterbox(image, (8, 8))
    assert boxed.shape == (2, 8, 8)
    assert boxed[0, :, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    tall = letterbox(image.transpose(1, 2), (8, 8))
    assert tall[1, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert torch.equal(letterbox(image, (3, 8)), image)


def test_squashing_fills_the_frame():
    image = torch.arange(4.0).reshape(1, 1, 4)
    assert squash(image, (1, 2)).shape == (1, 1, 2)
    assert squash(image, (1, 4)) is image
    assert squash(image, (3, 4))[0, :, 2].tolist() == [2, 2, 2]
    edges = torch.tensor([0.0, 1.0] * 8).reshape(
        1, 1, 16
    )  # stripes become grey, not stripes of another width
    assert (squash(edges, (1, 4)) - 0.5).abs().max() < 0.1
    # of three stripes each, the middle one alone would be all black or all white
    assert (squash(edges[..., :15], (1, 5)) - 0.5).abs().max() < 0.1


def test_the_covering_grid_makes_nothing_smaller():
    assert [covering_grid(*size, 64) for size in ((64, 64), (64, 65), (65, 64), (60, 100), (128, 256))] == [
        (1, 1), (2, 2), (2, 2), (2, 2), (2, 4)
    ]  # fmt: skip
    assert covering_grid(30, 100, 64) == (1, 2) and covering_grid(100, 30, 64) == (2, 1)
    # 128 wide, 64.5 pixels high: whole pixels count
    assert covering_grid(64, 127, 64) == (1, 2) and covering_grid(127, 64, 64) == (2, 1)
    assert covering_grid(40, 120, 64) == (1, 2) and covering_grid(129, 10, 64) == (3, 1)


def test_tiles_follow_their_thumbnail_row_by_row():
    image = torch.arange(24.0).reshape(1, 4, 6)
    pictures = cut_tiles(image, (2, 3), 2)
    assert pictures.shape == (7, 1, 2, 2)
    assert torch.equal(pictures[0], squash(image, (2, 2)))
    assert pictures[1].flatten().tolist() == [0, 1, 6, 7]  # top left
    assert pictures[2].flatten().tolist() == [2, 3, 8, 9]  # the one to its right
    assert pictures[4].flatten().tolist() == [12, 13, 18, 19]  # the one below the first
    assert torch.equal(cut_tiles(image, (1, 1), 2), squash(image, (2, 2))[None])
    assert cut_tiles(image[:, :2], (1, 3), 2)[3].flatten().tolist() == [4, 5, 10, 11]  # the last of one row


def test_tiles_are_cut_from_the_letterbox():
    image = torch.ones(1, 2, 8)
    pictures = cut_tiles(image, (2, 2), 4)
    assert pictures[1][0].sum(dim=1).tolist() == [0, 0, 0, 4]  # padded above
    assert pictures[3][0].sum(dim=1).tolist() == [4, 0, 0, 0]
    assert pictures[0].min() == 1  # the thumbnail is not


def test_empty_lines_lie_on_both_sides():
    assert empty_lines((64, 128), (8, 8)) == (2, 0)
    assert empty_lines((128, 64), (8, 8)) == (0, 2)
    assert empty_lines((64, 64), (8, 8)) == (0, 0)
    assert empty_lines((70, 100), (8, 8)) == (1, 0)  # 5.6 lines are 5; three are empty, one on either side
    assert (
        empty_lines((49, 49), (1, 2)) == empty_lines((49, 49), (2, 1)) == (0, 0)
    )  # 49 · (1 / 49) is below 1


def test_tokens_are_laid_line_by_line_with_a_separator():
    tokens = torch.arange(12.0).reshape(3, 4, 1)  # thumbnail 0…3, tiles 4…7 and 8…11
    separator = torch.tensor([-1.0])
    beside = lay_tiles(tokens, (1, 2), separator).flatten().tolist()
    assert beside == [0, 1, 2, 3, 4, 5, 8, 9, -1, 6, 7, 10, 11, -1]
    below = lay_tiles(tokens, (2, 1), separator).flatten().tolist()
    assert below == [0, 1, 2, 3, 4, 5, -1, 6, 7, -1, 8, 9, -1, 10, 11, -1]
    assert lay_tiles(tokens[:1], (1, 1), separator).flatten().tolist() == [0, 1, 2, 3]


def test_lines_of_padding_are_left_out():
    tokens = torch.arange(20.0).reshape(5, 4, 1)  # 4 lines of 4 patches
    laid = lay_tiles(tokens, (2, 2), torch.tensor([-1.0]), (10, 20)).flatten().tolist()
    assert laid == [0, 1, 2, 3, 6, 7, 10, 11, -1, 12, 13, 16, 17, -1]
    tall = lay_tiles(tokens, (2, 2), torch.tensor([-1.0]), (20, 10)).flatten().tolist()
    assert tall == [0, 1, 2, 3, 5, 8, -1, 7, 10, -1, 13, 16, -1, 15, 18, -1]


def test_pictures_that_do_not_fit_the_grid_are_named():
    with pytest.raises(
        ValueError, match="a grid of 2 × 2 has 5 pictures with its thumbnail, but tokens of 4"
    ):
        lay_tiles(torch.zeros(4, 4, 2), (2, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="a grid of 1 × 1 has 1 pictures"):
        lay_tiles(torch.zeros(2, 4, 2), (1, 1), torch.zeros(2))


def test_the_count_of_tokens_is_the_length_of_the_row():
    for grid in ALL:
        pictures = 1 if grid == (1, 1) else 1 + grid[0] * grid[1]
        tokens, separator = torch.zeros(pictures, 16, 3), torch.zeros(3)
        assert tile_tokens(grid, 4) == len(lay_tiles(tokens, grid, separator))
        for size in ((64, 64), (30, 200), (200, 30)):
            assert tile_tokens(grid, 4, size) == len(lay_tiles(tokens, grid, separator, size))
    assert tile_tokens((1, 1), 8) == 64 and tile_tokens((1, 2), 8) == 64 + 8 * 17


def test_grids_of_a_budget_cost_no_more():
    assert grids_within(64, 8) == [(1, 1)] and grids_within(199, 8) == [(1, 1)]
    assert grids_within(200, 8) == [(1, 1), (1, 2)]  # 64 + 8 · 17
    assert grids_within(208, 8) == [(1, 1), (1, 2), (2, 1)]  # 64 + 16 · 9
    many = grids_within(1000, 8)
    assert many == sorted(many, key=lambda grid: grid[0] * grid[1]) and len(set(many)) == len(many)
    assert max(tile_tokens(grid, 8) for grid in many) <= 1000 < tile_tokens((1, 15), 8)
    assert (1, 14) in many and (14, 1) not in many and (3, 4) in many  # 64 + 112 · 9
    with pytest.raises(ValueError, match="a budget of 63 tokens holds no thumbnail; it needs 64"):
        grids_within(63, 8)


@pytest.mark.parametrize(("size", "limits", "expected"), [
    ((64, 64), (8, 64, 4096), (64, 64)),
    ((67, 68), (8, 64, 10_000), (64, 64)),  # 8.375 → 8, 8.5 → 8: halves to the even one
    ((67, 68), (8, 64, 4096), (64, 64)),  # rounded, it is not too large any more
    ((60, 68), (8, 4096, 10_000), (64, 64)),  # and not too small
    ((76, 69), (8, 64, 10_000), (80, 72)),  # 9.5 → 10, 8.6 → 9
    ((128, 128), (8, 64, 4096), (64, 64)),
    ((64, 256), (8, 64, 4096), (32, 128)),
    ((100, 200), (8, 64, 4096), (40, 88)),  # scaled to 45.3 × 90.5, each rounded down
    ((4, 4), (8, 256, 4096), (16, 16)),
    ((5, 9), (8, 256, 4096), (16, 24)),  # scaled to 11.9 × 21.5, each rounded up
    ((5, 400), (8, 64, 640), (8, 224)),  # one multiple at least, so more pixels than allowed
])  # fmt: skip
def test_the_size_is_one_that_patches_tile(size, limits, expected):
    assert smart_size(*size, *limits) == expected


def test_a_thread_is_no_picture():
    assert smart_size(10, 2000, 8, 64, 10**6) == (8, 2000)
    with pytest.raises(ValueError, match="one edge is 201 times as long as the other; 200 are allowed"):
        smart_size(2010, 10, 8, 64, 10**6)


def test_a_plan_says_what_a_budget_buys():
    assert plan_picture("squash", (64, 256), 80) == ("squash", (64, 64), (1, 1), 64)
    assert plan_picture("squash", (64, 256), 16) == ("squash", (32, 32), (1, 1), 16)
    assert plan_picture("native", (64, 256), 256) == ("native", (64, 256), (1, 1), 256)
    assert plan_picture("native", (64, 256), 1000) == ("native", (64, 256), (1, 1), 256)
    assert plan_picture("native", (64, 256), 64) == ("native", (32, 128), (1, 1), 64)
    assert plan_picture("native", (2, 20), 64) == ("native", (8, 32), (1, 1), 4)  # one patch at least
    assert plan_picture("tiles", (64, 256), 400) == ("tiles", (64, 256), (1, 4), 64 + 8 * 33)
    assert plan_picture("tiles", (64, 256), 64) == ("tiles", (64, 64), (1, 1), 64)
    assert plan_picture("tiles", (64, 256), 220) == (
        "tiles",
        (32, 128),
        (1, 2),
        64 + 4 * 17,
    )  # no empty lines
    assert plan_picture("native", (64, 256), 64, patch=16) == ("native", (64, 256), (1, 1), 64)
    assert plan_picture("tiles", (64, 256), 100, patch=16) == ("tiles", (64, 256), (1, 4), 16 + 4 * 17)
    assert plan_picture("tiles", (64, 128), 100, side=32) == ("tiles", (32, 64), (1, 2), 16 + 4 * 9)


def test_a_plan_never_costs_more_than_its_budget():
    for way in READING_WAYS:
        for size in ((64, 64), (64, 256), (256, 64), (128, 128), (100, 77)):
            for budget in (64, 100, 256, 500):
                plan = plan_picture(way, size, budget)
                assert 0 < plan.tokens <= budget, (plan, budget)


def test_plans_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="unknown way 'crop' to read a picture; choose one of squash, tiles"):
        plan_picture("crop", (64, 64), 64)
    with pytest.raises(ValueError, match="a budget of 0 tokens holds no picture"):
        plan_picture("native", (64, 64), 0)
    with pytest.raises(ValueError, match="needs 64"):
        plan_picture("tiles", (64, 64), 63)
