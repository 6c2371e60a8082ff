"""A small LLaMA that writes captions of scenes, see recipes/captions.py (notebooks 05 and later).

No model can come below the captions' own surprise, -log p(caption), on average. For a short caption that is
exact (`captions.surprise`). For a full one everything is exact but the places of the objects, which keep
their distance: their shares are counted over 300,000 other scenes. Half of the captions are short, so
guessing the style costs log 2 more.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.text import load_tokenizer
from vlmcourse.models.language import Llama, next_token_loss
from vlmcourse.recipes.captions import LM_CAPTIONS
from vlmcourse.recipes.recipe import Made, Options, Recipe
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.loop import adamw, learn
from vlmcourse.training.losses import of_all_tokens
from vlmcourse.world import captions, scenes

COUNTED, VALIDATION_SCENES = 300_000, 2_000


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe."""
    (stage,) = recipe.stages
    batch = scenes.sample("train", stage.data["scenes"])
    texts = [text for style in stage.data["captions"] for text in captions.captions(batch, style)]
    torch.manual_seed(recipe.seed)
    model = Llama(recipe.model)
    batches = Batches(load_tokenizer().encode(texts, bos=True), stage.size, seed=recipe.seed)
    optimizer = adamw(model, stage.rates["adamw"], stage.weight_decay)
    history = learn(model, batches, loss_of, steps=stage.steps, optimizer=optimizer, **options(stage, model))
    yield Made(stage, model, history, lambda: measure(model, count_scenes()))


def load_captioner() -> tuple[Llama, dict[str, Any]]:
    """The shipped one in evaluation mode, and its card."""
    model = Llama(LM_CAPTIONS.model)
    return model.eval(), load_weights(model, shipped("lm-captions.safetensors"))


def loss_of(model: Llama, batch: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
    """Mean cross-entropy of a batch of ids and mask."""
    ids, mask = batch
    return of_all_tokens(next_token_loss(model(ids, mask=mask), ids, mask), ids, mask)


def count_scenes() -> scenes.Scenes:
    """Scenes to count places in, none of which was trained on."""
    return scenes.sample("train", COUNTED, start=LM_CAPTIONS.stages[0].data["scenes"])


def place_surprise(batch: scenes.Scenes, counted: scenes.Scenes) -> Float[np.ndarray, "scene"]:
    """-log p(places | sizes) of each scene, in nats, with the shares in `counted`.

    The order of the objects is chance, so scenes are counted whatever their order. Half a scene more of each
    kind keeps the rarest ones possible.
    """
    shares, objects = Counter(_sizes_and_places(counted)), Counter(counted.count.tolist())
    surprises = []
    for pairs in _sizes_and_places(batch):
        things = [pair for pair in pairs if pair >= 0]
        orders = math.factorial(len(things)) / math.prod(map(math.factorial, Counter(things).values()))
        joint = (shares[pairs] + 0.5) / objects[len(things)] / orders
        surprises.append(-math.log(joint) - len(things) * math.log(len(scenes.SIZES)))
    return np.array(surprises)


def _sizes_and_places(batch: scenes.Scenes) -> list[tuple[int, ...]]:
    """Of each scene one number for size and place of each object, sorted; -1 where there is none."""
    pairs = np.where(batch.present, batch.size * len(scenes.PLACES) + batch.place, -1)
    return list(map(tuple, np.sort(pairs, axis=1).tolist()))


def full_surprise(batch: scenes.Scenes, counted: scenes.Scenes) -> Float[np.ndarray, "scene"]:
    """-log p(full caption): number of objects, then size, colour and shape of each, and the places."""
    thing = math.log(len(scenes.SIZES) * scenes.palette("train").size)
    return math.log(scenes.MOST) + batch.count * thing + place_surprise(batch, counted)


def measure(model: Llama, counted: scenes.Scenes) -> dict[str, float]:
    """Perplexity per token on held-out scenes, by style, and what the captions' own surprise gives."""
    batch = scenes.sample("validation", VALIDATION_SCENES)
    surprises = {"short": captions.surprise(captions.captions(batch)), "full": full_surprise(batch, counted)}
    metrics = {}
    for style, surprise in surprises.items():
        ids, mask = load_tokenizer().encode(captions.captions(batch, style), bos=True)
        predicted = int(mask[:, 1:].sum())
        with torch.inference_mode():
            metrics[f"{style}_perplexity"] = math.exp(loss_of(model, (ids, mask)).item())
        metrics[f"{style}_bound"] = math.exp((surprise.sum() + len(batch) * math.log(2)) / predicted)
    return {name: round(value, 4) for name, value in metrics.items()}
