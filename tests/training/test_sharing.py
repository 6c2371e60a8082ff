"""What processes tell each other, by numbers that can be computed by hand: two of them, and one alone."""

import pytest
import torch
from torch import distributed

from tests.processes import spawn
from vlmcourse.training import sharing

LOST = ["Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out", "[gloo/pair.cc]"]


def means(rank: int) -> None:
    """Six and five over four items; a mean over nothing; nothing at all."""
    for count in ((3, 1)[rank], torch.tensor((3, 1)[rank]), torch.tensor((3.0, 1.0)[rank]).requires_grad_()):
        mean = torch.tensor((2.0, 5.0)[rank], requires_grad=True)
        part = sharing.mean_over_all(mean, count)
        assert part.item() == (3.0, 2.5)[rank]  # 2 · 3 · 2 / 4 and 5 · 1 · 2 / 4, of which the mean is 11 / 4
        part.backward()
        assert mean.grad.item() == (1.5, 0.5)[rank]
        assert not isinstance(count, torch.Tensor) or count.grad is None
    mean = torch.tensor((2.0, torch.nan)[rank], requires_grad=True)
    part = sharing.mean_over_all(mean, (0.25, 0)[rank])
    part.backward()
    assert part.item() == (4.0, 0.0)[rank] and mean.grad.item() == (2.0, 0.0)[rank]
    mean = torch.tensor(torch.nan, requires_grad=True)
    part = sharing.mean_over_all(mean, 0)
    part.backward()
    assert part.item() == 0 == mean.grad.item()


def rows(rank: int) -> None:
    """Rows of all in their order, and gradients from all."""
    own = torch.tensor([[10.0 * rank, 1], [10.0 * rank + 1, 2]], requires_grad=True)
    found = sharing.gathered(own)
    assert found.tolist() == [[0, 1], [1, 2], [10, 1], [11, 2]]
    weights = torch.arange(8.0).reshape(4, 2)
    (found * weights * (rank + 1)).sum().backward()
    assert own.grad.tolist() == (3 * weights[2 * rank : 2 * rank + 2]).tolist()  # once and twice
    assert torch.equal(sharing.own_rows(found), own)
    across = sharing.gathered(own.detach().mT)
    assert across.tolist() == [[0, 1], [1, 2], [10, 11], [1, 2]]
    again = own.detach().clone().requires_grad_()
    expanded = sharing.gathered(again).sum()  # a gradient that is one number in the place of all
    expanded.backward()
    assert again.grad.tolist() == [[2.0, 2.0]] * 2


def agreed(rank: int) -> None:
    """Numbers and choices on which both agree."""
    assert (sharing.process_count(), sharing.process_number()) == (2, rank)
    counts = torch.tensor([1.0, 4.0 * rank], requires_grad=True)
    total = sharing.counted_in_all(counts)
    assert total.tolist() == [2, 4] and counts.tolist() == [1, 4 * rank] and not total.requires_grad
    masks = torch.tensor([[True, True, False], [rank == 1] * 3])
    assert sharing.longest_in_all(masks) == 3 and sharing.longest_in_all(masks[None, :1]) == 2
    mine = torch.tensor([rank + 5, 7 * rank])
    assert sharing.from_first(mine) is mine and mine.tolist() == [5, 0]
    assert sharing.alike_in_all({"found": rank}) == {"found": 0}
    assert all(sharing.lost_another(RuntimeError(f"so: {words} there")) for words in LOST)
    assert sharing.lost_another(distributed.DistNetworkError("gone"))
    assert not sharing.lost_another(RuntimeError("a shape does not fit"))


def together(rank: int) -> None:
    """In a process of its own, beside another one."""
    distributed.init_process_group("gloo")
    for work in (means, rows, agreed):
        work(rank)
    distributed.destroy_process_group()


def test_two_processes_compute_what_one_would():
    assert spawn(together, kind="ddp") == [0, 0]


def test_one_process_gets_back_what_it_gives():
    assert (sharing.process_count(), sharing.process_number()) == (1, 0)
    values = torch.tensor([[1.0, torch.nan]])
    mean = torch.tensor(torch.nan)
    assert sharing.mean_over_all(mean, 0) is mean
    for same in (sharing.gathered, sharing.from_first, sharing.alike_in_all):
        assert same(values) is values
    assert sharing.own_rows(torch.ones(3, 2)).tolist() == [[1, 1]] * 3
    counts = torch.tensor([3.0], requires_grad=True)
    total = sharing.counted_in_all(counts)
    total += 1
    assert counts.tolist() == [3] and total.tolist() == [4] and not total.requires_grad
    assert sharing.longest_in_all(torch.tensor([[True, False], [True, True]])) == 2


@pytest.mark.parametrize("words", LOST)
def test_one_process_cannot_lose_another(words):
    assert sharing.lost_another(RuntimeError(words)) is False
