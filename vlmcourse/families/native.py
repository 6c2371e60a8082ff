"""nano-native, which reads pictures of any size, see recipes/nano_native.py (notebook 19).

    new_native, load_native   as it begins, from nano-vlm; a trained one and its card
    run                       carry out the recipe
    page_lessons              what it learns from: questions and boxes of pages, and nano-vlm's own of scenes
    tune_native               some steps of that

How it sees a page stands in families/sights.py, and what it is measured by in families/resolving.py.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.packing import Packs
from vlmcourse.families import nano
from vlmcourse.families.nano import by_length, optimized
from vlmcourse.families.resolving import measure_native
from vlmcourse.families.sights import (
    SQUARE,
    Sights,
    collect_features,
    collect_sights,
    show_page,
    sight_features,
)
from vlmcourse.models.native_llava import NativeLlava
from vlmcourse.recipes.nano_native import NANO_NATIVE
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.patchwise import PatchReader, scene_things, teach_patches
from vlmcourse.training.precision import precision_of
from vlmcourse.world import pages, scenes
from vlmcourse.world.instructions import Talk, talks
from vlmcourse.world.pages import place_of_answer
from vlmcourse.world.render import render

PAGES_STAGE = NANO_NATIVE.stage("pages")
EYE_STAGES = ("eye", "sharper eye")  # in which it learns alone
TILE_BUDGETS, SMALL_BUDGETS = (64, 128, 256), (16, 32, 64)  # of pages seen as tiles, and of smaller ones
WHOLE = 512  # tokens; no page has more


def new_native(recipe: Recipe = NANO_NATIVE) -> NativeLlava:
    """nano-vlm as a model for pictures of any size; nothing has learned yet.

    Eye and language model are nano-vlm's. The projector reads four patches at once; its first layer begins as
    nano-vlm's of their mean.
    """
    old, _ = nano.load_vlm(recipe.start["begins"])
    model = NativeLlava(recipe.model)
    squares = recipe.model.shuffle**2
    weights = old.state_dict()
    weights["projector.expand.weight"] = weights["projector.expand.weight"].repeat(1, squares) / squares
    model.load_state_dict(weights)
    return model.eval()


def load_native(name: str = "nano-native") -> tuple[Speaker, dict[str, Any]]:
    """A model in evaluation mode that can be asked about pictures of any size, and its card.

    Args:
        name: of a shipped one; or a file that ``vlmcourse train`` wrote, ending in .safetensors.

    Raises:
        FileNotFoundError: if there is no such model.
        CheckpointError: if the file is damaged, or another model's.
    """
    path = Path(name) if name.endswith(".safetensors") else shipped(f"{name}.safetensors")
    model = NativeLlava(NANO_NATIVE.model)
    card = load_weights(model, path)
    return Speaker(model.eval()), card


load_named = load_native


def pictures(count: int = 2000) -> list[np.ndarray]:
    """Scenes and pages as the eye saw them in training, in turn."""
    drawn = render(_scenes(count // 2, 1)), _pages(count // 2, 1).pictures
    return [one for pair in zip(*drawn, strict=True) for one in pair]


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe, or a variant of it."""
    model = new_native(recipe)
    torch.manual_seed(recipe.seed)  # for the layer that reads patches
    reader = PatchReader(model.vision)
    for stage in recipe.stages:
        learner = reader if stage.name in EYE_STAGES else model
        history = make_native(stage, learner, recipe.seed, **options(stage, learner))
        yield Made(stage, model, history, partial(measure_native, Speaker(model)))


def make_native(
    stage: Stage, model: NativeLlava | PatchReader, seed: int = NANO_NATIVE.seed, **options: Any
) -> History:
    """Run a stage of the recipe, or a variant of it.

    Args:
        model: or the reader of its eye, for the stage in which that learns alone.
        options: further arguments of training.loop.train, such as checkpoint and resume.
    """
    lessons = dict(stage.data)
    there = lessons["pages"] + lessons["scenes"]
    share = min(1.0, 2 * stage.steps * stage.size / there)  # in a trial of a few steps
    lessons |= {name: math.ceil(share * lessons[name]) for name in ("pages", "scenes")}
    options = dict(steps=stage.steps, seed=seed) | options
    if isinstance(model, PatchReader):
        return _teach_eye(stage, model, lessons, **options)
    found = page_lessons(Speaker(model), seed=seed, **lessons)
    return tune_native(model, *found, stage=stage, **options)


