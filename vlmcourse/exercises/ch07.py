"""Exercises of chapter 07: the projector, its training, and what of the image passes through it."""

import torch
from torch import Tensor, nn

from vlmcourse.exercises.base import Unaffected, chapter
from vlmcourse.models import projector
from vlmcourse.training import stages

exercise, quiz = chapter("07_projection_and_alignment")

exercise(projector.pixel_shuffle, gradient=("features",), picture=lambda output: output[0],
    cases=lambda: [
        (torch.randn(2, 24, 5), 2, (4, 6)),
        (torch.randn(3, 54, 4), 3, (9, 6)),
        (torch.randn(2, 16, 3), 2, None),
        (torch.randn(3, 36, 2), 3, None),
    ],
    slips=[
        (".transpose(2, 3)", "", "each token holds patches that stand in one row; "
         "a square also needs the row below: split the rows first."),
        ("transpose(2, 3)", "permute(0, 1, 3, 4, 2, 5)",
         "inside a square you go down first; its upper row comes first, left to right."),
        ("transpose(2, 3)", "permute(0, 1, 3, 5, 2, 4)", "the numbers of the patches are interleaved, "
         "as in F.pixel_unshuffle; each patch keeps its own together."),
        ("transpose(2, 3)", "permute(0, 3, 1, 2, 4, 5)",
         "the squares come out column by column; go row by row."),
        ("transpose(2, 3)", "permute(0, 2, 4, 1, 3, 5)",
         "distant patches share a token, every factor-th one; neighbours belong together."),
        ("rows, columns = ", "columns, rows = ", "rows and columns changed places: grid is (rows, columns)."),
        ("width * factor**2)", "width * factor**2).transpose(0, 1)",
         "the images are no longer the first axis."),
        ("return squares", "return squares.mean(dim=(2, 4)).flatten(1, 2)\n    return squares",
         "the patches of a square are averaged, which forgets their differences; put them side by side."),
        ("width * factor**2)", "width * factor**2)[..., :width]",
         "only the upper left patch of each square is kept; no number may be lost."),
    ],
    hints=["Give rows and columns an axis each, and split both into (squares, inside the square).",
           "After `reshape(image, rows // f, f, columns // f, f, width)`, "
           "which two axes must change places before the rest can be merged?",
           "`.transpose(2, 3)`, then reshape to (image, patch // f**2, width * f**2)."],
)


def _project_case(*shape: int, hidden: int, out: int) -> tuple:
    """Inputs large enough that every other bend of the curve shows."""
    layers = nn.Linear(shape[-1], hidden), nn.Linear(hidden, out)
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.7)
    return 2 * torch.randn(shape), *layers


exercise(projector.project, gradient=("features",),
    axes={"features": "image patch width", "return": "image patch out"},
    cases=lambda: [_project_case(2, 5, 4, hidden=6, out=3), _project_case(3, 4, 5, hidden=8, out=7),
                   _project_case(5, 4, hidden=6, out=3)],
    slips=[
        ("F.gelu(expand(features))", "expand(features)",
         "nothing stands between the two layers, so together they are one linear layer; put a GELU there."),
        ("gelu", "relu", "this is a ReLU; LLaVA's projector bends with GELU."),
        ("expand(features)", 'expand(features), approximate="tanh"',
         "this is the tanh approximation of GELU; LLaVA's projector uses the exact one."),
        ("F.gelu(expand(features))", "expand(features) * torch.sigmoid(1.702 * expand(features))",
         "this is quick GELU, which CLIP uses; the projector uses the exact one."),
        ("gelu", "silu", "this is SiLU, from LLaMA's MLP; the projector uses GELU."),
        ("contract(F.gelu(", "F.gelu(contract(", "the GELU stands at the end; "
         "then no number of an image token could be far below 0. It belongs in between."),
        ("contract(F.gelu(expand(features)))", "F.gelu(contract(F.gelu(expand(features))))",
         "a second GELU stands at the end; "
         "the language model's vectors may be negative, so nothing bends there."),
        ("F.gelu(expand(", "expand(F.gelu(", "the GELU stands before both layers; it belongs between them."),
        ("expand(features)", "F.layer_norm(expand(features), [expand.out_features])",
         "there is no norm in LLaVA's projector."),
        ("return contract", "return ", "the second layer is missing."),
    ],
    hints=["Three steps: a linear layer, a curve, a linear layer.",
           "`F.gelu` is exact unless told otherwise; `expand` comes first."],
)


def _places(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1])


