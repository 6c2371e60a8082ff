"""The gap between images and texts: how far apart two clouds of features lie (notebooks 01 and 04)."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.models.clip import normalise
from vlmcourse.slots import slot


@slot
def feature_statistics(
    features: Float[Tensor, "feature width"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "width"], Float[Tensor, "width"], Float[Tensor, ""]]:
    """Where a cloud of features lies and what shape it has.

    Returns:
        norm: mean length of the features.
        mean: of each of the width numbers, over the features.
        std: likewise the standard deviation (dividing by the number of features minus one).
        cone: mean cosine between two different features, −1 to 1; near 1 all point the same way. The sum of
            all cosines is the squared length of the sum of unit vectors; no feature × feature matrix is made.

    Source: cosine cones of embeddings, Ethayarajh 2019, arXiv:1909.00512; of images and texts, Liang et al.
        2022, arXiv:2203.02053.
    """
    count, unit = len(features), F.normalize(features, dim=-1)
    cone = (unit.sum(dim=0).square().sum() - count) / (count * (count - 1))
    return features.norm(dim=-1).mean(), features.mean(dim=0), features.std(dim=0), cone


COLUMNS = dict(length=".2f", length_of_mean=".2f", spread=".3f", cone="+.2f")
"""The columns of `report`, and how `tabulate` writes them."""


def report(clouds: Mapping[str, Float[Tensor, "feature width"]]) -> dict[str, tuple[float, ...]]:
    """For each named cloud of features: length, length of the mean, spread, cone; see COLUMNS."""
    rows = {}
    for name, features in clouds.items():
        norm, mean, std, cone = feature_statistics(features)
        rows[name] = norm.item(), mean.norm().item(), std.mean().item(), cone.item()
    return rows


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
