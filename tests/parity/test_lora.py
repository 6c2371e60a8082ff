"""Our LoRA equals peft's: outputs, gradients of both matrices and of the input, and the merged weight; rsLoRA
and DoRA too, whose magnitudes are away from where they start."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tests.parity.library import assert_equal
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.lora import LoraLinear, add_lora, lora_numbers, lora_scale, lora_state, merge_lora

KINDS = {
    "with a bias": (True, 3, 7.0, False, False),
    "without": (False, 4, 4.0, False, False),
    "rsLoRA": (True, 5, 3.0, True, False),
    "DoRA": (True, 3, 5.0, False, True),
    "DoRA without a bias": (False, 3, 5.0, False, True),
    "both": (True, 2, 3.0, True, True),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def both(request):
    """peft's layer and ours with its weights; B is not zero, or everything would agree."""
    bias, rank, alpha, stabilised, decomposed = request.param
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(12, 9, bias=bias))
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"], init_lora_weights=False,
                        use_rslora=stabilised, use_dora=decomposed)  # fmt: skip
    theirs = get_peft_model(copy.deepcopy(plain), config)
    layer = theirs.base_model.model[0]
    ours = LoraLinear(plain[0], rank, alpha, stabilised, decomposed)
    with torch.no_grad():
        ours.down.copy_(layer.lora_A["default"].weight)
        ours.up.copy_(layer.lora_B["default"].weight)
        if decomposed:
            ours.magnitude.copy_(1 + torch.arange(9) / 3)
            layer.lora_magnitude_vector["default"].weight.copy_(ours.magnitude)
    return theirs, layer, ours


def test_outputs_and_gradients(both):
    theirs, layer, ours = both
    tokens = torch.randn(2, 5, 12, requires_grad=True)
    same = tokens.detach().clone().requires_grad_()
    mine, his = ours(tokens), theirs(same)
    assert_equal(mine, his)
    assert (mine - ours.frozen(tokens)).abs().max() > 0.1  # the detour counts
    direction = torch.randn(mine.shape)
    (mine * direction).sum().backward()
    (his * direction).sum().backward()
    assert_equal(tokens.grad, same.grad)
    assert_equal(ours.down.grad, layer.lora_A["default"].weight.grad)
    assert_equal(ours.up.grad, layer.lora_B["default"].weight.grad)
    if ours.magnitude is not None:
        assert_equal(ours.magnitude.grad, layer.lora_magnitude_vector["default"].weight.grad)
    assert all(parameter.grad is None for parameter in ours.frozen.parameters())


def test_a_new_detour_says_nothing_and_keeps_the_size_of_what_it_reads():
    layer = LoraLinear(nn.Linear(400, 9), rank=100, alpha=100)
    assert (layer.up == 0).all()
    assert (torch.randn(50, 400) @ layer.down.T).std().item() == pytest.approx(1, rel=0.1)


def test_merged(both):
    theirs, _, ours = both
    merged, his = ours.merged(), theirs.merge_and_unload()[0]
    assert_equal(merged.weight, his.weight)
    tokens = torch.randn(3, 12)
    assert_equal(merged(tokens), ours(tokens))


def llama():
    torch.manual_seed(1)
    return Llama(LlamaConfig(50, width=16, depth=3, heads=4, groups=2))


def test_a_new_lora_changes_nothing_and_a_merged_one_stays():
    model, ids = llama().eval(), torch.randint(50, (2, 7))
    before = model(ids)
    add_lora(model.blocks[1:], rank=2)
    assert torch.equal(model(ids), before)
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    upper = {name for name in learned if name.startswith(("blocks.1.", "blocks.2."))}
    assert upper == set(lora_state(model)) and len(upper) == 2 * 2 * 5  # blocks · matrices · layers
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    changed = model(ids)
    merge_lora(model)
    assert not lora_state(model) and set(model.state_dict()) == set(llama().state_dict())
    assert_equal(model(ids), changed)


def test_a_new_dora_starts_where_peft_does_and_changes_nothing():
    model, ids = llama().eval(), torch.randint(50, (2, 7))
    before = model(ids)
    add_lora(model.blocks[1:], rank=2, decomposed=True)
    torch.testing.assert_close(model(ids), before, atol=1e-6, rtol=1e-6)
    layer = model.blocks[1].attention.project_in
    assert_equal(layer.magnitude, layer.frozen.weight.square().sum(1).sqrt())
    assert len(lora_state(model)) == 3 * 2 * 5 and "blocks.2.down.magnitude" in lora_state(model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    changed = model(ids)
    merge_lora(model)
    assert_equal(model(ids), changed)


def test_a_stabilised_scale_falls_with_the_root_of_the_rank():
    assert [lora_scale(16.0, rank) for rank in (4, 16)] == [4.0, 1.0]
    assert [lora_scale(16.0, rank, stabilised=True) for rank in (4, 16)] == [8.0, 4.0]


def test_lora_around_lora_is_refused():
    model = llama()
    add_lora(model.blocks)
    with pytest.raises(ValueError, match="LoRA already"):
        add_lora(model.blocks)
    with pytest.raises(ValueError, match="no linear layer"):
        add_lora([nn.ReLU()])


def test_what_is_learned_is_counted_by_hand():
    assert lora_numbers([(5, 3), (2, 7)], 4) == 4 * 3 + 5 * 4 + 4 * 7 + 2 * 4
