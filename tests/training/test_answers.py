"""The loss of answers asks the head for nothing else; a shared opening changes nothing but the time."""

import torch
from torch import nn

from tests.parity.library import assert_equal
from vlmcourse.models.language import Llama, LlamaConfig, next_token_loss
from vlmcourse.training.answers import answer_loss, read, rows_of


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
    ids, _, packs = rows_of(pieces, image_tokens=2, image=0)
    vectors = model.embed(ids)
    for row, each in enumerate(pieces):
        for number, (question, answer) in enumerate(each, 1):
            alone = model.hidden(torch.tensor([[*opening, 0, 0, *question, *answer]]))[0, len(opening) + 2 :]
            assert_equal(read(model, opening, vectors, packs)[row, packs[row] == number], alone)


def test_gradients_reach_the_opening_and_the_image():
    model = language()
    ids, labels, packs = rows_of([[([5], [7])], [([8], [9])]], image_tokens=2, image=0)
    vectors = model.embed(ids).detach().requires_grad_()
    answer_loss(read(model, torch.tensor([3, 1]), vectors, packs), labels, model.head).backward()
    assert vectors.grad[:, :2].abs().min() > 0 and model.embedding.weight.grad[3].abs().max() > 0


def test_rows_hold_image_questions_and_answers():
    ids, labels, packs = rows_of([[([5, 6], [7]), ([8], [9, 10])], [([11], [12])]], image_tokens=2, image=39)
    assert ids.tolist() == [[39, 39, 5, 6, 7, 8, 9, 10], [39, 39, 11, 12, 0, 0, 0, 0]]
    assert labels.tolist()[0] == [-100, -100, -100, -100, 7, -100, 9, 10]
    assert packs.tolist()[1] == [0, 0, 1, 1, -1, -1, -1, -1]
