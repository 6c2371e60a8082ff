"""Convolutional networks, part one: convolution, and the residual network built from it (notebook 03).

    ConvNorm   conv2d, batch norm, activation: the brick of every CNN here
    ResNet     stem, then stages of residual blocks; each later stage halves the map and has more channels

EfficientNet, which makes the same idea cheaper, is in efficientnet.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Layer
from vlmcourse.slots import slot

LAYERS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "none": nn.Identity}

Maps = Float[Tensor, "batch channel height width"]
NewMaps = Float[Tensor, "batch filter h w"]


@slot
def conv2d(
    images: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "filter part row column"],
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Float[Tensor, "batch filter newheight newwidth"]:
    """Slide every filter over the images and write down how well it matches at each place.

    As in every deep-learning library the filter is not flipped: strictly this is cross-correlation.

    Args:
        weight: part = channel / groups.
        stride: pixels from one window to the next.
        padding: zeros added on each of the four sides.
        groups: channels and filters are cut into this many equal runs, and a run of filters sees only its own
            run of channels. groups = channel gives every channel its own filters: a depthwise convolution.

    Returns:
        newheight = (height + 2 · padding − row) // stride + 1, and newwidth likewise.

    Raises:
        ValueError: if groups or part do not fit the channels and filters.

    Source: as a matrix product, Chellapilla et al. 2006, "High Performance Convolutional Neural Networks for
        Document Processing", section 2.
    """
    (batch, channel, height, _), (filters, part, row, column) = images.shape, weight.shape
    if channel != groups * part or filters % groups:
        raise ValueError(f"{channel} channels and {filters} filters do not go into {groups} groups "
                         f"of {part} channels")  # fmt: skip
    # (batch, channel·row·column, place)
    windows = F.unfold(images, (row, column), padding=padding, stride=stride)
    windows = windows.reshape(batch, groups, part * row * column, -1)
    matches = weight.reshape(groups, filters // groups, -1) @ windows
    return matches.reshape(batch, filters, (height + 2 * padding - row) // stride + 1, -1)


@slot
def residual_block(
    images: Float[Tensor, "batch channel height width"], body: Layer, shortcut: Layer
) -> Float[Tensor, "batch newchannel newheight newwidth"]:
    """Add what ``body`` makes of the images to what ``shortcut`` lets through, then a ReLU.

    The shortcut is the identity, or a 1×1 convolution where body changes the number of channels or the size.

    Source: He et al. 2015, arXiv:1512.03385, section 3.2 and figure 2.
    """
    return (body(images) + shortcut(images)).relu()


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation.

    Args:
        channels: (in, out).
        kernel: side of the filters in pixels, odd; half of it is padded, so stride 1 keeps the size.
        stride, groups: see conv2d.
        epsilon, momentum: of the batch norm; momentum is the newest batch's share in running statistics.
        late: pad one row and column less at the top and left, as TensorFlow does for even sizes at stride 2.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: str = "relu",
        epsilon: float = 1e-5,
        momentum: float = 0.1,
        late: bool = False,
    ):
        super().__init__()
        if activation not in LAYERS:
            raise ValueError(f"no activation {activation!r}; choose one of {', '.join(LAYERS)}")
        self.kernel, self.stride, self.groups, self.late = kernel, stride, groups, late
        self.weight = nn.Parameter(torch.empty(channels[1], channels[0] // groups, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.BatchNorm2d(channels[1], eps=epsilon, momentum=momentum)
        self.activate = LAYERS[activation]()

    def forward(self, images: Maps) -> NewMaps:
        padding = self.kernel // 2
        if self.late:
            images, padding = F.pad(images, 2 * (padding - 1, padding)), 0
        return self.activate(self.norm(conv2d(images, self.weight, self.stride, padding, self.groups)))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, or a bottleneck (1×1 down to a quarter, 3×3, 1×1 up again), and a shortcut.

    Source: He et al. 2015, arXiv:1512.03385, figure 5. The stride sits in the 3×3 convolution, as in
        torchvision and transformers; the paper put it in the first 1×1.
    """

    def __init__(self, channels: tuple[int, int], stride: int = 1, bottleneck: bool = False):
        super().__init__()
        before, after = channels
        if bottleneck:
            thin = after // 4
            layers = [ConvNorm((before, thin), 1), ConvNorm((thin, thin), 3, stride)]
            layers.append(ConvNorm((thin, after), 1, activation="none"))
        else:
            layers = [ConvNorm((before, after), 3, stride), ConvNorm((after, after), 3, activation="none")]
        self.body = nn.Sequential(*layers)
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(channels, 1, stride, activation="none")

    def forward(self, images: Maps) -> NewMaps:
        return residual_block(images, self.body, self.shortcut)


@dataclass(frozen=True)
class ResNetConfig:
    """What a ResNet looks like. ResNet-50 of the paper is ``ResNetConfig(bottleneck=True, stem=64,
    widths=(256, 512, 1024, 2048), depths=(3, 4, 6, 3))``.

    Raises:
        ValueError: if widths and depths differ in length, or a bottleneck's width is not a multiple of four.
    """

    widths: tuple[int, ...]  # channels of each stage
    depths: tuple[int, ...]  # residual blocks of each stage; each stage but the first begins with stride 2
    stem: int = 64  # channels after the first convolution, which has stride 2
    stem_kernel: int = 7
    channels: int = 3
    bottleneck: bool = False

    def __post_init__(self):
        if len(self.widths) != len(self.depths):
            raise ValueError(
                f"{len(self.widths)} widths, but {len(self.depths)} depths; each stage needs both"
            )
        if self.bottleneck and any(width % 4 for width in self.widths):
            raise ValueError(
                f"a bottleneck needs a quarter of its width: {self.widths} must be multiples of 4"
            )


class ResNet(nn.Module):
    """Residual network without its classifier.

    Source: He et al. 2015, arXiv:1512.03385, table 1. Equal to transformers' ResNetModel, see tests/parity.
    """

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        self.stem = ConvNorm((config.channels, config.stem), config.stem_kernel, stride=2)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        blocks, width = [], config.stem
        for stage, (after, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(ResidualBlock((width, after), stride, config.bottleneck))
                width = after
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Maps) -> NewMaps:
        """One vector per place of the last map."""
        return self.blocks(self.pool(self.stem(images)))

    def pooled(self, images: Maps) -> Float[Tensor, "batch filter"]:
        """One vector per image: the mean over all places."""
        return self(images).mean((2, 3))

    def windows(self) -> list[tuple[int, int]]:
        """(kernel, stride) of every layer through the bodies, in order: what the receptive field needs."""
        stem, pool = (self.stem.kernel, self.stem.stride), (self.pool.kernel_size, self.pool.stride)
        return [stem, pool, *((layer.kernel, layer.stride) for block in self.blocks for layer in block.body)]
