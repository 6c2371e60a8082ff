"""Scenes of two things and captions that name one of them (notebook 10).

    two_things     scenes of two things that differ in shape and colour
    name_things    "a red circle", of one of them
    trade_names    the twin: the thing in the colour, or the shape, of the other one
    show_pairs     features of an eye, captions, and which of them fit
    new_blip       an untrained BLIP that reads such captions, with the eye of nano-vlm
    learn_names    its training
    twins_told     how often the true caption beats its twin
    names_found    how often the best of all names is that of a thing in the image
    swap_some      noise: captions of other images
    write_names    captions that it writes

Whoever reads single words of a caption finds all of a twin's words in the image, too.

Source: which attribute belongs to which thing, Lewis et al. 2022, arXiv:2212.10537.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlmcourse.data.batches import Batches
from vlmcourse.data.text import BOS, EOS, PAD, load_tokenizer
from vlmcourse.families import nano
from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip import Blip, BlipConfig
from vlmcourse.models.generation import write
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.matching import matching_loss
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world import scenes
from vlmcourse.world.render import render, to_tensor

COUNT = len(scenes.COLOURS)  # a name's number is shape · COUNT + colour
ALL_NAMES = [f"a {colour} {shape}" for shape in scenes.SHAPES for colour in scenes.COLOURS]


class NamedPairs(NamedTuple):
    """Images and captions of the same order; cut by Batches."""

    features: Float[Tensor, "pair read width"]  # bfloat16
    ids: Int[Tensor, "pair token"]
    mask: Bool[Tensor, "pair token"]
    said: Int[Tensor, "pair"]  # the number of the name
    shown: Int[Tensor, "pair two"]  # the numbers of the names that fit the image

    def take(self, rows: Any) -> "NamedPairs":
        return NamedPairs(*(column[rows] for column in self))

    def say(self, said: Int[Tensor, "pair"]) -> "NamedPairs":
        """The same images with other captions."""
        return NamedPairs(self.features, *spell_names(said), said, self.shown)


def two_things(split: str, count: int, seed: int = 0) -> scenes.Scenes:
    """So many scenes, or a few less."""
    batch = scenes.sample(split, 2 * count, objects=(2, 2), seed=seed)
    different = (batch.shape[:, 0] != batch.shape[:, 1]) & (batch.colour[:, 0] != batch.colour[:, 1])
    return batch[different][:count]


def name_things(batch: scenes.Scenes, thing: int = 0) -> Int[Tensor, "scene"]:
    """The number of the name of thing 0 or 1."""
    return torch.from_numpy(batch.shape[:, thing] * COUNT + batch.colour[:, thing]).long()


def trade_names(batch: scenes.Scenes, what: str = "colour") -> Int[Tensor, "scene"]:
    """The number of the twin: thing 0 in the colour, or the shape, of thing 1; it is not in the image."""
    shape, colour = (1, 0) if what == "shape" else (0, 1)
    return torch.from_numpy(batch.shape[:, shape] * COUNT + batch.colour[:, colour]).long()


def spell_names(said: Int[Tensor, "pair"]) -> tuple[Int[Tensor, "pair token"], Bool[Tensor, "pair token"]]:
    """Ids and mask of names, each between BOS and EOS."""
    return load_tokenizer().encode([ALL_NAMES[number] for number in said.tolist()], bos=True)


@torch.no_grad()
def show_pairs(blip: Blip, batch: scenes.Scenes, average: bool = True) -> NamedPairs:
    """Scenes as the frozen eye sees them, each with the name of thing 0.

    Args:
        average: put the mean of the patches in the place of the class token.
    """
    seen = torch.cat([blip.vision(to_tensor(images)) for images in _parts(render(batch))])
    if average:
        seen[:, 0] = seen[:, 1:].mean(dim=1)
    said = name_things(batch)
    return NamedPairs(
        seen.bfloat16(), *spell_names(said), said, torch.stack([said, name_things(batch, 1)], dim=1)
    )


def _parts(images: np.ndarray, size: int = 250) -> list[np.ndarray]:
    return np.array_split(images, -(-len(images) // size))


def new_blip(depth: int = 2, seed: int = 0) -> Blip:
    """An untrained BLIP as wide as nano-vlm's eye, which it has, frozen."""
    torch.manual_seed(seed)
    vlm, _ = nano.load_vlm("nano-vlm")
    eye = vlm.vision.config
    text = BertConfig(len(load_tokenizer()), eye.width, depth, 4, positions=16, segments=0)
    model = Blip(BlipConfig(eye, text, BOS, EOS, shared=64))
    model.vision.load_state_dict(vlm.vision.state_dict())
    return model


