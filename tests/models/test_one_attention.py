"""One attention serves every model: what a learner puts behind `scaled_dot_product` runs in all of them."""

import ast
from pathlib import Path

import pytest
import torch

from vlmcourse.models import attention, bert, clip, gpt, language, t5, vit

IDS = torch.tensor([[1, 5, 7, 2], [3, 4, 6, 2]])
SIZE = dict(width=16, heads=2)


def see_and_read() -> None:
    config = clip.CLIPConfig(
        vit.ViTConfig(16, 8, depth=3, **SIZE), clip.TextConfig(9, 2, depth=2, **SIZE), 12
    )
    clip.CLIP(config)(torch.randn(2, 3, 16, 16), IDS)


RUNS = {
    "ViT": (3, lambda: vit.ViT(vit.ViTConfig(16, 8, depth=3, **SIZE))(torch.randn(2, 3, 16, 16))),
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
    """A softmax elsewhere is allowed where tokens are drawn; a fused or ready-made attention nowhere."""
    allowed = {"attention.py": {"softmax"}, "generation.py": {"softmax"}}
    for path in Path(attention.__file__).parent.glob("*.py"):
        names = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute)
        }
        found = names & {"softmax", "scaled_dot_product_attention", "MultiheadAttention"}
        assert found <= allowed.get(path.name, set()), path.name
