"""Our projectors equal transformers': LLaVA's two layers, and Idefics3's pixel shuffle with the layer
behind it."""

import pytest
import torch
import transformers
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from tests.parity.library import assert_equal, randomised
from vlmcourse.models.projector import Projector, pixel_shuffle


def llava() -> LlavaMultiModalProjector:
    vision = transformers.CLIPVisionConfig(hidden_size=24, num_attention_heads=4)
    text = transformers.LlamaConfig(hidden_size=40, num_attention_heads=4)
    return randomised(
        LlavaMultiModalProjector(transformers.LlavaConfig(vision_config=vision, text_config=text))
    )


def idefics(factor: int) -> Idefics3Connector:
    vision = dict(hidden_size=24, num_attention_heads=4)
    text = transformers.LlamaConfig(hidden_size=40, num_attention_heads=4)
    config = transformers.Idefics3Config(vision_config=vision, text_config=text, scale_factor=factor)
    return randomised(Idefics3Connector(config))


def compare(mine: Projector, theirs: torch.nn.Module, named: dict[str, str], patches: int) -> None:
    """Outputs, and the gradients of inputs and of every weight; ``named`` leads from our parameters to
    theirs."""
    his = dict(theirs.named_parameters())
    assert set(named.values()) == set(his)
    mine.load_state_dict(mine.state_dict() | {ours: his[key].detach() for ours, key in named.items()})
    inputs = [
        torch.randn(3, patches, 24, generator=torch.Generator().manual_seed(3)).requires_grad_() for _ in "ab"
    ]
    outputs = [projector(features) for projector, features in zip((mine, theirs), inputs, strict=True)]
    assert_equal(*outputs)
    for output in outputs:
        output.square().mean().backward()
    assert_equal(inputs[0].grad, inputs[1].grad)
    parameters = dict(mine.named_parameters())
    for ours, key in named.items():
        assert his[key].grad.abs().max() > 1e-7, f"no gradient reaches {key}"
        assert_equal(parameters[ours].grad, his[key].grad)


def test_llava_projector():
    pairs = (("expand", "linear_1"), ("contract", "linear_2"))
    named = {f"{ours}.{kind}": f"{his}.{kind}" for ours, his in pairs for kind in ("weight", "bias")}
    compare(Projector(24, 40, hidden=40), llava(), named, patches=17)


@pytest.mark.parametrize(("factor", "patches"), [(2, 64), (3, 36)])
def test_idefics_connector(factor, patches):
    mine = Projector(24, 40, shuffle=factor)
    torch.nn.init.zeros_(mine.expand.bias)  # theirs has none
    compare(mine, idefics(factor), {"expand.weight": "modality_projection.proj.weight"}, patches)


@pytest.mark.parametrize(("factor", "patches"), [(2, 16), (2, 64), (3, 36), (4, 64)])
def test_pixel_shuffle(factor, patches):
    mine, theirs = (torch.arange(3.0 * patches * 5).view(3, patches, 5).requires_grad_() for _ in "ab")
    ours, his = pixel_shuffle(mine, factor), Idefics3Connector.pixel_shuffle(None, theirs, factor)
    assert torch.equal(ours, his)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(4))
    (ours * weights).sum().backward()
    (his * weights).sum().backward()
    assert torch.equal(mine.grad, theirs.grad)
