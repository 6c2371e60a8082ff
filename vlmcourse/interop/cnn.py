"""Carry weights from transformers' convolutional networks into ours (notebook 03).

    from_transformers   a ResNetModel or EfficientNetModel -> our ResNet or EfficientNet
    from_folder         the same from a folder that save_pretrained wrote, or a download of one

Every key is named here once and loaded strictly: a key that matches nothing, or is missing, is an error.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.models.efficientnet.modeling_efficientnet import round_filters

from vlmcourse.interop.keys import require, require_family, take_weights
from vlmcourse.models.cnn import ResNet, ResNetConfig
from vlmcourse.models.efficientnet import EfficientNet, EfficientNetConfig, Stage

HEADS = {
    "resnet": "classifier.1",
    "efficientnet": "classifier",
}  # of ...ForImageClassification; ours has no head
EFFICIENTNET = {
    "stem.weight": "embeddings.convolution.weight",
    "stem.norm.*": "embeddings.batchnorm.*",
    "blocks.#.expand.weight": "encoder.blocks.#.expansion.expand_conv.weight",
    "blocks.#.expand.norm.*": "encoder.blocks.#.expansion.expand_bn.*",
    "blocks.#.depthwise.weight": "encoder.blocks.#.depthwise_conv.depthwise_conv.weight",
    "blocks.#.depthwise.norm.*": "encoder.blocks.#.depthwise_conv.depthwise_norm.*",
    "blocks.#.excite.reduce.weight": "encoder.blocks.#.squeeze_excite.reduce.weight, matrix",
    "blocks.#.excite.reduce.bias": "encoder.blocks.#.squeeze_excite.reduce.bias",
    "blocks.#.excite.expand.weight": "encoder.blocks.#.squeeze_excite.expand.weight, matrix",
    "blocks.#.excite.expand.bias": "encoder.blocks.#.squeeze_excite.expand.bias",
    "blocks.#.project.weight": "encoder.blocks.#.projection.project_conv.weight",
    "blocks.#.project.norm.*": "encoder.blocks.#.projection.project_bn.*",
    "top.weight": "encoder.top_conv.weight",
    "top.norm.*": "encoder.top_bn.*",
}


def from_transformers(theirs: nn.Module) -> ResNet | EfficientNet:
    """Our network with the weights and running statistics of a transformers one (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if the model is another one, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, has no place in ours, or has another shape.
    """
    return _convert(theirs.config, theirs.state_dict(), f"this {type(theirs).__name__}")


def from_folder(folder: str | Path) -> ResNet | EfficientNet:
    """As from_transformers, from a folder with config.json and model.safetensors. A classifier's head is left out.

    Raises:
        FileNotFoundError: if model.safetensors is not there.
        ValueError, CheckpointError: as from_transformers.
    """
    file = Path(folder) / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; save the model with save_pretrained, or download that file"
        )
    config = transformers.AutoConfig.from_pretrained(folder)
    state = {key.removeprefix(f"{config.model_type}."): value for key, value in load_file(file).items()}
    return _convert(config, state, file)


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
        for layer in range(3):
            layers[f"blocks.{block}.body.{layer}"] = f"{theirs}.layer.{layer}"
    rows = {f"{ours}.weight": f"{theirs}.convolution.weight" for ours, theirs in layers.items()}
    return rows | {f"{ours}.norm.*": f"{theirs}.normalization.*" for ours, theirs in layers.items()}


def _efficientnet(config: transformers.EfficientNetConfig) -> EfficientNet:
    require(config, pooling_type="mean", hidden_act="silu" if config.hidden_act == "silu" else "swish")
    widths = [round_filters(config, width) for width in config.out_channels]
    depths = [math.ceil(config.depth_coefficient * repeats) for repeats in config.num_block_repeats]
    columns = (config.expand_ratios, config.kernel_sizes, config.strides, widths, depths)
    return EfficientNet(
        EfficientNetConfig(
            stages=tuple(Stage(*row) for row in zip(*columns, strict=True)), stem=round_filters(config, 32),
            top=round_filters(config, 1280), channels=config.num_channels, squeeze=config.squeeze_expansion_ratio,
            drop=config.drop_connect_rate, even_padding=tuple(config.depthwise_padding),
            epsilon=config.batch_norm_eps, momentum=config.batch_norm_momentum,
        )
    )  # fmt: skip
