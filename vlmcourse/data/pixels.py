"""Pixels: from the bytes of a picture to the numbers a network reads, and back (notebook 00)."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vlmcourse.models.native import PatchRow
from vlmcourse.slots import slot

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of red, green, blue in 0…1
LUMINANCE = np.float32([0.299, 0.587, 0.114])  # of red, green and blue; ITU-R BT.601


@slot
def normalise(
    images: UInt8[Tensor, "batch height width channel"],
) -> Float[Tensor, "batch channel height width"]:
    """Bytes 0…255 with the channel last become float32 numbers −1…1 with the channel first.

    Zero then means mid-grey, and the channel axis stands where torch's image layers expect it.
    """
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def standardise(
    images: UInt8[Tensor, "batch height width channel"],
) -> Float[Tensor, "batch channel height width"]:
    """Bytes 0…255 with the channel last as encoders learned from photographs read them, channel first.

    Each colour less its mean over ImageNet's photographs, divided by its deviation there: what DINOv2 and
    most encoders from before CLIP expect. CLIP has numbers of its own.
    """
    mean, deviation = images.new_tensor(IMAGENET, dtype=torch.float32)
    return ((images / 255 - mean) / deviation).permute(0, 3, 1, 2)


def to_bytes(
    images: Float[Tensor, "batch channel height width"],
) -> UInt8[Tensor, "batch height width channel"]:
    """Undo normalise, for showing; values outside −1…1 are cut off."""
    return ((images.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def patches_from_bytes(patches: PatchRow) -> PatchRow:
    """Patches of bytes 0…255 as numbers −1…1: what normalise makes of whole pictures."""
    return PatchRow(patches.vectors.float() / 127.5 - 1, patches.grids)


def patches_to_bytes(patches: PatchRow) -> PatchRow:
    """Undo patches_from_bytes: a quarter of the memory, for what is kept."""
    return PatchRow(((patches.vectors + 1) * 127.5).round().to(torch.uint8), patches.grids)


def in_grey(images: UInt8[np.ndarray, "*any 3"]) -> UInt8[np.ndarray, "*any 3"]:
    """The images with red, green and blue replaced by their luminance."""
    return np.repeat((images @ LUMINANCE).round().astype(np.uint8)[..., None], 3, axis=-1)
