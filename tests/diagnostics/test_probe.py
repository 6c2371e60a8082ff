"""Shares of variance against data whose shares are known."""

import pytest
import torch

from vlmcourse.diagnostics.probe import linear_share


def test_shares_are_those_the_data_was_made_of():
    torch.manual_seed(0)
    known, noise = torch.randn(20_000, 2) * torch.tensor([1.0, 5.0]) + 3, torch.randn(20_000, 16)
    directions = torch.nn.functional.normalize(torch.randn(2, 16), dim=1)
    vectors = known / torch.tensor([1.0, 5.0]) * torch.tensor([2.0, 0.5]) @ directions + noise + 7
    shares = linear_share(vectors, known)
    torch.testing.assert_close(shares, torch.tensor([4.0, 0.25]) / 20.25, atol=0.01, rtol=0)


def test_everything_and_nothing():
    torch.manual_seed(0)
    known = torch.randn(5000, 1)
    assert linear_share(known @ torch.randn(1, 8), known).item() == pytest.approx(1, abs=1e-5)
    assert linear_share(torch.randn(5000, 8), known).item() < 2e-3
    assert linear_share(known.square() @ torch.randn(1, 8), known).item() < 0.02  # a bow is no line


def test_what_cannot_be_fitted_is_named():
    with pytest.raises(ValueError, match="3 samples are too few to fit 2"):
        linear_share(torch.randn(3, 4), torch.randn(3, 2))
    with pytest.raises(ValueError, match="quantity 1 is the same"):
        linear_share(torch.randn(9, 4), torch.stack([torch.randn(9), torch.ones(9)], 1))
