"""Stages: which parts of a vision-language model learn when, and from which words (notebooks 07 and 08)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import encode
from vlmcourse.models.llava import Llava
from vlmcourse.slots import slot
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.losses import alignment_loss
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.training.sharing import mean_over_all
from vlmcourse.world.instructions import FULL, turns


@slot
def trained_names(names: Sequence[str], stage: int) -> list[str]:
    """The parameters that learn in a stage, in the order given.

    Stage 1, alignment, trains the projector alone; stage 2, instruction tuning, the language model as well.
    The vision encoder (eye) learns in neither. A parameter belongs to the part that its name begins with:
    "vision.", "projector." or "language.".

    Source: Liu et al. 2023 (LLaVA), arXiv:2304.08485, section 4.2.
    """
    learning = ("projector.",) if stage == 1 else ("projector.", "language.")
    return [name for name in names if name.startswith(learning)]


def part_of(name: str) -> str:
    """Of which part a parameter is, or a child of a model: "vision", "language", or else the "connector"."""
    first = name.partition(".")[0]
    return first if first in ("vision", "language") else "connector"


@slot
def trained_parts(names: Sequence[str], trains: Sequence[str]) -> list[str]:
    """The parameters that learn where these parts do, in the order given.

    The first word of a name says its part: "vision" and "language" are what they say, and whatever else a
    model has is its "connector": a projector, or a resampler and gated blocks, or a Q-Former.

    Args:
        names: such as "vision.blocks.0.norm.weight", "gated.1.look_gate".
        trains: some of "vision", "connector", "language".
    """
    whole = {"vision", "language"}
    first = [name.split(".")[0] for name in names]
    parts = [word if word in whole else "connector" for word in first]
    return [name for name, part in zip(names, parts, strict=True) if part in trains]


def set_stage(model: Llava, stage: int) -> None:
    """Let the parameters of a stage learn and freeze all others; ValueError if it is neither 1 nor 2."""
    if stage not in (1, 2):
        raise ValueError(f"the stages are 1 (alignment) and 2 (instruction tuning), not {stage!r}")
    named = dict(model.named_parameters())
    learning = set(trained_names(list(named), stage))
    for name, parameter in named.items():
        parameter.requires_grad_(name in learning)


def encode_captions(texts: Sequence[str], image_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """ids, given and mask as alignment_loss takes them: an image and the same prompt before every caption."""
    chats = encode([turns(FULL, text) for text in texts], image_tokens)
    prompt = encode([turns(FULL)], image_tokens, prompt=True).ids
    return chats.ids, torch.full((len(texts),), prompt.shape[1]), chats.mask


def align(
    model: Llava,
    features: Float[Tensor, "image patch features"],
    texts: Sequence[str],
    *,
    steps: int,
    size: int = 32,
    seed: int = 0,
    **train_options: Any,
) -> History:
    """Stage 1: train the projector so that the frozen language model says the captions.

    Args:
        features: of the images, see Speaker.features; the eye is frozen, so they are computed once.
        texts: one caption per image.
        size: captions per step.
        train_options: further arguments of training.loop.train.
    """
    set_stage(model, 1)
    captions = encode_captions(texts, model.tokens_per_image)

    def loss(model: Llava, batch: tuple[Tensor, tuple]) -> Tensor:
        features, (ids, given, mask) = batch
        logits = model(ids, features=model.connect(features.float()), mask=mask)
        return mean_over_all(alignment_loss(logits, ids, given, mask), mask.sum() - given.sum())

    options = dict(optimizer=MuonAdamW(model), schedule=warmup_linear(steps)) | train_options
    return learn(model, Batches((features, captions), size, seed=seed), loss, steps=steps, **options)
