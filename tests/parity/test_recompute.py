"""Our gradient checkpointing equals torch's: outputs, gradients and random numbers; it keeps as little."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vlmcourse.models.attention import Block
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.lora import add_lora
from vlmcourse.models.recompute import gradients_again, recompute_blocks, recomputed
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.training.memory import saved_bytes


class Dropping(nn.Module):
    """A block that draws random numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 9), nn.Linear(9, 6)

    def forward(self, tokens, bias=None):
        inside = nn.functional.dropout(self.first(tokens).tanh(), 0.5)
        return tokens + self.second(inside) * (1 if bias is None else bias)


def run(how, bf16=False, reads=True):
    """Output, gradients of all that needs one, and the next random number afterwards."""
    block = Dropping()
    tokens = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1)).requires_grad_(reads)
    bias = torch.full((6,), 1.5, requires_grad=True)
    torch.manual_seed(7)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = how(block)(tokens, bias=bias)
    after = torch.rand(1)
    output.square().sum().backward()
    given = [tokens.grad, bias.grad, *(weight.grad for weight in block.parameters())]
    return [output, after, *(torch.zeros(1) if one is None else one for one in given), torch.rand(1)]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("reads", [True, False], ids=["tokens need a gradient", "tokens need none"])
def test_outputs_gradients_and_random_numbers_are_those_of_torch_and_of_the_plain_block(bf16, reads):
    mine = run(recomputed, bf16, reads)
    theirs = run(lambda block: partial(checkpoint, block, use_reentrant=False), bf16, reads)
    plain = run(lambda block: block, bf16, reads)
    for one, other, third in zip(mine, theirs, plain, strict=True):
        assert torch.equal(one, other) and torch.equal(one, third)
    assert all(one.abs().max() > 0 for one in mine[3:])


def test_other_random_numbers_would_be_noticed():
    block, tokens = Dropping(), torch.randn(2, 5, 6, requires_grad=True)
    torch.manual_seed(7)
    output = block(tokens)
    (wanted,) = torch.autograd.grad(output.sum(), tokens)
    again = gradients_again(block, [tokens], [True], torch.ones_like(output))[0]
    assert (again - wanted).abs().max() > 0.1  # without Chance
    torch.manual_seed(7)
    assert torch.equal(gradients_again(block, [tokens], [True], torch.ones_like(output))[0], wanted)


def language(recompute):
    torch.manual_seed(2)
    model = Llama(LlamaConfig(50, width=32, depth=4, heads=4, groups=2, hidden=96))
    if recompute:
        assert recompute_blocks(model) == 4
    return model


def test_a_language_model_learns_the_same_and_keeps_less():
    ids = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(3))
    kept, found = [], []
    for recompute in (False, True):
        model = language(recompute)
        kept.append(saved_bytes(lambda model=model: model(ids).logsumexp(-1).mean(), model))
        model(ids).logsumexp(-1).mean().backward()
        found.append([weight.grad for weight in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert kept[1] < 0.3 * kept[0]


def test_lora_in_the_upper_blocks_gets_its_gradient_although_nothing_below_needs_one():
    ids, found = torch.randint(50, (2, 9)), []
    for recompute in (False, True):
        model = language(recompute)
        add_lora(model.blocks[2:], rank=2)
        model.requires_grad_(False)
        learned = [weight for name, weight in model.named_parameters() if name.endswith((".down", ".up"))]
        for number, weight in enumerate(learned):
            torch.manual_seed(number)
            nn.init.normal_(weight.requires_grad_(True))
        model(ids).logsumexp(-1).mean().backward()
        found.append([weight.grad for weight in learned])
    assert found[0] and all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_an_encoder_can_be_recomputed_and_switched_back():
    encoder, images = ViT(ViTConfig(16, 8, width=16, depth=3, heads=2)), torch.randn(2, 3, 16, 16)
    plain = saved_bytes(lambda: encoder(images).mean(), encoder)
    assert recompute_blocks(encoder) == 3
    assert saved_bytes(lambda: encoder(images).mean(), encoder) < 0.5 * plain
    recompute_blocks(encoder, on=False)
    assert saved_bytes(lambda: encoder(images).mean(), encoder) == plain


def test_a_model_that_writes_is_not_disturbed():
    from vlmcourse.models.generation import generate

    ids = torch.randint(50, (2, 5), generator=torch.Generator().manual_seed(4))
    said = [generate(language(recompute).eval(), ids, steps=6) for recompute in (False, True)]
    assert torch.equal(*said)


def test_a_copy_is_recomputed_too_and_what_has_no_blocks_is_refused():
    model = copy.deepcopy(language(True))
    assert all(block.recompute for block in model.blocks)
    with pytest.raises(ValueError, match="Linear has no blocks"):
        recompute_blocks(nn.Linear(2, 2))


def test_an_input_that_the_output_does_not_depend_on_gets_none():
    class Deaf(Block):
        def forward(self, tokens, *rest):
            return super().forward(tokens)

    block = Deaf(8, 2, None).requires_grad_(False)
    block.expand.bias.requires_grad_(True)
    tokens, other, quiet = torch.randn(2, 3, 8, requires_grad=True), torch.randn(4), torch.randn(4)
    found = gradients_again(block, [tokens, other, quiet], [True, True, False], torch.ones(2, 3, 8))
    assert [one is None for one in found] == [False, True, True, False]
    assert tokens.grad is None and block.expand.bias.grad is None  # nothing is added up in secret


def test_a_block_that_does_not_learn_lets_the_gradient_of_its_only_input_through():
    block, found = Dropping().requires_grad_(False), []
    for run_block in (block, recomputed(block)):
        tokens = torch.ones(2, 3, 6, requires_grad=True)
        torch.manual_seed(5)
        run_block(tokens).square().sum().backward()
        found.append(tokens.grad)
    assert torch.equal(*found) and found[0].abs().max() > 0
