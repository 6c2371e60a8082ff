"""Exercises of chapter 03, part three: how far a network can see, and does see."""

import torch
from torch import Tensor

from vlmcourse.diagnostics import reach
from vlmcourse.exercises.base import Slip, chapter

exercise, _ = chapter("03_cnn_vs_vit")

# --------------------------------------------------------------------------------------- receptive field


def _step(strides: Tensor) -> Tensor:
    """Pixels between neighbours in the map that each layer reads."""
    return torch.cat([torch.ones_like(strides[:1]), strides.cumprod(0)[:-1]])


def _sum_of_strides(kernels: Tensor, strides: Tensor) -> Tensor:
    before = torch.cat([torch.ones_like(strides[:1]), strides.cumsum(0)[:-1]])
    return 1 + ((kernels - 1) * before).cumsum(0)


def _last_stride_only(kernels: Tensor, strides: Tensor) -> Tensor:
    before = torch.cat([torch.ones_like(strides[:1]), strides[:-1]])
    return 1 + ((kernels - 1) * before).cumsum(0)


exercise(
    reach.receptive_field,
    cases=lambda: [
        (torch.tensor([3, 5, 3]), torch.tensor([2, 1, 1])),
        (torch.tensor([7, 3, 3, 1, 3]), torch.tensor([2, 2, 1, 3, 1])),
    ],
    slips=[
        Slip(lambda k, s: 1 + (k - 1).cumsum(0),
             "the strides are ignored: after a stride of 2, one step in the map is two pixels in the image."),
        Slip(lambda k, s: 1 + ((k - 1) * s.cumprod(0)).cumsum(0),
             "a layer's own stride is counted; it spreads out the places that later layers read, not its "
             "own windows."),
        Slip(lambda k, s: (k * _step(s)).cumsum(0),
             "every layer adds its whole kernel; one place of each window was seen before, so it adds "
             "kernel − 1."),
        Slip(lambda k, s: ((k - 1) * _step(s)).cumsum(0),
             "the 1 is missing: before the first layer, a place sees one pixel, itself."),
        Slip(lambda k, s: k.cumprod(0),
             "the kernels are multiplied; windows overlap, so fields grow by sums: 3 and then 3 see 5 "
             "pixels, not 9."),
        Slip(_sum_of_strides,
             "the strides are added up; they multiply: a stride of 2 after a stride of 3 means 6 pixels."),
        Slip(_last_stride_only,
             "only the stride of the layer just before counts here; all strides before it multiply."),
        Slip(lambda k, s: (1 + ((k - 1) * _step(s)).cumsum(0))[-1],
             "this is the field of the last layer alone; return one number per layer."),
    ],
    hints=[
        "Walk through the layers with two numbers: how many pixels one step is worth, and the field so far.",
        "Start with step = 1 and field = 1. Each layer: field += (kernel − 1) · step, then step *= stride.",
        "A loop and torch.stack will do; without a loop, step is strides.cumprod(0) shifted by one.",
    ],
)

# ------------------------------------------------------------------------------------ attention distance


def _places(grid: tuple[int, int], like: Tensor) -> Tensor:
    """(patch, 2): row and column of every patch."""
    number = torch.arange(grid[0] * grid[1], device=like.device)
    return torch.stack([number // grid[1], number % grid[1]], -1).to(like.dtype)


def _distance(weights, grid, patch_size, *, places=_places, order=2.0, power=1, scale=True):
    """The reference with another grid, another length, or rows that are not scaled again."""
    place = places(grid, weights)
    distance = (patch_size * (place[:, None] - place).norm(order, dim=-1)) ** power
    patches = weights[..., 1:, 1:]
    patches = patches / patches.sum(-1, keepdim=True) if scale else patches
    return (patches * distance).sum(-1).mean(-1)


def _farthest(weights, grid, patch_size):
    """Distance to the one key that gets most."""
    place = _places(grid, weights)
    best = weights[..., 1:, 1:].argmax(-1)
    return patch_size * (place - place[best]).norm(dim=-1).mean(-1)


def _every_key_alike(weights, grid, patch_size):
    return _distance(torch.ones_like(weights), grid, patch_size)


def _from_the_list(grid, like):
    number = torch.arange(grid[0] * grid[1], device=like.device).to(like.dtype)
    return torch.stack([number, torch.zeros_like(number)], -1)


def _class_token_last(weights, grid, patch_size):
    return _distance(weights.roll((1, 1), (-1, -2)), grid, patch_size)


exercise(
    reach.attention_distance,
    cases=lambda: [
        ((2 * torch.randn(3, 2, 13, 13)).softmax(-1), (3, 4), 8),
        ((3 * torch.randn(2, 4, 11, 11)).softmax(-1), (2, 5), 3),
    ],
    slips=[
        Slip(lambda w, g, p: _distance(w, g, 1),
             "this is the distance in patches; multiply by patch_size for pixels."),
        Slip(lambda *a: _distance(*a, scale=False),
             "what went to the class token counts as distance 0; scale the rest of each row to sum to 1 "
             "again."),
        Slip(lambda *a: _distance(*a, order=1.0),
             "this walks along rows and columns; take the straight line: √(Δrow² + Δcolumn²)."),
        Slip(lambda *a: _distance(*a, power=2),
             "this averages squared distances; take the root before you average."),
        Slip(lambda *a: _distance(*a, places=lambda g, x: _places(g[::-1], x)),
             "rows and columns of the grid are swapped: patch n stands in row n // columns, column n % "
             "columns."),
        Slip(lambda *a: _distance(*a, places=_from_the_list),
             "this is the distance in the list of tokens; a row's last patch and the next row's first are "
             "far apart in the image."),
        Slip(_class_token_last, "the last token is left out; the class token is token 0."),
        Slip(_farthest, "this is the distance to the key that gets most; weigh the distances to all keys."),
        Slip(_every_key_alike, "the weights are not used: every head would get the same number."),
        Slip(lambda *a: _distance(*a).mean(-1),
             "the heads are averaged away; return one number per layer and head."),
    ],
    hints=[
        "Two tables of the same shape (patch, patch): how far, and how much. Multiply, sum over keys, mean "
        "over queries.",
        "place: (patch, 2) with row and column; patch_size * (place[:, None] - place).norm(dim=-1) is the "
        "table of distances.",
        "patches = weights[..., 1:, 1:]; divide by patches.sum(-1, keepdim=True) before you multiply.",
    ],
)
