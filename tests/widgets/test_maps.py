"""What widgets with a map of colours share: codes, distributions, colours, and the picture under a map."""

import numpy as np
import pytest

from vlmcourse.widgets.maps import check_rows, quantise
from vlmcourse.widgets.stills import ACCENT, cividis, new_figure, outline, overlay, scale_bar, tint

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (6, 12, 3), dtype=np.uint8)


def rows(*shape):
    return RANDOM.dirichlet(np.full(shape[-1], 0.3), shape[:-1])


def test_quantised_weights_come_back_within_half_a_code():
    weights = rows(7, 50) * RANDOM.uniform(1e-6, 1, (7, 1))
    codes, largest = quantise(weights)
    assert np.all(np.abs(codes * largest[:, None] / 255 - weights) <= largest[:, None] / 510 * 1.001)
    assert np.all(codes.max(axis=1) == 255) and codes.dtype == np.uint8 and largest.dtype == np.float32


def test_a_row_of_zeros_stays_zero():
    codes, largest = quantise(np.zeros((2, 5)))
    assert not codes.any() and not largest.any()


@pytest.mark.parametrize("sum_of_row", [0.991, 1.0, 1.009])
def test_rows_that_sum_to_one_but_for_a_hundredth_are_distributions(sum_of_row):
    check_rows("weights", rows(2, 3, 5) * sum_of_row)


@pytest.mark.parametrize("sum_of_row", [0.985, 1.015])
def test_one_row_with_another_sum_is_refused_with_its_sum(sum_of_row):
    weights = rows(2, 3, 5)
    weights[1, 2] *= sum_of_row
    with pytest.raises(ValueError, match=rf"every row of weights must sum to 1 .* one sums to {sum_of_row}"):
        check_rows("weights", weights)


def test_a_distribution_has_no_negative_weight():
    with pytest.raises(ValueError, match=r"weights holds -0\.1; pass weights after the softmax"):
        check_rows("weights", np.array([[0.6, 0.5, -0.1]]))


def test_the_colour_table_goes_from_dark_blue_to_yellow_and_grows_lighter_all_the_way():
    table = cividis()
    lightness = table @ [0.2126, 0.7152, 0.0722]
    assert table.shape == (256, 3) and table.dtype == np.uint8
    assert table[[0, 255]].tolist() == [[0, 34, 78], [254, 232, 56]]
    assert (np.diff(lightness) >= -0.5).all() and lightness[-1] - lightness[0] > 150


def test_colours_stand_for_fractions_and_end_where_the_scale_ends():
    shown = tint(np.array([-1, 0, 0.5, 1, 2])) * 255
    assert np.allclose(shown, cividis()[[0, 0, 128, 255, 255]])


def drawn(**limits):
    axes = new_figure(2).subplots()
    values = np.array([[0.1, 0.2, 0.3], [0.4, 0.0, 0.25]])
    return axes, values, overlay(axes, PICTURE, values, alpha=0.6, **limits)


def test_a_map_lies_over_its_whole_picture_which_is_grey():
    axes, values, shown = drawn()
    grey, colours = axes.images
    luminance = PICTURE @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    assert np.abs(grey.get_array() - luminance).max() <= 0.51 and grey.get_clim() == (0, 255)
    assert colours is shown and np.array_equal(shown.get_array(), values) and shown.get_alpha() == 0.6
    assert list(grey.get_extent()) == list(shown.get_extent()) == [0, 12, 6, 0]


def test_a_map_is_scaled_to_its_largest_value_or_to_the_ends_it_was_given():
    assert drawn()[2].get_clim() == (0, 0.4)
    assert drawn(low=-1.0, high=2.0)[2].get_clim() == (-1, 2)


def test_the_bar_beside_a_map_shows_its_colours_in_full():
    axes, _, shown = drawn()
    bar = scale_bar(shown, axes, "weight")
    assert bar.solids.get_alpha() == 1 and bar.ax.get_ylabel() == "weight"


def test_the_frame_of_a_cell_counts_row_by_row():
    axes = new_figure(2).subplots()
    outline(axes, 4, (2, 3), PICTURE)  # six rows and twelve columns of pixels: cells are 3 high and 4 wide
    (frame,) = axes.patches
    assert frame.get_bbox().bounds == (4, 3, 4, 3)
    assert frame.get_edgecolor() == pytest.approx([int(ACCENT[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1])
