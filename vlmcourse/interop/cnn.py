"""Carry weights from transformers' convolutional networks into ours (notebook 03).

    from_transformers   a ResNetModel or EfficientNetModel -> our ResNet or EfficientNet
    from_folder         the same from a folder that save_pretrained wrote, or a download of one

Every key is named here once and loaded strictly: a key that matches nothing, or is missing, is an error.
"""

import math
from pathlib import Path

import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.models.efficientnet.modeling_efficientnet import round_filters

from vlmcourse.models.cnn import ResNet, ResNetConfig
from vlmcourse.models.efficientnet import EfficientNet, EfficientNetConfig, Stage
from vlmcourse.training.checkpoints import load_strict

State = dict[str, Tensor]
HEADS = {
    "resnet": "classifier.1",
    "efficientnet": "classifier",
}  # of ...ForImageClassification; ours has no head


def from_transformers(theirs: nn.Module) -> ResNet | EfficientNet:
    """Our network with the weights and running statistics of a transformers one (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if the model is another one, or uses an option that ours does not have.
        KeyError: if it holds a weight that has no place in ours.
        CheckpointError: if a weight is missing or has another shape.
    """
    return _convert(theirs.config, theirs.state_dict())


def from_folder(folder: str | Path) -> ResNet | EfficientNet:
    """As from_transformers, from a folder with config.json and model.safetensors. A classifier's head is left out.

    Raises:
        FileNotFoundError: if model.safetensors is not there.
        ValueError, KeyError, CheckpointError: as from_transformers.
    """
    file = Path(folder) / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; save the model with save_pretrained, or download that file"
        )
    config, state = transformers.AutoConfig.from_pretrained(folder), load_file(file)
    head = HEADS.get(config.model_type)
    state = {key: value for key, value in state.items() if key not in (f"{head}.weight", f"{head}.bias")}
    return _convert(
        config, {key.removeprefix(f"{config.model_type}."): value for key, value in state.items()}
    )


def _convert(config: transformers.PretrainedConfig, state: State) -> ResNet | EfficientNet:
    kinds = {"resnet": (_resnet, _resnet_names), "efficientnet": (_efficientnet, _efficientnet_names)}
    if config.model_type not in kinds:
        raise ValueError(f"the course has a ResNet and an EfficientNet, not {config.model_type!r}")
    build, name = kinds[config.model_type]
    model = build(config)
    load_strict(model, _renamed(state, name(config)), f"this {config.model_type}")
    return model.eval()


def _renamed(state: State, names: dict[str, str]) -> State:
    """``names`` maps their modules to ours."""
    ours: State = {}
    for key, value in state.items():
        module, kind = key.rsplit(".", 1)
        if module not in names:
            raise KeyError(
                f"{key} has no place in our model; it was made with an option that the course does not have"
            )
        if ".excite." in names[module] and kind == "weight":
            value = value[:, :, 0, 0]  # 1×1 filters there, a matrix here
        ours[f"{names[module]}.{kind}"] = value
    return ours


def _layer(
    theirs: str, ours: str, convolution: str = "convolution", norm: str = "normalization"
) -> dict[str, str]:
    return {f"{theirs}{convolution}": ours, f"{theirs}{norm}": f"{ours}.norm"}


# ---- ResNet --------------------------------------------------------------------------------------------------


def _resnet(config: transformers.ResNetConfig) -> ResNet:
    if config.hidden_act != "relu" or config.downsample_in_first_stage or config.downsample_in_bottleneck:
        raise ValueError("our ResNet has ReLU, no stride in the first stage and none in a bottleneck's 1×1 filters; "
                         f"this one has {config.hidden_act}, {config.downsample_in_first_stage} and "
                         f"{config.downsample_in_bottleneck}")  # fmt: skip
    return ResNet(
        ResNetConfig(tuple(config.hidden_sizes), tuple(config.depths), config.embedding_size,
                     channels=config.num_channels, bottleneck=config.layer_type == "bottleneck")
    )  # fmt: skip


def _resnet_names(config: transformers.ResNetConfig) -> dict[str, str]:
    names = _layer("embedder.embedder.", "stem")
    places = [(stage, number) for stage, depth in enumerate(config.depths) for number in range(depth)]
    for block, (stage, number) in enumerate(places):
        theirs = f"encoder.stages.{stage}.layers.{number}"
        names |= _layer(f"{theirs}.shortcut.", f"blocks.{block}.shortcut")
        for layer in range(3):
            names |= _layer(f"{theirs}.layer.{layer}.", f"blocks.{block}.body.{layer}")
    return names


# ---- EfficientNet --------------------------------------------------------------------------------------------


def _repeats(config: transformers.EfficientNetConfig) -> list[int]:
    return [math.ceil(config.depth_coefficient * repeats) for repeats in config.num_block_repeats]


def _efficientnet(config: transformers.EfficientNetConfig) -> EfficientNet:
    if config.hidden_act not in ("swish", "silu") or config.pooling_type != "mean":
        raise ValueError("our EfficientNet has SiLU and pools by the mean; "
                         f"this one has {config.hidden_act} and pools by the {config.pooling_type}")  # fmt: skip
    widths = [round_filters(config, width) for width in config.out_channels]
    columns = (config.expand_ratios, config.kernel_sizes, config.strides, widths, _repeats(config))
    return EfficientNet(
        EfficientNetConfig(
            tuple(Stage(*row) for row in zip(*columns, strict=True)), round_filters(config, 32),
            round_filters(config, 1280), config.num_channels, config.squeeze_expansion_ratio, config.drop_connect_rate,
            tuple(config.depthwise_padding), config.batch_norm_eps, config.batch_norm_momentum,
        )
    )  # fmt: skip


def _efficientnet_names(config: transformers.EfficientNetConfig) -> dict[str, str]:
    names = _layer("embeddings.", "stem", norm="batchnorm") | _layer("encoder.", "top", "top_conv", "top_bn")
    for block in range(sum(_repeats(config))):
        theirs, ours = f"encoder.blocks.{block}", f"blocks.{block}"
        names |= _layer(f"{theirs}.expansion.", f"{ours}.expand", "expand_conv", "expand_bn")
        names |= _layer(f"{theirs}.depthwise_conv.", f"{ours}.depthwise", "depthwise_conv", "depthwise_norm")
        names |= {f"{theirs}.squeeze_excite.{part}": f"{ours}.excite.{part}" for part in ("reduce", "expand")}
        names |= _layer(f"{theirs}.projection.", f"{ours}.project", "project_conv", "project_bn")
    return names
