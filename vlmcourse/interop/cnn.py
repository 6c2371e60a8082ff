"""Carry weights from transformers' convolutional networks into ours (notebook 03)."""

import math

import transformers
from transformers.models.efficientnet.modeling_efficientnet import round_filters

from vlmcourse.interop.keys import nested, represent, require_family, take_weights
from vlmcourse.models.cnn import ResNet, ResNetConfig
from vlmcourse.models.efficientnet import EfficientNet, EfficientNetConfig, StageConfig


def _layer(ours: str, convolution: str, norm: str) -> dict[str, str]:
    """The rows of a convolution and the batch norm behind it; ours is one module."""
    return {f"{ours}.weight": f"{convolution}.weight", f"{ours}.norm.*": f"{norm}.*"}


RESNET_BLOCK = {
    **_layer("shortcut", "shortcut.convolution", "shortcut.normalization"),
    **_layer("body.#", "layer.#.convolution", "layer.#.normalization"),
}
EFFICIENTNET_BLOCK = {
    **_layer("expand", "expansion.expand_conv", "expansion.expand_bn"),
    **_layer("depthwise", "depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
    "excite.reduce.*": "squeeze_excite.reduce.*, matrix",
    "excite.expand.*": "squeeze_excite.expand.*, matrix",
    **_layer("project", "projection.project_conv", "projection.project_bn"),
}
EFFICIENTNET = {
    **_layer("stem", "embeddings.convolution", "embeddings.batchnorm"),
    **nested(EFFICIENTNET_BLOCK, "blocks.#.", "encoder.blocks.#."),
    **_layer("top", "encoder.top_conv", "encoder.top_bn"),
}


RESNET_FIELDS = (
    "num_channels", "embedding_size", "hidden_sizes", "depths", "layer_type", "stage_names", "out_features",
    "out_indices",
)  # fmt: skip
EFFICIENTNET_FIELDS = (  # the last three play a part in what ours leaves out, or in none
    "num_channels", "width_coefficient", "depth_coefficient", "depth_divisor", "kernel_sizes", "in_channels",
    "out_channels", "depthwise_padding", "strides", "num_block_repeats", "expand_ratios", "batch_norm_eps",
    "squeeze_expansion_ratio", "batch_norm_momentum", "hidden_dim", "image_size", "num_hidden_layers",
)  # fmt: skip


def from_transformers(theirs: transformers.PreTrainedModel) -> ResNet | EfficientNet:
    """Our network, in evaluation mode, with the weights and statistics of a transformers one (5.0 or newer).

    A classifier's head is left out.

    Raises:
        ValueError: if the model is another one, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, has no place in ours, or has another shape.
    """
    require_family(theirs, "resnet", "efficientnet")
    bare, config = theirs.base_model, theirs.config
    if config.model_type == "resnet":
        model, rows = ResNet(_resnet_config(config)), _resnet_rows(config)
    else:
        model, rows = EfficientNet(_efficientnet_config(config)), EFFICIENTNET
    return take_weights(model, bare.state_dict(), rows, f"this {type(theirs).__name__}")


def _resnet_config(config: transformers.ResNetConfig) -> ResNetConfig:
    represent(config, {}, *RESNET_FIELDS, hidden_act="relu", downsample_in_first_stage=False,
              downsample_in_bottleneck=False)  # fmt: skip
    if config.layer_type not in ("basic", "bottleneck"):
        raise ValueError(f"our ResNet has no layer_type = {config.layer_type!r}")
    return ResNetConfig(
        widths=tuple(config.hidden_sizes), depths=tuple(config.depths), stem=config.embedding_size,
        channels=config.num_channels, bottleneck=config.layer_type == "bottleneck",
    )  # fmt: skip


def _resnet_rows(config: transformers.ResNetConfig) -> dict[str, str]:
    """Their blocks are counted anew in every stage, ours from the first to the last."""
    rows = _layer("stem", "embedder.embedder.convolution", "embedder.embedder.normalization")
    places = [(stage, number) for stage, depth in enumerate(config.depths) for number in range(depth)]
    for block, (stage, number) in enumerate(places):
        rows |= nested(RESNET_BLOCK, f"blocks.{block}.", f"encoder.stages.{stage}.layers.{number}.")
    return rows


def _efficientnet_config(config: transformers.EfficientNetConfig) -> EfficientNetConfig:
    represent(config, {}, *EFFICIENTNET_FIELDS, pooling_type="mean",
              hidden_act="silu" if config.hidden_act == "silu" else "swish")  # fmt: skip
    widths = [round_filters(config, width) for width in config.out_channels]
    depths = [math.ceil(config.depth_coefficient * repeats) for repeats in config.num_block_repeats]
    columns = (config.expand_ratios, config.kernel_sizes, config.strides, widths, depths)
    return EfficientNetConfig(
        stages=tuple(StageConfig(*row) for row in zip(*columns, strict=True)),
        stem=round_filters(config, 32), top=round_filters(config, 1280), channels=config.num_channels,
        squeeze=config.squeeze_expansion_ratio, drop=config.drop_connect_rate, epsilon=config.batch_norm_eps,
        even_padding=tuple(config.depthwise_padding), momentum=config.batch_norm_momentum,
    )  # fmt: skip
