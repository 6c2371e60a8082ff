"""nano-video, which reads several pictures and clips, see recipes/nano_video.py (notebook 16).

    new_video, load_video   as it begins, from nano-vlm; the shipped one and its card
    run                     carry out the recipe
    frame_lessons           what it learns from: questions about pictures, pairs and clips
    mark_changes            and at each token of a second picture, whether its part changed
    mark_looks              or what was there before
    tune_video              some steps of that

What it is measured by stands in families/watching.py.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import IGNORED
from vlmcourse.data.packing import Packs
from vlmcourse.families import nano
from vlmcourse.families.connectors import own_parts
from vlmcourse.families.nano import by_length, optimized
from vlmcourse.families.nano import pictures as pictures  # it has the same eye
from vlmcourse.families.watching import PAIR, measure_video
from vlmcourse.models.video import VideoLlava
from vlmcourse.recipes.book import find_recipe
from vlmcourse.recipes.nano_video import NANO_VIDEO
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.speak import Features, Speaker, course_words
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.precision import precision_of
from vlmcourse.training.stages import set_stage
from vlmcourse.world import changes, motion, pointing, scenes
from vlmcourse.world.instructions import talks
from vlmcourse.world.render import render

FrameLessons = dict[str, tuple[Features, Packs]]  # by kind: features of rows, and their conversations
STAGE = NANO_VIDEO.stages[-1]
FREQUENCIES = 4  # of the waves that new location words begin as


def new_video(recipe: Recipe = NANO_VIDEO) -> VideoLlava:
    """nano-vlm as a model for several pictures, with new words for places; nothing has learned yet."""
    torch.manual_seed(recipe.seed)
    old, _ = nano.load_vlm(recipe.start["vision"])
    model = VideoLlava(recipe.model)
    weights = old.state_dict()
    known = weights["language.embedding.weight"]
    new = model.language.embedding.num_embeddings - len(known)
    size = known.square().mean().sqrt()
    whole = torch.cat([known, size * place_vectors(math.isqrt(new), known.shape[1], recipe.seed)])
    weights |= {f"language.{name}.weight": whole for name in ("embedding", "head")}
    model.load_state_dict(weights)
    return model.eval()


def place_vectors(bins: int, width: int, seed: int = 0) -> Float[Tensor, "cell {width}"]:
    """A vector for each cell of a grid, row by row: cells near each other have similar ones; of unit size.

    Each is a mix, by chance, of waves over its row and its column, as positions of a picture often are. So a
    model that is one cell off is nearly right from the first step on.
    """
    middle = (torch.arange(bins) + 0.5) / bins
    turns = math.pi * middle[:, None] * torch.arange(1, FREQUENCIES + 1)
    waves = torch.cat([turns.sin(), turns.cos()], dim=1)
    grid = torch.cat([waves.repeat_interleave(bins, dim=0), waves.repeat(bins, 1)], dim=1)
    mixed = grid @ torch.randn(grid.shape[1], width, generator=torch.Generator().manual_seed(seed))
    return mixed / mixed.square().mean().sqrt()


def video_speaker(model: VideoLlava) -> Speaker:
    """A speaker whose words have the places among them."""
    return Speaker(model, course_words(pointing.location_words()))


def load_video(name: str = "nano-video") -> tuple[Speaker, dict[str, Any]]:
    """A model in evaluation mode that can be asked about pictures, pairs and clips, and its card.

    Args:
        name: of its recipe; or a file that ``vlmcourse train`` wrote, ending in .safetensors.

    Raises:
        FileNotFoundError: if there is no such model, or nano-vlm, whose eye it has, is missing.
        CheckpointError: if the file is damaged, or another model's.
    """
    path = Path(name) if name.endswith(".safetensors") else shipped(f"{name}.safetensors")
    recipe = find_recipe("nano-video")
    model = new_video(recipe)
    card = load_weights(own_parts(model, recipe), path)
    return video_speaker(model.eval()), card


load_named = load_video


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe, or a variant of it."""
    model = new_video(recipe)
    for stage in recipe.stages:
        history = make_video(stage, model, recipe.seed, **options(stage, model))
        measured = partial(measure_video, video_speaker(model))
        yield Made(stage, own_parts(model, recipe), history, measured)


def make_video(stage: Stage, model: VideoLlava, seed: int = NANO_VIDEO.seed, **train_options: Any) -> History:
    """Run a stage of the recipe, or a variant of it.

    Args:
        train_options: further arguments of training.loop.train, such as checkpoint and resume.
    """
    needed = min(stage.data["groups"], 2 * stage.steps * stage.size)  # in a trial of a few steps
    stage = replace(stage, data={**stage.data, "groups": needed})
    lessons = {name: value for name, value in stage.data.items() if name != "weight"}
    found = frame_lessons(video_speaker(model), seed=seed, **lessons)
    options = dict(steps=stage.steps, seed=seed + stage.data.get("draw", 0)) | train_options
    return tune_video(model, found, stage=stage, **options)


