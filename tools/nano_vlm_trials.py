"""What a choice of the nano VLM is worth: the last two stages, short, with one thing changed (card of nano-vlm).

    python tools/nano_vlm_trials.py [TRIAL ...]

Each trial begins with the shipped words, aligns for 150 steps and follows instructions for 300, in about six
minutes of one core. Printed are rows for tools/checkpoints/nano_vlm_tried.json: answers to all kinds of
questions about 200 scenes, and relations by axis.
"""

import dataclasses
import json
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vlmcourse import nano, recipes
from vlmcourse.diagnostics.probe import linear_share
from vlmcourse.models.llava import Llava
from vlmcourse.training.regions import region_targets
from vlmcourse.world import scenes
from vlmcourse.world.render import render
from vlmcourse.world.scenes import RELATIONS

STEPS = {"aligned": 150, "vlm": 300}
held_out = runpy.run_path(str(Path(__file__).parent / "checkpoints" / "nano_vlm.py"))["held_out"]


def region_eye() -> Llava:
    """The model as its first two stages left it; its projector is untrained."""
    return nano.load_vlm("nano-words")[0]


def clip_eye() -> Llava:
    """The same language model behind the eye of clip-scenes, whose last block but one says most of places."""
    clip, words = recipes.load_clip("clip-scenes")[0], nano.load_vlm("nano-words")[0]
    torch.manual_seed(0)
    model = Llava(dataclasses.replace(nano.CONFIG, vision=clip.config.vision, layer=-2))
    model.vision.load_state_dict(clip.vision.state_dict())
    model.language.load_state_dict(words.language.state_dict())
    return model


TRIALS: dict[str, tuple[str, Callable[[], Llava], dict]] = {
    "region-eye": ("the recipe as shipped", region_eye, {}),
    "clip-eye": ("the eye of clip-scenes in place of the region eye", clip_eye, {}),
    "full-rate": ("projector at the full rate in the last stage", region_eye, {"slow": 1.0}),
    "no-alignment": (
        "projector at the full rate, and no alignment before",
        region_eye,
        {"slow": 1.0, "aligned": 0},
    ),
}


def by_axis(model: Llava, count: int = 400) -> dict[str, float]:
    """Relations answered right, and the share of the image tokens that goes with places (notebook 08), by axis."""
    batch, asked = nano.asked_of(scenes.sample("test", count), "relation")
    said = nano.answer(model, render(batch), [question.text for question in asked])
    sideways = np.array([question.asked.relation < RELATIONS.index("above") for question in asked])
    right = np.array([a == q.answer for a, q in zip(said, asked, strict=True)])
    regions, tokens = region_targets(batch), model.projector(nano.features(model, render(batch)).float())
    shown = regions.there > 0
    kept = linear_share(F.normalize(tokens, dim=-1)[shown], regions.middle[shown])
    return {"sideways": right[sideways].mean(), "above or below": right[~sideways].mean(),
            "tokens, sideways": kept[0], "tokens, up and down": kept[1]}  # fmt: skip


def run(name: str) -> dict:
    what, build, change = TRIALS[name]
    model, slow, start = build(), nano.SLOW, time.process_time()
    nano.SLOW = change.get("slow", slow)
    if not change.get("aligned", True):
        model.projector.calibrate(nano.features(model, render(scenes.sample("train", 500))), nano.WORD_SIZE)
    for stage, steps in STEPS.items():
        if change.get(stage, True):
            plan = nano.STAGES[stage]
            nano.make(
                stage,
                model,
                size=plan | {"steps": steps, "scenes": min(plan["scenes"], steps * plan["size"])},
            )
    nano.SLOW, spent = slow, time.process_time() - start
    numbers = {"right": held_out(model)()} | by_axis(model)
    row = {"what": f"{what}; 150 steps of alignment and 300 of instructions (nano_vlm_trials.py {name})"}
    return (
        row | {key: round(float(value), 4) for key, value in numbers.items()} | {"seconds": f"+ {spent:.0f}"}
    )


if __name__ == "__main__":
    for chosen in sys.argv[1:] or TRIALS:
        print(json.dumps(run(chosen), ensure_ascii=False), flush=True)
