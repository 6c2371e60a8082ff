"""Train shipped checkpoints again: what recipes say, measured as it is stored, each with its card.

    python tools/ship.py [NAME ...]
    python tools/ship.py --familiar [NAME ...]

Without a name all recipes run whose models are shipped, in the order in which they build on each other.
nano-vlm:vlm trains only from the stage vlm on and takes what the stage before it shipped, and its CPU
seconds. A stage that was broken off goes on from its newest checkpoint in runs/shipping, and a finished one
is only loaded. The card of a nano model also holds its accuracy over CPU seconds, all stages counted; a card
says what else was tried, if tools/tried has a list. The second form trains nothing: it only measures anew
which pictures shipped models learned from.
"""

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from vlmcourse.data.assets import assets_folder, shipped
from vlmcourse.families import nano
from vlmcourse.families.making import FAMILIAR, run, store, store_familiar
from vlmcourse.recipes.book import RECIPES, find_recipe
from vlmcourse.recipes.recipe import Made, Recipe, Stage

ROOT = Path(__file__).parents[1]
EVERY = 100  # steps between two points of the curve
# whose file holds what they left as it was: all but the projector; the eye
BESIDE = dict.fromkeys(("nano-aligned", "nano-vlm", "nano-grpo", "smollm-scenes"), "nano-words")
BESIDE["smollm-openmoji"] = "clip-openmoji"
WATCHED = ("vlm", "pairs", "last", "sharp", "whole")  # stages in which the model learns to answer


class Clock:
    """Watches a stage: CPU seconds of this process, without those of the watching, and accuracy over them."""

    def __init__(self, model: nn.Module, before: float, file: Path, accuracy: Callable[[], float] | None):
        self.model, self.file, self.accuracy = model, file, accuracy
        kept = json.loads(file.read_text()) if file.is_file() else {"spent": before, "curve": []}
        self.spent, self.curve, self.start = kept["spent"], kept["curve"], time.process_time()

    def add(self, step: int, **numbers: float) -> None:
        if step % 50 == 0:
            self.spent += time.process_time() - self.start
            if self.accuracy and step % EVERY == 0:
                self.model.eval()
                self.curve.append([round(self.spent), round(self.accuracy(), 4)])
                print(f"step {step}: {self.curve[-1]}, loss {numbers['loss']:.3f}", flush=True)
                self.model.train()
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps({"spent": self.spent, "curve": self.curve}))
            self.start = time.process_time()


def ships(recipe: Recipe) -> bool:
    """Whether the course ships anything that the recipe makes."""
    return any(stage.ships for stage in recipe.stages)


def ship(recipe: Recipe, first: str = "") -> None:
    """Train a recipe and store what its stages leave; all of them, or those from the ``first`` one on."""
    folder, clocks, begun = ROOT / "runs" / "shipping" / recipe.name, [], 0.0
    trained = recipe.since(first) if first else recipe
    if first:
        begun = json.loads(shipped(f"{trained.start['shipped']}.json").read_text())["cpu_seconds"]

    def options(stage: Stage, model: nn.Module) -> dict:
        accuracy = nano.held_out(model) if stage.name in WATCHED else None
        spent = clocks[-1].spent if clocks else begun
        clocks.append(Clock(model, spent, folder / f"{stage.name}.json", accuracy))
        origin = dict(recipe=recipe.name, **asdict(stage))
        return dict(checkpoint=folder / stage.name, resume=True, origin=origin, watch=clocks[-1])

    for made in run(trained, options):
        if made.stage.ships:
            path = assets_folder() / "checkpoints" / f"{made.stage.ships}.safetensors"
            beside = BESIDE.get(made.stage.ships)
            beside = beside and path.with_name(f"{beside}.safetensors")
            print(store(made, path, card_of(made, recipe, clocks), beside), flush=True)


def card_of(made: Made, recipe: Recipe, clocks: list[Clock]) -> dict:
    """How a checkpoint came about, and what it reaches."""
    if made.history is None:
        return {}
    # the file holds fp16: measure what is shipped
    for values in (*made.stored.parameters(), *made.stored.buffers()):
        values.data = values.data.half().float() if values.is_floating_point() else values.data
    hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    card = dict(
        recipe=recipe.card(), seed=recipe.seed, seconds=round(made.history.seconds), hardware=hardware,
        cpu_seconds=round(clocks[-1].spent), precision=made.history.precision,
        first_loss=made.history.losses[0], metrics=made.measure(),
    )  # fmt: skip
    if clocks[-1].curve:
        card["curve"] = clocks[-1].curve
    tried = ROOT / "tools" / "tried" / f"{made.stage.ships}.json"
    return card | dict(tried=json.loads(tried.read_text())) if tried.is_file() else card


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "--familiar"]
    if "--familiar" in sys.argv:
        beside = (assets_folder() / "checkpoints").glob(f"*{FAMILIAR}")
        for name in names or sorted(path.name.removesuffix(FAMILIAR) for path in beside):
            print(store_familiar(name))
    else:
        for wanted in names or [name for name, recipe in RECIPES.items() if ships(recipe)]:
            name, _, first = wanted.partition(":")
            ship(find_recipe(name), first)
