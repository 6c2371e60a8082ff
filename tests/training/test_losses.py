"""What each loss counts, by numbers small enough to follow."""

import math

import pytest
import torch
from torch.nn import functional as F

from vlmcourse.slots import REGISTRY
from vlmcourse.training import answers, losses, stages

LABELS = torch.tensor([[-100, -100, 3, -100, 1, 2, 4, 0], [-100, 1, 2, -100, -100, -100, -100, -100]])
PACKS = torch.tensor([[0, 0, 1, 2, 2, 2, 2, 2], [0, 1, 1, -1, -1, -1, -1, -1]])


def test_in_the_balanced_loss_an_answer_of_n_tokens_counts_root_n():
    torch.manual_seed(0)
    hidden = torch.randn(2, 8, 5)
    surprise = F.cross_entropy(hidden[:, :-1].flatten(0, 1), LABELS[:, 1:].flatten(), reduction="none")
    surprise = surprise.reshape(2, 7)
    # a token belongs to the text of the place before it, which predicts it
    weights = torch.zeros(2, 7)
    weights[0, 1] = 1.0  # predicted from the image
    weights[0, 3:] = 1 / math.sqrt(4)
    weights[1, 0] = weights[1, 1] = 1.0  # one token from the beginning, one from the text
    expected = (weights * surprise)[LABELS[:, 1:] != -100].sum() / weights.sum()
    assert losses.balanced_loss(hidden, LABELS, PACKS, lambda wanted: wanted).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_the_head_is_asked_for_nothing_but_answers():
    asked = []

    def head(wanted):
        asked.append(len(wanted))
        return wanted

    hidden = torch.randn(2, 8, 5)
    losses.balanced_loss(hidden, LABELS, PACKS, head)
    losses.answer_loss(hidden, LABELS, head)
    assert asked == [7, 7]


def test_the_slots_keep_the_names_under_which_learners_saved_them():
    assert REGISTRY["stages.alignment_loss"] is losses.alignment_loss is stages.alignment_loss
    assert REGISTRY["answers.answer_loss"] is losses.answer_loss is answers.answer_loss
