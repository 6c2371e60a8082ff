"""Our Muon equals torch's but for its bf16."""

import copy

import torch
from torch import nn

from vlmcourse.training.optimizers import Muon, orthogonal


def test_steps_equal_those_of_torch():
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Linear(24, 40, bias=False), nn.Tanh(), nn.Linear(40, 7, bias=False))
    before, theirs, x = copy.deepcopy(mine), copy.deepcopy(mine), torch.randn(64, 24)
    ours = Muon(mine.parameters(), 0.02, 0.1)
    torchs = torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(3):
        for model, optimizer in ((mine, ours), (theirs, torchs)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    for a, b, start in zip(mine.parameters(), theirs.parameters(), before.parameters(), strict=True):
        assert (a - b).norm() < 0.05 * (a - start).norm()  # bf16 rounds


def test_all_singular_values_become_alike():
    for shape in ((5, 9), (9, 5), (6, 6)):
        torch.manual_seed(1)
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.5 and values.max() < 1.3


def test_long_matrices_and_several_at_once_give_the_same():
    """A matrix twice as long goes through its Gram matrix; with a few columns more or less it would not."""
    torch.manual_seed(2)
    several = torch.randn(3, 24, 47)  # not twice as long
    longer = torch.nn.functional.pad(several, (0, 5))  # columns of zeros change nothing, but now it is
    direct = torch.stack([orthogonal(each) for each in several])
    torch.testing.assert_close(orthogonal(several), direct, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(orthogonal(longer)[..., :47], direct, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(orthogonal(longer.mT), orthogonal(longer).mT, atol=1e-5, rtol=1e-5)
