"""Carry weights from the libraries' vision transformers into ours (notebook 02).

    from_transformers   transformers' ViTModel -> our ViT
    from_timm           timm's VisionTransformer -> our ViT
    block_keys          one transformer layer of transformers' ViT or CLIP -> our Block

Every key is named here once and loaded strictly: a key that matches nothing is an error.  The libraries keep
query, key and value apart (transformers) or joined (timm), and cut patches with a convolution; ours is one
matrix product each.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.models.vit import ViT, ViTConfig

State = dict[str, Tensor]
LAYER_NAMES = {  # where transformers keeps (q, k, v), output, the two norms
    "vit": ("attention.{}_proj", "attention.o_proj", "layernorm_before", "layernorm_after"),
    "clip": ("self_attn.{}_proj", "self_attn.out_proj", "layer_norm1", "layer_norm2"),
}
OUR_NAMES = ("attention.project_out", "norm_before_attention", "norm_before_mlp", "expand", "contract")
TIMM_NAMES = {
    "norm1": "norm_before_attention",
    "attn.qkv": "attention.project_in",
    "attn.proj": "attention.project_out",
    "norm2": "norm_before_mlp",
    "mlp.fc1": "expand",
    "mlp.fc2": "contract",
}


def patch_matrix(convolution: Float[Tensor, "width channel row column"]) -> Float[Tensor, "width pixel"]:
    """The weight of a patch convolution as a matrix over patchify's pixels."""
    return convolution.permute(0, 2, 3, 1).flatten(1)


def block_keys(layer: State, family: str) -> State:
    """Rename one layer's state dict; ``family`` is "vit" or "clip"."""
    parts, *others = LAYER_NAMES[family]
    ours: State = {}
    for kind in ("weight", "bias"):
        ours[f"attention.project_in.{kind}"] = torch.cat([layer[f"{parts.format(x)}.{kind}"] for x in "qkv"])
        for mine, theirs in zip(OUR_NAMES, (*others, "mlp.fc1", "mlp.fc2"), strict=True):
            ours[f"{mine}.{kind}"] = layer[f"{theirs}.{kind}"]
    return ours


def from_transformers(theirs: nn.Module) -> ViT:
    """Our ViT with the weights of a transformers ``ViTModel`` (5.0 or newer), in evaluation mode."""
    config, state = theirs.config, theirs.state_dict()
    model = ViT(
        ViTConfig(
            config.image_size, config.patch_size, config.num_channels, config.hidden_size, config.num_hidden_layers,
            config.num_attention_heads, config.intermediate_size, config.hidden_act, config.layer_norm_eps,
        )
    )  # fmt: skip
    front = ("patch_embeddings.projection", "cls_token", "position_embeddings")
    ours = _front(state, *(f"embeddings.{name}" for name in front))
    ours |= {f"norm.{kind}": state[f"layernorm.{kind}"] for kind in ("weight", "bias")}
    for number in range(config.num_hidden_layers):
        layer = _below(f"layers.{number}.", state)
        ours |= {f"blocks.{number}.{key}": value for key, value in block_keys(layer, "vit").items()}
    model.load_state_dict(ours, strict=True)
    return model.eval()


def from_timm(theirs: nn.Module) -> ViT:
    """Our ViT with the weights of a timm ``VisionTransformer`` with a class token, in evaluation mode."""
    state, embed, first = theirs.state_dict(), theirs.patch_embed, theirs.blocks[0]
    model = ViT(
        ViTConfig(
            embed.img_size, embed.patch_size[0], embed.proj.in_channels, theirs.embed_dim, len(theirs.blocks),
            first.attn.num_heads, first.mlp.fc1.out_features, epsilon=first.norm1.eps,
        )
    )  # fmt: skip
    ours = _front(state, "patch_embed.proj", "cls_token", "pos_embed")
    ours |= {f"norm.{kind}": state[f"norm.{kind}"] for kind in ("weight", "bias")}
    for number in range(len(theirs.blocks)):
        for key, value in _below(f"blocks.{number}.", state).items():
            name, kind = key.rsplit(".", 1)
            ours[f"blocks.{number}.{TIMM_NAMES[name]}.{kind}"] = value
    model.load_state_dict(ours, strict=True)
    return model.eval()


def _front(state: State, patches: str, class_token: str, positions: str) -> State:
    return {
        "embed_patch.weight": patch_matrix(state[f"{patches}.weight"]),
        "embed_patch.bias": state[f"{patches}.bias"],
        "class_token": state[class_token][0, 0],
        "positions": state[positions][0],
    }


def _below(prefix: str, state: State) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
