"""Exercises of chapter 07, part one: the projector itself (see ch07_stage.py for its training)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.models import projector

CHAPTER = "07_projection_and_alignment"

# ---------------------------------------------------------------------------------------- pixel shuffle


def _shuffled(features: Tensor, factor: int, grid, order: str) -> Tensor:
    """The axes r(ow), i (in-row), c(olumn), j (in-column), w(idth) in another order, then merged two and three."""
    image, patch, width = features.shape
    rows, columns = grid or (int(patch**0.5),) * 2
    split = features.reshape(image, rows // factor, factor, columns // factor, factor, width)
    moved = split.permute(0, *(1 + "ricjw".index(letter) for letter in order))
    return moved.reshape(image, patch // factor**2, width * factor**2)


def _transposed_grid(x, f, g=None):
    return _shuffled(x, f, None if g is None else g[::-1], "rcijw")


def _averaged(x, f, g=None):
    image, patch, width = x.shape
    squares = _shuffled(x, f, g, "rcijw").reshape(image, patch // f**2, f * f, width)
    return squares.mean(2)


def _one_kept(x, f, g=None):
    return _shuffled(x, f, g, "rcijw")[..., : x.shape[-1]]


Exercise(
    slot=projector.pixel_shuffle,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.randn(2, 24, 5), 2, (4, 6)),
        (torch.randn(3, 54, 4), 3, (9, 6)),
        (torch.randn(2, 16, 3), 2, None),
    ],
    axes={"features": "image patch width", "return": "image fewer wider"},
    slips=[
        Slip(lambda x, f, g=None: x.reshape(len(x), x.shape[1] // f**2, -1), Text(
            "each token holds patches that stand in one row; a square also needs the row below: split the rows first.",
            "横に並んだ patch をまとめています。正方形には下の行も必要です。先に行を分けてください。")),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "rcjiw"), Text(
            "inside a square you go down first; its upper row comes first, left to right.",
            "正方形の中を縦に読んでいます。上の行から、左から右へ並べます。")),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "rcwij"), Text(
            "the numbers of the patches are interleaved, as in F.pixel_unshuffle; each patch keeps its own together.",
            "F.pixel_unshuffle のように数が交互になっています。patch ごとに数をまとめて並べます。")),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "crijw"), Text(
            "the squares come out column by column; go row by row.",
            "正方形が列ごとに並んでいます。行ごとに並べます。")),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "ijrcw"), Text(
            "distant patches share a token, every factor-th one; neighbours belong together.",
            "factor おきの離れた patch がまとめられています。隣どうしをまとめます。")),
        Slip(_transposed_grid, Text(
            "rows and columns changed places: grid is (rows, columns).",
            "行と列が逆です。grid は（行数、列数）です。")),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "rcijw").transpose(0, 1), Text(
            "the images are no longer the first axis.", "画像の軸が先頭ではなくなっています。")),
        Slip(_averaged, Text(
            "the patches of a square are averaged, which forgets their differences; put them side by side.",
            "正方形の patch を平均しています。違いが失われるので、横に並べてください。")),
        Slip(_one_kept, Text(
            "only the upper left patch of each square is kept; no number may be lost.",
            "正方形の左上の patch しか残っていません。数を 1 つも失わないでください。")),
    ],
    hints=[
        Text("Give rows and columns an axis each, and split both into (squares, inside the square).",
             "行と列に軸を与え、それぞれを（正方形の番号、正方形の中）に分けます。"),
        Text("After `reshape(image, rows // f, f, columns // f, f, width)`, which two axes must change places before "
             "the rest can be merged?",
             "`reshape(image, rows // f, f, columns // f, f, width)` の後、"
             "まとめる前に入れ替える 2 つの軸はどれですか。"),
        Text("`.transpose(2, 3)`, then reshape to (image, patch // f**2, width * f**2).",
             "`.transpose(2, 3)` の後、(image, patch // f**2, width * f**2) に reshape します。"),
    ],
    gradient=("features",),
    picture=lambda output: output[0],
)  # fmt: skip

# ---------------------------------------------------------------------------------------------- project


def _project_case(*shape: int, hidden: int, out: int) -> tuple:
    """Inputs large enough that every other bend of the curve shows."""
    layers = nn.Linear(shape[-1], hidden), nn.Linear(hidden, out)
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.7)
    return 2 * torch.randn(shape), *layers


Exercise(
    slot=projector.project,
    chapter=CHAPTER,
    cases=lambda: [_project_case(2, 5, 4, hidden=6, out=3), _project_case(3, 4, 5, hidden=8, out=7)],
    axes={"features": "image patch width", "return": "image patch out"},
    slips=[
        Slip(lambda x, e, c: c(e(x)), Text(
            "nothing stands between the two layers, so together they are one linear layer; put a GELU there.",
            "2 層の間に何もないので、合わせて 1 つの線形層と同じです。間に GELU を入れます。")),
        Slip(lambda x, e, c: c(F.relu(e(x))), Text(
            "this is a ReLU; LLaVA's projector bends with GELU.",
            "ReLU になっています。LLaVA の projector は GELU です。")),
        Slip(lambda x, e, c: c(F.gelu(e(x), approximate="tanh")), Text(
            "this is the tanh approximation of GELU; LLaVA's projector uses the exact one.",
            "GELU の tanh 近似です。LLaVA の projector は正確な GELU を使います。")),
        Slip(lambda x, e, c: c(e(x) * torch.sigmoid(1.702 * e(x))), Text(
            "this is quick GELU, which CLIP uses; the projector uses the exact one.",
            "CLIP の quick GELU です。projector は正確な GELU を使います。")),
        Slip(lambda x, e, c: c(F.silu(e(x))), Text(
            "this is SiLU, from LLaMA's MLP; the projector uses GELU.",
            "LLaMA の MLP の SiLU です。projector は GELU を使います。")),
        Slip(lambda x, e, c: F.gelu(c(e(x))), Text(
            "the GELU stands at the end; then no number of an image token could be far below 0. It belongs in between.",
            "GELU が最後にあり、画像トークンの値が大きな負になれません。2 層の間に置きます。")),
        Slip(lambda x, e, c: F.gelu(c(F.gelu(e(x)))), Text(
            "a second GELU stands at the end; the language model's vectors may be negative, so nothing bends there.",
            "最後にも GELU があります。言語モデルのベクトルは負にもなるので、最後は曲げません。")),
        Slip(lambda x, e, c: c(e(F.gelu(x))), Text(
            "the GELU stands before both layers; it belongs between them.",
            "GELU が 2 層の前にあります。間に置きます。")),
        Slip(lambda x, e, c: c(F.gelu(F.layer_norm(e(x), e(x).shape[-1:]))), Text(
            "there is no norm in LLaVA's projector.", "LLaVA の projector に正規化はありません。")),
        Slip(lambda x, e, c: F.gelu(e(x)), Text(
            "the second layer is missing.", "2 つ目の層がありません。")),
    ],
    hints=[
        Text("Three steps: a linear layer, a curve, a linear layer.", "3 段階です：線形層、曲線、線形層。"),
        Text("`F.gelu` is exact unless told otherwise; `expand` comes first.",
             "`F.gelu` は指定しなければ正確な版です。先に `expand` を使います。"),
    ],
    gradient=("features",),
)  # fmt: skip

# --------------------------------------------------------------------------------------------- spectrum


def _spectrum(weight: Tensor, *, values=None, rank=None) -> tuple[Tensor, Tensor]:
    """The right two results, one of them replaced."""
    right = projector.spectrum.reference(weight)
    return tuple(r if wrong is None else wrong for r, wrong in zip(right, (values, rank), strict=True))


def _singular(weight: Tensor) -> Tensor:
    return torch.linalg.svdvals(weight)


def _entropy(numbers: Tensor) -> Tensor:
    return torch.special.entr(numbers / numbers.sum()).sum()


def _without_limit(weight):
    shares = _singular(weight) / _singular(weight).sum()
    return _spectrum(weight, rank=(-(shares * shares.log()).sum()).exp())


def _soft_shares(weight):
    return _spectrum(weight, rank=torch.special.entr(_singular(weight).softmax(0)).sum().exp())


def _participation(weight):
    s = _singular(weight)
    return _spectrum(weight, rank=s.sum() ** 2 / s.square().sum())


def _counted(weight):
    return _spectrum(weight, rank=(_singular(weight) > 1e-5).sum().to(weight.dtype))


Exercise(
    slot=projector.spectrum,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.randn(4, 7) * torch.tensor([3.0, 1.0, 0.5, 0.2])[:, None],),
        (torch.randn(5, 3),),
        (torch.diag(torch.tensor([3.0, 1.0, 0.0]))[:2],),
        (torch.diag(torch.tensor([2.0, 0.5, 0.0, 0.0, 0.0]))[:3],),
    ],
    axes={"weight": "out width", "return": ("rank", "")},
    slips=[
        Slip(lambda w: _spectrum(w, rank=_entropy(_singular(w))), Text(
            "this is the entropy; the effective rank is e to that power, so that 3 equal values give 3.",
            "エントロピーのままです。有効ランクは e のその乗で、等しい値が 3 つなら 3 になります。")),
        Slip(lambda w: _spectrum(w, rank=_entropy(_singular(w).square()).exp()), Text(
            "the shares are made of squared singular values; take the values themselves.",
            "特異値の 2 乗で割合を作っています。特異値そのものを使います。")),
        Slip(lambda w: _spectrum(w, rank=2 ** _entropy(_singular(w))), Text(
            "the natural logarithm needs e as its base, not 2.", "自然対数なので底は 2 ではなく e です。")),
        Slip(_soft_shares, Text(
            "a softmax makes shares of scores; singular values become shares when divided by their sum.",
            "softmax ではなく、特異値を和で割って割合にします。")),
        Slip(_participation, Text(
            "this is the participation ratio; the effective rank is e to the entropy of the shares.",
            "これは参加比です。有効ランクは割合のエントロピーの e 乗です。")),
        Slip(_counted, Text(
            "this counts the values that are not 0, the plain rank; a tiny value must count a little only.",
            "0 でない値の個数、つまり普通のランクです。小さな値は少しだけ数えます。")),
        Slip(_without_limit, Text(
            "a singular value of 0 gives 0 · log 0, which is NaN; torch.special.entr knows that it counts as 0.",
            "特異値が 0 だと 0 · log 0 が NaN になります。torch.special.entr なら 0 として扱います。")),
        Slip(lambda w: _spectrum(w, values=_singular(w).flip(0)), Text(
            "the values stand smallest first; the largest comes first.", "昇順です。大きい順に並べます。")),
        Slip(lambda w: _spectrum(w, values=_singular(w).square()), Text(
            "these are eigenvalues of weightᵀ · weight, the squares; take their roots.",
            "weightᵀ · weight の固有値（2 乗）です。平方根を取ります。")),
        Slip(lambda w: _spectrum(w, values=_singular(w) / _singular(w).sum()), Text(
            "the values themselves are wanted, not their shares.", "割合ではなく特異値そのものを返します。")),
        Slip(lambda w: _spectrum(w, values=w.norm(dim=1)), Text(
            "these are the lengths of the rows; singular values come from torch.linalg.svdvals.",
            "行の長さになっています。特異値は torch.linalg.svdvals で求めます。")),
    ],
    hints=[
        Text("Divide the singular values by their sum: now they are shares, like probabilities. How even are they?",
             "特異値を和で割ると、確率のような割合になります。どれだけ均等でしょうか。"),
        Text("`torch.linalg.svdvals(weight)` gives the values; `torch.special.entr(shares).sum().exp()` the rank.",
             "`torch.linalg.svdvals(weight)` が特異値、`torch.special.entr(shares).sum().exp()` がランクです。"),
    ],
)  # fmt: skip
