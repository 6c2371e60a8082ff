"""What a choice of the nano VLM is worth: alignment and instructions, short, with one thing changed.

    python tools/nano_vlm_trials.py [TRIAL ...]

Each trial begins with the shipped words, aligns for 150 steps and follows instructions for 300, in about six
minutes of one core. Printed are rows for tools/tried/nano-vlm.json: answers to all kinds of questions about
200 scenes, and relations by axis.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from vlmcourse.diagnostics.probe import linear_share
from vlmcourse.evaluation.answers import asked_of
from vlmcourse.families import clips, nano
from vlmcourse.models.llava import Llava
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe
from vlmcourse.speak import Speaker
from vlmcourse.training.regions import region_targets
from vlmcourse.world import scenes
from vlmcourse.world.render import render
from vlmcourse.world.scenes import RELATIONS


def region_eye() -> Llava:
    """The model as its first two stages left it; its projector is untrained."""
    return nano.load_vlm("nano-words")[0]


def clip_eye() -> Llava:
    """The same language model behind the eye of clip-scenes, whose last block but one says most of places."""
    clip, words = clips.load_clip("clip-scenes")[0], nano.load_vlm("nano-words")[0]
    torch.manual_seed(0)
    model = Llava(replace(nano.CONFIG, vision=clip.config.vision, layer=-2))
    model.vision.load_state_dict(clip.vision.state_dict())
    model.language.load_state_dict(words.language.state_dict())
    return model


def shortened(recipe: Recipe) -> Recipe:
    """Alignment and instructions, with no more scenes than they have time for."""
    for name, steps in (("aligned", 150), ("vlm", 300)):
        stage = recipe.stage(name)
        data = {**stage.data, "scenes": min(stage.data["scenes"], steps * stage.size)}
        recipe = recipe.vary(name, steps=steps, data=data)
    return replace(recipe, stages=recipe.until("vlm").stages[2:])


SHORT = shortened(NANO_VLM)
FULL_RATE = SHORT.vary("vlm", factors={})
TRIALS: dict[str, tuple[str, Callable[[], Llava], Recipe]] = {
    "region-eye": ("the recipe as shipped", region_eye, SHORT),
    "clip-eye": ("the eye of clip-scenes in place of the region eye", clip_eye, SHORT),
    "full-rate": ("projector at the full rate in the last stage", region_eye, FULL_RATE),
    "no-alignment": (
        "projector at the full rate, and no alignment before",
        region_eye,
        replace(FULL_RATE, stages=FULL_RATE.stages[1:]),
    ),
}


def by_axis(model: Llava, count: int = 400) -> dict[str, float]:
    """Relations answered right, and by axis the share of the image tokens that goes with places."""
    batch, asked = asked_of(scenes.sample("test", count), "relation")
    answers = Speaker(model).answer(render(batch), [question.text for question in asked])
    sideways = np.array([question.asked.relation < RELATIONS.index("above") for question in asked])
    right = np.array([answer == question.answer for answer, question in zip(answers, asked, strict=True)])
    regions, tokens = region_targets(batch), model.projector(nano.features(model, render(batch)).float())
    shown = regions.there > 0
    kept = linear_share(F.normalize(tokens, dim=-1)[shown], regions.middle[shown])
    return {"sideways": right[sideways].mean(), "above or below": right[~sideways].mean(),
            "tokens, sideways": kept[0], "tokens, up and down": kept[1]}  # fmt: skip


def run(name: str) -> dict:
    """Train and measure one trial."""
    what, build, recipe = TRIALS[name]
    model, start = build(), time.process_time()
    if "aligned" not in [stage.name for stage in recipe.stages]:
        images = nano.features(model, render(scenes.sample("train", 500)))
        model.projector.calibrate(images, nano.WORD_SIZE)
    for stage in recipe.stages:
        nano.make(stage, model)
    spent = time.process_time() - start
    numbers = {"right": nano.held_out(model)()} | by_axis(model)
    row = {"what": f"{what}; 150 steps of alignment and 300 of instructions (nano_vlm_trials.py {name})"}
    numbers = {key: round(float(value), 4) for key, value in numbers.items()}
    return row | numbers | {"seconds": f"+ {spent:.0f}"}


if __name__ == "__main__":
    for chosen in sys.argv[1:] or TRIALS:
        print(json.dumps(run(chosen), ensure_ascii=False), flush=True)
