"""Learning which text belongs to which image: contrast, match and write (notebooks 10 and 11).

    soft_contrast    pick your partner; the slow copy's opinion counts a share of the truth
    matched_pairs    what ITM is shown: every image with its text, and with one that is not its own
    next_words_loss  how surprised a writer of captions is, with smoothed targets
    learn_to_match   the training: any of the three losses, for a Blip or for a Q-Former's Matcher

A model that learns here has image_vectors, text_vectors, alike, match_scores and write_scores, see
models/blip.py and models/qformer.py. Image and text i of a batch belong together.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.data.batches import Batches
from vlmcourse.models.blip import hard_negatives
from vlmcourse.models.language import Ids, Marks
from vlmcourse.slots import slot
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.losses import of_all_tokens
from vlmcourse.training.sharing import from_first, gathered, longest_in_all, own_rows

KINDS_OF_LOSS = ("contrast", "match", "write")  # ITC, ITM and LM or ITG
SCALE = 1 / 0.07  # of similarities in the contrast
NEVER = -1e4  # similarity of what is no candidate: times a target of 0 it is 0, as -inf would not be

Fits = Bool[Tensor, "batch batch"] | None  # which images and texts belong together, besides those paired


@slot
def soft_contrast(
    similarity: Float[Tensor, "batch candidate"], slow: Float[Tensor, "batch candidate"], share: float
) -> Float[Tensor, ""]:
    """Cross-entropy of who is whose partner, where the right answer is shared out.

    The target of row i is (1 - share) at candidate i, its partner, plus share times the softmax of the slow
    copy's similarities, which knows of partners that nobody wrote down.

    Args:
        similarity: the model's, scaled; candidates 0 ... batch - 1 are the batch, others come from a queue.
        slow: the slow copy's, computed without gradients.
        share: of the target that the slow copy decides, 0 to 1.

    Source: Li et al. 2021 (ALBEF), arXiv:2107.07651, equation 6, as in BLIP, arXiv:2201.12086, section 3.2.
    """
    partner = torch.eye(*similarity.shape, dtype=similarity.dtype, device=similarity.device)
    target = (1 - share) * partner + share * slow.softmax(dim=1)
    return -(target * similarity.log_softmax(dim=1)).sum(dim=1).mean()


@slot
def matched_pairs(
    wrong_text: Int[Tensor, "batch"], wrong_image: Int[Tensor, "batch"]
) -> tuple[Int[Tensor, "pair"], Int[Tensor, "pair"], Int[Tensor, "pair"]]:
    """Which pairs ITM judges: what belongs together, images with wrong texts, texts with wrong images.

    Args:
        wrong_text: for image i the number of a text that is not its own.
        wrong_image: for text i the number of an image that is not its own.

    Returns:
        (images, texts, labels): numbers of image and text of each pair, and 1 where they belong together,
        else 0; batch is a third of pair.

    Source: Li et al. 2021 (ALBEF), arXiv:2107.07651, section 3.2.
    """
    own = torch.arange(len(wrong_text), device=wrong_text.device)
    images, texts = torch.cat([own, own, wrong_image]), torch.cat([own, wrong_text, own])
    return images, texts, (torch.arange(len(images), device=own.device) < len(own)).long()


@slot
def next_words_loss(
    scores: Float[Tensor, "batch token vocabulary"],
    ids: Int[Tensor, "batch token"],
    mask: Bool[Tensor, "batch token"],
    smoothing: float,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of each real token given those before it; nothing is asked of the first.

    Args:
        smoothing: share of the target that is spread evenly over the whole vocabulary.

    Source: Li et al. 2022 (BLIP), arXiv:2201.12086, section 3.2, which smooths by 0.1.
    """
    asked = mask[:, 1:]
    return F.cross_entropy(scores[:, :-1][asked], ids[:, 1:][asked], label_smoothing=smoothing)


