"""Recipes: the trainings whose results the course ships, the same from a notebook and from the command line.

    new_clip          an untrained nano CLIP for 64-pixel images and the course's tokenizer
    scene_pairs       images and captions of scenes, each beside its shape twin, so that a batch asks for shapes
    order_pairs       scenes of two objects, each beside the scene that the same words describe in another order
    emoji_pairs       images and captions of OpenMoji
    train_clip        the contrastive training of all of them
    make_clip         one of CLIPS from its beginning to its end
    load_clip         a shipped CLIP, one of CLIPS, with the card that says how it was made
    measure_scenes    zero-shot accuracy, retrieval and word order on scenes never seen
    measure_emoji     retrieval among held-out combinations

Recipes hold sizes and seeds; every step is code that a chapter teaches.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlmcourse.data import openmoji
from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.pixels import in_grey
from vlmcourse.data.pixels import normalise as normalise_pixels
from vlmcourse.data.text import EOS, Tokenizer, load_tokenizer
from vlmcourse.evaluation.retrieval import retrieval, right_pairs
from vlmcourse.models.clip import CLIP, CLIPConfig, TextConfig, normalise, zero_shot_classifier
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import adamw, train
from vlmcourse.training.optimizers import MuonAdamW
from vlmcourse.training.precision import choose_precision
from vlmcourse.world import captions, scenes, twins
from vlmcourse.world.render import render, to_tensor

TEXT_LENGTH = 24  # tokens; the longest caption of two objects and the longest name of a drawing fit
SCENES_CLIP = dict(patch=8, width=96, batch=128, positions=0.3, weight_decay=0.05)
CLIPS = {
    "clip-scenes": dict(steps=2000, lr=3e-3, **SCENES_CLIP),
    "clip-order": dict(steps=3000, lr=1e-3, start="clip-scenes", **SCENES_CLIP),
    "clip-openmoji": dict(
        patch=16, width=128, steps=600, lr=2e-3, batch=128, positions=0.5, weight_decay=0.1
    ),
}


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


def scene_pairs(count: int, twin: bool = True, grey: float = 0.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scenes of one or two objects two by two: uint8 (pair, 2, 64, 64, 3) and ids (pair, 2, TEXT_LENGTH).

    Half of the captions are short, half are full, the same style for both of a pair. What is seen in grey is
    told without colours, so that a shape is learned apart from the colours it happens to have.

    Args:
        count: pairs.
        twin: the second scene is the first with one shape changed; otherwise any other scene.
        grey: share of pairs in grey.
    """
    first = scenes.sample("train", count, objects=(1, 2), seed=seed)
    second = (
        twins.repaint(first, "shape")
        if twin
        else scenes.sample("train", count, count, objects=(1, 2), seed=seed)
    )
    chance = np.random.default_rng(seed)
    short, pale = chance.random(count) < 0.5, chance.random(count) < grey
    images, ids = [], []
    for batch in (first, second):
        told = np.where(short, captions.captions(batch, "short"), captions.captions(batch, "full")).astype(
            object
        )
        told[pale] = [
            " ".join(word for word in text.split() if word not in scenes.COLOURS) for text in told[pale]
        ]
        ids.append(load_tokenizer().encode(told.tolist(), TEXT_LENGTH)[0])
        seen = render(batch)
        seen[pale] = in_grey(seen[pale])
        images.append(torch.from_numpy(seen))
    return torch.stack(images, dim=1), torch.stack(ids, dim=1)