def _teach_eye(stage: Stage, reader: PatchReader, lessons: dict, *, seed: int, **options: Any) -> History:
    """The eye learns what every patch of pages and scenes shows."""
    world = seed + lessons.get("draw", 0)
    drawn, some = _pages(lessons["pages"], world), _scenes(lessons["scenes"], world)
    pictures, things = [*drawn.pictures, *render(some)], drawn.shown + scene_things(some)
    options = optimized(stage, reader) | options
    return teach_patches(reader, pictures, things, size=stage.size, seed=seed, **options)


def page_lessons(
    speaker: Speaker,
    pages: int,
    scenes: int,
    asked: int = 6,
    boxes: int = 2,
    read: bool = True,
    tiled: float = 0.0,
    shrunk: float = 0.0,
    most: int = WHOLE,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    draw: int = 0,
) -> tuple[Sights, Packs]:
    """Pages of all sizes, and behind them scenes, with their conversations.

    Args:
        pages, scenes: how many.
        asked: questions of a page at most; boxes: and how many more that are answered with a box; read:
            whether all that stands on it is asked for, too.
        tiled, shrunk: shares of pages that are seen as tiles, or smaller than they are.
        most: tokens of a page; larger ones are not drawn.
        kinds: of pages, see sample_pages.
        draw: which pages and scenes, with the seed.
    """
    drawn = seed + draw
    batch = _pages(pages, drawn, most, kinds)
    dice = np.random.default_rng((drawn, 19))
    shown = []
    for page, chance in zip(batch.pictures, dice.random(pages), strict=True):
        budget = int(dice.choice(TILE_BUDGETS if chance < tiled else SMALL_BUDGETS))
        whole = chance >= tiled + shrunk
        shown.append(show_page(page, "tiles" if chance < tiled else "native", WHOLE if whole else budget))
    some = _scenes(scenes, drawn)
    shown += [show_page(picture) for picture in render(some)]
    about = page_talks(batch, asked, boxes, drawn, read) + talks(some, drawn)
    sights = collect_sights(speaker.model, shown)
    return sights, speaker.encode(about, images=sights.pixels)


def _pages(count: int, seed: int, most: int = WHOLE, kinds: Sequence[str] | None = None) -> pages.Pages:
    """Pages of at most so many tokens."""
    sizes = [size for size in pages.PAGE_SIZES if size[0] * size[1] <= most * SQUARE**2]
    return pages.sample_pages("train", count, seed=seed, sizes=sizes, kind=kinds)


def _scenes(count: int, seed: int) -> scenes.Scenes:
    return scenes.sample("train", count, seed=seed)


def page_talks(
    batch: pages.Pages, asked: int = 6, boxes: int = 2, seed: int = 0, read: bool = True
) -> list[Talk]:
    """About each page so many of its questions, so many boxes of single things, and all that stands on it.

    Questions and boxes are any of the page's, but none twice. One answer that names everything teaches a
    language model to read much faster than many that name one thing each.
    """
    dice, about = np.random.default_rng((seed, 7)), []
    for number, (size, questions) in enumerate(zip(batch.sizes, batch.asked, strict=True)):
        plain = [(one.text, one.answer) for one in questions if one.kind != "where"]
        placed = [placing for one in questions if (placing := place_of_answer(one, size))]
        row = []
        for some, most in ((plain, asked), (placed, boxes)):
            row += [some[number] for number in dice.permutation(len(some))[:most]]
        whole = [(pages.READ, pages.read_page(batch, number))] if read else []
        about.append(whole + row)
    return about


def tune_native(
    model: NativeLlava,
    sights: Sights,
    rows: Packs,
    *,
    steps: int,
    stage: Stage = PAGES_STAGE,
    seed: int = 0,
    **options: Any,
) -> History:
    """Projector and language model learn to answer, and the eye with them unless its factor is 0.

    An eye that does not learn reads every page once, before the first step.

    Args:
        sights, rows: see page_lessons.
        stage: whose rates, schedule and size are used.
        options: size, pictures per step; further arguments of training.loop.train.
    """
    frozen = stage.factors.get("vision") == 0
    model.requires_grad_(True)
    model.vision.requires_grad_(not frozen)
    speaker = Speaker(model)

    def loss_of(model: nn.Module, batch: tuple) -> Tensor:
        seen, columns = batch
        features = seen[0].float() if frozen else sight_features(model, *seen)
        some = Packs(*columns).cut()
        return by_length(speaker.hidden(features, some), some, model.head)

    size = options.pop("size", stage.size)
    tokens = size * int((rows.packs >= 0).sum(dim=1).float().mean())
    chosen = dict(precision=precision_of(tokens, model.config.language.width))
    options = optimized(stage, model) | chosen | options
    seen = (collect_features(model, sights),) if frozen else tuple(sights)
    return learn(model, Batches((seen, tuple(rows)), size, seed=seed), loss_of, steps=steps, **options)