def _loss_case(given: list[int], lengths: list[int], vocabulary: int) -> tuple:
    batch, token = len(given), max(lengths) + 1
    ids = torch.randint(vocabulary, (batch, token))  # 0 is a token too, and padding any number
    mask = _places(ids) < torch.tensor(lengths)[:, None]
    return 2 * torch.randn(batch, token, vocabulary), ids, torch.tensor(given), mask


def _other_prompt(case: tuple) -> tuple:
    logits, ids, given, mask = case
    before = _places(ids) < given[:, None]
    return logits, torch.where(before, (ids + 1) % logits.shape[-1], ids), given, mask


exercise(stages.alignment_loss, gradient=("logits",),
    cases=lambda: [_loss_case([3, 5], [7, 6], 4), _loss_case([2, 4, 1], [6, 9, 3], 7)],
    slips=[
        ("logits[:, :-1]", "logits[:, 1:]", "each token is scored with the scores at its own place, "
         "which has read it already; use those one place before."),
        (("logits[:, :-1]", "logits[:, 1:]"), ("ids[:, 1:]", "ids[:, :-1]"), (")[:, 1:]", ")[:, :-1]"),
         "the shift goes the wrong way: the scores must come from before the token, not from behind it."),
        (" & (place >= given[:, None])", "",
         "image and prompt are learned too; they are given, so only the caption counts."),
        ("mask & ", "", "padding is learned too; keep only places where mask is True."),
        (">= given", "< given", "this is upside down: prompt and image are learned, the caption is not."),
        (">= given", "> given",
         "the caption's first token is missing; the model would never learn how to begin."),
        ("place >= given", "place + 1 >= given",
         "one token too many: the last one of the prompt is given, too."),
        (")[:, 1:]", ")[:, :-1]", "the mask was not shifted with the tokens: "
         "it must say which token is predicted, not where the model stands."),
        ("mask & ", "mask & F.pad(mask[:, 1:], (0, 1)) & ",
         "the caption's last token, its end, is missing; the model would never learn to stop."),
        ("return ",
         "texts = zip(logits[:, :-1], ids[:, 1:], caption)\n    "
         "losses = [F.cross_entropy(scores[own], text[own]) for scores, text, own in texts]\n    "
         "return sum(losses) / len(losses)\n    return ",
         "this is a mean of means, in which a word of a short caption counts more; "
         "take one mean over all tokens."),
        ("ids[:, 1:][caption]", 'ids[:, 1:][caption], reduction="sum"',
         "this is the sum; take the mean, or the step grows with the length of captions."),
        ("ids[:, 1:][caption])", 'ids[:, 1:][caption], reduction="sum") / caption.numel()',
         "the sum is divided by all places, also those that do not count."),
        ("logits[:, :-1]", "logits.softmax(dim=-1)[:, :-1]",
         "cross_entropy takes the softmax itself; give it the scores, not probabilities."),
    ],
    hints=["First mark the caption's tokens: from `given` on, and not padding. "
           "Then ask: which scores predict them?",
           "`logits[:, :-1]` predict `ids[:, 1:]`; the marks must be cut like the ids.",
           "`F.cross_entropy(logits[:, :-1][caption], ids[:, 1:][caption])` "
           "with caption (batch, token − 1)."],
    unaffected=[Unaffected(
        "the loss depends on which tokens image and prompt are; they are read, not predicted.",
        _other_prompt)],
)

NAMES = [
    "vision.embed.weight",
    "vision.projector.weight",  # CLIP's own last matrix, say: it belongs to the eye
    "projector.expand.weight",
    "projector.expand.bias",
    "language.embedding.weight",
    "language.blocks.0.projector.weight",
    "projector.contract.weight",
    "language.head.weight",
    "projector_of_clip.weight",  # other words that begin alike
    "languages.weight",
]

exercise(stages.trained_names,
    cases=lambda: [(NAMES, 1), (NAMES, 2), (NAMES[::-1], 2), (NAMES[2:-2], 1), (NAMES[2:-2], 2)],
    slips=[
        ("if name.starts", 'if "projector" in name or name.starts',
         'a name in which "projector" stands somewhere may belong to another part; the beginning decides.'),
        ('("projector.",) if stage == 1 else ', "", "the language model learns in stage 1 already; "
         "it must stay as it is until the projector speaks its language."),
        ("stage == 1", "True",
         "stage 2 trains the projector alone; there the language model learns as well."),
        ('else ("projector.", ', "else (",
         "the projector is frozen in stage 2; LLaVA goes on training it beside the language model."),
        ('"language.")', '"language.", "vision.")',
         "stage 2 trains the eye too; in LLaVA it stays frozen in both stages."),
        ("if name.starts", "if not name.starts", "these are the frozen ones; return those that learn."),
        ("if name.starts", 'if name.endswith("weight") and name.starts',
         "the biases are missing; they learn as well."),
        ("stage == 1", "stage == 2",
         "the stages are exchanged: stage 1 is the one with the projector alone."),
        ("in names", "in sorted(names)", "the names come back sorted; keep the order in which they came."),
        (("return [", "return tuple("), ("]", ")"), "return a list of names, not a tuple."),
    ],
    hints=["Which part does a name belong to? Look at its first word only.",
           "`name.startswith(parts)` takes a tuple of beginnings: one for stage 1, two for stage 2."],
)

