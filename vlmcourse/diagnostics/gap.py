"""The gap between images and texts: how far apart two clouds of features lie (notebooks 01 and 04).

    modality_gap   from the middle of the texts to the middle of the images in CLIP's shared space
"""

from jaxtyping import Float
from torch import Tensor

from vlmcourse.models.clip import normalise
from vlmcourse.slots import slot


@slot
def modality_gap(
    image: Float[Tensor, "image width"], text: Float[Tensor, "text width"]
) -> tuple[Float[Tensor, "width"], Float[Tensor, ""]]:
    """The vector from the mean text to the mean image, both taken after normalising, and its length.

    Returns:
        (gap, length); the length is 0 when both clouds share their middle, and at most 2.

    Source: Liang et al. 2022, arXiv:2203.02053.
    """
    gap = normalise(image).mean(dim=0) - normalise(text).mean(dim=0)
    return gap, gap.norm()
