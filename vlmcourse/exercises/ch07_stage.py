"""Exercises of chapter 07, part two: what learns in stage 1 and from which words; and the quiz."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, Unaffected, chapter
from vlmcourse.training import stages

exercise, quiz = chapter("07_projection_and_alignment")

# --------------------------------------------------------------------------------- who learns in a stage

NAMES = [
    "vision.embed.weight",
    "vision.projector.weight",  # CLIP's own last matrix, say: it belongs to the eye
    "projector.expand.weight",
    "projector.expand.bias",
    "language.embedding.weight",
    "language.blocks.0.projector.weight",
    "projector.contract.weight",
    "language.head.weight",
]
TRAINED = stages.trained_names.reference


def _starting(*stage_parts: tuple[str, ...]):
    """Names that begin with one of the parts of their stage."""
    return lambda names, stage: [name for name in names if name.startswith(stage_parts[stage - 1])]


ONE, TWO = ("projector.",), ("projector.", "language.")

exercise(
    stages.trained_names,
    cases=lambda: [(NAMES, 1), (NAMES, 2), (NAMES[::-1], 2)],
    slips=[
        Slip(lambda n, s: [x for x in n if "projector" in x or (s == 2 and x.startswith("language."))],
             'a name in which "projector" stands somewhere may belong to another part; the beginning '
             "decides."),
        Slip(_starting(TWO, TWO),
             "the language model learns in stage 1 already; it must stay as it is until the projector "
             "speaks its language."),
        Slip(_starting(ONE, ONE),
             "stage 2 trains the projector alone; there the language model learns as well."),
        Slip(_starting(ONE, ("language.",)),
             "the projector is frozen in stage 2; LLaVA goes on training it beside the language model."),
        Slip(_starting(ONE, ("projector.", "language.", "vision.")),
             "stage 2 trains the eye too; in LLaVA it stays frozen in both stages."),
        Slip(lambda n, s: [x for x in n if x not in TRAINED(n, s)],
             "these are the frozen ones; return those that learn."),
        Slip(lambda n, s: [x for x in TRAINED(n, s) if x.endswith("weight")],
             "the biases are missing; they learn as well."),
        Slip(lambda n, s: TRAINED(n, 3 - s),
             "the stages are exchanged: stage 1 is the one with the projector alone."),
        Slip(lambda n, s: sorted(TRAINED(n, s)),
             "the names come back sorted; keep the order in which they came."),
        Slip(lambda n, s: tuple(TRAINED(n, s)), "return a list of names, not a tuple."),
    ],
    hints=[
        "Which part does a name belong to? Look at its first word only.",
        "`name.startswith(parts)` takes a tuple of beginnings: one for stage 1, two for stage 2.",
    ],
)

# ---------------------------------------------------------------------------------------- alignment loss


def _places(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1])


def _caption(ids: Tensor, given: Tensor, mask: Tensor, later: int = 0) -> Tensor:
    """True at the caption's tokens; ``later`` moves its beginning."""
    return mask & (_places(ids) >= given[:, None] + later)


def _each(logits: Tensor, ids: Tensor) -> Tensor:
    """Surprise at the token behind each place, (batch, token - 1)."""
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")


def _over(logits: Tensor, ids: Tensor, wanted: Tensor) -> Tensor:
    return _each(logits, ids)[wanted[:, 1:]].mean()


def _of_rows(x, i, g, m):
    wanted = _caption(i, g, m)[:, 1:]
    return ((_each(x, i) * wanted).sum(1) / wanted.sum(1)).mean()


def _own_token(x, i, g, m):
    wanted = _caption(i, g, m)
    return F.cross_entropy(x[wanted], i[wanted])


def _backwards(x, i, g, m):
    wanted = _caption(i, g, m)[:, :-1]
    return F.cross_entropy(x[:, 1:][wanted], i[:, :-1][wanted])


def _asks_where_it_stands(x, i, g, m):
    """The mask of the reading place in place of the predicted one."""
    return _each(x, i)[_caption(i, g, m)[:, :-1]].mean()


def _loss_case(given: list[int], lengths: list[int], vocabulary: int) -> tuple:
    batch, token = len(given), max(lengths) + 1
    ids = torch.randint(1, vocabulary, (batch, token))
    mask = _places(ids) < torch.tensor(lengths)[:, None]
    return 2 * torch.randn(batch, token, vocabulary), ids * mask, torch.tensor(given), mask


def _other_prompt(case: tuple) -> tuple:
    logits, ids, given, mask = case
    before = _places(ids) < given[:, None]
    return logits, torch.where(before, (ids + 1) % logits.shape[-1], ids), given, mask


