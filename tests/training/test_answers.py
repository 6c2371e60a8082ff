"""The loss of answers asks the head for nothing else; a shared opening changes nothing but the time."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.parity.library import assert_equal
from vlmcourse.data.packing import pack
from vlmcourse.models.language import Llama, LlamaConfig, next_token_loss
from vlmcourse.training.answers import read
from vlmcourse.training.losses import answer_loss, balanced_loss


def language():
    torch.manual_seed(0)
    model = Llama(LlamaConfig(40, width=16, depth=3, heads=4, groups=2))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def test_it_is_the_loss_of_all_scores_at_a_fraction_of_the_work():
    model, asked = language(), []
    ids = torch.randint(40, (3, 11))
    labels = ids.where(torch.rand(3, 11) < 0.4, -100)
    hidden = model.hidden(ids).detach().requires_grad_()

    def head(vectors):
        asked.append(len(vectors))
        return model.head(vectors)

    loss = answer_loss(hidden, labels, head)
    assert_equal(loss, next_token_loss(model.head(hidden), labels))
    assert asked == [int((labels[:, 1:] != -100).sum())]


def test_a_shared_opening_changes_nothing():
    model = language()
    opening = torch.tensor([3, 1, 4])
    pieces = [[([5, 6], [7]), ([8], [9, 10])], [([11, 12, 13], [14, 15])]]
    ids, _, packs = pack(pieces, image=[0, 0], pad=0)
    vectors = model.embed(ids)
    for row, each in enumerate(pieces):
        for number, (question, answer) in enumerate(each, 1):
            alone = model.hidden(torch.tensor([[*opening, 0, 0, *question, *answer]]))[0, len(opening) + 2 :]
            assert_equal(read(model, opening, vectors, packs)[row, packs[row] == number], alone)


def test_gradients_reach_the_opening_and_the_image():
    model = language()
    ids, labels, packs = pack([[([5], [7])], [([8], [9])]], image=[0, 0], pad=0)
    vectors = model.embed(ids).detach().requires_grad_()
    answer_loss(read(model, torch.tensor([3, 1]), vectors, packs), labels, model.head).backward()
    assert vectors.grad[:, :2].abs().min() > 0 and model.embedding.weight.grad[3].abs().max() > 0


def test_a_token_of_a_long_answer_counts_less():
    model = language()
    packs = torch.tensor([[0, 1, 1, 2, 2, 2, 2, 2, -1]])
    ids = torch.tensor([[9, 4, 5, 6, 10, 11, 12, 13, 0]])
    labels = ids.where(torch.tensor([[0, 0, 1, 0, 1, 1, 1, 1, 0]]) > 0, -100)  # one token, and four
    hidden = torch.randn(1, 9, 16)
    surprise = F.cross_entropy(model.head(hidden[0]), ids[0].roll(-1), reduction="none")
    one, four = surprise[1], surprise[3:7].sum()
    loss = balanced_loss(hidden, labels, packs, model.head)
    assert_equal(loss, (one + four / 2) / (1 + 4 / 2))
