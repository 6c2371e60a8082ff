"""Carry weights from the vision transformers of transformers and timm into ours (notebook 02).

The libraries keep query, key and value apart (transformers) or joined (timm), and cut patches with a
convolution; ours is one matrix product each.
"""

from typing import Any

from torch import nn

from vlmcourse.interop.keys import nested, represent, require_family, take_weights
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
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    require_family(theirs, "vit")
    model = ViT(ViTConfig(**vision_fields(theirs.config, qkv_bias=True)))
    pooler = ("pooler.dense.weight", "pooler.dense.bias")
    return take_weights(model, theirs.state_dict(), TRANSFORMERS_VIT, "this ViTModel", pooler)


def from_timm(theirs: nn.Module) -> ViT:
    """Our ViT with the weights of a timm ``VisionTransformer`` with a class token, in evaluation mode.

    A classifier's head is left out. Positions are resized as timm does, with antialiasing.

    Raises:
        ValueError: if it has a part or an option that ours does not have, such as another activation.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    _refuse_parts(theirs)
    embed, first = theirs.patch_embed, theirs.blocks[0]
    config = ViTConfig(
        image_size=embed.img_size, patch_size=embed.patch_size[0], channels=embed.proj.in_channels,
        width=theirs.embed_dim, depth=len(theirs.blocks), heads=first.attn.num_heads,
        hidden=first.mlp.fc1.out_features, epsilon=first.norm1.eps,
    )  # fmt: skip
    head = ("head.weight", "head.bias")
    model = take_weights(ViT(config), theirs.state_dict(), TIMM, "this VisionTransformer", head)
    model.antialias = True
    return model


def vision_fields(config: Any, **needed: Any) -> dict[str, Any]:
    """Arguments for ViTConfig from the configuration of a transformers ViT, or of CLIP's, BLIP's encoder."""
    words = dict(VISION_WORDS)
    if not hasattr(config, "num_channels"):
        del words["channels"]  # BLIP's are 3, and ours if nothing is said
    fields = represent(config, words, **needed)
    for name in ("image_size", "patch_size"):
        if not isinstance(fields[name], int):
            height, width = fields[name]
            fields[name] = height if height == width else (height, width)
    if not isinstance(fields["patch_size"], int):
        raise ValueError(f"our ViT needs square patches; this one has patch_size = {fields['patch_size']}")
    return fields


# the parts that a timm VisionTransformer like ours is made of; what is fixed in each
TIMM_PARTS: dict[str, dict[str, Any]] = {
    "VisionTransformer": dict(has_class_token=True, no_embed_class=False, num_reg_tokens=0),
    "PatchEmbed": dict(dynamic_img_pad=False), "Conv2d": dict(groups=1, dilation=(1, 1)),
    "Block": {}, "Attention": {}, "Mlp": {}, "Linear": {}, "Sequential": {}, "Identity": {}, "Dropout": {},
    "DropPath": {}, "LayerNorm": dict(elementwise_affine=True), "GELU": dict(approximate="none"),
}  # fmt: skip


def _refuse_parts(theirs: nn.Module) -> None:
    """Raise a ValueError that names what a timm ViT is made of and ours is not."""
    strange = []
    for module in theirs.modules():
        kind = type(module).__name__
        strange += [kind] if kind not in TIMM_PARTS else []
        for option, needed in TIMM_PARTS.get(kind, {}).items():
            if (given := getattr(module, option, needed)) != needed:
                strange.append(f"{option} = {given!r}")
    if not strange:
        strange = [what for what, has in _timm_forms(theirs).items() if has]
    if named := ", ".join(dict.fromkeys(strange)):
        raise ValueError(f"our ViT needs timm's usual parts and GELU; this one has {named}")


def _timm_forms(theirs: nn.Module) -> dict[str, bool]:
    """What a timm ViT of the usual parts may still have otherwise than ours, and whether it has."""
    embed, blocks = theirs.patch_embed, theirs.blocks
    part = theirs.embed_dim // blocks[0].attn.num_heads
    around = [theirs.norm, *(norm for block in blocks for norm in (block.norm1, block.norm2))]
    return {
        "patches that are not square": len(set(embed.patch_size)) > 1,
        "patches that overlap": embed.proj.stride != embed.proj.kernel_size or any(embed.proj.padding),
        "no norm where ours has one": not all(isinstance(norm, nn.LayerNorm) for norm in around),
        "norms that differ": len({getattr(norm, "eps", None) for norm in around}) > 1,
        "blocks that differ": len({block.attn.num_heads for block in blocks}) > 1,
        "scores of another scale": any(abs(block.attn.scale - part**-0.5) > 1e-9 for block in blocks),
    }
