"""Train the course's caption writer: a small LLaMA on short and full captions of scenes (notebooks 05 and later).

Its loss is held against the captions' own surprise, -log p(caption), below which no model can come on
average. For a short caption that is exact (`captions.surprise`). For a full one everything is exact but the
places of the objects,
which keep their distance to each other: their shares are counted over 300,000 other scenes. Half of the
captions are short, so guessing the style costs log 2 more.
"""

import math
import platform
import time
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from vlmcourse.data.assets import assets_folder
from vlmcourse.data.batches import Batches
from vlmcourse.data.text import Tokenizer, load_tokenizer
from vlmcourse.models.language import Llama, LlamaConfig, next_token_loss
from vlmcourse.training.checkpoints import save_weights
from vlmcourse.training.loop import train
from vlmcourse.world import captions, scenes

CONFIG = dict(width=128, depth=4, heads=4, groups=2, tied=True)
SEED, TRAIN_SCENES, STEPS, BATCH, RATE = 0, 30_000, 900, 48, 2e-3
COUNTED, VALIDATION_SCENES = 300_000, 2_000


def new_model(tokenizer: Tokenizer) -> Llama:
    return Llama(LlamaConfig(len(tokenizer), **CONFIG))


def loss_of(model: Llama, batch: tuple[Tensor, Tensor]) -> Tensor:
    ids, mask = batch
    return next_token_loss(model(ids, mask=mask), ids, mask)


def place_surprise(batch: scenes.Scenes, counted: scenes.Scenes) -> np.ndarray:
    """-log p(places | sizes) of each scene, with the shares in `counted`; (scene,).

    The order of the objects is chance, so scenes are counted whatever their order. Half a scene more of each
    kind keeps the rarest ones possible.
    """

    def content(s: scenes.Scenes) -> list[tuple]:
        pairs = np.sort(np.where(s.present, s.size * len(scenes.PLACES) + s.place, -1), axis=1)
        return list(map(tuple, pairs.tolist()))

    shares, objects = Counter(content(counted)), Counter(counted.count.tolist())
    found = []
    for pairs in content(batch):
        things = [pair for pair in pairs if pair >= 0]
        orders = math.factorial(len(things)) / math.prod(map(math.factorial, Counter(things).values()))
        joint = (shares[pairs] + 0.5) / objects[len(things)] / orders
        found.append(-math.log(joint) - len(things) * math.log(len(scenes.SIZES)))
    return np.array(found)


def full_surprise(batch: scenes.Scenes, counted: scenes.Scenes) -> np.ndarray:
    """-log p(full caption): number of objects, then size, colour and shape of each, and the places."""
    thing = math.log(len(scenes.SIZES) * scenes.palette("train").size)
    return math.log(scenes.MOST) + batch.count * thing + place_surprise(batch, counted)


def measure(model: Llama, tokenizer: Tokenizer, counted: scenes.Scenes) -> dict[str, float]:
    """Perplexity per token on held-out scenes, by style, and the one that the captions' own surprise gives."""
    batch = scenes.sample("validation", VALIDATION_SCENES)
    surprise = {"short": captions.surprise(captions.captions(batch)), "full": full_surprise(batch, counted)}
    metrics = {}
    for style, own in surprise.items():
        ids, mask = tokenizer.encode(captions.captions(batch, style), bos=True)
        predicted = int(mask[:, 1:].sum())
        with torch.inference_mode():
            metrics[f"{style}_perplexity"] = math.exp(loss_of(model, (ids, mask)).item())
        metrics[f"{style}_bound"] = math.exp((own.sum() + len(batch) * math.log(2)) / predicted)
    return {name: round(value, 4) for name, value in metrics.items()}


def count_scenes() -> scenes.Scenes:
    return scenes.sample("train", COUNTED, start=TRAIN_SCENES)


def main() -> None:
    tokenizer = load_tokenizer()
    told = scenes.sample("train", TRAIN_SCENES)
    texts = [text for style in ("short", "full") for text in captions.captions(told, style)]
    torch.manual_seed(SEED)
    model = new_model(tokenizer)
    start = time.perf_counter()
    batches = Batches(tokenizer.encode(texts, bos=True), BATCH, seed=SEED)
    train(model, batches, loss_of, steps=STEPS, lr=RATE)
    seconds = time.perf_counter() - start
    metrics = measure(model.cpu().eval(), tokenizer, count_scenes())
    recipe = dict(
        model="Llama",
        **CONFIG,
        data="short and full captions of scenes",
        scenes=TRAIN_SCENES,
        steps=STEPS,
        batch=BATCH,
        lr=RATE,
        tokenizer="tokenizer.json",
        script="tools/checkpoints/lm_captions.py",
    )
    hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    card = dict(recipe=recipe, seed=SEED, seconds=round(seconds), hardware=hardware, metrics=metrics)
    path = save_weights(model, assets_folder() / "checkpoints" / "lm-captions.safetensors", card)
    print(f"{path} after {seconds:.0f} s: {metrics}")


if __name__ == "__main__":
    main()
