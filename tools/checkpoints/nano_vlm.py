"""Train the nano VLM from nothing, stage by stage: nano-words, nano-aligned and nano-vlm, each with its card.

    python tools/checkpoints/nano_vlm.py [eye | words | aligned | vlm]

Without a name all stages run. A stage that was broken off goes on from its newest checkpoint in
runs/nano-vlm, and a finished one is only loaded. The card of nano-vlm holds the accuracy over CPU seconds,
all stages counted, and a table of what else was tried (tools/checkpoints/nano_vlm_tried.json).
"""

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vlmcourse import nano
from vlmcourse.data.assets import assets_folder
from vlmcourse.evaluation.statements import true_share
from vlmcourse.models.llava import Llava
from vlmcourse.training.checkpoints import save_weights
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import FULL, talks
from vlmcourse.world.render import render

SEED = 0
RUNS = Path(__file__).parents[2] / "runs" / "nano-vlm"


EVERY = 100  # steps between two points of the curve
SHIPPED = (f"{nano.STAGES['vlm']['steps']:,} steps, projector at a hundredth of the rate, "
           "places also asked one axis at a time")  # fmt: skip


class Clock:
    """Watches a stage: CPU seconds of this process, without what the watching itself costs, and accuracy over them."""

    def __init__(self, model: Llava, before: float, file: Path, accuracy: Callable[[], float] | None):
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


def held_out(model: Llava) -> Callable[[], float]:
    """Share of right answers to questions of all kinds about 200 new scenes."""
    batch = scenes.sample("validation", 200)
    seen = nano.features(model, render(batch))
    rows = nano.encode_talks(model, talks(batch, sentences=0, told=False))
    return lambda: nano.exact(model, seen, rows)


def words_metrics(model: Llava) -> dict[str, float]:
    batch = scenes.sample("validation", 1000)
    return {
        "caption perplexity, no image": round(
            nano.caption_perplexity(model, captions.captions(batch, "full")), 4
        )
    }


def aligned_metrics(model: Llava) -> dict[str, float]:
    batch = scenes.sample("test", 300)
    said = nano.answer(model, render(batch), [FULL] * len(batch))
    return {"captions, true statements": round(true_share(said, batch), 4)}


MEASURES = {"words": words_metrics, "aligned": aligned_metrics, "vlm": nano.measure}


def ship(model: torch.nn.Module, name: str, card: dict) -> None:
    for parameter in model.parameters():  # the file holds fp16: measure what is shipped
        parameter.data = parameter.data.half().float()
    hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    card |= dict(recipe=dict(stages=nano.STAGES, tokenizer="tokenizer.json", script="tools/checkpoints/nano_vlm.py"),
                 seed=SEED, hardware=hardware, metrics=MEASURES[name](model))  # fmt: skip
    if "tried" in card:
        found = card["metrics"]
        card["tried"] += [{"what": f"as shipped: {SHIPPED}", "right": found["answers"], "seconds": card["cpu_seconds"],
                           "new combinations": found["answers, new combinations"], "twins": found["twins, both right"],
                           "captions true": found["captions, true statements"]}]  # fmt: skip
    path = save_weights(model, assets_folder() / "checkpoints" / f"nano-{name}.safetensors", card)
    print(f"{path} after {card['cpu_seconds']} CPU seconds of all stages: {card['metrics']}")


def main() -> None:
    last = sys.argv[1] if len(sys.argv) > 1 else "vlm"
    model, spent, curve = nano.new_vlm(seed=SEED), 0.0, []
    for name in nano.STAGES:
        clock = Clock(model, spent, RUNS / f"{name}.json", held_out(model) if name == "vlm" else None)
        history = nano.make(name, model, SEED, checkpoint=RUNS / name, resume=True, watch=clock)
        spent, curve = clock.spent, clock.curve
        print(f"{name}: {history}, {spent:.0f} CPU seconds so far")
        if name != "eye":
            card = dict(cpu_seconds=round(spent), seconds=round(history.seconds), precision=history.precision)
            if name == "vlm":
                tried = Path(__file__).with_name("nano_vlm_tried.json")
                card |= dict(curve=curve, tried=json.loads(tried.read_text()) if tried.is_file() else [])
            ship(model, name, card)
        if name == last:
            return


if __name__ == "__main__":
    main()
