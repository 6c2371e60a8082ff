"""Before a T5 reads an eye, it reads lists of things: what a perfect eye would hand over (nano-blip2-t5).

    perfect_eye    one vector for each thing of a scene: its looks and its place
    read_lists     a T5 learns from them what questions want: which thing is meant, and how two compare

BLIP-2's Flan-T5 had read much before it saw an image; this one is new. Behind a Q-Former it learned single
things and answered relations nearly by chance (`tried` on its card); whether these lists or the images of two
things made the difference was not tried apart.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.families.nano import by_length, optimized
from vlmcourse.models.blip2 import Blip2T5
from vlmcourse.models.vlm import VLM, ImageTokens
from vlmcourse.recipes.recipe import Stage
from vlmcourse.speak import Speaker
from vlmcourse.training.history import History
from vlmcourse.world.instructions import paired_talks
from vlmcourse.world.scenes import COLOURS, MOST, SHAPES, SIDE, SIZES, Scenes, sample

MARKS, BLUR = 16, 6.0  # of a place: marks along each axis, and how many pixels away one still notices it
THING_FIELDS = len(SIZES) + len(COLOURS) + len(SHAPES) + 2 * MARKS


def perfect_eye(batch: Scenes) -> Float[Tensor, "scene thing field"]:
    """Size, colour and shape of each thing as 1 among zeros, then its place; zeros where there is no thing.

    A place is how near it is to each of MARKS marks along x, then along y: exp(-(distance / BLUR)²).
    """
    looks = [np.eye(len(names))[column] for names, column in _columns(batch)]
    marks = np.linspace(0, SIDE - 1, MARKS)
    places = [np.exp(-(((axis[..., None] - marks) / BLUR) ** 2)) for axis in (batch.x, batch.y)]
    vectors = np.concatenate([*looks, *places], axis=-1) * batch.present[..., None]
    return torch.from_numpy(vectors).float()


def _columns(batch: Scenes) -> list[tuple[tuple[str, ...], np.ndarray]]:
    return [(SIZES, batch.size), (COLOURS, batch.colour), (SHAPES, batch.shape)]


class ListReader(Blip2T5):
    """The T5 of a BLIP-2 behind a new layer that takes lists of things in place of an image."""

    def __init__(self, model: Blip2T5, things: int):
        VLM.__init__(self)
        self.config, self.start, self.end, self.things = model.config, model.start, model.end, things
        self.language = model.language
        self.projector = nn.Linear(THING_FIELDS, model.config.language.width, bias=False)
        nn.init.normal_(self.projector.weight, std=0.5)

    @property
    def tokens_per_image(self) -> int:
        return self.things

    def connect(self, features: Float[Tensor, "image thing field"]) -> ImageTokens:
        return self.projector(features)


def read_lists(model: Blip2T5, stage: Stage, seed: int, **train_options: Any) -> History:
    """Train the T5 of a model in place; its eye, Q-Former and projector have no part in it.

    Args:
        stage: its data say how many scenes of how many objects, and the arguments of paired_talks.
        train_options: further arguments of training.loop.train.
    """
    data = dict(stage.data)
    scenes, drawn, objects = data.pop("scenes"), seed + data.pop("draw", 0), data.pop("objects", (1, MOST))
    batch = sample("train", scenes, seed=drawn, objects=objects)
    reader = ListReader(model, things=objects[1])
    speaker = Speaker(reader)
    rows = speaker.encode(paired_talks(batch, drawn, **data))
    options = dict(steps=stage.steps, size=stage.size, seed=seed) | optimized(stage, reader) | train_options
    return speaker.tune(perfect_eye(batch)[:, : objects[1]], rows, loss=by_length, **options)