exercise(projector.spectrum,
    cases=lambda: [
        (torch.randn(4, 7) * torch.tensor([3.0, 1.0, 0.5, 0.2])[:, None],),
        (nn.Parameter(torch.randn(5, 3)),),  # still learns afterwards
        (torch.diag(torch.tensor([3.0, 1.0, 0.0]))[:2],),
        (torch.diag(torch.tensor([2.0, 0.5, 0.0, 0.0, 0.0]))[:3],),
    ],
    slips=[
        (".exp()", "",
         "this is the entropy; the effective rank is e to that power, so that 3 equal values give 3."),
        ("values / values.sum()", "values.square() / values.square().sum()",
         "the shares are made of squared singular values; take the values themselves."),
        (".exp()", ".exp2()", "the natural logarithm needs e as its base, not 2."),
        ("values / values.sum()", "values.softmax(dim=0)",
         "a softmax makes shares of scores; singular values become shares when divided by their sum."),
        ("torch.special.entr(shares).sum().exp()", "1 / shares.square().sum()",
         "this is the participation ratio; the effective rank is e to the entropy of the shares."),
        ("torch.special.entr(shares).sum().exp()", "(values > 1e-5).sum().to(values.dtype)",
         "this counts the values that are not 0, the plain rank; a tiny value must count a little only."),
        ("torch.special.entr(shares)", "(-shares * shares.log())", "a singular value of 0 gives 0 · log 0, "
         "which is NaN; torch.special.entr knows that it counts as 0."),
        ("return values", "return values.flip(0)",
         "the values stand smallest first; the largest comes first."),
        ("return values", "return values.square()",
         "these are eigenvalues of weightᵀ · weight, the squares; take their roots."),
        ("return values", "return shares", "the values themselves are wanted, not their shares."),
        ("return values", "return weight.norm(dim=1)",
         "these are the lengths of the rows; singular values come from torch.linalg.svdvals."),
    ],
    hints=["Divide the singular values by their sum: now they are shares, like probabilities. "
           "How even are they?",
           "`torch.linalg.svdvals(weight)` gives the values; "
           "`torch.special.entr(shares).sum().exp()` the rank."],
)

quiz(1, "In stage 1 the language model is frozen. How can the projector in front of it learn?", [
    ("It cannot; its loss has to be computed on image features.", False,
     "The loss is that of the words, and it reaches the projector."),
    ("Frozen weights get no gradient, but the gradient passes through them.", True,
     "Activations are differentiated all the way down; only the weights' own gradients are left out. "
     "torch.no_grad() around the language model would cut the way."),
    ("The language model learns a little, and the projector follows.", False,
     "Not one of its weights changes; the notebook checks it."),
])
quiz(2, "You shift and stretch the image features so that their mean and covariance equal those of the word "
        "vectors. What does the language model say about the pictures?", [
    ("It describes them: the two distributions are one now.", False,
     "The clouds lie on top of each other, "
     "but nobody said which point of one belongs to which of the other."),
    ("It names the right things, but puts them in the wrong places.", False,
     "Mean and covariance say which directions are used and how much, not what any of them means."),
    ("Fluent captions that have nothing to do with them.", True,
     "Equal statistics are not equal meaning. Pairs of images and texts are what aligns."),
])
quiz(3, "A colleague's VLM gives fluent answers that do not change with the picture. "
        "The loss in training was fine. What do you check first?", [
    ("Whether the projector's weights were loaded, with strict=True.", True,
     "strict=False skips a key that does not match, and leaves the projector as it was drawn."),
    ("Whether the eye was frozen in training.", False,
     "In this chapter it was, and the aligned model describes what it sees: "
     "features of a frozen eye still differ from picture to picture."),
    ("Whether image tokens are as long as words.", False,
     "Yours were several times as long, and the model looked all the same."),
])