exercise(
    stages.alignment_loss,
    cases=lambda: [_loss_case([3, 5], [7, 6], 4), _loss_case([2, 4, 1], [6, 9, 3], 7)],
    slips=[
        Slip(_own_token,
             "each token is scored with the scores at its own place, which has read it already; use those "
             "one place before."),
        Slip(_backwards,
             "the shift goes the wrong way: the scores must come from before the token, not from behind it."),
        Slip(lambda x, i, g, m: _over(x, i, m),
             "image and prompt are learned too; they are given, so only the caption counts."),
        Slip(lambda x, i, g, m: _over(x, i, _places(i) >= g[:, None]),
             "padding is learned too; keep only places where mask is True."),
        Slip(lambda x, i, g, m: _over(x, i, m & (_places(i) < g[:, None])),
             "this is upside down: prompt and image are learned, the caption is not."),
        Slip(lambda x, i, g, m: _over(x, i, _caption(i, g, m, 1)),
             "the caption's first token is missing; the model would never learn how to begin."),
        Slip(lambda x, i, g, m: _over(x, i, _caption(i, g, m, -1)),
             "one token too many: the last one of the prompt is given, too."),
        Slip(_asks_where_it_stands,
             "the mask was not shifted with the tokens: it must say which token is predicted, not where "
             "the model stands."),
        Slip(lambda x, i, g, m: _over(x, i, _caption(i, g, m) & F.pad(m[:, 1:], (0, 1))),
             "the caption's last token, its end, is missing; the model would never learn to stop."),
        Slip(_of_rows,
             "this is a mean of means, in which a word of a short caption counts more; take one mean over "
             "all tokens."),
        Slip(lambda x, i, g, m: (_each(x, i) * _caption(i, g, m)[:, 1:]).sum(),
             "this is the sum; take the mean, or the step grows with the length of captions."),
        Slip(lambda x, i, g, m: (_each(x, i) * _caption(i, g, m)[:, 1:]).mean(),
             "the sum is divided by all places, also those that do not count."),
        Slip(lambda x, i, g, m: _over(x.softmax(-1), i, _caption(i, g, m)),
             "cross_entropy takes the softmax itself; give it the scores, not probabilities."),
    ],
    hints=[
        "First mark the caption's tokens: from `given` on, and not padding. Then ask: which scores predict "
        "them?",
        "`logits[:, :-1]` predict `ids[:, 1:]`; the marks must be cut like the ids.",
        "`F.cross_entropy(logits[:, :-1][caption], ids[:, 1:][caption])` with caption (batch, token − 1).",
    ],
    gradient=("logits",),
    unaffected=[
        Unaffected(
            "the loss depends on which tokens image and prompt are; they are read, not predicted.",
            _other_prompt,
        ),
    ],
)

# ------------------------------------------------------------------------------------------------- quiz

quiz(
    1,
    "In stage 1 the language model is frozen. How can the projector in front of it learn?",
    [
        ("It cannot; its loss has to be computed on image features.", False,
         "The loss is that of the words, and it reaches the projector."),
        ("Frozen weights get no gradient, but the gradient passes through them.", True,
         "Activations are differentiated all the way down; only the weights' own gradients are left out. "
         "torch.no_grad() around the language model would cut the way."),
        ("The language model learns a little, and the projector follows.", False,
         "Not one of its weights changes; the notebook checks it."),
    ],
)
quiz(
    2,
    "You shift and stretch the image features so that their mean and covariance equal those of the word "
    "vectors. What does the language model say about the pictures?",
    [
        ("It describes them: the two distributions are one now.", False,
         "The clouds lie on top of each other, but nobody said which point of one belongs to which of the "
         "other."),
        ("It writes no words at all.", False, "It writes as fluently as before; that is the danger."),
        ("Fluent captions that have nothing to do with them.", True,
         "Equal statistics are not equal meaning. Pairs of images and texts are what aligns."),
    ],
)
quiz(
    3,
    "A colleague's VLM gives fluent answers that do not change with the picture. The loss in training was "
    "fine. What do you check first?",
    [
        ("Whether the projector's weights were loaded, with strict=True.", True,
         "strict=False skips a key that does not match, and leaves the projector as it was drawn."),
        ("Whether the language model is large enough.", False,
         "Its size does not make it deaf to its input."),
        ("Whether the answers are sampled at a high temperature.", False,
         "That makes answers vary, even for one picture."),
    ],
)
