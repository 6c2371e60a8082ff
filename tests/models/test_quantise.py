"""NF4 by hand: levels, blocks, bytes, and a layer that keeps its weight in them."""

import pytest
import torch
from torch import nn

from vlmcourse.models.lora import LoraLinear
from vlmcourse.models.quantise import (
    QuantisedLinear,
    dequantise_blocks,
    normal_levels,
    pack_nibbles,
    quantise_blocks,
    quantise_layers,
    unpack_nibbles,
)
from vlmcourse.training.memory import saved_bytes

LEVELS = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])


def test_the_levels_are_normal_quantiles_with_a_zero():
    levels = normal_levels()
    assert len(levels) == 16 and levels[0] == -1 and levels[-1] == 1 and levels[7] == 0
    assert (levels.diff() > 0).all()
    assert (levels < 0).sum() == 7 and (levels > 0).sum() == 8
    assert levels[8].item() == pytest.approx(0.0796, abs=1e-4)  # as the paper's appendix lists them
    assert levels[1].item() == pytest.approx(-0.6962, abs=1e-4)


def test_blocks_by_hand():
    weights = torch.tensor([[2.0, -1.2, 0.1, 0.4], [0.0, 0.0, 0.0, 0.0], [-4.0, 3.9, -0.9, -1.1]])
    numbers, scales = quantise_blocks(weights, LEVELS)
    assert scales.tolist() == [2, 0, 4] and numbers.dtype == torch.uint8
    assert numbers.tolist() == [[4, 1, 2, 3], [2, 2, 2, 2], [0, 4, 2, 1]]
    back = dequantise_blocks(numbers, scales, LEVELS)
    assert back.tolist() == [[2, -1, 0, 0.5], [0, 0, 0, 0], [-4, 4, 0, -2]]


def test_what_stands_on_a_level_comes_back_exactly():
    numbers = torch.randint(16, (5, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    numbers[:, 0] = 15  # the largest, so that the scale is as it was
    weights = dequantise_blocks(numbers, torch.tensor([1.0, 2.0, 0.5, 8.0, 0.1]), normal_levels())
    again, scales = quantise_blocks(weights, normal_levels())
    assert torch.equal(again, numbers)
    torch.testing.assert_close(dequantise_blocks(again, scales, normal_levels()), weights)


def test_two_numbers_in_a_byte():
    packed = pack_nibbles(torch.tensor([1, 2, 15, 0, 9], dtype=torch.uint8))
    assert packed.tolist() == [0x12, 0xF0, 0x90] and packed.dtype == torch.uint8
    assert unpack_nibbles(packed, 5).tolist() == [1, 2, 15, 0, 9]
    with pytest.raises(ValueError, match="four bits hold numbers up to 15, got 16"):
        pack_nibbles(torch.tensor([3, 16], dtype=torch.uint8))


def test_a_layer_in_four_bits_is_small_near_and_lets_gradients_through():
    torch.manual_seed(0)
    layer = nn.Linear(128, 96)
    kept = QuantisedLinear(layer)
    bits = sum(8 * buffer.numel() * buffer.element_size() for buffer in kept.buffers())
    assert bits == 4.5 * layer.weight.numel()
    tokens = torch.randn(7, 128, requires_grad=True)
    away = (kept.weight - layer.weight).norm() / layer.weight.norm()
    assert 0.05 < away < 0.12
    torch.testing.assert_close(kept(tokens), tokens @ kept.weight.T + layer.bias)
    kept(tokens).sum().backward()
    torch.testing.assert_close(tokens.grad, kept.weight.sum(dim=0).expand(7, -1))
    assert not any(weight.requires_grad for weight in kept.parameters())
    again = QuantisedLinear(nn.Linear(128, 96))
    again.load_state_dict(kept.state_dict())
    assert torch.equal(again.weight, kept.weight)


def test_the_quick_way_back_gives_what_the_slot_gives():
    torch.manual_seed(1)
    kept = QuantisedLinear(nn.Linear(64, 33))
    quick = kept.weight
    calls = []

    def mine(numbers, scales, levels):
        calls.append(numbers.shape)
        return levels[numbers.long()] * scales[:, None]

    dequantise_blocks.install(mine)
    try:
        assert torch.equal(kept.weight, quick) and calls == [(33, 64)]
    finally:
        dequantise_blocks.reset()


def test_only_four_bits_are_kept_until_backward():
    torch.manual_seed(0)
    kept, tokens = QuantisedLinear(nn.Linear(64, 32)), torch.randn(3, 64, requires_grad=True)
    found = []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            assert saved_bytes(lambda: kept(tokens), kept) == 0
            said = kept(tokens)
            plain = nn.functional.linear(tokens, kept.weight, kept.bias)
        assert said.dtype == plain.dtype and torch.equal(said, plain)
        found.append([torch.autograd.grad(one.float().square().sum(), tokens)[0] for one in (said, plain)])
    for mine, theirs in found:
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_every_linear_layer_is_replaced_and_lora_stands_around_it():
    torch.manual_seed(0)
    shared = nn.Linear(64, 64)
    model = nn.Sequential(nn.Sequential(shared, nn.GELU(), nn.Linear(64, 32, bias=False)), shared)
    quantise_layers([model])
    assert isinstance(model[0][0], QuantisedLinear) and model[0][0] is model[1]
    assert isinstance(model[0][2], QuantisedLinear) and model[0][2].bias is None
    around, tokens = LoraLinear(model[0][2], rank=2, alpha=4), torch.randn(3, 64)
    torch.testing.assert_close(around(tokens), model[0][2](tokens))  # before the first step
    around(tokens).square().sum().backward()
    assert around.up.grad.abs().sum() > 0 and model[0][2].packed.grad is None
    with pytest.raises(ValueError, match="no linear layer"):
        quantise_layers([nn.GELU()])
    with pytest.raises(ValueError, match="15 weights cannot be cut into blocks of 64"):
        QuantisedLinear(nn.Linear(3, 5))


def test_an_odd_number_of_weights_comes_back_too():
    torch.manual_seed(2)
    layer = nn.Linear(3, 5)
    kept = QuantisedLinear(layer, block=15)
    numbers, scales = quantise_blocks(layer.weight.detach().reshape(1, 15), normal_levels())
    assert len(kept.packed) == 8 and kept.scales.equal(scales)
    assert kept.weight.equal(dequantise_blocks(numbers, scales, normal_levels()).reshape(5, 3))