def match_loss(
    model: nn.Module,
    features: Float[Tensor, "batch read width"],
    ids: Ids,
    mask: Marks,
    similarity: Float[Tensor, "batch batch"],
    hard: bool,
    fits: Fits = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of whether pairs belong together, over matched_pairs.

    Args:
        similarity: scaled, by which hard negatives are drawn. Of several processes: of all their images and
            texts, with ``fits``, while features, ids and mask are those of this process.
        hard: False draws random negatives.
        fits: True where an image and a text of the batch belong together: they are never each other's
            negatives. None: image i and text i alone do.

    Raises:
        ValueError: if everything in the batch fits an image or a text, so that no negative is left.
    """
    own = torch.eye(len(similarity), dtype=torch.bool, device=ids.device)
    fits = own if fits is None else fits | own
    if fits.all(dim=0).any() or fits.all(dim=1).any():
        raise ValueError("wrong partners are drawn from the batch; an image or a text has none in it")
    chances = similarity.detach() if hard else torch.zeros_like(similarity)
    chances = chances.masked_fill(fits, -torch.inf)
    dice = from_first(torch.rand(2, len(chances), device=ids.device))
    wrong = hard_negatives(chances, dice[0]), hard_negatives(chances.T, dice[1])
    pairs = torch.stack(matched_pairs(*wrong)).unflatten(1, (3, -1))  # (what, kind of pair, batch)
    # of the pairs of all processes this one judges its share, as many of each kind
    images, texts, labels = own_rows(pairs.permute(2, 0, 1)).permute(1, 2, 0).flatten(1)
    features, ids, mask = gathered(features), gathered(ids), gathered(mask)
    return F.cross_entropy(model.match_scores(features[images], ids[texts], mask[texts]), labels)


def contrast_loss(similarity: Float[Tensor, "batch batch"], fits: Fits = None) -> Float[Tensor, ""]:
    """ITC in both directions, without a slow copy; what else fits, see match_loss, is no candidate."""
    if fits is not None:
        own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
        similarity = similarity.masked_fill(fits & ~own, NEVER)
    known = similarity.detach()
    return (soft_contrast(similarity, known, 0.0) + soft_contrast(similarity.T, known.T, 0.0)) / 2


def matching_loss(
    model: nn.Module,
    features: Float[Tensor, "batch read width"],
    ids: Ids,
    mask: Marks,
    *,
    kinds: Sequence[str] = KINDS_OF_LOSS,
    hard: bool = True,
    smoothing: float = 0.0,
    fits: Fits = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The sum of the losses of these kinds, and each of them, by name; for ``fits`` see match_loss.

    Raises:
        ValueError: if a kind is unknown, or none is wanted.
    """
    if unknown := ", ".join(set(kinds) - set(KINDS_OF_LOSS)):
        raise ValueError(f"no loss is called {unknown}; choose from {', '.join(KINDS_OF_LOSS)}")
    if not kinds:
        raise ValueError(f"no loss is wanted; choose from {', '.join(KINDS_OF_LOSS)}")
    parts = {}
    if "contrast" in kinds or "match" in kinds:
        vectors = model.image_vectors(features), model.text_vectors(ids, mask)
        similarity = SCALE * model.alike(*map(gathered, vectors))
    if "contrast" in kinds:
        parts["contrast"] = contrast_loss(similarity, fits)
    if "match" in kinds:
        parts["match"] = match_loss(model, features, ids, mask, similarity, hard, fits)
    if "write" in kinds:
        scores = model.write_scores(features, ids, mask)
        parts["write"] = of_all_tokens(next_words_loss(scores, ids, mask, smoothing), ids, mask)
    return sum(parts.values()), parts


def learn_to_match(
    model: nn.Module,
    features: Float[Tensor, "*pair read width"],
    texts: tuple[Int[Tensor, "*pair token"], Bool[Tensor, "*pair token"]],
    *,
    steps: int,
    size: int,
    seed: int = 0,
    loss: Callable | None = None,
    **options: Any,
) -> History:
    """Train a model on images and their texts; the eye is frozen, so its features are computed once.

    Args:
        texts: ids, each row from what begins a text to what ends it, and mask. Pairs may stand in families,
            (family, pair), which come together in a batch.
        size: pairs or families per step.
        loss: of model, features, ids and mask; matching_loss when not given.
        options: further arguments of training.loop.train, such as optimizer and schedule.
    """

    def loss_of(model: nn.Module, batch: tuple[Tensor, tuple]) -> Any:
        seen, (ids, mask) = batch
        longest = longest_in_all(mask)
        ids, mask = ids[..., :longest].flatten(0, -2), mask[..., :longest].flatten(0, -2)
        return (loss or matching_loss)(model, seen.float().flatten(0, -3), ids, mask)

    batches = Batches((features, tuple(texts)), size, seed=seed)
    return learn(model, batches, loss_of, steps=steps, **options)
