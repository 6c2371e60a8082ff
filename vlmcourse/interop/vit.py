"""Carry weights from the vision transformers of transformers and timm into ours (notebook 02).

The libraries keep query, key and value apart (transformers) or joined (timm), and cut patches with a
convolution; ours is one matrix product each.
"""

from torch import nn

from vlmcourse.interop.keys import nested, take_weights, translate
from vlmcourse.models.vit import ViT, ViTConfig

MLP_ROWS = {"expand.*": "mlp.fc1.*", "contract.*": "mlp.fc2.*"}
TRANSFORMERS_VIT = {
    "embed_patch.weight": "embeddings.patch_embeddings.projection.weight, patches",
    "embed_patch.bias": "embeddings.patch_embeddings.projection.bias",
    "class_token": "embeddings.cls_token, vector",
    "positions": "embeddings.position_embeddings, rows",
    "norm.*": "layernorm.*",
    "blocks.#.attention.project_in.*": "layers.#.attention.(q k v)_proj.*",
    "blocks.#.attention.project_out.*": "layers.#.attention.o_proj.*",
    "blocks.#.norm_before_attention.*": "layers.#.layernorm_before.*",
    "blocks.#.norm_before_mlp.*": "layers.#.layernorm_after.*",
    **nested(MLP_ROWS, "blocks.#.", "layers.#."),
}
TIMM = {
    "embed_patch.weight": "patch_embed.proj.weight, patches",
    "embed_patch.bias": "patch_embed.proj.bias",
    "class_token": "cls_token, vector",
    "positions": "pos_embed, rows",
    "norm.*": "norm.*",
    "blocks.#.attention.project_in.*": "blocks.#.attn.qkv.*",
    "blocks.#.attention.project_out.*": "blocks.#.attn.proj.*",
    "blocks.#.norm_before_attention.*": "blocks.#.norm1.*",
    "blocks.#.norm_before_mlp.*": "blocks.#.norm2.*",
    **nested(MLP_ROWS, "blocks.#.", "blocks.#."),
}
LAYER_WORDS = {  # of every transformer's configuration, image or text
    "width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads",
    "hidden": "intermediate_size",
}  # fmt: skip
ENCODER_WORDS = LAYER_WORDS | {"activation": "hidden_act", "epsilon": "layer_norm_eps"}
VISION_WORDS = ENCODER_WORDS | dict(image_size="image_size", patch_size="patch_size", channels="num_channels")


def from_transformers(theirs: nn.Module) -> ViT:
    """Our ViT with the weights of a transformers ``ViTModel`` (5.0 or newer), in evaluation mode.

    A pooler is left out: it is no part of the published encoders.

    Raises:
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    model = ViT(ViTConfig(**translate(theirs.config, VISION_WORDS)))
    pooler = ("pooler.dense.weight", "pooler.dense.bias")
    return take_weights(model, theirs.state_dict(), TRANSFORMERS_VIT, "this ViTModel", pooler)


def from_timm(theirs: nn.Module) -> ViT:
    """Our ViT with the weights of a timm ``VisionTransformer`` with a class token, in evaluation mode.

    A classifier's head is left out.

    Raises:
        ValueError: if its MLP has another activation than gelu.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    embed, first = theirs.patch_embed, theirs.blocks[0]
    if not isinstance(first.mlp.act, nn.GELU):
        raise ValueError(f"our ViT needs timm's GELU; this one has {type(first.mlp.act).__name__}")
    config = ViTConfig(
        image_size=embed.img_size, patch_size=embed.patch_size[0], channels=embed.proj.in_channels,
        width=theirs.embed_dim, depth=len(theirs.blocks), heads=first.attn.num_heads,
        hidden=first.mlp.fc1.out_features, epsilon=first.norm1.eps,
    )  # fmt: skip
    head = ("head.weight", "head.bias")
    return take_weights(ViT(config), theirs.state_dict(), TIMM, "this VisionTransformer", head)
