"""Our ViT equals transformers' ViTModel, timm's VisionTransformer and CLIPVisionModel's block: outputs and gradients.

Weights are copied over after the library model's norms, biases, class token and positions were randomised, and inputs
are scaled away from unit size, so that no epsilon, bias or norm can hide.
"""

import pytest
import timm
import torch
import transformers
from torch import nn

from vlmcourse.diagnostics.attention import attention_maps
from vlmcourse.models.attention import Block
from vlmcourse.models.vit import ViT, ViTConfig, interpolate_positions

WIDTH, HIDDEN, DEPTH, HEADS, SIDE, PATCH = 64, 128, 2, 4, 32, 8
SIZES = {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS,
         "image_size": SIDE, "patch_size": PATCH}  # fmt: skip


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


def ours(epsilon: float, activation: str = "gelu") -> ViT:
    config = ViTConfig(SIDE, PATCH, 3, WIDTH, DEPTH, HEADS, HIDDEN, activation, epsilon)
    return ViT(config).eval()


def conv_as_linear(weight: torch.Tensor) -> torch.Tensor:
    """(width, channel, row, column) to (width, pixel) in patchify's pixel order."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def hugging_face_block(theirs: dict, source: str) -> dict:
    """Our block's state dict from a ViT or CLIP layer of transformers 5."""
    names = {"ViT": ("attention.{}_proj", "attention.o_proj", "layernorm_before", "layernorm_after"),
             "CLIP": ("self_attn.{}_proj", "self_attn.out_proj", "layer_norm1", "layer_norm2")}[source]  # fmt: skip
    result = {}
    for kind in ("weight", "bias"):
        parts = [theirs[f"{names[0].format(letter)}.{kind}"] for letter in "qkv"]
        result[f"attention.project_in.{kind}"] = torch.cat(parts)
        for mine, his in zip(
            ("attention.project_out", "norm_before_attention", "norm_before_mlp", "expand", "contract"),
            (*names[1:], "mlp.fc1", "mlp.fc2"),
            strict=True,
        ):
            result[f"{mine}.{kind}"] = theirs[f"{his}.{kind}"]
    return result


def under(prefix: str, state: dict) -> dict:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def from_transformers(theirs: transformers.ViTModel) -> ViT:
    state, model = theirs.state_dict(), ours(epsilon=theirs.config.layer_norm_eps)
    new = {
        "embed_patch.weight": conv_as_linear(state["embeddings.patch_embeddings.projection.weight"]),
        "embed_patch.bias": state["embeddings.patch_embeddings.projection.bias"],
        "class_token": state["embeddings.cls_token"][0, 0],
        "positions": state["embeddings.position_embeddings"][0],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
    }
    for number in range(DEPTH):
        block = hugging_face_block(under(f"layers.{number}.", state), "ViT")
        new |= {f"blocks.{number}.{key}": value for key, value in block.items()}
    model.load_state_dict(new, strict=True)
    return model


def from_timm(theirs: nn.Module) -> ViT:
    state, model = theirs.state_dict(), ours(epsilon=1e-6)
    new = {
        "embed_patch.weight": conv_as_linear(state["patch_embed.proj.weight"]),
        "embed_patch.bias": state["patch_embed.proj.bias"],
        "class_token": state["cls_token"][0, 0],
        "positions": state["pos_embed"][0],
    }
    names = {"norm1": "norm_before_attention", "attn.qkv": "attention.project_in", "attn.proj": "attention.project_out",
             "norm2": "norm_before_mlp", "mlp.fc1": "expand", "mlp.fc2": "contract"}  # fmt: skip
    for kind in ("weight", "bias"):
        new[f"norm.{kind}"] = state[f"norm.{kind}"]
        for number in range(DEPTH):
            for his, mine in names.items():
                new[f"blocks.{number}.{mine}.{kind}"] = state[f"blocks.{number}.{his}.{kind}"]
    model.load_state_dict(new, strict=True)
    return model


def library_vit() -> transformers.ViTModel:
    config = transformers.ViTConfig(**SIZES, attn_implementation="eager")
    return randomised(transformers.ViTModel(config, add_pooling_layer=False))


def library_timm() -> nn.Module:
    return randomised(
        timm.models.vision_transformer.VisionTransformer(
            img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=HIDDEN / WIDTH,
            num_classes=0, dynamic_img_size=True,
        )
    )  # fmt: skip


def assert_equal(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() < 1e-5 * max(1.0, theirs.abs().max().item())


def assert_equal_gradients(mine: ViT, theirs_output: torch.Tensor, mine_output: torch.Tensor, inputs: list) -> None:
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
    assert_equal_gradients(model, his, mine, [x, y])


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
    block.load_state_dict(hugging_face_block(layer.state_dict(), "CLIP"), strict=True)
    torch.manual_seed(3)
    x = (3 * torch.randn(3, 17, WIDTH)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    mine, his = block(x), layer(y, attention_mask=None)
    his = his[0] if isinstance(his, tuple) else his
    assert_equal(mine, his)
    assert_equal_gradients(block, his, mine, [x, y])
