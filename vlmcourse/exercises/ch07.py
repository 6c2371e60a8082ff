"""Exercises of chapter 07, part one: the projector itself (see ch07_stage.py for its training)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import projector

exercise, _ = chapter("07_projection_and_alignment")

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


exercise(
    projector.pixel_shuffle,
    cases=lambda: [
        (torch.randn(2, 24, 5), 2, (4, 6)),
        (torch.randn(3, 54, 4), 3, (9, 6)),
        (torch.randn(2, 16, 3), 2, None),
    ],
    slips=[
        Slip(lambda x, f, g=None: x.reshape(len(x), x.shape[1] // f**2, -1),
             "each token holds patches that stand in one row; a square also needs the row below: split the "
             "rows first."),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "rcjiw"),
             "inside a square you go down first; its upper row comes first, left to right."),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "rcwij"),
             "the numbers of the patches are interleaved, as in F.pixel_unshuffle; each patch keeps its "
             "own together."),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "crijw"),
             "the squares come out column by column; go row by row."),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "ijrcw"),
             "distant patches share a token, every factor-th one; neighbours belong together."),
        Slip(_transposed_grid, "rows and columns changed places: grid is (rows, columns)."),
        Slip(lambda x, f, g=None: _shuffled(x, f, g, "rcijw").transpose(0, 1),
             "the images are no longer the first axis."),
        Slip(_averaged,
             "the patches of a square are averaged, which forgets their differences; put them side by side."),
        Slip(_one_kept, "only the upper left patch of each square is kept; no number may be lost."),
    ],
    hints=[
        "Give rows and columns an axis each, and split both into (squares, inside the square).",
        "After `reshape(image, rows // f, f, columns // f, f, width)`, which two axes must change places "
        "before the rest can be merged?",
        "`.transpose(2, 3)`, then reshape to (image, patch // f**2, width * f**2).",
    ],
    gradient=("features",),
    picture=lambda output: output[0],
)

# ---------------------------------------------------------------------------------------------- project


def _project_case(*shape: int, hidden: int, out: int) -> tuple:
    """Inputs large enough that every other bend of the curve shows."""
    layers = nn.Linear(shape[-1], hidden), nn.Linear(hidden, out)
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.7)
    return 2 * torch.randn(shape), *layers


exercise(
    projector.project,
    cases=lambda: [_project_case(2, 5, 4, hidden=6, out=3), _project_case(3, 4, 5, hidden=8, out=7)],
    axes={"features": "image patch width", "return": "image patch out"},
    slips=[
        Slip(lambda x, e, c: c(e(x)),
             "nothing stands between the two layers, so together they are one linear layer; put a GELU "
             "there."),
        Slip(lambda x, e, c: c(F.relu(e(x))), "this is a ReLU; LLaVA's projector bends with GELU."),
        Slip(lambda x, e, c: c(F.gelu(e(x), approximate="tanh")),
             "this is the tanh approximation of GELU; LLaVA's projector uses the exact one."),
        Slip(lambda x, e, c: c(e(x) * torch.sigmoid(1.702 * e(x))),
             "this is quick GELU, which CLIP uses; the projector uses the exact one."),
        Slip(lambda x, e, c: c(F.silu(e(x))), "this is SiLU, from LLaMA's MLP; the projector uses GELU."),
        Slip(lambda x, e, c: F.gelu(c(e(x))),
             "the GELU stands at the end; then no number of an image token could be far below 0. It "
             "belongs in between."),
        Slip(lambda x, e, c: F.gelu(c(F.gelu(e(x)))),
             "a second GELU stands at the end; the language model's vectors may be negative, so nothing "
             "bends there."),
        Slip(lambda x, e, c: c(e(F.gelu(x))), "the GELU stands before both layers; it belongs between them."),
        Slip(lambda x, e, c: c(F.gelu(F.layer_norm(e(x), e(x).shape[-1:]))),
             "there is no norm in LLaVA's projector."),
        Slip(lambda x, e, c: F.gelu(e(x)), "the second layer is missing."),
    ],
    hints=[
        "Three steps: a linear layer, a curve, a linear layer.",
        "`F.gelu` is exact unless told otherwise; `expand` comes first.",
    ],
    gradient=("features",),
)

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


exercise(
    projector.spectrum,
    cases=lambda: [
        (torch.randn(4, 7) * torch.tensor([3.0, 1.0, 0.5, 0.2])[:, None],),
        (torch.randn(5, 3),),
        (torch.diag(torch.tensor([3.0, 1.0, 0.0]))[:2],),
        (torch.diag(torch.tensor([2.0, 0.5, 0.0, 0.0, 0.0]))[:3],),
    ],
    slips=[
        Slip(lambda w: _spectrum(w, rank=_entropy(_singular(w))),
             "this is the entropy; the effective rank is e to that power, so that 3 equal values give 3."),
        Slip(lambda w: _spectrum(w, rank=_entropy(_singular(w).square()).exp()),
             "the shares are made of squared singular values; take the values themselves."),
        Slip(lambda w: _spectrum(w, rank=2 ** _entropy(_singular(w))),
             "the natural logarithm needs e as its base, not 2."),
        Slip(_soft_shares,
             "a softmax makes shares of scores; singular values become shares when divided by their sum."),
        Slip(_participation,
             "this is the participation ratio; the effective rank is e to the entropy of the shares."),
        Slip(_counted,
             "this counts the values that are not 0, the plain rank; a tiny value must count a little only."),
        Slip(_without_limit,
             "a singular value of 0 gives 0 · log 0, which is NaN; torch.special.entr knows that it counts "
             "as 0."),
        Slip(lambda w: _spectrum(w, values=_singular(w).flip(0)),
             "the values stand smallest first; the largest comes first."),
        Slip(lambda w: _spectrum(w, values=_singular(w).square()),
             "these are eigenvalues of weightᵀ · weight, the squares; take their roots."),
        Slip(lambda w: _spectrum(w, values=_singular(w) / _singular(w).sum()),
             "the values themselves are wanted, not their shares."),
        Slip(lambda w: _spectrum(w, values=w.norm(dim=1)),
             "these are the lengths of the rows; singular values come from torch.linalg.svdvals."),
    ],
    hints=[
        "Divide the singular values by their sum: now they are shares, like probabilities. How even are "
        "they?",
        "`torch.linalg.svdvals(weight)` gives the values; `torch.special.entr(shares).sum().exp()` the "
        "rank.",
    ],
)
