"""Linear probes: what can be read from vectors with a ruler (notebooks 08 and 17)."""

import torch
from jaxtyping import Bool, Float, Int
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


@torch.no_grad()
def read_left_out(
    vectors: Float[Tensor, "sample width"], labels: Int[Tensor, "sample"], ridge: float = 0.01
) -> Bool[Tensor, "sample"]:
    """Whether a linear map that was fitted to all other samples names each sample's label.

    Ridge regression to one number for each label, on vectors whose every number has deviation 1. Nothing is
    fitted anew: what a sample's own line of the fit adds to its prediction is taken out again.

    Args:
        labels: from 0.
        ridge: penalty on large weights; a kernel's diagonal is about 1.

    Source: the leave-one-out residual of a linear smoother, Hastie et al. 2009, "The Elements of Statistical
        Learning", equation 7.64.
    """
    scaled = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6) / vectors.shape[1] ** 0.5
    alike = scaled @ scaled.T
    hat = alike @ torch.linalg.inv(alike + ridge * torch.eye(len(alike))) + 1 / len(alike)
    wanted = torch.nn.functional.one_hot(labels).float()
    missed = (wanted - hat @ wanted) / (1 - hat.diagonal())[:, None]
    return (wanted - missed).argmax(1) == labels
