"""Why not everything at once?  Three ways from a new projector to a model that answers, at equal steps.

    python tools/nano_stages.py [ARM ...]

Each arm starts from the shipped eye and words, a new projector and 400 steps. Lessons hold questions of all
eight kinds and no captions, so that what a stage leaves out can be forgotten. Every 50 steps: right answers
about new scenes and the perplexity of captions without their images, over CPU seconds. An arm takes about
two minutes of one core; the card is assets/checkpoints/nano-stages.json, which notebook 08 reads.
"""

import json
import platform
import sys
import time
from collections.abc import Callable

import torch

from vlmcourse.data.assets import assets_folder
from vlmcourse.evaluation.answers import prior_accuracy
from vlmcourse.families import nano
from vlmcourse.models.llava import Llava
from vlmcourse.speak import Speaker
from vlmcourse.training.optimizers import rate_groups, warmup_linear
from vlmcourse.training.stages import align
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import talks
from vlmcourse.world.render import render

STEPS, EVERY, QUICK, SLOW = 400, 50, 3e-3, 3e-4
# steps of alignment before the instructions, rate of the language model, captions among the lessons
ARMS = {
    "joint": (0, QUICK, False),
    "staged": (100, QUICK, False),
    "staged, slow language": (100, SLOW, False),
    "staged, captions among the lessons": (100, QUICK, True),
}
SETTING = dict(steps=STEPS, images=8, captions=16, rate=QUICK, slow=SLOW, alignment=100, seed=0)


class Clock:
    """Watches an arm: CPU seconds without those of measuring, right answers, perplexity."""

    def __init__(self, model: Llava):
        batch = scenes.sample("validation", 200)
        self.model, self.answers = model, nano.held_out(model)
        self.texts = captions.captions(batch, "full")
        self.spent, self.steps, self.points, self.start = 0.0, 0, [], time.process_time()

    def add(self, step: int, **numbers: float) -> None:
        self.steps += 1
        if self.steps % EVERY == 0:
            self.spent += time.process_time() - self.start
            self.model.eval()
            row = round(self.spent), self.answers(), nano.caption_perplexity(self.model, self.texts)
            self.points.append([round(number, 4) for number in row])
            print(self.steps, self.points[-1], flush=True)
            self.model.train()
            self.start = time.process_time()


def run(name: str) -> list[list[float]]:
    """Train one arm: [CPU seconds, right answers, perplexity of captions without images] over time."""
    aligned_for, rate, captioned = ARMS[name]
    model, batch = nano.load_vlm("nano-words")[0], scenes.sample("train", STEPS * SETTING["images"])
    seen = nano.features(model, render(batch))
    model.projector.calibrate(seen[:200], nano.WORD_SIZE)
    rows = Speaker(model).encode(talks(batch, sentences=0, captioned=captioned))
    clock = Clock(model)
    if aligned_for:
        texts = captions.captions(batch, "full")
        align(model, seen, texts, steps=aligned_for, size=SETTING["captions"], watch=clock)
    model.vision.requires_grad_(False)
    groups = rate_groups(model.named_parameters(), {"projector": QUICK, "language": rate}, 0.01)
    steps, optimizer = STEPS - aligned_for, torch.optim.AdamW(groups, betas=(0.9, 0.95))
    options = dict(optimizer=optimizer, schedule=warmup_linear(steps, warmup=10), watch=clock)
    nano.tune(model, seen, rows, steps=steps, size=SETTING["images"], **options)
    return clock.points


def write(arms: dict[str, list], save: Callable[[str], object]) -> None:
    """The card; arms that were not run again stay."""
    hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    words = nano.load_vlm("nano-words")[0]
    before = nano.caption_perplexity(words, captions.captions(scenes.sample("validation", 200), "full"))
    card = dict(command="python tools/nano_stages.py", setting=SETTING, hardware=hardware)
    card |= {"answer prior": round(prior_accuracy(), 4), "perplexity before": round(before, 4), "arms": arms}
    save(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    card = assets_folder() / "checkpoints" / "nano-stages.json"
    done = json.loads(card.read_text())["arms"] if card.is_file() else {}
    for chosen in sys.argv[1:] or ARMS:
        done[chosen] = run(chosen)
        write(done, card.write_text)
