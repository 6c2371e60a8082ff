"""Exercises of chapter 03, part three: how far a network can see, and does see."""

import torch
from torch import Tensor

from vlmcourse.diagnostics import reach
from vlmcourse.exercises.base import Exercise, Slip, Text

CHAPTER = "03_cnn_vs_vit"

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


Exercise(
    slot=reach.receptive_field,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.tensor([3, 5, 3]), torch.tensor([2, 1, 1])),
        (torch.tensor([7, 3, 3, 1, 3]), torch.tensor([2, 2, 1, 3, 1])),
    ],
    axes={"kernels": "layer", "strides": "layer", "return": "layer"},
    slips=[
        Slip(lambda k, s: 1 + (k - 1).cumsum(0), Text(
            "the strides are ignored: after a stride of 2, one step in the map is two pixels in the image.",
            "stride が無視されています。stride 2 の後では、マップの 1 歩が画像の 2 画素です。")),
        Slip(lambda k, s: 1 + ((k - 1) * s.cumprod(0)).cumsum(0), Text(
            "a layer's own stride is counted; it spreads out the places that later layers read, not its own windows.",
            "その層自身の stride を数えています。stride が効くのは後の層からです。")),
        Slip(lambda k, s: (k * _step(s)).cumsum(0), Text(
            "every layer adds its whole kernel; one place of each window was seen before, so it adds kernel − 1.",
            "kernel 全体を足しています。1 画素分はもう見えているので kernel − 1 歩を足します。")),
        Slip(lambda k, s: ((k - 1) * _step(s)).cumsum(0), Text(
            "the 1 is missing: before the first layer, a place sees one pixel, itself.",
            "最初の 1 がありません。最初の層の前でも、自分自身の 1 画素は見えています。")),
        Slip(lambda k, s: k.cumprod(0), Text(
            "the kernels are multiplied; windows overlap, so fields grow by sums: 3 and then 3 see 5 pixels, not 9.",
            "kernel を掛けています。窓は重なるので和で増えます。3 の次に 3 なら 9 ではなく 5 画素です。")),
        Slip(_sum_of_strides, Text(
            "the strides are added up; they multiply: a stride of 2 after a stride of 3 means 6 pixels.",
            "stride を足しています。stride は掛け算です。3 の後の 2 は 6 画素です。")),
        Slip(_last_stride_only, Text(
            "only the stride of the layer just before counts here; all strides before it multiply.",
            "直前の stride だけを使っています。それまでの stride をすべて掛けます。")),
        Slip(lambda k, s: (1 + ((k - 1) * _step(s)).cumsum(0))[-1], Text(
            "this is the field of the last layer alone; return one number per layer.",
            "最後の層だけになっています。層ごとに 1 つの数を返してください。")),
    ],
    hints=[
        Text("Walk through the layers with two numbers: how many pixels one step is worth, and the field so far.",
             "2 つの数を持って層を進みます。1 歩が何画素か、そして今までの視野です。"),
        Text("Start with step = 1 and field = 1. Each layer: field += (kernel − 1) · step, then step *= stride.",
             "step = 1、field = 1 から始め、層ごとに field += (kernel − 1) · step、次に step *= stride。"),
        Text("A loop and torch.stack will do; without a loop, step is strides.cumprod(0) shifted by one.",
             "ループと torch.stack で書けます。ループなしなら、step は strides.cumprod(0) を 1 つずらしたものです。"),
    ],
)  # fmt: skip

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


Exercise(
    slot=reach.attention_distance,
    chapter=CHAPTER,
    cases=lambda: [
        ((2 * torch.randn(3, 2, 13, 13)).softmax(-1), (3, 4), 8),
        ((3 * torch.randn(2, 4, 11, 11)).softmax(-1), (2, 5), 3),
    ],
    axes={"weights": "layer head query key", "return": "layer head"},
    slips=[
        Slip(lambda w, g, p: _distance(w, g, 1), Text(
            "this is the distance in patches; multiply by patch_size for pixels.",
            "パッチ単位の距離です。patch_size を掛けて画素にしてください。")),
        Slip(lambda *a: _distance(*a, scale=False), Text(
            "what went to the class token counts as distance 0; scale the rest of each row to sum to 1 again.",
            "クラストークンへの重みが距離 0 と数えられています。残りを各行の和が 1 になるよう割り直します。")),
        Slip(lambda *a: _distance(*a, order=1.0), Text(
            "this walks along rows and columns; take the straight line: √(Δrow² + Δcolumn²).",
            "行と列に沿った距離です。直線距離 √(Δ行² + Δ列²) を使います。")),
        Slip(lambda *a: _distance(*a, power=2), Text(
            "this averages squared distances; take the root before you average.",
            "距離の 2 乗を平均しています。平均の前に平方根を取ります。")),
        Slip(lambda *a: _distance(*a, places=lambda g, x: _places(g[::-1], x)), Text(
            "rows and columns of the grid are swapped: patch n stands in row n // columns, column n % columns.",
            "格子の行と列が逆です。パッチ n は行 n // columns、列 n % columns にあります。")),
        Slip(lambda *a: _distance(*a, places=_from_the_list), Text(
            "this is the distance in the list of tokens; a row's last patch and the next row's first are far apart "
            "in the image.",
            "トークン列での距離です。行末のパッチと次の行頭のパッチは、画像では離れています。")),
        Slip(_class_token_last, Text(
            "the last token is left out; the class token is token 0.",
            "最後のトークンを除いています。クラストークンはトークン 0 です。")),
        Slip(_farthest, Text(
            "this is the distance to the key that gets most; weigh the distances to all keys.",
            "最も重い key までの距離です。全ての key までの距離を重みで平均します。")),
        Slip(_every_key_alike, Text(
            "the weights are not used: every head would get the same number.",
            "重みが使われていません。どの head も同じ数になります。")),
        Slip(lambda *a: _distance(*a).mean(-1), Text(
            "the heads are averaged away; return one number per layer and head.",
            "head が平均で消えています。層と head ごとに 1 つの数を返してください。")),
    ],
    hints=[
        Text("Two tables of the same shape (patch, patch): how far, and how much. Multiply, sum over keys, mean over "
             "queries.",
             "同じ形 (patch, patch) の表が 2 つ要ります。どれだけ遠いか、どれだけ見るか。"
             "掛けて key で和、query で平均します。"),
        Text("place: (patch, 2) with row and column; patch_size * (place[:, None] - place).norm(dim=-1) is the "
             "table of distances.",
             "place は行と列の (patch, 2)。patch_size * (place[:, None] - place).norm(dim=-1) が距離の表です。"),
        Text("patches = weights[..., 1:, 1:]; divide by patches.sum(-1, keepdim=True) before you multiply.",
             "patches = weights[..., 1:, 1:] を、掛ける前に patches.sum(-1, keepdim=True) で割ります。"),
    ],
)  # fmt: skip
