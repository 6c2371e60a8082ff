"""MuonAdamW: two optimizers that the training loop, its schedule and its checkpoints take for one."""

import copy

import pytest
import torch
from torch import nn

from vlmcourse.data.batches import Batches
from vlmcourse.training.loop import train
from vlmcourse.training.optimizers import Muon, MuonAdamW, warmup_linear


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.middle = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.middle(self.embedding(x))))


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


DATA = (torch.arange(70) % 7, torch.arange(70) % 7 % 3)


def test_matrices_of_blocks_go_to_muon_and_all_else_to_adamw(small):
    muon, adamw = MuonAdamW(small).parts
    assert [id(p) for p in muon.param_groups[0]["params"]] == [id(small.middle.weight)]
    assert len(adamw.param_groups[0]["params"]) == 4


@pytest.mark.parametrize("name", ["embedding", "embed_token", "positions", "table", "class_token", "head"])
def test_a_table_or_an_output_is_adamws_though_it_has_two_axes(name):
    model = nn.Module()
    model.register_parameter(name, nn.Parameter(torch.zeros(4, 3)))
    (only,) = MuonAdamW(model).parts
    assert isinstance(only, torch.optim.AdamW)


def test_a_step_of_muon_moves_all_directions_of_a_matrix_alike(small):
    before = small.middle.weight.detach().clone()
    optimizer = MuonAdamW(small, lr=0.01, weight_decay=0.0)
    directions = torch.linalg.qr(torch.randn(6, 5))[0].T
    small.middle.weight.grad = torch.diag(torch.tensor([1.0, 0.5, 0.3, 0.2, 0.1])) @ directions
    optimizer.step()
    moved = torch.linalg.svdvals(before - small.middle.weight.detach())
    assert moved.max() / moved.min() < 2
    assert moved.min() > 0.006 and moved.max() < 0.013


def test_it_learns_and_the_schedule_moves_both_rates(small):
    optimizer = MuonAdamW(small, 0.02, 0.01)
    history = train(
        small, Batches(DATA, 14), loss, steps=150, optimizer=optimizer, schedule=warmup_linear(150, 10)
    )
    assert history.losses[-1] < 0.1
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.01]  # as given, after the training


def test_parts_can_learn_more_slowly(small, tmp_path):
    how = dict(lr=0.02, other_lr=0.01, factors={"middle": 0.1})
    plan = dict(schedule=warmup_linear(12, 2), precision="no")
    optimizer = MuonAdamW(small, **how)
    groups = [(type(part).__name__, part.param_groups[0]) for part in optimizer.parts]
    told = [(name, group["lr"], len(group["params"])) for name, group in groups]
    assert told == [("AdamW", 0.01, 3), ("Muon", pytest.approx(0.002), 1), ("AdamW", pytest.approx(0.001), 1)]
    other = copy.deepcopy(small)
    train(small, Batches(DATA, 14), loss, steps=12, optimizer=optimizer, **plan)
    for steps in (5, 12):
        train(other, Batches(DATA, 14), loss, steps=steps, optimizer=MuonAdamW(other, **how), **plan,
              checkpoint=tmp_path, resume=steps == 12)  # fmt: skip
    for a, b in zip(small.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_each_optimizer_has_its_own_settings(small):
    muon, adamw = (part.param_groups[0] for part in MuonAdamW(small).parts)
    assert (muon["lr"], muon["weight_decay"], muon["momentum"]) == (0.01, 0.01, 0.95)
    assert (adamw["lr"], adamw["weight_decay"], adamw["betas"]) == (2e-3, 0.0, (0.9, 0.95))


@pytest.mark.parametrize(("rows", "columns", "factor"), [(4, 16, 1), (16, 4, 2), (6, 6, 1)])
def test_a_step_of_a_long_matrix_is_longer(rows, columns, factor):
    """Its singular values are about lr · √(rows / columns), or lr if that is more."""
    torch.manual_seed(0)
    matrix = nn.Parameter(torch.zeros(rows, columns))
    matrix.grad = torch.randn(rows, columns)
    Muon([matrix], lr=0.1, weight_decay=0.0).step()
    values = torch.linalg.svdvals(matrix.detach()) / (0.1 * factor)
    assert values.min() > 0.6 and values.max() < 1.25


def test_muon_shrinks_weights_by_rate_times_decay_and_keeps_a_momentum():
    matrix = nn.Parameter(torch.eye(3))
    matrix.grad = torch.zeros(3, 3)
    optimizer = Muon([matrix], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert torch.allclose(matrix, torch.eye(3) * 0.95)
    matrix.grad = torch.ones(3, 3)
    optimizer.step()
    assert torch.allclose(optimizer.state[matrix]["momentum_buffer"], torch.full((3, 3), 0.05))


def test_a_part_that_is_not_there_is_named(small):
    with pytest.raises(ValueError, match="no part projector; its parts are"):
        MuonAdamW(small, factors={"projector": 0.1})


def test_a_resumed_run_equals_an_unbroken_one(small, tmp_path):
    other = copy.deepcopy(small)
    how = dict(schedule=warmup_linear(12, 2), precision="no")
    train(small, Batches(DATA, 14), loss, steps=12, optimizer=MuonAdamW(small), **how)
    train(other, Batches(DATA, 14), loss, steps=5, optimizer=MuonAdamW(other), checkpoint=tmp_path, **how)
    train(
        other,
        Batches(DATA, 14),
        loss,
        steps=12,
        optimizer=MuonAdamW(other),
        checkpoint=tmp_path,
        resume=True,
        **how,
    )
    for a, b in zip(small.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_state_of_another_model_is_refused(small):
    state = MuonAdamW(small).state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        MuonAdamW(nn.Embedding(3, 4)).load_state_dict(state)


def test_a_frozen_model_is_named(small):
    with pytest.raises(ValueError, match="no parameter of Small requires a gradient"):
        MuonAdamW(small.requires_grad_(False))


def test_the_schedule_rises_stays_and_falls():
    factor = warmup_linear(100, warmup=10, flat=0.4)
    assert factor(39) == 1 > factor(41) and factor(8) == 0.9 and factor(10) == 1
    assert factor(0) == 0.1 and factor(20) == 1 and factor(70) == pytest.approx(0.5) and factor(100) == 0


def test_a_schedule_that_says_nothing_else_rises_over_50_steps():
    factor = warmup_linear(1000)
    assert (factor(24), factor(48), factor(49), factor(400)) == (0.5, 0.98, 1, 1)