def order_pairs(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scenes of two different objects and their short captions, two by two: as scene_pairs, without grey ones.

    The second scene of a pair is the first with the looks of its objects exchanged. Both captions have the
    same words,
    so only their order tells the pair apart: hard negatives for images and for texts.

    Args:
        count: pairs.

    Source: exchanged captions as hard negatives, Yuksekgonul et al. 2023, arXiv:2210.01936, section 4.
    """
    two = scenes.sample("train", 2 * count, objects=(2, 2), seed=seed)
    two = two[differing(two)][:count]
    both = two, twins.exchange(two)
    texts = [load_tokenizer().encode(captions.captions(batch, "short"), TEXT_LENGTH)[0] for batch in both]
    return torch.from_numpy(np.stack([render(batch) for batch in both], axis=1)), torch.stack(texts, dim=1)


def differing(two: scenes.Scenes) -> np.ndarray:
    """Whether the first two objects of a scene differ in shape or colour: bool (scene,)."""
    return (two.shape[:, 0] != two.shape[:, 1]) | (two.colour[:, 0] != two.colour[:, 1])


def emoji_pairs(split: str) -> tuple[Tensor, Tensor]:
    """Drawings and names: uint8 (drawing, 1, 64, 64, 3) and ids (drawing, 1, TEXT_LENGTH)."""
    drawings = openmoji.load(split)
    ids, _ = load_tokenizer().encode(drawings.captions, TEXT_LENGTH)
    return torch.from_numpy(drawings.images)[:, None], ids[:, None]


def precision_of(model: CLIP, batch: int) -> str:
    """The precision to train with: on a CPU, bf16 if it measures clearly faster at this size."""
    vision = model.config.vision
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return choose_precision(device, batch * (1 + math.prod(vision.grid)), vision.width).name


def train_clip(model: CLIP, pairs: tuple[Tensor, Tensor], *, steps: int, lr: float, muon: float | None = None,
               batch: int = 128, weight_decay: float = 0.05, shift: int = 0, seed: int = 0,
               precision: str | None = None, **how: Any) -> History:  # fmt: skip
    """Train on pairs as scene_pairs, order_pairs and emoji_pairs make them.

    Args:
        lr: of AdamW.
        muon: rate of Muon for the matrices inside blocks, see MuonAdamW; when not given, AdamW trains them
            too.
        batch: images per step.
        shift: move the images of a batch by up to so many pixels, the same way for all.
        precision: as training.loop.train takes it; see precision_of.
        how: further arguments of training.loop.train.
    """
    chance = np.random.default_rng(seed)

    def loss(model: nn.Module, both: tuple[Tensor, Tensor]) -> Tensor:
        images = normalise_pixels(both[0].flatten(0, 1)).contiguous()
        if shift:
            images = images.roll(
                tuple(chance.integers(-shift, shift, size=2, endpoint=True).tolist()), dims=(2, 3)
            )
        return model.loss(images, both[1].flatten(0, 1))

    model.train()
    optimizer = adamw(model, lr, weight_decay) if muon is None else MuonAdamW(model, muon, lr, weight_decay)
    how |= dict(optimizer=optimizer, precision=precision or precision_of(model, batch))
    history = train(model, Batches(pairs, batch // pairs[0].shape[1], seed=seed), loss, steps=steps, **how)
    model.cpu().eval()
    return history


def make_clip(name: str, steps: int | None = None, seed: int = 0, **how: Any) -> tuple[CLIP, History]:
    """Train one of CLIPS as the shipped one was; clip-order goes on from the shipped clip-scenes.

    Args:
        steps: those of the recipe when not given.
        how: further arguments of training.loop.train, such as checkpoint and resume.

    Raises:
        KeyError: if there is no such recipe.
    """
    recipe = dict(CLIPS[name])
    pairs = {"clip-scenes": lambda: scene_pairs(20_000, seed=seed), "clip-order": lambda: order_pairs(12_000, seed=1),
             "clip-openmoji": lambda: emoji_pairs("train")}[name]()  # fmt: skip
    torch.manual_seed(seed)
    shape = {key: recipe.pop(key) for key in ("patch", "width", "positions")}
    if start := recipe.pop("start", None):
        model = load_clip(start)[0]
    else:
        model = new_clip(images=normalise_pixels(pairs[0][:512, 0]), **shape)
    recipe |= {"steps": steps or recipe["steps"]}
    return model, train_clip(
        model, pairs, shift=2 if name == "clip-openmoji" else 0, seed=seed, **recipe, **how
    )


def load_clip(name: str) -> tuple[CLIP, dict[str, Any]]:
    """A shipped CLIP in evaluation mode, and its card.

    Raises:
        KeyError: if the course ships no CLIP of this name.
    """
    recipe = CLIPS[name]
    model = new_clip(recipe["patch"], recipe["width"], torch.randn(2, 3, 64, 64))
    card = load_weights(model, shipped(f"{name}.safetensors"))
    return model.eval(), card


@torch.no_grad()
def text_features(model: CLIP, texts: list[str], tokenizer: Tokenizer | None = None) -> Tensor:
    """Normalised features of texts, (text, width)."""
    return normalise(model.encode_text((tokenizer or load_tokenizer()).encode(texts, TEXT_LENGTH)[0]))


@torch.no_grad()
def image_features(model: CLIP, images: np.ndarray) -> Tensor:
    """Normalised features of uint8 images (image, 64, 64, 3), (image, width)."""
    parts = np.array_split(images, -(-len(images) // 250))  # many images at once need much memory
    return torch.cat([normalise(model.encode_image(to_tensor(part))) for part in parts])


def scene_prompts(what: str) -> list[list[str]]:
    """Captions that name a colour ("colour") or a shape ("shape"), for every class: (class, prompt) texts."""
    combined = {"colour": [(c, s) for c in scenes.COLOURS for s in scenes.SHAPES],
                "shape": [(c, s) for s in scenes.SHAPES for c in scenes.COLOURS]}[what]  # fmt: skip
    texts = [f"a {colour} {shape}" for colour, shape in combined]
    each = len(texts) // len(scenes.COLOURS if what == "colour" else scenes.SHAPES)
    return [texts[start : start + each] for start in range(0, len(texts), each)]


def zero_shot(model: CLIP, split: str, what: str, count: int = 1000) -> float:
    """Accuracy of naming the colour or shape of the one object in never-seen scenes of a split."""
    one = scenes.sample(split, count, objects=(1, 1))
    prompts = torch.stack([text_features(model, texts) for texts in scene_prompts(what)])
    guess = (image_features(model, render(one)) @ zero_shot_classifier(prompts).T).argmax(1).numpy()
    return float((guess == getattr(one, what)[:, 0]).mean())


def zero_shot_both(model: CLIP, split: str, count: int = 1000) -> float:
    """Accuracy of naming colour and shape together, among all 35 combinations."""
    one = scenes.sample(split, count, objects=(1, 1))
    texts = [f"a {colour} {shape}" for shape in scenes.SHAPES for colour in scenes.COLOURS]
    guess = (image_features(model, render(one)) @ text_features(model, texts).T).argmax(1).numpy()
    return float((guess == one.shape[:, 0] * len(scenes.COLOURS) + one.colour[:, 0]).mean())


def unique_scenes(count: int = 500, split: str = "test") -> tuple[scenes.Scenes, list[str]]:
    """Scenes of one or two objects whose full captions are all different."""
    batch = scenes.sample(split, 3 * count, objects=(1, 2))
    texts = captions.captions(batch, "full")
    rows = np.array([n for n, text in enumerate(texts) if texts.index(text) == n][:count])
    return batch[rows], [texts[n] for n in rows]


def word_order(model: CLIP, count: int = 1000) -> float:
    """How often the true caption of two objects beats the same words with the objects exchanged; chance is 0.5."""
    two = scenes.sample("test", count, objects=(2, 2))
    two = two[differing(two)]
    texts, features = captions.captions(two, "short"), image_features(model, render(two))
    true, false = ((features * text_features(model, t)).sum(1) for t in (texts, captions.exchange(texts)))
    return float((true > false).float().mean())


def measure_scenes(model: CLIP) -> dict[str, float]:
    """The metrics of the card of clip-scenes."""
    found = {f"zero-shot {what}": zero_shot(model, "test", what) for what in ("colour", "shape")}
    found |= {
        f"zero-shot {what}, new combinations": zero_shot(model, "novel", what) for what in ("colour", "shape")
    }
    found["zero-shot both"] = zero_shot_both(model, "test")
    found["zero-shot both, new combinations"] = zero_shot_both(model, "novel")
    batch, texts = unique_scenes()
    found |= retrieval(
        image_features(model, render(batch)), text_features(model, texts), right_pairs(texts, texts)
    )
    return {name: round(value, 4) for name, value in (found | {"word order": word_order(model)}).items()}


def measure_emoji(model: CLIP) -> dict[str, float]:
    """The metrics of the card of clip-openmoji: 400 held-out combinations as candidates."""
    drawings = openmoji.load("heldout")
    pictures, texts = image_features(model, drawings.images), text_features(model, drawings.captions)
    return {k: round(v, 4) for k, v in retrieval(pictures, texts, torch.eye(len(texts)).bool()).items()}
