"""Carry weights from the vision transformers of transformers and timm into ours, DINOv2's too (notebook 02).

The libraries keep query, key and value apart (transformers) or joined (timm), and cut patches with a
convolution; ours is one matrix product each.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vlmcourse.interop.keys import nested, represent, require_family, take_weights
from vlmcourse.models.vit import ViT, ViTConfig, interpolate_positions

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
DINOV2_ROWS = {  # its LayerScale is folded into the layer before it, see folded_scales
    "embed_patch.weight": "embeddings.patch_embeddings.projection.weight, patches",
    "embed_patch.bias": "embeddings.patch_embeddings.projection.bias",
    "class_token": "embeddings.cls_token, vector",
    "positions": "embeddings.position_embeddings, rows",
    "norm.*": "layernorm.*",
    "blocks.#.attention.project_in.*": "encoder.layer.#.attention.(q k v)_proj.*",
    "blocks.#.attention.project_out.*": "encoder.layer.#.attention.o_proj.*",
    "blocks.#.norm_before_attention.*": "encoder.layer.#.norm1.*",
    "blocks.#.norm_before_mlp.*": "encoder.layer.#.norm2.*",
    **nested(MLP_ROWS, "blocks.#.", "encoder.layer.#."),
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


def from_dinov2(theirs: nn.Module, image_size: int | None = None) -> ViT:
    """Our ViT with the weights of a transformers ``Dinov2Model``, in evaluation mode.

    DINOv2 scales what each layer adds, number by number (LayerScale); a scale behind a linear layer is that
    layer with scaled rows, so ours needs no part for it.

    Args:
        image_size: for which the positions are stretched once and for all; theirs if not given. A ViT of
            another size does the same in every step.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    require_family(theirs, "dinov2")
    config = theirs.config
    words = {ours: name for ours, name in VISION_WORDS.items() if ours != "hidden"}
    seen = ("mlp_ratio", "layerscale_value", "out_features", "out_indices", "stage_names", "use_mask_token")
    fields = represent(config, words, *seen, "apply_layernorm", "reshape_hidden_states", qkv_bias=True,
                       use_swiglu_ffn=False)  # fmt: skip
    model = ViT(ViTConfig(**fields, hidden=int(config.hidden_size * config.mlp_ratio)))
    state = folded_scales(theirs.state_dict())
    take_weights(model, state, DINOV2_ROWS, "this Dinov2Model", ("mask_token",))
    return model if image_size is None else resized(model, image_size)


def folded_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's weights without LayerScale: each scale is multiplied into the rows of the layer before it.

    scale · (W x + b) is (scale · W) x + scale · b. Source: Touvron et al. 2021, arXiv:2103.17239, section 2.
    """
    folded = {name: value for name, value in state.items() if "layer_scale" not in name}
    for name in state.keys() - folded.keys():
        block, part = name.split(".layer_scale")
        layer = {"1": "attention.o_proj", "2": "mlp.fc2"}[part[0]]
        for kind, scale in (("weight", state[name][:, None]), ("bias", state[name])):
            folded[f"{block}.{layer}.{kind}"] = scale * state[f"{block}.{layer}.{kind}"]
    return folded


def resized(model: ViT, image_size: int) -> ViT:
    """The same ViT for images of another size, with its positions stretched, in evaluation mode.

    Raises:
        ValueError: if the patches do not tile such an image.
    """
    config = replace(model.config, image_size=image_size)
    state = model.state_dict()
    state["positions"] = interpolate_positions(
        model.positions.detach(), model.config.grid, config.grid, model.antialias
    )
    other = ViT(config)
    other.antialias = model.antialias
    other.load_state_dict(state)
    return other.eval()


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
