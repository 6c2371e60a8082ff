"""Region pretraining: a vision encoder (eye) that knows what every patch shows (notebooks 07 and 08).

This is the first stage of nano-vlm, whose card says what it brought. A contrastive CLIP learns what is in an
image, hardly where: one vector per image has to match one caption. Here every patch is matched with words, as
in RegionCLIP, and with the middle of the box it lies in, as in FCOS. With scenes both are known.

Source: Zhong et al. 2021 (RegionCLIP), arXiv:2112.09106, section 3.2; Tian et al. 2019 (FCOS),
    arXiv:1904.01355, section 3.1; fixed 2-D positions: Beyer et al. 2022, arXiv:2205.01580.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.data.batches import Batches
from vlmcourse.data.pixels import in_grey, normalise
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.precision import precision_of
from vlmcourse.training.sharing import mean_over_all
from vlmcourse.world import scenes
from vlmcourse.world.render import render

EYE = ViTConfig(64, 8, width=96, depth=4, heads=4, patch_bias=False, norm_before_blocks=True)
SPLIT = (len(scenes.SHAPES), len(scenes.COLOURS), len(scenes.SIZES), 1, 2)  # scores of a patch
NOTHING = -100


def sine_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "patch width"]:
    """Sines and cosines of row and column at width / 4 wavelengths of 4 to 64 patches; all in [-1, 1].

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, once for rows and once for columns.
    """
    rows, columns = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
    speeds = math.pi / 2 ** torch.linspace(1, 5, width // 4)
    angles = torch.cat([place.flatten()[:, None] * speeds for place in (columns, rows)], dim=1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def new_eye(config: ViTConfig = EYE) -> ViT:
    """An untrained ViT whose positions start as sine_positions, as large as what its patches say."""
    eye = ViT(config)
    with torch.no_grad():
        eye.positions.zero_()
        eye.positions[1:] = sine_positions(config.grid, config.width)
    return eye


class Regions(NamedTuple):
    """What the patches of scenes show."""

    words: Int[Tensor, "scene patch 3"]  # shape, colour and size; -100 where nothing is
    there: Float[Tensor, "scene patch"]  # 1 where an object covers the middle of the patch
    middle: Float[Tensor, "scene patch 2"]  # of the object's box, x and y from the image's middle, in patches


def region_targets(batch: scenes.Scenes, config: ViTConfig = EYE) -> Regions:
    """See Regions; the grid must be square."""
    cover = batch.cover(config.grid[0]).reshape(len(batch), -1)
    there = torch.from_numpy(cover >= 0)
    truth = np.stack([batch.shape, batch.colour, batch.size, batch.x, batch.y], axis=-1)  # (scene, object, 5)
    shown = torch.from_numpy(np.take_along_axis(truth, np.maximum(cover, 0)[..., None], axis=1))
    words = shown[..., :3].long().masked_fill(~there[..., None], NOTHING)
    middle = shown[..., 3:].float() - scenes.SIDE / 2
    return Regions(words, there.float(), middle / config.patch_size)


class RegionReader(nn.Module):
    """The eye and one linear layer that reads every patch of its last residual stream."""

    def __init__(self, eye: ViT):
        super().__init__()
        self.eye = eye
        self.head = nn.Linear(eye.config.width, sum(SPLIT))

    def forward(self, images: Float[Tensor, "image channel height side"]) -> tuple[Tensor, ...]:
        """Scores for shape, colour, size, whether anything is there, and the middle; (image, patch, ...)."""
        patches = self.eye.patches(images)
        return self.head(F.layer_norm(patches, patches.shape[-1:])).float().split(SPLIT, dim=-1)


def region_loss(model: RegionReader, images: Tensor, regions: Regions) -> Tensor:
    """Cross-entropy of the words, of the objectness, and three times the Huber loss of the middle."""
    *words, there, middle = model(images)
    loss = F.binary_cross_entropy_with_logits(there[..., 0], regions.there)
    for scores, right in zip(words, regions.words.unbind(-1), strict=True):
        scores, right = scores.flatten(0, 1), right.flatten()
        surprise = F.cross_entropy(scores, right, ignore_index=NOTHING, reduction="sum")
        asked = (right != NOTHING).sum()
        # a batch in grey is asked for no colour
        loss = loss + mean_over_all(surprise / asked.clamp(min=1), asked)
    shown = regions.there > 0
    missed = F.smooth_l1_loss(middle[shown], regions.middle[shown], beta=0.1)
    return loss + 3 * mean_over_all(missed, shown.sum())


def train_eye(
    reader: RegionReader, batch: scenes.Scenes, *, size: int, grey: float, seed: int = 0, **train_options: Any
) -> History:
    """Train an eye, and the layer that reads it, on scenes.

    Args:
        size: images per step.
        grey: share of images seen in grey, of which no colour is asked, so that shapes are learned apart from
            the colours they happened to have.
        train_options: further arguments of training.loop.train, such as steps.
    """
    images, regions = render(batch), region_targets(batch, reader.eye.config)
    pale = np.random.default_rng(seed).random(len(batch)) < grey
    images[pale] = in_grey(images[pale])
    regions.words[torch.from_numpy(pale), :, 1] = NOTHING
    data = torch.from_numpy(images), tuple(regions)

    def loss(model: nn.Module, batch: tuple[Tensor, tuple]) -> Tensor:
        return region_loss(model, normalise(batch[0]), Regions(*batch[1]))

    config = reader.eye.config
    precision = precision_of(size * (1 + math.prod(config.grid)), config.width)
    return learn(reader, Batches(data, size, seed=seed), loss, **(dict(precision=precision) | train_options))
