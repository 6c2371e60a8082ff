"""Small CLIPs for 64-pixel images: data, training and measurement of recipes/clip.py (notebooks 04 and 17).

new_clip, load_clip     an untrained one; a shipped one and its card
train_clip              contrastive training on what scene_pairs, order_pairs and emoji_pairs make
measure_scenes          zero-shot accuracy, retrieval and word order on scenes never seen
measure_emoji           retrieval among held-out combinations
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlmcourse.data import openmoji, pixels
from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.text import EOS, load_tokenizer
from vlmcourse.evaluation.retrieval import retrieval, right_pairs
from vlmcourse.models.clip import CLIP, CLIPConfig, TextConfig, info_nce, normalise, zero_shot_classifier
from vlmcourse.models.vit import ViTConfig
from vlmcourse.recipes.book import find_recipe
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import adamw, learn
from vlmcourse.training.optimizers import MuonAdamW
from vlmcourse.training.precision import precision_of
from vlmcourse.training.sharing import gathered
from vlmcourse.world import captions, scenes, twins
from vlmcourse.world.render import render, to_tensor

TEXT_LENGTH = 24  # tokens; the longest caption of two objects and the longest name of a drawing fit


def new_clip(patch: int, width: int, images: Tensor, positions: float = 0.3) -> CLIP:
    """An untrained CLIP for 64-pixel images: a ViT with 4 blocks, a text tower with 2.

    Args:
        patch: side of a patch in pixels; small objects anywhere need 8, drawings that fill the image 16.
        width: of both towers and of the shared space.
        images: a few hundred, to calibrate the patch embedding.
        positions: deviation of the new position vectors; patches have 1.
    """
    vision = ViTConfig(64, patch, width=width, depth=4, heads=4, epsilon=1e-5)
    text = TextConfig(len(load_tokenizer()), EOS, TEXT_LENGTH, width, depth=2, heads=4)
    model = CLIP(CLIPConfig(vision, text, width))
    model.vision.calibrate(images)
    nn.init.normal_(model.vision.positions, std=positions)
    nn.init.normal_(model.text.embed_token.weight, std=0.5)
    nn.init.normal_(model.text.positions, std=0.1)
    return model


def scene_pairs(count: int, grey: float = 0.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scenes, each beside its shape twin: uint8 (pair, 2, 64, 64, 3) and ids (pair, 2, TEXT_LENGTH).

    They have one or two objects. Half of the captions are short, half are full, the same style for both of a
    pair. What is seen in grey is told without colours, so that a shape is learned apart from its usual ones.

    Args:
        count: pairs.
        grey: share of pairs in grey.
    """
    first = scenes.sample("train", count, objects=(1, 2), seed=seed)
    chance = np.random.default_rng(seed)
    short, pale = chance.random(count) < 0.5, chance.random(count) < grey
    images, ids = [], []
    for batch in (first, twins.repaint(first, "shape")):
        styles = captions.captions(batch, "short"), captions.captions(batch, "full")
        texts = np.where(short, *styles).astype(object)
        texts[pale] = [_colourless(text) for text in texts[pale]]
        ids.append(load_tokenizer().encode(texts.tolist(), TEXT_LENGTH)[0])
        rendered = render(batch)
        rendered[pale] = pixels.in_grey(rendered[pale])
        images.append(torch.from_numpy(rendered))
    return torch.stack(images, dim=1), torch.stack(ids, dim=1)


def _colourless(text: str) -> str:
    return " ".join(word for word in text.split() if word not in scenes.COLOURS)


