"""DINOv2 as an eye that says one thing about an image, whatever stands where (notebook 17).

SummaryEye      a ViT whose patches are summed up: their mean, their deviation, and the class token
load_summary    the one from DINOv2, as interop/hub.py finds it
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.data.pixels import IMAGENET
from vlmcourse.interop import hub
from vlmcourse.models.vit import Pixels, ViT

EYE_SIDE = 224  # pixels: DINOv2 then has 16 × 16 patches


class SummaryEye(nn.Module):
    """A frozen ViT in the place of a LLaVA's eye: to the projector, an image is one wide patch.

    A mean over all patches is nearly the same wherever a thing stands; their deviation tells of small parts,
    which a mean drowns. What stood where is lost.

    It takes the course's pixels, −1 to 1, and gives its ViT those that `standardise` would make.
    """

    def __init__(self, vit: ViT):
        super().__init__()
        self.vit = vit
        self.config = replace(vit.config, patch_size=vit.config.image_size, width=3 * vit.config.width)
        for name, values in zip(("mean", "deviation"), IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def streams(self, images: Pixels, blocks: int | None = None) -> Float[Tensor, "layer image summary"]:
        """The summary of every residual stream, of the embedding first, up to that behind ``blocks``.

        summary = mean, deviation and class token, each of the ViT's width.
        """
        stream = self.vit.embed(((images + 1) / 2 - self.mean) / self.deviation)
        found = [summarise(stream)]
        for block in self.vit.blocks[:blocks]:
            stream = block(stream)
            found.append(summarise(stream))
        return torch.stack(found)

    def patches(self, images: Pixels, layer: int = -1) -> Float[Tensor, "image 1 summary"]:
        """The summary of one residual stream, see ViT.patches; blocks behind it do not run."""
        blocks = range(1 + len(self.vit.blocks))[layer]
        return self.streams(images, blocks)[-1][:, None]


def summarise(tokens: Float[Tensor, "image token width"]) -> Float[Tensor, "image summary"]:
    """Mean of the patches, their deviation, and the class token, side by side."""
    tokens = tokens.float()
    deviation, mean = torch.std_mean(tokens[:, 1:], dim=1)
    return torch.cat([mean, deviation, tokens[:, 0]], dim=1)


def load_summary(image_size: int = EYE_SIDE) -> SummaryEye:
    """DINOv2 as such an eye, frozen, in evaluation mode.

    Raises:
        MissingModel: if it is nowhere; says what to run.
        CheckpointError: if the weights found are another model's.
    """
    return SummaryEye(hub.load_dinov2(image_size)).eval().requires_grad_(False)


def find_summary(image_size: int = EYE_SIDE) -> SummaryEye | None:
    """As load_summary, but where DINOv2 is missing, it is said what to run, and None comes back."""
    try:
        hub.resolve(hub.DINOV2, fetch=False)
    except hub.MissingModel as error:
        print(error)
        return None
    return load_summary(image_size)
