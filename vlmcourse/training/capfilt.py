"""CapFilt: captions from the web, and what a captioner wrote, pass a filter (notebook 10).

keep_captions   those that ITM believes
judge_captions  how ITM scores captions of images, in batches
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmcourse.models.blip import Blip
from vlmcourse.models.language import Ids, Marks
from vlmcourse.slots import slot


@slot
def keep_captions(
    scores: Float[Tensor, "image source two"], least: float
) -> tuple[Int[Tensor, "kept"], Int[Tensor, "kept"]]:
    """Which captions stay: those whose probability to belong to their image is greater than ``least``.

    Args:
        scores: ITM's (logits) of "does not belong" and "does", for each caption of each image; of several
            sources, such as web and captioner, in their order.

    Returns:
        (images, sources): the numbers of image and source of each caption that stays, image by image.

    Source: Li et al. 2022 (BLIP), arXiv:2201.12086, section 3.3.
    """
    belongs = scores.softmax(dim=2)[:, :, 1]
    images, sources = torch.nonzero(belongs > least, as_tuple=True)
    return images, sources


@torch.no_grad()
def judge_captions(
    model: Blip,
    features: Float[Tensor, "image read width"],
    sources: Iterable[tuple[Ids, Marks]],
    size: int = 250,
) -> Float[Tensor, "image source two"]:
    """ITM's scores of one caption per image from each source.

    Args:
        sources: ids and mask, one row per image.
        size: pairs that are judged at once.
    """
    judged = []
    for ids, mask in sources:
        parts = zip(features.split(size), ids.split(size), mask.split(size), strict=True)
        judged.append(torch.cat([model.match_scores(seen.float(), *text) for seen, *text in parts]))
    return torch.stack(judged, dim=1)
