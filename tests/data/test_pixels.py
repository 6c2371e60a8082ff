"""Pixels go from bytes to numbers around zero and back, and lose nothing."""

import numpy as np
import pytest
import torch

from vlmcourse.data.pixels import LUMINANCE, in_grey, normalise, to_bytes


def test_bytes_become_numbers_around_zero_with_the_channel_first():
    images = torch.zeros(1, 1, 2, 3, dtype=torch.uint8)
    images[0, 0, 1] = torch.tensor([255, 51, 204])
    expected = torch.tensor([[[[-1.0, 1.0]], [[-1.0, -0.6]], [[-1.0, 0.6]]]])
    torch.testing.assert_close(normalise(images), expected)


def test_every_byte_comes_back_as_it_was():
    images = torch.arange(256 * 3).remainder(256).to(torch.uint8).reshape(2, 8, 16, 3)
    assert torch.equal(to_bytes(normalise(images)), images)


@pytest.mark.parametrize(("number", "byte"), [(-1.5, 0), (1.5, 255), (1.02, 255), (-1.02, 0), (0.006, 128)])
def test_numbers_outside_are_cut_off_and_those_between_rounded(number, byte):
    assert to_bytes(torch.full((1, 3, 1, 1), number)).tolist() == [[[[byte] * 3]]]


def test_grey_is_the_luminance_in_all_three_channels():
    colours = np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [3, 0, 0]]])
    assert in_grey(colours).tolist() == [[[value] * 3 for value in (76, 150, 29, 255, 1)]]
    assert float(LUMINANCE.sum()) == pytest.approx(1)
