"""rate_groups: every part learns at its own rate, and nothing that learns is forgotten."""

import pytest
import torch
from torch import nn

from vlmcourse.training.optimizers import rate_groups


def model():
    torch.manual_seed(0)
    parts = {"vision": nn.Linear(3, 4), "projector": nn.Linear(4, 5), "language": nn.LayerNorm(5)}
    return nn.ModuleDict(parts)


def test_parts_have_their_rates_and_vectors_no_decay():
    made = model()
    made["vision"].requires_grad_(False)
    groups = rate_groups(made.named_parameters(), {"language": 1e-4, "projector": 1e-3}, 0.1)
    assert [(len(g["params"]), g["lr"], g["weight_decay"]) for g in groups] == [
        (2, 1e-4, 0.0), (1, 1e-3, 0.1), (1, 1e-3, 0.0)]  # fmt: skip
    assert groups[1]["params"][0] is made["projector"].weight


def test_an_optimizer_takes_them():
    made = model()
    made["vision"].requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    optimizer = torch.optim.SGD(
        rate_groups(made.named_parameters(), {"projector": 0.1, "language": 0.01}, 0.0)
    )
    sum(parameter.sum() for parameter in made.parameters()).backward()
    optimizer.step()
    moved = {
        name: (before[name] - parameter.detach()).mean().item() for name, parameter in made.named_parameters()
    }
    assert moved["vision.weight"] == 0
    assert moved["projector.weight"] == pytest.approx(0.1) and moved["language.bias"] == pytest.approx(0.01)


def test_a_part_that_learns_without_a_rate_is_named():
    with pytest.raises(
        ValueError, match=r"vision\.weight learns, but there is a rate only for projector; freeze it"
    ):
        rate_groups(model().named_parameters(), {"projector": 0.1}, 0.0)
