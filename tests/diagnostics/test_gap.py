"""The modality gap is a distance between middles, whatever the lengths of the features."""

import pytest
import torch

from vlmcourse.diagnostics.gap import modality_gap


def test_equal_clouds_have_no_gap_and_opposite_ones_have_the_largest():
    cloud = torch.randn(7, 4)
    assert modality_gap(cloud, 3 * cloud)[1].item() == pytest.approx(0, abs=1e-6)
    east, west = torch.tensor([[2.0, 0.0]]), torch.tensor([[-5.0, 0.0], [-1.0, 0.0]])
    gap, length = modality_gap(east, west)
    assert gap.tolist() == [2, 0] and length == 2


def test_it_points_from_the_texts_to_the_images():
    image, text = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    gap, length = modality_gap(image, text)
    assert gap.tolist() == [-1, 1] and length.item() == pytest.approx(2**0.5)
