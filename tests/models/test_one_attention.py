"""One attention serves every model: what a learner puts behind `scaled_dot_product` runs in all of them."""

import ast
import contextlib
import functools
from pathlib import Path

import pytest
import torch

from vlmcourse.models import attention, bert, clip, gpt, language, native_vit, t5, vit

IDS = torch.tensor([[1, 5, 7, 2], [3, 4, 6, 2]])
SIZE = dict(width=16, heads=2)


def see_and_read() -> None:
    config = clip.CLIPConfig(
        vit.ViTConfig(16, 8, depth=3, **SIZE), clip.TextConfig(9, 2, depth=2, **SIZE), 12
    )
    clip.CLIP(config)(torch.randn(2, 3, 16, 16), IDS)


def see_two_sizes() -> None:
    model = native_vit.NativeViT(native_vit.NativeViTConfig(16, 8, depth=3, turned=True, **SIZE))
    model.read_row(model.cut([torch.randn(3, 16, 8), torch.randn(3, 8, 40)]))


RUNS = {
    "ViT": (3, lambda: vit.ViT(vit.ViTConfig(16, 8, depth=3, **SIZE))(torch.randn(2, 3, 16, 16))),
    "packed pictures": (3, see_two_sizes),
    "CLIP": (3 + 2, see_and_read),
    "BERT": (3, lambda: bert.Bert(bert.BertConfig(9, depth=3, **SIZE))(IDS)),
    "GPT": (3, lambda: gpt.GPT(gpt.GPTConfig(9, depth=3, **SIZE))(IDS)),
    "LLaMA": (3, lambda: language.Llama(language.LlamaConfig(9, depth=3, groups=1, **SIZE))(IDS)),
    "T5": (
        2 + 3 + 3,
        lambda: t5.T5(t5.T5Config(9, encoder_depth=2, decoder_depth=3, **SIZE))(IDS, IDS),
    ),  # and across
}


@pytest.mark.parametrize("name", RUNS)
def test_every_layer_runs_the_installed_function(name):
    layers, run = RUNS[name]
    calls = []

    def counting(*arguments, **more):
        calls.append(arguments[0].shape)
        return attention.scaled_dot_product.reference(*arguments, **more)

    attention.scaled_dot_product.install(counting)
    try:
        run()
    finally:
        attention.scaled_dot_product.reset()
    assert len(calls) == layers


def test_no_other_module_of_models_has_an_attention_of_its_own():
    """A softmax elsewhere is allowed where something is drawn or chosen; a ready-made attention never."""
    allowed = {
        "attention.py": {"softmax", "scaled_dot_product_attention"},
        "generation.py": {"softmax"},
        "blip.py": {"softmax"},  # wrong partners are drawn
        "choosing.py": {"softmax"},  # words are chosen, by scores that no query and key make
    }
    for path in Path(attention.__file__).parent.glob("*.py"):
        names = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute)
        }
        found = names & {"softmax", "scaled_dot_product_attention", "MultiheadAttention"}
        assert found <= allowed.get(path.name, set()), path.name


@contextlib.contextmanager
def by_the_slots(*slots):
    """Every slot runs a function of somebody else's that does the same."""
    for slot in slots:
        slot.install(functools.partial(slot.reference))
    try:
        yield
    finally:
        for slot in slots:
            slot.reset()


def trained(model: torch.nn.Module, *arguments, **options) -> list[torch.Tensor]:
    model.zero_grad()
    output = model(*arguments, **options)
    output.square().mean().backward()
    return [output.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_torchs_own_kernels_and_the_slots_give_equal_numbers_and_gradients(groups):
    torch.manual_seed(0)
    model = language.Llama(language.LlamaConfig(31, 16, 2, 4, groups)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.3)
    ids, mask = torch.randint(31, (3, 9)), torch.ones(3, 9, dtype=torch.bool)
    mask[0, :4] = mask[1, 6:] = False
    slots = attention.scaled_dot_product, attention.share_heads, language.rms_norm, language.rope
    fused = trained(model, ids, mask=mask)
    for replaced in (slots, *((slot,) for slot in slots)):
        with by_the_slots(*replaced):
            for one, other in zip(trained(model, ids, mask=mask), fused, strict=True):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("slot", ["share_heads", "rms_norm", "rope", "scaled_dot_product"])
def test_a_replaced_function_is_never_passed_over(slot):
    slot = getattr(attention, slot, None) or getattr(language, slot)
    model, calls = language.Llama(language.LlamaConfig(9, depth=3, groups=1, **SIZE)), []

    def counting(*arguments):
        calls.append(1)
        return slot.reference(*arguments)

    slot.install(counting)
    try:
        model(IDS)
    finally:
        slot.reset()
    # per block one rope for queries and keys together, keys and values shared apart, two norms; and the last
    assert len(calls) == {"share_heads": 6, "rms_norm": 7, "rope": 3, "scaled_dot_product": 3}[slot.__name__]


def test_recorded_weights_are_those_by_which_the_output_was_mixed():
    torch.manual_seed(0)
    model = attention.Attention(16, 4, groups=2)
    tokens, mask = torch.randn(2, 5, 16), torch.ones(5, 5, dtype=torch.bool).tril()
    plain = model(tokens, mask)
    with attention.record_attention(model) as record:
        torch.testing.assert_close(model(tokens, mask), plain)
    assert [tuple(weights.shape) for weights in record] == [(2, 4, 5, 5)] and not record[0][:, :, ~mask].any()


def padded_readers():
    asked = t5.T5(t5.T5Config(9, encoder_depth=2, decoder_depth=2, **SIZE))
    read = bert.Bert(bert.BertConfig(9, depth=2, **SIZE))
    return {"T5": (asked, lambda mask: asked(IDS, IDS, mask)),
            "BERT": (read, lambda mask: read(IDS, mask=mask))}  # fmt: skip


@pytest.mark.parametrize("slots", [(), (attention.scaled_dot_product,)], ids=["torch's kernel", "slot"])
@pytest.mark.parametrize("name", ["T5", "BERT"])
def test_a_row_of_padding_alone_leaves_every_number_and_gradient_finite(name, slots):
    torch.manual_seed(0)
    model, run = padded_readers()[name]
    mask = torch.ones_like(IDS, dtype=torch.bool)
    mask[0] = False
    with by_the_slots(*slots), attention.record_attention(model) as record:
        output = run(mask)
        output.square().mean().backward()
    assert output.isfinite().all()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert all((weights[0] == 0).all() or name == "T5" for weights in record)  # T5's decoder sees itself


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("count", [1, 3])
def test_a_query_that_may_see_nothing_gets_zeros_and_moves_nothing(bias, groups, count):
    torch.manual_seed(0)
    model = attention.Attention(16, 4, groups=groups, bias=False)
    tokens, context = torch.randn(2, count, 16), torch.randn(2, 5, 16, requires_grad=True)
    mask = torch.ones(2, 1, count, 5, dtype=torch.bool)
    mask[0, :, -1] = False
    extra = {"bias": torch.randn(4, count, 5)} if bias else {}
    for slots in ((), (attention.scaled_dot_product,)):
        with by_the_slots(*slots), attention.record_attention(model) as record:
            output = model(tokens, mask, context, **extra)
        blind, seeing = output[0, -1], output[1]
        assert (blind == 0).all() and (record[0][0, :, -1] == 0).all()
        torch.testing.assert_close(record[0][1].sum(-1), torch.ones(4, count))
        (gradient,) = torch.autograd.grad(blind.sum() + 0 * seeing.sum(), context)
        assert (gradient == 0).all()
