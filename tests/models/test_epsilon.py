"""The epsilon of a config is the one of every norm in the model: published weights differ in it."""

import pytest
from torch import nn

from vlmcourse.models.bert import Bert, BertConfig
from vlmcourse.models.clip import CLIP, CLIPConfig, TextConfig
from vlmcourse.models.gpt import GPT, GPTConfig
from vlmcourse.models.language import Llama, LlamaConfig, RMSNorm
from vlmcourse.models.t5 import T5, T5Config
from vlmcourse.models.vit import ViT, ViTConfig

VISION = ViTConfig(8, 4, width=8, depth=1, heads=2, epsilon=0.125)
MODELS = {
    "vit": lambda: ViT(VISION),
    "clip": lambda: CLIP(
        CLIPConfig(VISION, TextConfig(9, eos=1, width=8, depth=1, heads=2, epsilon=0.125), width=4)
    ),
    "bert": lambda: Bert(BertConfig(9, width=8, depth=1, heads=2, epsilon=0.125)),
    "gpt": lambda: GPT(GPTConfig(9, width=8, depth=1, heads=2, epsilon=0.125)),
    "llama": lambda: Llama(LlamaConfig(9, width=8, depth=1, heads=2, epsilon=0.125)),
    "t5": lambda: T5(T5Config(9, width=8, epsilon=0.125)),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_norm_has_the_epsilon_of_the_config(name):
    norms = [part for part in MODELS[name]().modules() if isinstance(part, nn.LayerNorm | RMSNorm)]
    assert len(norms) >= 3
    assert {getattr(norm, "eps", None) or norm.epsilon for norm in norms} == {0.125}