def fitting(shown: Int[Tensor, "image two"], said: Int[Tensor, "text"]) -> Bool[Tensor, "image text"]:
    """Which captions name a thing that is in which image."""
    return (shown[:, :, None] == said).any(dim=1)


def learn_names(
    model: Blip,
    pairs: NamedPairs,
    *,
    steps: int,
    size: int = 48,
    seed: int = 0,
    known: bool = True,
    **options: Any,
) -> History:
    """Train all but the eye.

    Args:
        known: whether the losses may know what else in a batch fits an image; else only its own caption does.
        options: kinds and hard, see matching.matching_loss; all others are training.loop.train's.
    """
    chosen = {name: options.pop(name) for name in ("kinds", "hard") if name in options}

    def loss_of(model: Blip, batch: tuple) -> Any:
        some = NamedPairs(*batch)
        fits = fitting(some.shown, some.said) if known else None
        return matching_loss(model, some.features.float(), some.ids, some.mask, fits=fits, **chosen)

    torch.manual_seed(seed)
    model.vision.requires_grad_(False)
    given = dict(optimizer=MuonAdamW(model, 0.02, 2e-3), schedule=warmup_linear(steps, 20, flat=0.7))
    return learn(model, Batches(tuple(pairs), size, seed=seed), loss_of, steps=steps, **given | options)


@torch.no_grad()
def twins_told(model: Blip, pairs: NamedPairs, twins: Int[Tensor, "pair"]) -> dict[str, float]:
    """How often the true caption's score is greater than its twin's, by ITM and by ITC."""
    features, images = pairs.features.float(), model.image_vectors(pairs.features.float())
    match, contrast = [], []
    for text in (spell_names(pairs.said), spell_names(twins)):
        scores = model.match_scores(features, *text)
        match.append(scores[:, 1] - scores[:, 0])
        contrast.append((images * model.text_vectors(*text)).sum(dim=1))
    return {"ITM": _beats(*match), "ITC": _beats(*contrast)}


def _beats(true: Tensor, false: Tensor) -> float:
    return (true > false).float().mean().item()


@torch.no_grad()
def names_found(model: Blip, pairs: NamedPairs) -> float:
    """How often the name nearest to an image, of all there are, is that of a thing in it."""
    names = model.text_vectors(*spell_names(torch.arange(len(ALL_NAMES))))
    best = (model.image_vectors(pairs.features.float()) @ names.T).argmax(dim=1)
    return (pairs.shown == best[:, None]).any(dim=1).float().mean().item()


def swap_some(pairs: NamedPairs, share: float, seed: int = 0) -> NamedPairs:
    """NamedPairs of which a share has the caption of another image; they trade places in a ring."""
    order = np.random.default_rng(seed).permutation(len(pairs.said))
    wrong = torch.from_numpy(order[: int(share * len(order))])
    said = pairs.said.clone()
    said[wrong] = said[wrong.roll(1)]
    return pairs.say(said)


@torch.no_grad()
def write_names(model: Blip, features: Float[Tensor, "image read width"], steps: int = 6) -> list[str]:
    """Greedy captions."""
    text = []

    def read(unread: Tensor, mask: None) -> Tensor:
        text.append(unread)
        return model.write_scores(features.float(), torch.cat(text, dim=1))[:, -1]

    begun, likeliest = (
        torch.full((len(features), 1), model.start),
        partial(torch.argmax, dim=-1, keepdim=True),
    )
    written = torch.cat(write(read, begun, None, steps, likeliest, model.end, PAD), dim=1)
    rows = [row[: row.index(model.end)] if model.end in row else row for row in written.tolist()]
    return load_tokenizer().decode(rows)
