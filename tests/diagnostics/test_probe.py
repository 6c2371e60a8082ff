"""Shares of variance against data whose shares are known."""

import pytest
import torch

from vlmcourse.diagnostics.probe import linear_share, read_left_out


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


def test_left_out_samples_are_read_as_if_each_were_fitted_without():
    torch.manual_seed(0)
    labels = torch.randint(3, (40,))
    vectors = torch.randn(40, 6) + 1.2 * torch.nn.functional.one_hot(labels, 6)
    scaled = (vectors - vectors.mean(0)) / vectors.std(0) / 6**0.5
    expected = []
    for left in range(40):
        others = torch.arange(40) != left
        x = torch.cat([scaled[others], torch.ones(39, 1)], 1).double()
        penalty = 0.01 * torch.diag(torch.tensor([1.0] * 6 + [0.0])).double()
        fit = torch.linalg.solve(
            x.T @ x + penalty, x.T @ torch.nn.functional.one_hot(labels[others], 3).double()
        )
        expected.append(int((torch.cat([scaled[left], torch.ones(1)]).double() @ fit).argmax()))
    right = read_left_out(vectors, labels)
    assert right.tolist() == (torch.tensor(expected) == labels).tolist() and 0.5 < right.float().mean() < 1
