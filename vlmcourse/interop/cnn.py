"""Carry weights from transformers' convolutional networks into ours (notebook 03).

    from_transformers   a ResNetModel or EfficientNetModel -> our ResNet or EfficientNet
    from_folder         the same from a folder that save_pretrained wrote, or a download of one

Every key is named here once and loaded strictly: a key that matches nothing, or is missing, is an error.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import transformers
from torch import Tensor, nn
from transformers.models.efficientnet.modeling_efficientnet import round_filters

from vlmcourse.interop.keys import read_folder, require, require_family, take_weights
from vlmcourse.models.cnn import ResNet, ResNetConfig
from vlmcourse.models.efficientnet import EfficientNet, EfficientNetConfig, StageConfig

HEADS = {"resnet": "classifier.1", "efficientnet": "classifier"}  # of a classifier; ours has none


def _layer(ours: str, convolution: str, norm: str) -> dict[str, str]:
    """The rows of a convolution and the batch norm behind it; ours is one module."""
    return {f"{ours}.weight": f"{convolution}.weight", f"{ours}.norm.*": f"{norm}.*"}


OURS, THEIRS = "blocks.#.", "encoder.blocks.#."
EFFICIENTNET = {
    **_layer("stem", "embeddings.convolution", "embeddings.batchnorm"),
    **_layer(f"{OURS}expand", f"{THEIRS}expansion.expand_conv", f"{THEIRS}expansion.expand_bn"),
    **_layer(
        f"{OURS}depthwise", f"{THEIRS}depthwise_conv.depthwise_conv", f"{THEIRS}depthwise_conv.depthwise_norm"
    ),
    f"{OURS}excite.reduce.*": f"{THEIRS}squeeze_excite.reduce.*, matrix",
    f"{OURS}excite.expand.*": f"{THEIRS}squeeze_excite.expand.*, matrix",
    **_layer(f"{OURS}project", f"{THEIRS}projection.project_conv", f"{THEIRS}projection.project_bn"),
    **_layer("top", "encoder.top_conv", "encoder.top_bn"),
}


def from_transformers(theirs: nn.Module) -> ResNet | EfficientNet:
    """Our network, in evaluation mode, with the weights and statistics of a transformers one (5.0 or newer).

    Raises:
        ValueError: if the model is another one, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, has no place in ours, or has another shape.
    """
    return _convert(theirs.config, theirs.state_dict(), f"this {type(theirs).__name__}")


def from_folder(folder: str | Path) -> ResNet | EfficientNet:
    """As from_transformers, from a folder in the hub's format. A classifier's head is left out.

    Raises:
        FileNotFoundError: if one of the files is not there.
        ValueError, CheckpointError: as from_transformers.
    """
    config, state = read_folder(folder)
    bare = {key.removeprefix(f"{config.model_type}."): value for key, value in state.items()}
    return _convert(config, bare, folder)


def _convert(
    config: transformers.PretrainedConfig, state: Mapping[str, Tensor], source: str | Path
) -> ResNet | EfficientNet:
    require_family(config, HEADS, source)
    head = HEADS[config.model_type]
    if config.model_type == "resnet":
        model, rows = _resnet(config), _resnet_rows(config)
    else:
        model, rows = _efficientnet(config), EFFICIENTNET
    return take_weights(model, state, rows, source, dropped=(f"{head}.weight", f"{head}.bias"))


def _resnet(config: transformers.ResNetConfig) -> ResNet:
    require(config, hidden_act="relu", downsample_in_first_stage=False, downsample_in_bottleneck=False)
    return ResNet(
        ResNetConfig(
            widths=tuple(config.hidden_sizes), depths=tuple(config.depths), stem=config.embedding_size,
            channels=config.num_channels, bottleneck=config.layer_type == "bottleneck",
        )
    )  # fmt: skip


def _resnet_rows(config: transformers.ResNetConfig) -> dict[str, str]:
    """Their blocks are counted anew in every stage, ours from the first to the last."""
    layers = {"stem": "embedder.embedder"}
    places = [(stage, number) for stage, depth in enumerate(config.depths) for number in range(depth)]
    for block, (stage, number) in enumerate(places):
        theirs = f"encoder.stages.{stage}.layers.{number}"
        layers[f"blocks.{block}.shortcut"] = f"{theirs}.shortcut"
        layers |= {f"blocks.{block}.body.{layer}": f"{theirs}.layer.{layer}" for layer in range(3)}
    rows = {}
    for ours, theirs in layers.items():
        rows |= _layer(ours, f"{theirs}.convolution", f"{theirs}.normalization")
    return rows


def _efficientnet(config: transformers.EfficientNetConfig) -> EfficientNet:
    require(config, pooling_type="mean", hidden_act="silu" if config.hidden_act == "silu" else "swish")
    widths = [round_filters(config, width) for width in config.out_channels]
    depths = [math.ceil(config.depth_coefficient * repeats) for repeats in config.num_block_repeats]
    columns = (config.expand_ratios, config.kernel_sizes, config.strides, widths, depths)
    return EfficientNet(
        EfficientNetConfig(
            stages=tuple(StageConfig(*row) for row in zip(*columns, strict=True)),
            stem=round_filters(config, 32), top=round_filters(config, 1280), channels=config.num_channels,
            squeeze=config.squeeze_expansion_ratio, drop=config.drop_connect_rate,
            even_padding=tuple(config.depthwise_padding), epsilon=config.batch_norm_eps,
            momentum=config.batch_norm_momentum,
        )
    )  # fmt: skip
