"""Reach: how far one output of a vision model can see, and how far it does see (notebook 03)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlmcourse.slots import slot


@slot
def receptive_field(kernels: Int[Tensor, "layer"], strides: Int[Tensor, "layer"]) -> Int[Tensor, "layer"]:
    """Side, in pixels of the image, of the square that one output of each layer can see.

    Each layer adds (its kernel − 1) steps, and a step is as many pixels as all strides before it multiplied.

    Source: Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill,
        doi:10.23915/distill.00021, equation 2.
    """
    step = strides.cumprod(0).roll(1)  # pixels between neighbours in the map that a layer reads
    step[:1] = 1
    return 1 + ((kernels - 1) * step).cumsum(0)


@slot
def attention_distance(
    weights: Float[Tensor, "layer head query key"] | Float[Tensor, "batch layer head query key"],
    grid: tuple[int, int],
    patch_size: int,
) -> Float[Tensor, "layer head"] | Float[Tensor, "batch layer head"]:
    """Mean distance in pixels between a query patch and the keys it looks at, weighted by its attention.

    The class token, token 0, stands nowhere: it is left out as query and as key, and what is left of each row
    is scaled to sum to 1 again. Distances are those between patch centres; all query patches count alike.

    Args:
        weights: query = key = 1 + rows · columns; a batch may stand in front.
        grid: (rows, columns) of patches.
        patch_size: side of a patch in pixels.

    Raises:
        ValueError: if the number of tokens does not belong to the grid.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, section 4.5 and figure 7 (right).
    """
    rows, columns = grid
    if weights.shape[-1] != 1 + rows * columns:
        raise ValueError(
            f"a {rows}×{columns} grid and a class token make {1 + rows * columns} tokens, "
            f"but the weights have {weights.shape[-1]}"
        )
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    place = torch.stack([row, column], -1).reshape(-1, 2).to(weights)
    distance = patch_size * (place[:, None] - place).norm(dim=-1)
    patches = weights[..., 1:, 1:]
    return (patches / patches.sum(-1, keepdim=True) * distance).sum(-1).mean(-1)


def effective_field(
    model: nn.Module, images: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, "height width"]:
    """How much each pixel moves the middle place of the last map: mean size of the gradient, largest value 1.

    Args:
        model: images to a map (batch, channel, row, column), in evaluation mode.
        images: many, since a ReLU that is off in one image hides its pixels.

    Source: Luo et al. 2017, arXiv:1701.04128, section 3.
    """
    images = images.detach().clone().requires_grad_()
    features = model(images)
    middle = features[:, :, features.shape[2] // 2, features.shape[3] // 2]
    (gradient,) = torch.autograd.grad(middle.sum(), images)
    strength = gradient.abs().mean((0, 1))
    return strength / strength.max()
