"""Our ViT equals transformers' ViTModel, timm's VisionTransformer and CLIPVisionModel's block: outputs and
gradients.

Weights are copied over after the library model's norms, biases, class token and positions were randomised,
and inputs are scaled away from unit size, so that no epsilon, bias or norm can hide.
"""

import pytest
import timm
import torch
import transformers
from torch import nn

from vlmcourse.diagnostics.attention import attention_maps
from vlmcourse.interop.clip import LAYER
from vlmcourse.interop.keys import take_weights
from vlmcourse.interop.vit import from_timm, from_transformers
from vlmcourse.models.attention import Block
from vlmcourse.models.vit import interpolate_positions
from vlmcourse.training.checkpoints import CheckpointError

WIDTH, HIDDEN, DEPTH, HEADS, SIDE, PATCH = 64, 128, 2, 4, 32, 8
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "image_size": SIDE,
    "patch_size": PATCH,
}


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter away from its initial value; norms around 1."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        norm = parameter.dim() == 1 and name.endswith("weight")
        nn.init.normal_(parameter, 1.0 if norm else 0.0, 0.3 if parameter.dim() == 1 else 0.08)
    return model.eval()


def images(height=SIDE, width=SIDE, scale=3.0):
    torch.manual_seed(2)
    return scale * torch.randn(3, 3, height, width)


def library_vit() -> transformers.ViTModel:
    config = transformers.ViTConfig(**SIZES, attn_implementation="eager")
    return randomised(transformers.ViTModel(config, add_pooling_layer=False))


def library_timm() -> nn.Module:
    return randomised(
        timm.models.vision_transformer.VisionTransformer(
            img_size=SIDE,
            patch_size=PATCH,
            embed_dim=WIDTH,
            depth=DEPTH,
            num_heads=HEADS,
            mlp_ratio=HIDDEN / WIDTH,
            num_classes=0,
            dynamic_img_size=True,
        )
    )


def assert_equal(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() < 1e-5 * max(1.0, theirs.abs().max().item())


def assert_equal_gradients(theirs_output: torch.Tensor, mine_output: torch.Tensor, inputs: list) -> None:
    """Both outputs are pushed back by the same random direction; gradients of the pixels must agree."""
    direction = torch.randn_like(mine_output)
    first, second = (
        torch.autograd.grad((o * direction).sum(), x)[0]
        for o, x in zip((mine_output, theirs_output), inputs, strict=True)
    )
    assert_equal(first, second)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_outputs_and_gradients_equal_transformers(scale):
    theirs = library_vit()
    model = from_transformers(theirs)
    x, y = images(scale=scale).requires_grad_(), images(scale=scale).requires_grad_()
    mine, his = model(x), theirs(y).last_hidden_state
    assert_equal(mine, his)
    direction = torch.randn_like(mine)
    (mine * direction).sum().backward()
    (his * direction).sum().backward()
    assert_equal(x.grad, y.grad)
    assert_equal(model.positions.grad, theirs.embeddings.position_embeddings.grad[0])
    assert_equal(model.class_token.grad, theirs.embeddings.cls_token.grad[0, 0])
    first, layer = model.blocks[0], theirs.layers[0]
    assert_equal(first.expand.weight.grad, layer.mlp.fc1.weight.grad)
    assert_equal(first.norm_before_attention.weight.grad, layer.layernorm_before.weight.grad)
    parts = [getattr(layer.attention, f"{letter}_proj").weight.grad for letter in "qkv"]
    assert_equal(first.attention.project_in.weight.grad, torch.cat(parts))


def test_attention_maps_and_layers_equal_transformers():
    theirs = library_vit()
    model = from_transformers(theirs)
    with torch.no_grad():
        output = theirs(images(), output_attentions=True, output_hidden_states=True)
        stream = model.layers(images())
    assert len(output.attentions) == DEPTH
    assert_equal(attention_maps(model, images()), torch.stack(output.attentions, dim=1))
    for mine, his in zip(stream[:-1], output.hidden_states, strict=False):
        assert_equal(mine, his)


@pytest.mark.parametrize("size", [(48, 32), (16, 64), (64, 64)])
def test_interpolated_positions_equal_transformers(size):
    theirs = library_vit()
    with torch.no_grad():
        his = theirs(images(*size), interpolate_pos_encoding=True).last_hidden_state
        assert_equal(from_transformers(theirs)(images(*size)), his)


def test_outputs_and_gradients_equal_timm():
    theirs = library_timm()
    model = from_timm(theirs)
    x, y = images().requires_grad_(), images().requires_grad_()
    mine, his = model(x), theirs.forward_features(y)
    assert_equal(mine, his)
    assert_equal_gradients(his, mine, [x, y])


@pytest.mark.parametrize("grid", [(6, 4), (2, 8), (8, 8)])
def test_antialiased_positions_equal_timm(grid):
    theirs = library_timm()
    resized = timm.layers.resample_abs_pos_embed(theirs.pos_embed, list(grid), num_prefix_tokens=1)
    mine = interpolate_positions(theirs.pos_embed[0], (SIDE // PATCH, SIDE // PATCH), grid, antialias=True)
    assert_equal(mine, resized[0])


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_block_equals_clips(activation):
    config = transformers.CLIPVisionConfig(**SIZES, hidden_act=activation, attn_implementation="eager")
    layer = randomised(transformers.CLIPVisionModel(config)).encoder.layers[0]
    block = Block(WIDTH, HEADS, HIDDEN, activation, epsilon=1e-5).eval()
    take_weights(block, layer.state_dict(), LAYER, "a layer")
    torch.manual_seed(3)
    x = (3 * torch.randn(3, 17, WIDTH)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    mine, his = block(x), layer(y, attention_mask=None)
    his = his[0] if isinstance(his, tuple) else his
    assert_equal(mine, his)
    assert_equal_gradients(his, mine, [x, y])


def test_a_key_that_matches_nothing_is_an_error():
    theirs = library_timm()
    theirs.blocks[0].attn.q_norm = nn.LayerNorm(WIDTH)
    with pytest.raises(CheckpointError, match="q_norm"):
        from_timm(theirs)
