"""What a computation costs, counted where the count is known."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import flop_registry

from vlmcourse.diagnostics import cost
from vlmcourse.diagnostics.cost import cpu_seconds, flops, kept_bytes, prompt_flops
from vlmcourse.models.attention import scaled_dot_product
from vlmcourse.models.gpt import GPT, GPTConfig
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.vit import ViT, ViTConfig


def test_a_product_of_matrices_counts_its_multiplications_and_additions():
    assert flops(lambda: torch.randn(3, 5) @ torch.randn(5, 7)) == 2 * 3 * 5 * 7


def test_what_the_backward_pass_needs_is_counted_once():
    layer, inputs = nn.Linear(64, 32, bias=False), torch.randn(16, 64)
    one = kept_bytes(lambda: layer(inputs).sum())
    assert one >= 4 * 16 * 64
    assert kept_bytes(lambda: (layer(inputs) + layer(inputs)).sum()) == one


def test_time_is_that_of_the_middle_call(monkeypatch):
    calls, clock = [], iter([0, 9, 10, 11, 20, 23])  # three calls of 9, 1 and 3 seconds
    monkeypatch.setattr(cost, "time", SimpleNamespace(process_time=lambda: next(clock)))
    assert cpu_seconds(lambda: calls.append(1), times=3) == 3 and len(calls) == 3


def passes_of(model, loss_of) -> tuple[int, int]:
    """Operations of the way forwards, and of both ways."""
    with torch.no_grad():
        forward = flops(lambda: loss_of(model))
    return forward, flops(lambda: loss_of(model).backward())


def step_by_step():
    """Attention by the course's function, as when a learner's own stands in."""
    plain = scaled_dot_product.reference
    scaled_dot_product.install(lambda *args, **options: plain(*args, **options))


@pytest.fixture(params=["torch's kernel", "math", "the course's function"])
def attention(request):
    """Ways to compute attention; all of them are the same operations."""
    if request.param == "the course's function":
        step_by_step()
        yield
        scaled_dot_product.reset()
    else:
        with sdpa_kernel(SDPBackend.MATH) if request.param == "math" else nullcontext():
            yield


@pytest.mark.parametrize(("tokens", "groups", "hidden"), [(13, 2, 40), (5, 4, 24), (70, 1, 16)])
def test_flops_of_a_prompt_are_those_counted(attention, tokens, groups, hidden):
    config = LlamaConfig(97, width=48, depth=3, heads=4, groups=groups, hidden=hidden)
    model, ids = Llama(config), torch.zeros(1, tokens, dtype=torch.long)
    prompt = prompt_flops(tokens, 48, 3, hidden, 48 // 4 * groups, 97)
    assert passes_of(model, lambda model: model(ids).sum()) == (prompt, 3 * prompt)
    padded = torch.arange(tokens)[None] > 1
    assert flops(lambda: model(ids, mask=padded)) == prompt  # what a mask hides is computed all the same


def test_a_vit_by_hand(attention):
    """Two images of 4 × 4 patches of 8 · 8 · 3 numbers; a class token; two blocks of width 24, 96 inside."""
    model = ViT(ViTConfig(32, 8, width=24, depth=2, heads=3))
    patches = 2 * 2 * 16 * 192 * 24
    block = 2 * 2 * 17 * (3 * 24 * 24 + 24 * 24 + 2 * 24 * 96) + 2 * 2 * 2 * 17 * 17 * 24
    forward, both = passes_of(model, lambda model: model(torch.randn(2, 3, 32, 32)).sum())
    assert forward == patches + 2 * block
    assert both == 3 * forward - patches  # no gradient goes to the pixels


def a_gpt() -> tuple[GPT, torch.Tensor, int]:
    """Three texts of 7 tokens; two blocks of width 16, 64 inside; a vocabulary of 50. What it is by hand."""
    block = 2 * 21 * (3 * 16 * 16 + 16 * 16 + 2 * 16 * 64) + 2 * 2 * 3 * 7 * 7 * 16
    forward = 2 * block + 2 * 21 * 16 * 50
    return GPT(GPTConfig(50, 16, 2, 2)), torch.zeros(3, 7, dtype=torch.long), forward


def test_a_gpt_by_hand(attention):
    model, ids, forward = a_gpt()
    assert passes_of(model, lambda model: model(ids).sum()) == (forward, 3 * forward)


@pytest.mark.gpu
def test_a_gpu_counts_as_by_hand():
    model, ids, forward = a_gpt()
    model, ids = model.cuda(), ids.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        assert passes_of(model, lambda model: model(ids).float().sum()) == (forward, 3 * forward)


def test_a_frozen_part_has_half_the_way_back():
    """A gradient passes through it to what learns before it, and ends at what learns behind it."""
    frozen, learns = nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 6)
    inputs, product = torch.randn(3, 6), 2 * 3 * 6 * 6
    assert flops(lambda: learns(frozen(inputs)).sum().backward()) == 3 * product
    assert flops(lambda: frozen(learns(inputs)).sum().backward()) == 4 * product


def test_the_short_cut_of_the_library_is_counted_too():
    """nn.MultiheadAttention without gradients is one operation, unless it is told to be several."""
    layer, inputs = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(), torch.randn(2, 5, 16)
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        counted = flops(lambda: layer(inputs))
    assert counted == 2 * 10 * (16 * 48 + 16 * 16 + 2 * 16 * 32) + 2 * 2 * 2 * 25 * 16
    assert torch.backends.mha.get_fastpath_enabled()


NOT_CALLED = {
    "_native_multi_head_attention",  # the short cut, which is off while we count
    "_triton_multi_head_attention", "_triton_scaled_dot_attention",  # of the same, chosen by hand
    "_cudnn_attention_forward", "_cudnn_attention_backward",  # nested tensors, which the course has not
    "_flash_attention_forward_no_dropout_inplace",
}  # fmt: skip


def test_every_attention_of_torch_is_counted():
    """One that comes with a new version of torch fails here."""
    names = {name.removeprefix("aten::").partition(".")[0] for name in torch._C._dispatch_get_all_op_names()
             if name.startswith("aten::") and "attention" in name}  # fmt: skip
    known = {packet.__name__ for packet in [*cost.FUSED, *flop_registry] if hasattr(packet, "__name__")}
    made_of_others = {"scaled_dot_product_attention", "_scaled_dot_product_attention_math"}
    assert names - known <= NOT_CALLED | made_of_others


def test_kernels_of_a_gpu_count_the_same_as_step_by_step():
    """Their formulas, on shapes of two texts, 6 heads in 2 groups, 5 queries, 7 keys, parts of 8 and 9."""
    query, key, value = (2, 6, 5, 8), (2, 2, 7, 8), (2, 2, 7, 9)
    products = 2 * 2 * 6 * 5 * 7 * (8 + 9)
    back = {op for op in cost.FUSED if op.__name__.endswith("backward")}
    assert len(cost.FUSED) == 11 and len(back) == 5
    for op, formula in cost.FUSED.items():
        if op in back:
            assert formula((2, 6, 5, 9), query, key, value, None, out_shape=None) == 2 * products
        else:
            assert formula(query, key, value, None, 0.0, out_shape=None) == products
