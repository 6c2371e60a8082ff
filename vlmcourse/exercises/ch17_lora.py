"""Exercises of chapter 17, part two: LoRA, its merge and its size; and the quiz."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import lora

exercise, quiz = chapter("17_real_models")

# ------------------------------------------------------------------------------------------ LoRA forward


def _layer_case(batch: int, token: int, width: int, out: int, rank: int, scale: float, bias: bool = True) -> tuple:
    tokens, layer = torch.randn(batch, token, width), nn.Linear(width, out, bias=bias)
    return tokens, layer, torch.randn(rank, width), torch.randn(out, rank), scale


def _detour(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    return F.linear(F.linear(x, down), up)


exercise(
    lora.lora_forward,
    cases=lambda: [_layer_case(2, 4, 5, 7, 3, 2.5), _layer_case(3, 5, 6, 4, 2, 0.5, bias=False)],
    axes={"tokens": "batch token width", "return": "batch token out"},
    slips=[
        Slip(lambda x, f, d, u, s: f(x) + _detour(x, d, u),
             "the scale is missing: it keeps the size of the change when the rank changes."),
        Slip(lambda x, f, d, u, s: s * (f(x) + _detour(x, d, u)),
             "the frozen layer is scaled too; the scale belongs to the detour alone."),
        Slip(lambda x, f, d, u, s: s * _detour(x, d, u),
             "the frozen layer is missing: LoRA adds to it and does not replace it."),
        Slip(lambda x, f, d, u, s: f(x) + s / len(d) * _detour(x, d, u),
             "divided by the rank once more; `scale` is alpha / rank already."),
        Slip(lambda x, f, d, u, s: f(x) + s * F.linear(F.relu(F.linear(x, d)), u),
             "a nonlinearity stands in the detour; that is an adapter, and it could not be merged into the "
             "weight."),
        Slip(lambda x, f, d, u, s: f(x) - s * _detour(x, d, u), "the detour is subtracted; add it."),
        Slip(lambda x, f, d, u, s: F.linear(x, f.weight) + s * _detour(x, d, u),
             "the frozen layer's bias is lost; call the layer itself."),
    ],
    hints=[
        "Two ways lead from the tokens to the output; add what comes out of both.",
        "`F.linear(tokens, down)` is (…, rank); `F.linear(…, up)` leads on to (…, out).",
    ],
    gradient=("tokens", "down", "up"),
)

# -------------------------------------------------------------------------------------------- LoRA merge


def _merge_case(width: int, out: int, rank: int, scale: float) -> tuple:
    return torch.randn(out, width), torch.randn(rank, width), torch.randn(out, rank), scale


def _in_place(w, d, u, s):
    w += s * u @ d
    return w


exercise(
    lora.lora_merge,
    cases=lambda: [_merge_case(5, 7, 3, 2.5), _merge_case(6, 4, 2, 0.5)],
    slips=[
        Slip(lambda w, d, u, s: w + u @ d,
             "the scale is missing, so the merged layer says something else than the two together."),
        Slip(lambda w, d, u, s: w - s * u @ d, "this takes the change out again (unmerge); add it."),
        Slip(lambda w, d, u, s: s * u @ d, "the frozen weight is gone; this is the change alone."),
        Slip(lambda w, d, u, s: s * (w + u @ d),
             "the frozen weight is scaled too; the scale belongs to the change alone."),
        Slip(lambda w, d, u, s: w + s * s * u @ d, "the scale counts twice; once is enough."),
        Slip(lambda w, d, u, s: w.T + s * d.T @ u.T,
             "this is the transpose: a linear layer's weight is (out, width)."),
        Slip(_in_place,
             "the given weight is changed in place; return a new one, the frozen layer stays as it is."),
    ],
    hints=[
        "W x + s · B (A x) = (W + s · B A) x. Which of the two matrices is A?",
        "`up @ down` has the shape of the weight.",
    ],
)

# ------------------------------------------------------------------------------------------ LoRA numbers

exercise(
    lora.lora_numbers,
    cases=lambda: [([(960, 576), (576, 576)], 8), ([(7, 5), (5, 7), (3, 11)], 2), ([(12, 5)], 3)],
    slips=[
        Slip(lambda layers, rank: sum(rank * out * width for out, width in layers),
             "rank · out · width is more than the layer itself has; the two matrices are (rank, width) and "
             "(out, rank)."),
        Slip(lambda layers, rank: sum(out * width for out, width in layers),
             "these are the numbers of the frozen layers."),
        Slip(lambda layers, rank: sum(rank * width for _, width in layers),
             "only `down` is counted; `up` learns too."),
        Slip(lambda layers, rank: sum(rank * out for out, _ in layers),
             "only `up` is counted; `down` learns too."),
        Slip(lambda layers, rank: sum(2 * rank * width for _, width in layers),
             "`up` has `out` rows, which may be more or fewer than the width."),
        Slip(lambda layers, rank: sum(out * width + rank * (out + width) for out, width in layers),
             "the frozen weights are counted too; they do not learn."),
        Slip(lambda layers, rank: rank * sum(layers[0]), "only the first layer is counted."),
        Slip(lambda layers, rank: [rank * (out + width) for out, width in layers],
             "this is a list, one number per layer; add them up."),
    ],
    hints=[
        "Draw the two matrices of one layer. How many numbers has each?",
        "rank · width for `down`, out · rank for `up`; the sum over all layers.",
    ],
)

# -------------------------------------------------------------------------------------------------- quiz

quiz(
    1,
    "You load a published model with `strict=False`, and the loss stays near 7.5. What do you "
    "look at first?",
    [
        ("The learning rate.", False,
         "It can be wrong as well, but it would not explain a start at random guessing."),
        ("Which keys matched nothing.", True,
         "Right: with strict=False every unmatched weight stays random, and nothing is said about it."),
        ("Whether the images are in the right order.", False,
         "That would hurt the answers about images, not the language itself."),
    ],
)

quiz(
    2,
    "Why does `up` start at zero, and `down` not?",
    [
        ("So that the first answers are the frozen model's, and the first gradient is not zero.", True,
         "Right: the product is zero, so nothing changes yet; but up's gradient holds down(x), which is "
         "not zero."),
        ("To save memory.", False, "Zeros need as much memory as other numbers."),
        ("It makes no difference; both could start at zero.", False,
         "Then both gradients are zero, since each contains the other matrix: nothing would ever learn."),
    ],
)

quiz(
    3,
    "After tuning, the model names colours rightly. What shows that it looks at the image?",
    [
        ("A low training loss.", False,
         "A blind model's loss falls too: it learns the form of the answers and which words are frequent."),
        ("Fluent sentences about the picture.", False, "SmolLM2 wrote fluently before it had an eye."),
        ("With another image in its place, the same questions are answered wrongly.", True,
         "Right: only the image differs between the two runs, so only the image can explain the difference."),
    ],
)
