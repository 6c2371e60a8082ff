"""Which thing is above which: captions of two things, and twins in which they changed places (notebook 10).

    relations         scenes, true captions, and their twins
    show_relations    features of an eye, true captions, and their twins
    learn_relations   ITM on pairs and twins; the eye stays frozen
    relations_told    how often the true caption beats its twin

A twin has the same words as its caption, so whoever reads single words cannot tell the two apart.

Source: twins as negatives, Yuksekgonul et al. 2022, arXiv:2210.01936 (NegCLIP).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.data.batches import Batches
from vlmcourse.data.text import load_tokenizer
from vlmcourse.families.naming import two_things
from vlmcourse.models.blip import Blip
from vlmcourse.speak import Speaker
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world.captions import captions, exchange_words
from vlmcourse.world.render import render
from vlmcourse.world.scenes import Scenes


class Related(NamedTuple):
    """Images, what is true of them, and the twins; cut by Batches."""

    features: Float[Tensor, "pair read width"]  # bfloat16
    ids: Int[Tensor, "pair token"]
    mask: Bool[Tensor, "pair token"]
    twin_ids: Int[Tensor, "pair token"]
    twin_mask: Bool[Tensor, "pair token"]


def relations(split: str, count: int, seed: int = 0) -> tuple[Scenes, list[str], list[str]]:
    """Scenes of two things, a true caption of each, and its twin."""
    batch = two_things(split, count, seed)
    true = captions(batch, "short")
    return batch, true, exchange_words(true)


@torch.no_grad()
def show_relations(model: Blip, split: str, count: int, seed: int = 0) -> Related:
    """Scenes as the eye of the model sees them, with their captions and twins."""
    batch, true, twin = relations(split, count, seed)
    seen = Speaker(model).features(render(batch), 500, torch.bfloat16)
    ids, mask = load_tokenizer().encode(true + twin, bos=True)
    count = len(true)
    return Related(seen, ids[:count], mask[:count], ids[count:], mask[count:])


def learn_relations(
    model: Blip, pairs: Related, *, steps: int, size: int = 32, seed: int = 0, **options: Any
) -> History:
    """Train the encoder and its matching layer: each image with its caption, and with the twin.

    Args:
        size: images per step, each with both texts.
        options: further arguments of training.loop.train.
    """

    def loss_of(model: Blip, batch: tuple) -> Float[Tensor, ""]:
        some = Related(*batch)
        features = some.features.float().repeat(2, 1, 1)
        texts, marks = torch.cat([some.ids, some.twin_ids]), torch.cat([some.mask, some.twin_mask])
        belongs = (torch.arange(len(texts), device=texts.device) < len(some.ids)).long()
        return F.cross_entropy(model.match_scores(features, texts, marks), belongs)

    model.requires_grad_(False)
    model.encoder.requires_grad_(True)
    model.match.requires_grad_(True)
    given = dict(optimizer=MuonAdamW(model, 0.006, 7.5e-4), schedule=warmup_linear(steps, 20, flat=0.5))
    return learn(model, Batches(tuple(pairs), size, seed=seed), loss_of, steps=steps, **given | options)


@torch.no_grad()
def relations_told(model: Blip, pairs: Related) -> float:
    """How often ITM scores the true caption higher than its twin; 0.5 is chance."""
    model.eval()
    features = pairs.features.float()
    true, twin = (
        scores[:, 1] - scores[:, 0]
        for scores in (
            model.match_scores(features, pairs.ids, pairs.mask),
            model.match_scores(features, pairs.twin_ids, pairs.twin_mask),
        )
    )
    return (true > twin).float().mean().item()
