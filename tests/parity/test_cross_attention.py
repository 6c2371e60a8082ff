"""Our cross-attention layers equal torch's, T5's and, behind gates that are open, Idefics': outputs and
gradients."""

import pytest
import torch
import transformers
from torch import nn
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer
from transformers.models.t5.modeling_t5 import T5LayerCrossAttention

from tests.parity.library import assert_equal, randomised
from vlmcourse.models.fusion import CrossLayer, gated_cross_attend
from vlmcourse.models.language import LlamaConfig, RMSNorm, swiglu

WIDTH, HEADS = 64, 4


def tokens_and_image() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    words, image = (
        torch.randn(3, 7, WIDTH, generator=generator),
        torch.randn(3, 9, WIDTH, generator=generator),
    )
    return words.requires_grad_(), image.requires_grad_()


def ours(norm: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor,
         gated: bool, epsilon: float) -> CrossLayer:  # fmt: skip
    layer = CrossLayer(LlamaConfig(9, WIDTH, 1, HEADS, epsilon=epsilon), gated)
    with torch.no_grad():
        layer.norm.scale.copy_(norm)
        layer.attention.project_in.weight.copy_(query)
        layer.attention.project_context.weight.copy_(torch.cat([key, value]))
        layer.attention.project_out.weight.copy_(out)
    return layer


def assert_same(mine, theirs) -> None:
    """Functions of words and image: equal outputs, and equal gradients of both."""
    results = []
    for function in (mine, theirs):
        words, image = tokens_and_image()
        output = function(words, image)
        output.square().mean().backward()
        results.append((output, words.grad, image.grad))
    for one, other in zip(*results, strict=True):
        assert_equal(one, other)


def test_torch():
    theirs, norm = (
        randomised(nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True)),
        RMSNorm(WIDTH, 1e-5),
    )
    nn.init.normal_(norm.scale, 1.0, 0.3)
    mine = ours(norm.scale, *theirs.in_proj_weight.chunk(3), theirs.out_proj.weight, False, 1e-5)
    assert_same(mine, lambda words, image: words + theirs(norm(words), image, image)[0])


def test_t5():
    config = transformers.T5Config(d_model=WIDTH, d_kv=WIDTH // HEADS, num_heads=HEADS, d_ff=32)
    theirs = randomised(T5LayerCrossAttention(config, layer_idx=0))
    look = theirs.EncDecAttention
    mine = ours(
        theirs.layer_norm.weight, 4 * look.q.weight, look.k.weight, look.v.weight, look.o.weight, False, 1e-6
    )
    assert_same(mine, lambda words, image: theirs(words, image)[0])  # 4: T5 does not divide by √part


@pytest.mark.parametrize("kind", ["float", "vector"])
@pytest.mark.parametrize("alpha", [0.7, -1.2])
def test_idefics(alpha, kind):
    config = transformers.IdeficsConfig(
        vocab_size=9,
        hidden_size=WIDTH,
        intermediate_size=112,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        qk_layer_norms=False,
        alpha_type=kind,
        rms_norm_eps=1e-6,
        vision_config={"embed_dim": WIDTH},
    )
    theirs = randomised(IdeficsGatedCrossAttentionLayer(config, layer_idx=0))
    theirs.alpha_cross_attn.data.fill_(alpha)
    theirs.alpha_dense.data.fill_(alpha / 2)
    look, mlp, norm = theirs.cross_attn, theirs.mlp, theirs.post_attention_layernorm
    weights = [part.weight for part in (look.q_proj, look.k_proj, look.v_proj, look.o_proj)]
    mine = ours(theirs.input_layernorm.weight, *weights, True, 1e-6)
    mine.gate.data.fill_(alpha)

    def second(words: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return swiglu(words, mlp.gate_proj, mlp.up_proj, mlp.down_proj)

    def whole(words: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return gated_cross_attend(mine(words, image), image, norm, second, torch.tensor(alpha / 2))

    open_ = torch.ones(3, 7)
    assert_same(
        whole, lambda words, image: theirs(words, image_hidden_states=image, cross_attention_gate=open_)
    )
    words, image = tokens_and_image()
    assert (whole(words, image) - whole(words, -image)).abs().max() > 0.1
