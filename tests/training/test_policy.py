"""Advantages and the clipped loss, by numbers small enough to follow."""

import math

import pytest
import torch

from vlmcourse.training.policy import group_advantages, policy_loss

ALL = torch.ones(1, 1, dtype=torch.bool)


def loss_of(ratio=1.0, advantage=1.0, back=0.0, clip=0.2, beta=0.0):
    """Of one sample of one token: how much likelier it is than before, and the reference than it is."""
    now = torch.tensor([[-1.0]], requires_grad=True)
    before, reference = now.detach() - math.log(ratio), now.detach() + back
    loss = policy_loss(now, before, reference, torch.tensor([advantage]), ALL, clip, beta)
    loss.backward()
    return loss.item(), now.grad.item()


def test_advantages_are_rewards_against_their_own_group():
    found = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 4.0, 4.0]]))
    assert found[0].tolist() == pytest.approx([1.4997, -0.4999, -0.4999, -0.4999], abs=1e-4)
    assert found[1].tolist() == pytest.approx([-0.8659, -0.8659, 0.8659, 0.8659], abs=1e-4)


def test_of_equal_rewards_nothing_is_learned():
    assert group_advantages(torch.tensor([[1.0] * 8, [0.0] * 8])).abs().max() == 0


def test_with_answers_just_drawn_the_gradient_is_the_advantage():
    assert loss_of(advantage=2.0) == (-2.0, -2.0)
    assert loss_of(advantage=-3.0) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.1, 1.0, -1.1, True),
        (1.5, 1.0, -1.2, False),  # likelier already: left alone
        (0.5, 1.0, -0.5, True),  # less likely than it was, though it was good: brought back
        (0.5, -1.0, 0.8, False),
        (1.5, -1.0, 1.5, True),
    ],
)
def test_a_token_that_went_far_enough_is_left_alone(ratio, advantage, loss, moves):
    found, gradient = loss_of(ratio, advantage)
    assert found == pytest.approx(loss, rel=1e-5)
    assert (gradient != 0) == moves


def test_leaving_the_reference_costs_on_either_side():
    for back in (0.5, -0.5):
        loss, gradient = loss_of(advantage=0.0, back=back, beta=0.1)
        assert loss == pytest.approx(0.1 * (math.exp(back) - back - 1), rel=1e-5)
        assert gradient * back < 0  # towards the reference


def test_long_and_short_answers_count_alike_and_padding_not_at_all():
    now = torch.zeros(2, 3)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    before = torch.tensor([[0.1, 0.1, 0.1], [0.0, 9.0, 9.0]])
    found = policy_loss(now, before, now, torch.tensor([1.0, 2.0]), mask, 0.2, 0.0)
    assert found.item() == pytest.approx(-(math.exp(-0.1) + 2.0) / 2)
