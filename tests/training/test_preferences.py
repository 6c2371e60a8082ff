"""Log-probabilities of answers and the loss of preferences, by numbers small enough to follow."""

import math

import pytest
import torch

from vlmcourse.training.preferences import dpo_loss, entropies, token_log_probabilities


def test_each_token_is_read_off_one_place_before_it():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [1.0, 1.0, 1.0]]]))
    found = token_log_probabilities(logits, torch.tensor([[-100, 1, 2]]))
    assert found.exp()[0].tolist() == pytest.approx([0.25, 0.7])


def test_what_is_not_to_be_predicted_is_0_in_the_sum():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 7)
    labels = torch.tensor([[-100, 3, -100, 6, 0], [-100] * 5, [1, 2, 3, 4, 5]]).expand(2, 3, 5)
    found = token_log_probabilities(logits, labels)
    assert found.shape == (2, 3, 4)
    assert (found == 0).tolist() == [[[False, True, False, False], [True] * 4, [False] * 4]] * 2
    loss = torch.nn.functional.cross_entropy(
        logits[:, 2, :-1].flatten(0, 1), labels[:, 2, 1:].flatten(), reduction="sum"
    )
    assert -found[:, 2].sum().item() == pytest.approx(loss.item(), rel=1e-5)


def test_where_nothing_is_predicted_no_gradient_arrives():
    logits = torch.randn(1, 3, 4, requires_grad=True)
    token_log_probabilities(logits, torch.tensor([[-100, -100, 2]])).sum().backward()
    assert (logits.grad != 0).any(dim=-1).tolist() == [[False, True, False]]


def test_it_is_computed_in_fp32():
    logits = torch.randn(1, 2, 4, dtype=torch.bfloat16)
    assert token_log_probabilities(logits, torch.tensor([[-100, 1]])).dtype == torch.float32


def test_at_the_start_the_loss_is_ln_2():
    same = torch.tensor([-3.0, -8.0]), torch.tensor([-2.0, -1.0])
    assert dpo_loss(*same, *same, beta=0.3).item() == pytest.approx(math.log(2))


def test_the_loss_is_that_of_the_margin_of_gains():
    chosen, rejected = torch.tensor([-2.0]), torch.tensor([-5.0])
    before = torch.tensor([-3.0]), torch.tensor([-4.5])
    # the chosen answer gained 1, the rejected one -0.5
    expected = -math.log(1 / (1 + math.exp(-0.2 * 1.5)))
    assert dpo_loss(chosen, rejected, *before, 0.2).item() == pytest.approx(expected)


def test_of_several_pairs_it_is_the_mean_of_losses_not_the_loss_of_the_mean():
    nothing = torch.zeros(2)
    found = dpo_loss(torch.tensor([3.0, -3.0]), nothing, nothing, nothing, 1.0)
    each = [math.log(1 + math.exp(-margin)) for margin in (3, -3)]
    assert found.item() == pytest.approx(sum(each) / 2)


def test_entropy_is_0_for_a_sure_model_and_ln_n_for_a_clueless_one():
    found = entropies(torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]]))
    assert found.tolist() == pytest.approx([math.log(4), 0.0], abs=1e-6)
    coarse = entropies(torch.zeros(3, dtype=torch.bfloat16))  # computed in fp32
    assert coarse.dtype == torch.float32 and coarse.item() == pytest.approx(math.log(3), abs=1e-6)
