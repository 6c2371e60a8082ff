"""Convolutional networks, part two: EfficientNet spends its multiplications where they help (notebook 03)."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.models.attention import Layer
from vlmcourse.models.cnn import ConvNorm, Maps, NewMaps
from vlmcourse.slots import slot


@slot
def squeeze_excite(
    features: Float[Tensor, "batch channel height width"], reduce: Layer, expand: Layer
) -> Float[Tensor, "batch channel height width"]:
    """Multiply every channel by a number between 0 and 1 that depends on the whole map.

    Squeeze: the mean of each channel. Excite: sigmoid(expand(SiLU(reduce(means)))).

    Args:
        reduce, expand: linear maps from (batch, channel) to (batch, fewer) and back.

    Source: Hu et al. 2017, arXiv:1709.01507, section 3; SiLU for the paper's ReLU as in EfficientNet.
    """
    means = features.mean((2, 3))
    gate = expand(nn.functional.silu(reduce(means))).sigmoid()
    return features * gate[:, :, None, None]


@slot
def mbconv(
    features: Float[Tensor, "batch channel height width"],
    expand: Layer,
    depthwise: Layer,
    excite: Layer,
    project: Layer,
    skip: bool,
) -> Float[Tensor, "batch newchannel newheight newwidth"]:
    """Widen, filter each channel alone, weigh the channels, narrow again; add the input if ``skip``.

    No activation after the projection or the sum: the narrow map stays linear.

    Source: Sandler et al. 2018, arXiv:1801.04381, section 3; with excite Tan et al. 2018, arXiv:1807.11626.
    """
    changed = project(excite(depthwise(expand(features))))
    return features + changed if skip else changed


class SqueezeExcite(nn.Module):
    """See squeeze_excite. ``channels`` are weighed by way of ``fewer`` numbers."""

    def __init__(self, channels: int, fewer: int):
        super().__init__()
        self.reduce, self.expand = nn.Linear(channels, fewer), nn.Linear(fewer, channels)

    def forward(self, features: Maps) -> Maps:
        return squeeze_excite(features, self.reduce, self.expand)


class StageConfig(NamedTuple):
    """A run of equal blocks; only the first one strides and changes the width."""

    expand: int  # the middle of a block is this many times as wide as its input
    kernel: int
    stride: int
    width: int
    depth: int


@dataclass(frozen=True)
class EfficientNetConfig:
    """What an EfficientNet looks like; the default is B0 (Tan and Le 2019, arXiv:1905.11946, table 1)."""

    stages: tuple[StageConfig, ...] = (
        StageConfig(1, 3, 1, 16, 1), StageConfig(6, 3, 2, 24, 2), StageConfig(6, 5, 2, 40, 2),
        StageConfig(6, 3, 2, 80, 3), StageConfig(6, 5, 1, 112, 3), StageConfig(6, 5, 2, 192, 4),
        StageConfig(6, 3, 1, 320, 1),
    )  # fmt: skip
    stem: int = 32
    top: int = 1280  # channels of the last map
    channels: int = 3
    squeeze: float = 0.25  # squeeze and excite works with this share of the block's input channels
    drop: float = 0.2  # dropout before the last block's sum; grows evenly from 0
    even_padding: tuple[int, ...] = ()  # strided blocks that read maps of odd size, so pad all sides alike
    epsilon: float = 1e-3
    momentum: float = 0.1


class MBConv(nn.Module):
    """See mbconv.

    Args:
        channels: (in, out).
        stride, late: of the depthwise convolution, see ConvNorm.
        drop: share of the branch's numbers set to 0 in training.
        skip: whether the input is added.
    """

    def __init__(self, channels: tuple[int, int], stage: StageConfig, stride: int, drop: float, late: bool,
                 config: EfficientNetConfig, skip: bool):  # fmt: skip
        super().__init__()
        before, after = channels
        middle, norm = before * stage.expand, dict(epsilon=config.epsilon, momentum=config.momentum)
        self.expand = nn.Identity()
        if stage.expand != 1:
            self.expand = ConvNorm((before, middle), 1, activation="silu", epsilon=config.epsilon)
        self.depthwise = ConvNorm((middle, middle), stage.kernel, stride, middle, "silu", late=late, **norm)
        self.excite = SqueezeExcite(middle, max(1, int(before * config.squeeze)))
        self.project = ConvNorm((middle, after), 1, activation="none", **norm)
        self.skip, self.drop = skip, nn.Dropout(drop if skip else 0.0)

    def forward(self, features: Maps) -> NewMaps:
        def project(wide: Tensor) -> Tensor:
            return self.drop(self.project(wide))

        return mbconv(features, self.expand, self.depthwise, self.excite, project, self.skip)


class EfficientNet(nn.Module):
    """EfficientNet without its classifier.

    Source: Tan and Le 2019, arXiv:1905.11946, table 1. Equal to transformers' class, see tests/parity.
    """

    def __init__(self, config: EfficientNetConfig):
        super().__init__()
        self.config = config
        norm = dict(activation="silu", epsilon=config.epsilon, momentum=config.momentum)
        self.stem = ConvNorm((config.channels, config.stem), 3, 2, late=True, **norm)
        blocks, width, total = [], config.stem, sum(stage.depth for stage in config.stages)
        for stage in config.stages:
            for number in range(stage.depth):
                first, place = number == 0, len(blocks)
                stride = stage.stride if first else 1
                late = stride == 2 and place not in config.even_padding
                channels, drop = (width, stage.width), config.drop * place / total
                blocks.append(MBConv(channels, stage, stride, drop, late, config, skip=not first))
                width = stage.width
        self.blocks = nn.Sequential(*blocks)
        self.top = ConvNorm((width, config.top), 1, **norm)

    def forward(self, images: Maps) -> NewMaps:
        """One vector per place of the last map."""
        return self.top(self.blocks(self.stem(images)))
