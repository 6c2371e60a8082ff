"""Exercises of chapter 04, part two: the two losses."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import clip

exercise, _ = chapter("04_clip")

# ---------------------------------------------------------------------------------------------- info_nce


def _pairs(batch: int, width: int, scale: float, size: float, *more: float) -> tuple:
    image, text = size * torch.randn(2, batch, width)
    return image, text, torch.tensor(scale), *map(torch.tensor, more)


def _partners(logits: Tensor) -> Tensor:
    return torch.arange(len(logits), device=logits.device)


def _both(logits: Tensor, **options) -> Tensor:
    partner = _partners(logits)
    return (F.cross_entropy(logits, partner, **options) + F.cross_entropy(logits.T, partner, **options)) / 2


def _by_hand(image, text, scale):
    """-log of a softmax that underflows for pairs that are badly wrong."""
    logits = scale * image @ text.T
    return -(logits.softmax(1).diag().log() + logits.softmax(0).diag().log()).mean() / 2


def _first_partner(image, text, scale):
    logits = scale * image @ text.T
    zeros = torch.zeros_like(_partners(logits))
    return (F.cross_entropy(logits, zeros) + F.cross_entropy(logits.T, zeros)) / 2


def _scaled_once(image, text, scale):
    cosines = image @ text.T
    partner = _partners(cosines)
    return (F.cross_entropy(scale * cosines, partner) + F.cross_entropy(cosines.T, partner)) / 2


def _unit(*features: Tensor) -> list[Tensor]:
    return [F.normalize(feature, dim=-1) for feature in features]


def _again(image, text, scale):
    image, text = _unit(image, text)
    return _both(scale * image @ text.T)


exercise(
    clip.info_nce,
    cases=lambda: [_pairs(5, 7, 3.0, 0.6), _pairs(4, 9, 2.0, 0.5), _pairs(3, 8, 4.0, 9.0)],
    slips=[
        Slip(lambda i, t, s: F.cross_entropy(s * i @ t.T, _partners(i)),
             "only one direction: each image looks for its text, twice if you averaged. The texts must "
             "look for their images too, with logits.T."),
        Slip(lambda i, t, s: F.cross_entropy(s * t @ i.T, _partners(i)),
             "only one direction: each text looks for its image. The images must look for their texts too."),
        Slip(lambda i, t, s: 2 * _both(s * i @ t.T),
             "the two directions are added; CLIP takes their mean, so that an untrained model starts at "
             "ln(batch)."),
        Slip(lambda i, t, s: _both(i @ t.T),
             "the scale is missing. Cosines lie between −1 and 1, and a softmax over such small numbers "
             "stays flat."),
        Slip(lambda i, t, s: _both(i @ t.T / s),
             "you divide by scale. It is one over the temperature already, so multiply."),
        Slip(lambda i, t, s: _both(s.exp() * i @ t.T),
             "the exponential is taken twice: scale is already exp(logit_scale)."),
        Slip(_scaled_once,
             "only one direction is scaled: multiply the logits first, then use them and their transpose."),
        Slip(_first_partner,
             "all labels are 0, so everybody is told to pick pair 0. Row i belongs to column i: "
             "torch.arange(batch)."),
        Slip(lambda i, t, s: _both((s * i @ t.T).softmax(1)),
             "cross_entropy takes the softmax itself; give it the logits, not probabilities."),
        Slip(lambda i, t, s: _both(s * i @ t.T, reduction="sum"),
             "the losses are summed over the batch; take the mean, or a larger batch means larger steps."),
        Slip(lambda i, t, s: -(s * i @ t.T).diag().mean(),
             "this only pulls partners together. Without negatives all features may collapse to one point."),
        Slip(lambda i, t, s: -_both(s * i @ t.T),
             "the sign is wrong: this grows when the model improves, and training minimises."),
        Slip(_again,
             "the features are normalised a second time. That is normalise's job; here they come ready."),
        Slip(_by_hand,
             "log(softmax) is −∞ when a pair is badly wrong, because its probability rounds to 0. "
             "F.cross_entropy computes both in one safe step."),
    ],
    hints=[
        "Fill a batch × batch table with scale · image · text. Where in row i is the right answer?",
        "Each row is a classification with `batch` classes: F.cross_entropy(logits, torch.arange(batch)). "
        "What do the columns say?",
        "`logits = scale * image @ text.T`; the mean of cross_entropy(logits, partner) and "
        "cross_entropy(logits.T, partner).",
    ],
    gradient=("image", "text", "scale"),
)

# ------------------------------------------------------------------------------------------- siglip_loss


def _sign(logits: Tensor) -> Tensor:
    return 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1


def _judged(logits: Tensor) -> Tensor:
    return -F.logsigmoid(_sign(logits) * logits).sum() / len(logits)


def _diagonal_only(image, text, scale, bias):
    return -F.logsigmoid((scale * image @ text.T + bias).diag()).mean()


def _zero_and_one(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    return -F.logsigmoid(torch.eye(len(logits), device=logits.device) * logits).sum() / len(logits)


def _log_of_sigmoid(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    return -torch.log(torch.sigmoid(_sign(logits) * logits)).sum() / len(logits)


def _sign_on_cosines(image, text, scale, bias):
    cosines = image @ text.T
    return -F.logsigmoid(scale * _sign(cosines) * cosines + bias).sum() / len(image)


def _siglip_again(image, text, scale, bias):
    image, text = _unit(image, text)
    return _judged(scale * image @ text.T + bias)


exercise(
    clip.siglip_loss,
    cases=lambda: [_pairs(5, 7, 3.0, 0.6, -2.0), _pairs(4, 9, 2.0, 0.5, -1.5), _pairs(3, 8, 4.0, 9.0, -1.0)],
    slips=[
        Slip(lambda i, t, s, b: _judged(s * i @ t.T + b) / len(i),
             "this is the mean over all batch² meetings; SigLIP divides the sum by batch only."),
        Slip(lambda i, t, s, b: _judged(s * i @ t.T + b) * len(i), "the sum is not divided by batch."),
        Slip(lambda i, t, s, b: _judged(s * i @ t.T),
             'the bias is missing. Almost every meeting is a "no", and the bias says so from the start.'),
        Slip(lambda i, t, s, b: _judged(s * i @ t.T - b),
             "the bias is subtracted; add it, it is negative itself."),
        Slip(lambda i, t, s, b: _judged(s * (i @ t.T + b)),
             "the bias is scaled too; scale multiplies only the cosines."),
        Slip(lambda i, t, s, b: _judged(i @ t.T / s + b),
             "you divide by scale; it is one over the temperature already, so multiply."),
        Slip(lambda i, t, s, b: _judged(i @ t.T + b),
             "the scale is missing: the cosines are multiplied with it."),
        Slip(lambda i, t, s, b: _judged(s.exp() * i @ t.T + b),
             "the exponential is taken twice: scale is already exp(logit_scale)."),
        Slip(lambda i, t, s, b: -F.logsigmoid(s * i @ t.T + b).sum() / len(i),
             "every meeting counts as a match; strangers need the sign −1."),
        Slip(_zero_and_one,
             "strangers have the sign 0, and σ(0) = ½ whatever the logit, so they teach nothing. Use −1."),
        Slip(_sign_on_cosines,
             "the sign turns only the cosine. It must turn the whole logit, bias included."),
        Slip(_diagonal_only,
             'only partners are judged; without the "no" answers all features may collapse to one point.'),
        Slip(lambda i, t, s, b: _both(s * i @ t.T + b),
             "this is InfoNCE: a softmax over the batch, in which the bias cancels. SigLIP judges each "
             "meeting alone."),
        Slip(lambda i, t, s, b: -_judged(s * i @ t.T + b),
             "the minus in front is missing: log σ is negative, and a loss must shrink as the model "
             "improves."),
        Slip(_siglip_again,
             "the features are normalised a second time. That is normalise's job; here they come ready."),
        Slip(_log_of_sigmoid,
             "log(sigmoid) is −∞ for a meeting judged badly wrong, because σ rounds to 0. F.logsigmoid is "
             "safe."),
    ],
    hints=[
        "The table of logits is InfoNCE's plus a bias. But now each cell is its own yes-or-no question.",
        "sign = 2 · eye − 1 is +1 for partners and −1 for strangers; σ(sign · logit) is how right the "
        "answer is.",
        "`-F.logsigmoid(sign * logits).sum() / batch`; give torch.eye the device of the logits.",
    ],
    gradient=("image", "text", "scale", "bias"),
)
