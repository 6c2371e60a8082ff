"""Retrieval: find the image to a text and the text to an image (notebook 04)."""

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmcourse.slots import slot


@slot
def recall_at_k(
    similarity: Float[Tensor, "query candidate"], right: Bool[Tensor, "query candidate"], k: int
) -> float:
    """The share of queries that find at least one right candidate among their k most similar ones.

    Args:
        right: which candidates are right for a query; several may be, as when two images share a caption.

    Returns:
        0…1. One hit counts as much as several, so this is a hit rate more than a recall; the name has stuck.

    Raises:
        ValueError: if there are fewer than k candidates, or a similarity is NaN.

    Source: as in Karpathy and Fei-Fei 2014, arXiv:1412.2306, section 4.
    """
    if k > similarity.shape[1]:
        raise ValueError(f"there are only {similarity.shape[1]} candidates, so no best {k}; use a smaller k")
    if similarity.isnan().sum():
        raise ValueError("a similarity is NaN, so no candidate is the most similar; look at the features")
    best = similarity.topk(k, dim=1).indices
    return right.gather(1, best).any(dim=1).float().mean().item()


@slot
def median_rank(
    similarity: Float[Tensor, "query candidate"], right: Bool[Tensor, "query candidate"]
) -> float:
    """The rank at which the middle query finds its first right candidate; 1 is best.

    A right candidate stands behind every wrong one that is more similar *or as similar*: a model that finds
    everything equal has the worst rank, not the best. Of an even number of queries the mean of the two in the
    middle.

    Args:
        right: which candidates are right for a query; the most similar of them counts.

    Raises:
        ValueError: if a query has no right candidate, or a similarity is NaN.

    Source: "Med r" of Karpathy and Fei-Fei 2014, arXiv:1412.2306, section 4.
    """
    if not right.any(dim=1).all():
        query = right.any(dim=1).int().argmin().item()
        raise ValueError(f"query {query} has no right candidate, so no rank; leave it out")
    if similarity.isnan().any():
        raise ValueError("a similarity is NaN, so no candidate is the most similar; look at the features")
    best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
    ranks = 1 + (~right & (similarity >= best)).sum(dim=1)
    return ranks.double().quantile(0.5).item()


def right_pairs(
    queries: Sequence[Hashable], candidates: Sequence[Hashable]
) -> Bool[Tensor, "query candidate"]:
    """True where query and candidate are equal: captions, names or numbers, one per image and text."""
    number = {key: place for place, key in enumerate(dict.fromkeys([*queries, *candidates]))}
    rows = torch.tensor([number[key] for key in queries])
    columns = torch.tensor([number[key] for key in candidates])
    return rows[:, None] == columns[None]


def retrieval(
    image: Float[Tensor, "image width"],
    text: Float[Tensor, "text width"],
    right: Bool[Tensor, "image text"],
    ks: Sequence[int] = (1, 5),
) -> dict[str, float]:
    """Recall in both directions, such as {"image→text R@1": 0.61, "text→image R@1": 0.63, ...}.

    Args:
        image, text: normalised features.

    Raises:
        ValueError: if a feature is NaN or infinite, whoever wrote recall_at_k.
    """
    for name, features in (("image", image), ("text", text)):
        if not features.isfinite().all():
            raise ValueError(f"{name} features hold NaN or infinity, so nothing can be found with them")
    similarity = image @ text.T
    right = right.to(similarity.device)
    directions = {"image→text": (similarity, right), "text→image": (similarity.T, right.T)}
    return {f"{name} R@{k}": recall_at_k(*pair, k) for name, pair in directions.items() for k in ks}
