"""Losses of language: how surprised a model is by the words it is to learn (notebooks 05, 07, 08 and 17).

All are means over tokens, in nats. That of every token, next_token_loss, stands in models/language.py; CLIP's
two losses stand in models/clip.py. Several processes take the mean over the tokens of all: of_all_answers
and of_all_tokens make that of a loss of one batch, and balanced_loss does it itself.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.models.language import IGNORED, following
from vlmcourse.slots import slot
from vlmcourse.training.sharing import mean_over_all


@slot(name="stages.alignment_loss")
def alignment_loss(
    logits: Float[Tensor, "batch token vocabulary"],
    ids: Int[Tensor, "batch token"],
    given: Int[Tensor, "batch"],
    mask: Bool[Tensor, "batch token"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of the captions' tokens: each from the scores one place before it.

    The mean runs over all caption tokens of the batch. Image, prompt and padding are read, but not learned.

    Args:
        ids: what the model read, row by row: image placeholders and prompt, the caption and its end, padding.
        given: how many tokens stand before the caption, at least 1.
        mask: False at padding.

    Source: Liu et al. 2023 (LLaVA), arXiv:2304.08485, section 4.2, stage 1.
    """
    place = torch.arange(ids.shape[1], device=ids.device)
    caption = (mask & (place >= given[:, None]))[:, 1:]  # the first token follows nothing
    return F.cross_entropy(logits[:, :-1][caption], ids[:, 1:][caption])


@slot(name="answers.answer_loss")
def answer_loss(
    hidden: Float[Tensor, "batch token width"],
    labels: Int[Tensor, "batch token"],
    head: Callable[[Float[Tensor, "wanted width"]], Float[Tensor, "wanted vocabulary"]],
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of the labels: each from the vector one place before it.

    The head is called once, for the positions that predict something and for no other.

    Args:
        labels: the ids the model read where they are to be predicted, -100 elsewhere. The shift happens here;
            nothing is asked of the last position.
    """
    answers = following(labels)
    wanted = answers != IGNORED
    return F.cross_entropy(head(hidden[wanted]), answers[wanted])


def balanced_loss(
    hidden: Float[Tensor, "batch token width"],
    labels: Int[Tensor, "batch token"],
    packs: Int[Tensor, "batch token"],
    head: Callable[[Float[Tensor, "wanted width"]], Float[Tensor, "wanted vocabulary"]],
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answers' tokens, where a token of an answer of n tokens counts 1 / √n.

    Unweighted, captions would drown the questions that are answered in a word.

    Args:
        labels: see answer_loss.
        packs: which text of its row, and so which answer, each token belongs to, see data/packing.py.
    """
    answers = following(labels)
    wanted = answers != IGNORED
    surprise = F.cross_entropy(head(hidden[wanted]).float(), answers[wanted], reduction="none")
    number = packs.clamp(min=0)
    counts = torch.zeros_like(number).scatter_add_(1, number, wanted.long())  # learned tokens of each text
    weights = counts.gather(1, number)[wanted].float().rsqrt()
    return mean_over_all((weights * surprise).sum() / weights.sum(), weights.sum())


def of_all_answers(mean: Float[Tensor, ""], labels: Int[Tensor, "batch token"]) -> Float[Tensor, ""]:
    """An answer_loss of these labels, or a next_token_loss, as this process's part of that of all."""
    return mean_over_all(mean, (following(labels) != IGNORED).sum())


def of_all_tokens(
    mean: Float[Tensor, ""], ids: Int[Tensor, "batch token"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, ""]:
    """A mean over all real tokens but the first of each text, as this process's part of that of all."""
    return of_all_answers(mean, ids.masked_fill(~mask, IGNORED))