def order_pairs(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scenes of two different objects and their short captions, two by two: as scene_pairs, without grey.

    The second scene of a pair is the first with the looks of its objects exchanged. Both captions have the
    same words, so only their order tells the pair apart: hard negatives for images and for texts.

    Source: exchanged captions as hard negatives, Yuksekgonul et al. 2023, arXiv:2210.01936, section 4.
    """
    two = scenes.sample("train", 2 * count, objects=(2, 2), seed=seed)
    two = two[differing(two)][:count]
    pair = two, twins.exchange_looks(two)
    texts = [load_tokenizer().encode(captions.captions(batch, "short"), TEXT_LENGTH)[0] for batch in pair]
    return torch.from_numpy(np.stack([render(batch) for batch in pair], axis=1)), torch.stack(texts, dim=1)


def differing(two: scenes.Scenes) -> np.ndarray:
    """Whether the first two objects of a scene differ in shape or colour: bool (scene,)."""
    return (two.shape[:, 0] != two.shape[:, 1]) | (two.colour[:, 0] != two.colour[:, 1])


def emoji_pairs(split: str) -> tuple[Tensor, Tensor]:
    """Drawings and names: uint8 (drawing, 1, 64, 64, 3) and ids (drawing, 1, TEXT_LENGTH)."""
    drawings = openmoji.load(split)
    ids, _ = load_tokenizer().encode(drawings.captions, TEXT_LENGTH)
    return torch.from_numpy(drawings.images)[:, None], ids[:, None]


def train_clip(
    model: CLIP, pairs: tuple[Tensor, Tensor], *, steps: int, lr: float, muon: float | None = None,
    batch: int = 128, weight_decay: float = 0.05, shift: int = 0, seed: int = 0, **train_options: Any,
) -> History:  # fmt: skip
    """Train on pairs as scene_pairs, order_pairs and emoji_pairs make them.

    Args:
        lr: of AdamW.
        muon: of Muon for the matrices inside blocks, see MuonAdamW; if not given, AdamW trains them too.
        batch: images per step.
        shift: move the images of a batch by up to so many pixels, the same way for all.
        train_options: further arguments of training.loop.train.
    """
    chance = np.random.default_rng(seed)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        images = pixels.normalise(batch[0].flatten(0, 1)).contiguous()
        if shift:
            down, right = chance.integers(-shift, shift, size=2, endpoint=True).tolist()
            images = images.roll((down, right), dims=(2, 3))
        image, text, scale = model(images, batch[1].flatten(0, 1))
        return info_nce(gathered(image), gathered(text), scale)

    model.train()
    optimizer = adamw(model, lr, weight_decay) if muon is None else MuonAdamW(model, muon, lr, weight_decay)
    vision = model.config.vision
    precision = precision_of(batch * (1 + math.prod(vision.grid)), vision.width)
    options = dict(optimizer=optimizer, precision=precision) | train_options
    return learn(model, Batches(pairs, batch // pairs[0].shape[1], seed=seed), loss, steps=steps, **options)


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out a recipe of recipes/clip.py."""
    (stage,) = recipe.stages
    pairs = pairs_of(stage)
    torch.manual_seed(recipe.seed)
    if "weights" in recipe.start:
        model = load_clip(recipe.start["weights"])[0]
    else:
        model = new_clip(images=pixels.normalise(pairs[0][:512, 0]), **recipe.model, **recipe.start)
    given = dict(steps=stage.steps, batch=stage.size, lr=stage.rates["adamw"], seed=recipe.seed)
    given |= dict(weight_decay=stage.weight_decay, shift=stage.data["shift"])
    history = train_clip(model, pairs, **given, **options(stage, model))
    measure = measure_emoji if stage.data["kind"] == "drawings" else measure_scenes
    yield Made(stage, model, history, lambda: measure(model))


def pairs_of(stage: Stage) -> tuple[Tensor, Tensor]:
    """What a stage learns from."""
    data = stage.data
    if data["kind"] == "twins":
        return scene_pairs(data["pairs"], grey=data["grey"], seed=data["seed"])
    if data["kind"] == "order":
        return order_pairs(data["pairs"], seed=data["seed"])
    return emoji_pairs(data["split"])


def load_clip(name: str) -> tuple[CLIP, dict[str, Any]]:
    """A shipped CLIP in evaluation mode, and its card.

    Raises:
        ValueError: if there is no recipe of this name.
    """
    model = new_clip(**find_recipe(name, "clips").model, images=torch.randn(2, 3, 64, 64))
    card = load_weights(model, shipped(f"{name}.safetensors"))
    return model.eval(), card


@torch.no_grad()
def text_features(model: CLIP, texts: list[str]) -> Tensor:
    """Normalised features of texts, (text, width)."""
    return normalise(model.encode_text(load_tokenizer().encode(texts, TEXT_LENGTH)[0]))


@torch.no_grad()
def image_features(model: CLIP, images: np.ndarray) -> Tensor:
    """Normalised features of uint8 images (image, 64, 64, 3), (image, width)."""
    parts = np.array_split(images, -(-len(images) // 250))  # many images at once need much memory
    return torch.cat([normalise(model.encode_image(to_tensor(part))) for part in parts])


def scene_prompts(what: str) -> list[list[str]]:
    """Captions that name a "colour", a "shape" or "both", for every class: (class, prompt) texts."""
    by_shape = [[f"a {colour} {shape}" for colour in scenes.COLOURS] for shape in scenes.SHAPES]
    by_colour = list(map(list, zip(*by_shape, strict=True)))
    return dict(shape=by_shape, colour=by_colour, both=[[text] for text in itertools.chain(*by_shape)])[what]


def zero_shot(model: CLIP, split: str, what: str, count: int = 1000) -> float:
    """Accuracy of naming colour, shape or both of the one object in never-seen scenes of a split."""
    batch = scenes.sample(split, count, objects=(1, 1))
    prompts = torch.stack([text_features(model, texts) for texts in scene_prompts(what)])
    guess = (image_features(model, render(batch)) @ zero_shot_classifier(prompts).T).argmax(1).numpy()
    shape, colour = batch.shape[:, 0], batch.colour[:, 0]
    right = dict(shape=shape, colour=colour, both=shape * len(scenes.COLOURS) + colour)[what]
    return float((guess == right).mean())


def unique_scenes(count: int = 500) -> tuple[scenes.Scenes, list[str]]:
    """Scenes of one or two objects whose full captions are all different."""
    batch = scenes.sample("test", 3 * count, objects=(1, 2))
    texts = captions.captions(batch, "full")
    rows = np.array([n for n, text in enumerate(texts) if texts.index(text) == n][:count])
    return batch[rows], [texts[n] for n in rows]


def word_order(model: CLIP, count: int = 1000) -> float:
    """How often the true caption of two objects beats the one with the objects exchanged; chance is 0.5."""
    two = scenes.sample("test", count, objects=(2, 2))
    two = two[differing(two)]
    texts, features = captions.captions(two, "short"), image_features(model, render(two))
    both = texts, captions.exchange_words(texts)
    true, false = ((features * text_features(model, each)).sum(1) for each in both)
    return float((true > false).float().mean())


def measure_scenes(model: CLIP) -> dict[str, float]:
    """The metrics of the card of clip-scenes."""
    metrics = {}
    for split, where in (("test", ""), ("novel", ", new combinations")):
        for what in ("colour", "shape", "both"):
            metrics[f"zero-shot {what}{where}"] = zero_shot(model, split, what)
    batch, texts = unique_scenes()
    candidates = image_features(model, render(batch)), text_features(model, texts)
    metrics |= retrieval(*candidates, right_pairs(texts, texts))
    return {name: round(value, 4) for name, value in (metrics | {"word order": word_order(model)}).items()}


def measure_emoji(model: CLIP) -> dict[str, float]:
    """The metrics of the card of clip-openmoji: 400 held-out combinations as candidates."""
    drawings = openmoji.load("heldout")
    candidates = image_features(model, drawings.images), text_features(model, drawings.captions)
    metrics = retrieval(*candidates, torch.eye(len(drawings.captions)).bool())
    return {name: round(value, 4) for name, value in metrics.items()}