def frame_lessons(
    speaker: Speaker,
    groups: int,
    pictures: int = 1,
    pairs: int = 2,
    clips: int = 2,
    seed: int = 0,
    draw: int = 3,
    marked: bool = False,
    compared: int = 0,
) -> FrameLessons:
    """Features and conversations of "pictures", "pairs" and "clips": ``groups`` groups of so many rows each.

    Half of the clips go straight, half go round; all have four frames. With ``compared`` there are pairs
    "compared", too, see compared_pairs.

    Args:
        draw: which scenes, with the seed.
        marked: whether pairs teach at every token of the second picture, too, see mark_changes.
        compared: pairs of a group that are asked "What changed?" alone, in both orders: twice as many rows.
    """
    drawn, found = seed + draw, {}
    batch = scenes.sample("train", groups * pictures, seed=drawn)
    found["pictures"] = _features(speaker, render(batch)), speaker.encode(picture_talks(batch, drawn))
    some = changes.sample_changes("train", groups * pairs, seed=drawn)
    about, images = speaker.encode(pair_talks(some, drawn), PAIR), some.pictures()
    found["pairs"] = _features(speaker, images), mark_changes(speaker, images, about) if marked else about
    films = [_film(speaker, path, groups * clips // 2, drawn) for path in motion.PATHS]
    found["clips"] = _joined(*films)
    if compared:
        found["compared"] = compared_pairs(speaker, groups * compared, drawn + 1)
    return found


def compared_pairs(speaker: Speaker, count: int, seed: int) -> tuple[Features, Packs]:
    """So many pairs in both orders, one behind the other, each asked what changed, see mark_looks.

    Such a row is short: a step sees three times as many pairs as of those of pair_talks.
    """
    pairs = changes.sample_changes("train", count, seed=seed)
    features = _features(speaker, pairs.pictures())
    orders = []
    for order, shown in ((pairs, features), (pairs.swapped(), features.flip(1))):
        asked = [[(changes.WHAT_CHANGED, sentence)] for sentence in order.sentences()]
        orders.append((shown, mark_looks(speaker, order, speaker.encode(asked, PAIR))))
    return _joined(*orders)


def mark_changes(
    speaker: Speaker, images: UInt8[np.ndarray, "pair picture height width 3"], rows: Packs
) -> Packs:
    """The same rows, where each token of the second picture is to say whether its part of it changed.

    "yes" or "no" stands as the label behind the token, where a language model predicts from it. So comparing
    two pictures place by place is asked for sixteen times in a row, not only by how a sentence begins.
    """
    (no,), (yes,) = speaker.words.number(["no", "yes"])
    return _labelled(speaker, rows, torch.where(_parts(speaker, images[:, 0] != images[:, 1]), yes, no))


def mark_looks(speaker: Speaker, pairs: changes.Changes, rows: Packs) -> Packs:
    """The same rows, where each token of the second picture is to say what was in its part of it before.

    "no" where nothing changed; where the thing that changed stood in the first picture, its colour then;
    where it is new, "moved" (the first token of it) if it stood elsewhere, else "yes". A sentence about what
    changed begins with how a thing looked, and that may be nowhere to be seen in the second picture.
    """
    images, truths = pairs.pictures(), pairs.truths()
    was, moved = np.zeros(images.shape[:1] + images.shape[2:], dtype=bool), []
    for pair, truth in enumerate(truths):
        before, after = pairs.things(pair)
        for thing in set(before) - set(after):
            left, top, right, bottom = thing.box
            was[pair, max(top, 0) : bottom, max(left, 0) : right] = True
        moved.append(truth.kind == "position")
    differ, here = _parts(speaker, images[:, 0] != images[:, 1]), _parts(speaker, was)
    no, yes, move, *colours = (
        ids[0] for ids in speaker.words.number(["no", "yes", "moved", *scenes.COLOURS])
    )
    colour = torch.tensor([colours[truth.who.colour] for truth in truths])[:, None]
    new = torch.where(torch.tensor(moved)[:, None], move, yes)
    return _labelled(speaker, rows, torch.where(differ, torch.where(here, colour, new), no))


def _parts(speaker: Speaker, pixels: np.ndarray) -> Bool[Tensor, "pair part"]:
    """Whether anything is true in the part of a picture that each token of a frame stands for."""
    tall, wide = (edge // speaker.model.side for edge in speaker.model.grid)
    pixels = pixels.any(-1) if pixels.ndim == 4 else pixels
    height, width = (edge // n for edge, n in zip(pixels.shape[1:], (tall, wide), strict=True))
    parts = pixels.reshape(len(pixels), tall, height, wide, width).any((2, 4))
    return torch.from_numpy(parts.reshape(len(pixels), -1))


def _labelled(speaker: Speaker, rows: Packs, words: Int[Tensor, "pair part"]) -> Packs:
    """The same rows with these words to be predicted at the tokens of the last picture."""
    behind = (rows.ids[0] == speaker.words.image).nonzero()[-words.shape[1] :, 0] + 1
    labels = rows.labels.clone()
    labels[:, behind] = words
    return rows._replace(labels=labels)


def picture_talks(batch: scenes.Scenes, seed: int) -> list[list[tuple[str, str]]]:
    """About single pictures: one question of every kind and a caption, as nano-vlm learned; and two boxes."""
    where = [pointing.point_talks(batch, seed + more) for more in (0, 1)]
    return [about + one + other for about, one, other in zip(talks(batch, seed), *where, strict=True)]


def pair_talks(pairs: changes.Changes, seed: int) -> list[list[tuple[str, str]]]:
    """About each pair what changed, two questions whose answers differ in the two pictures, and two boxes."""
    which = [changes.ask_which(pairs, seed + more) for more in (0, 1)]
    rows = [[(changes.WHAT_CHANGED, sentence)] for sentence in pairs.sentences()]
    where = [pointing.point_talks(batch, seed) for batch in (pairs.before, pairs.after)]
    for row, one, other, *boxes in zip(rows, *which, *where, strict=True):
        row += (one or []) + (other or [])
        for picture, told in enumerate(boxes):
            row += [(changes.in_picture(question, picture), answer) for question, answer in told]
    return [list(dict.fromkeys(row)) for row in rows]


def clip_talks(clips: motion.Clips, seed: int) -> list[list[tuple[str, str]]]:
    """About each clip which way, at two times where, if it matters when, and two boxes at some time."""
    when = [motion.ask_when(clips, seed + more) for more in (0, 1)]
    boxes = [motion.point_when(clips, seed + more) for more in (0, 1)]
    rows = [[asked] for asked in zip(clips.questions(), clips.answers(), strict=True)]
    for row, *some in zip(rows, *when, *boxes, strict=True):
        row += dict.fromkeys(filter(None, some))
    return rows


def _features(speaker: Speaker, images: Any) -> Features:
    return speaker.features(images, 500, torch.bfloat16)


def _film(speaker: Speaker, path: str, count: int, seed: int) -> tuple[Features, Packs]:
    clips = motion.sample_clips("train", count, seed=seed, path=path)
    return _features(speaker, clips.pictures()), speaker.encode(clip_talks(clips, seed), clips.stamps())


def _joined(*parts: tuple[Features, Packs]) -> tuple[Features, Packs]:
    """Rows of several kinds, one of each kind after the other."""
    length = max(rows.ids.shape[1] for _, rows in parts)
    columns = []
    for name, empty in (("ids", 0), ("labels", IGNORED), ("packs", -1)):
        wide = [getattr(rows, name) for _, rows in parts]
        wide = [nn.functional.pad(part, (0, length - part.shape[1]), value=empty) for part in wide]
        columns.append(torch.stack(wide, dim=1).flatten(0, 1))
    return torch.stack([features for features, _ in parts], dim=1).flatten(0, 1), Packs(*columns)


def tune_video(
    model: VideoLlava, found: FrameLessons, *, steps: int, stage: Stage = STAGE, seed: int = 0, **options: Any
) -> History:
    """Projector and language model learn from pictures, pairs and clips at once; the eye stays as it is.

    Args:
        found: see frame_lessons.
        stage: whose rates, schedule and sizes are used; the loss of compared pairs counts ``weight`` times,
            if its data say so.
        options: size, groups per step; further arguments of training.loop.train.
    """
    set_stage(model, 2)
    groups = stage.data["groups"]
    source = {}
    for kind, (features, rows) in found.items():
        source[kind] = tuple(column.unflatten(0, (groups, -1)) for column in (features, *rows))
    speaker = video_speaker(model)
    weights = {"compared": stage.data.get("weight", 1.0)}

    def loss_of(model: nn.Module, batch: dict) -> tuple[Tensor, dict]:
        losses = {}
        for kind, (features, *columns) in batch.items():
            rows = Packs(*(column.flatten(0, 1) for column in columns)).cut()
            hidden = speaker.hidden(features.flatten(0, 1).float(), rows)
            losses[kind] = by_length(hidden, rows, model.head)
        return sum(weights.get(kind, 1.0) * loss for kind, loss in losses.items()), losses

    size = options.pop("size", stage.size)
    options = (
        optimized(stage, model)
        | dict(precision=precision_of(size * 500, model.config.language.width))
        | options
    )
    batches = Batches(source, size, seed=seed, unasked=_unasked)
    return learn(model, batches, loss_of, steps=steps, **options)


def _unasked(batch: dict[str, tuple[Tensor, ...]]) -> dict[str, tuple[Tensor, ...]]:
    """The same rows without an answer that is to be predicted."""
    return {
        kind: (features, ids, torch.full_like(labels, IGNORED), packs)
        for kind, (features, ids, labels, packs) in batch.items()
    }
