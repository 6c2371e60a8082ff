"""A model of the course learns from your own pictures: ``vlmcourse train own --data FOLDER`` (notebook 12).

    lessons_from    pictures and conversations of a folder, one row for each picture
    train_own       a shipped model goes on learning from them
    store_own       its weights and its card

The vision encoder stays frozen. Of nano-vlm projector and language model learn, of a SmolLM2 LoRA. What comes
out is a model like the one it started from: `ask`, `evaluate`, `diagnose` and `export` take it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vlmcourse.data.own import OwnPictures, open_pictures
from vlmcourse.data.packing import Packs
from vlmcourse.data.quality import exact_hash
from vlmcourse.data.records import MOST_SKIPPED
from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.families import drawings, nano, real
from vlmcourse.families.carrying import data_line
from vlmcourse.families.making import family_of
from vlmcourse.interop.assembling import StoredParts
from vlmcourse.interop.distillation import Memory
from vlmcourse.recipes.recipe import Stage
from vlmcourse.speak import Features, Images, Speaker
from vlmcourse.training.checkpoints import save_weights
from vlmcourse.training.history import History
from vlmcourse.world.instructions import Talk, last_talks
from vlmcourse.world.render import render
from vlmcourse.world.scenes import sample

# half of each step are scenes, see scenes_again
NANO_OWN = Stage("own", 200, 8, dict(muon=0.01, adamw=1e-3), {}, factors=dict(projector=0.5), flat=0.3)
SMOLLM_OWN = replace(real.ANSWERS, name="own", steps=60, rates=dict(adamw=1.5e-3))
AGAIN = 3  # turns of a scene's conversation that come again; whole ones make a step more than twice as dear
OWN_STARTS = "nano-vlm, smollm-scenes or smollm-openmoji"


def lessons_from(pictures: OwnPictures, side: int) -> tuple[Images, list[Talk]]:
    """Each picture once, side × side, and all that is asked and answered about it.

    Raises:
        ValueError: if no row has a question and its answer.
    """
    asked: dict[str, Talk] = {}
    for record in pictures.records:
        turns = [text.replace(IMAGE_WORD, "") for _, text in record.turns]
        talk = [*zip(turns[::2], turns[1::2], strict=False)]
        asked.setdefault(str(record.image), []).extend(talk)
    asked = {image: talk for image, talk in asked.items() if talk}
    if not asked:
        raise ValueError(f"{pictures.file} asks nothing; a row needs an instruction and an output")
    first = {str(record.image): record for record in reversed(pictures.records)}
    return np.stack([first[image].load(side) for image in asked]), [*asked.values()]


def train_own(
    folder: str | Path,
    start: str = "smollm-scenes",
    steps: int = 0,
    seed: int = 0,
    most_skipped: float = MOST_SKIPPED,
    tell: Callable[[str], object] | None = None,
    **options: Any,
) -> tuple[Speaker, History, dict[str, Any]]:
    """A shipped model, after it has learned from a folder of pictures.

    Args:
        folder: see data.own.open_pictures; its test file is not looked at.
        start: which model goes on.
        steps: of the optimizer; 0 for those that fit the model.
        most_skipped: share of rows that may be left out.
        tell: takes a line before the data are made, if given.
        options: further arguments of training.loop.train, such as checkpoint and resume.

    Returns:
        speaker, history, and the model's card.

    Raises:
        ValueError: if the folder cannot be used, or the model cannot learn from pictures in this way.
    """
    try:
        family = family_of(start)
    except ValueError as error:
        raise ValueError(f"{error}; start from {OWN_STARTS}") from error
    if family not in (nano, real, drawings):
        raise ValueError(f"{start} does not learn from own pictures; start from {OWN_STARTS}")
    pictures = open_pictures(folder, most_skipped=most_skipped)
    if tell is not None:
        tell(data_line("own"))
    speaker, card = family.load_named(start)
    images, about = lessons_from(pictures, speaker.model.config.vision.image_shape[0])
    origin = dict(recipe="own", start=start, pictures=[exact_hash(image) for image in images], about=about)
    given = dict(seed=seed, origin=origin) | options
    stage = NANO_OWN if family is nano else SMOLLM_OWN
    stage = replace(stage, steps=steps or stage.steps, size=min(stage.size, len(images)))
    features = speaker.features(images)
    if family is nano:
        features, rows = beside_scenes(speaker, features, about, seed)
        options = dict(stage=stage, steps=stage.steps, size=stage.size) | given
        history = nano.tune(speaker.model, features, rows, **options)
    else:
        tokenizer = speaker.words.tokenizer
        texts = card["recipe"]["stages"][-1]["data"]["own_texts"]
        memory = Memory(speaker.model.language, tokenizer, texts, seed=seed)
        history = real.tune(speaker.model, tokenizer, features, about, stage=stage, memory=memory, **given)
    learned = dict(
        data=pictures.file.name, rows=len(pictures), pictures=len(images), start=start, steps=stage.steps
    )
    card = dict(recipe=card["recipe"], own=learned, seconds=round(history.seconds))
    return speaker, history, card


def beside_scenes(
    speaker: Speaker, features: Features, about: list[Talk], seed: int
) -> tuple[Features, Packs]:
    """Features and rows of own pictures, each so often that they are about half, and of scenes_again."""
    old, told = scenes_again(speaker, seed)
    often = -(-len(told) // len(about))
    return torch.cat([features.repeat(often, 1, 1), old]), speaker.encode(about * often + told)


def own_lessons(speaker: Speaker, folder: str | Path, seed: int) -> tuple[Features, Packs, list[str]]:
    """What a planned model learns from a folder, scenes beside it, and the fingerprints of its pictures.

    Raises:
        ValueError: if the folder cannot be used.
    """
    images, about = lessons_from(open_pictures(folder), speaker.model.config.vision.image_shape[0])
    return *beside_scenes(speaker, speaker.features(images), about, seed), [
        exact_hash(image) for image in images
    ]


def scenes_again(speaker: Speaker, seed: int, count: int = 600) -> tuple[Features, list[Talk]]:
    """What nano-vlm learned from before; half of each step, so that it does not forget it.

    Without it, 100 steps with twelve pictures took answers about scenes from 98 to 48 %, with it to 94 %; see
    tests/families/test_own_pictures.py.

    Source: rehearsal, Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal".
    """
    batch, chance = sample("train", count, seed=seed), np.random.default_rng(seed)
    told = []
    for talk in last_talks(batch, seed):
        turns = chance.permutation(len(talk))[:AGAIN]
        told.append([talk[turn] for turn in turns])
    return speaker.features(render(batch)), told


def store_own(speaker: Speaker, card: dict[str, Any], path: Path) -> Path:
    """Write weights and card; which pictures are foreign to the model is no longer said.

    Raises:
        CheckpointError: if they cannot be written.
    """
    model = speaker.model
    stored: nn.Module = model if family_of(card["own"]["start"]) is nano else StoredParts(model)
    return save_weights(stored, path, card)
