"""Linear probes: what can be read from vectors with a ruler (notebook 08)."""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def linear_share(
    vectors: Float[Tensor, "sample width"], known: Float[Tensor, "sample quantity"]
) -> Float[Tensor, "quantity"]:
    """Share of the vectors' variance that goes with each quantity along a straight line, from 0 to 1.

    The best linear map from the quantities to the vectors is fitted (least squares, with an intercept). A
    quantity's share is the variance of what it adds to them, over that of the vectors. Where quantities are
    independent, such as x and y of places at random, the shares add up to the fit's R².

    Raises:
        ValueError: if there are fewer samples than quantities and one more, or a quantity never changes.

    Source: reading a representation with a linear model, Alain & Bengio 2016, arXiv:1610.01644; here the
        other way round, since the question is how loud a quantity is, not whether it can be heard at all.
    """
    if len(vectors) < known.shape[1] + 2:
        raise ValueError(f"{len(vectors)} samples are too few to fit {known.shape[1]} quantities")
    spread = known.float().var(0)
    if (spread == 0).any():
        raise ValueError(f"quantity {int((spread == 0).nonzero()[0])} is the same in all samples")
    centred = known.float() - known.float().mean(0)
    vectors = vectors.float() - vectors.float().mean(0)
    along = torch.linalg.lstsq(centred, vectors).solution
    return along.square().sum(1) * spread / vectors.var(0).sum()
