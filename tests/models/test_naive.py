"""Joining image features and words: what stands where, what may be looked at, and what the answer depends
on."""

import pytest
import torch
from torch import nn

from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.naive import Answerer, join


@pytest.fixture
def answerer():
    torch.manual_seed(0)
    return Answerer(Llama(LlamaConfig(11, width=12, depth=2, heads=2, groups=2))).eval()


IDS = torch.tensor([[4, 5, 6, 0, 0], [7, 8, 9, 10, 3]])
MASK = IDS > 0


def test_the_image_stands_in_front_and_is_real():
    image, text = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    sequence, mask = join(image, text, MASK)
    assert torch.equal(sequence[:, :3], image) and torch.equal(sequence[:, 3:], text)
    assert mask[:, :3].all() and torch.equal(mask[:, 3:], MASK) and mask.dtype == torch.bool


def test_the_answer_is_read_where_the_question_ends(answerer):
    short = answerer(IDS[:1, :3], MASK[:1, :3])
    longer = answerer(IDS[:1], MASK[:1])
    assert torch.allclose(short, longer, atol=1e-5)
    assert torch.allclose(short, answerer.language(IDS[:1, :3])[:, -1], atol=1e-5)


def test_every_patch_can_change_the_answer_and_padding_cannot(answerer):
    image = torch.randn(2, 3, 12)
    before = answerer(IDS, MASK, image)
    for patch in range(3):
        other = image.clone()
        other[:, patch] += 1
        assert ((answerer(IDS, MASK, other) - before).abs().amax(1) > 1e-4).all()
    padded = IDS.masked_fill(~MASK, 9)
    assert torch.allclose(answerer(padded, MASK, image), before, atol=1e-5)


def test_a_bridge_carries_features_of_another_width(answerer):
    with pytest.raises(ValueError, match=r"features are 7 wide and words 12; a bridge"):
        answerer(IDS, MASK, torch.randn(2, 3, 7))
    answerer.bridge = nn.Linear(7, 12)
    answerer.language.requires_grad_(False)
    answerer(IDS, MASK, torch.randn(2, 3, 7)).sum().backward()
    assert answerer.bridge.weight.grad.abs().sum() > 0  # through the frozen language model
