"""How good in the same time? The nano VLM's stages against transformers' LLaVA of the same size and its
Trainer.

    python benchmarks/nano_vlm.py [SHARE]

Both begin with nothing, see the same scenes and are asked questions of the same kinds, in fp32. Ours runs its
stages with SHARE of their steps (0.1 by default; 1 is the shipped model). The library then gets the same
number of seconds for
what it offers: all weights at once, one question to an image, AdamW. Both answer the same questions about new
    scenes.
"""

import sys
import tempfile
import time
from dataclasses import replace

import numpy as np
import torch
import transformers

from vlmcourse.data.chat import encode
from vlmcourse.evaluation import answers
from vlmcourse.families import nano
from vlmcourse.interop.llava import from_transformers, to_transformers
from vlmcourse.models.llava import Llava
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.speak import Speaker
from vlmcourse.world import scenes
from vlmcourse.world.instructions import talks, turns
from vlmcourse.world.render import render, to_tensor

BATCH, RATE, ASKED = 32, 1e-3, 150
ENOUGH = 10**6  # steps; the clock ends the training


def accuracy(model: Llava) -> float:
    """Mean over the kinds of questions, about ASKED new scenes each."""
    shares = answers.accuracy(Speaker(model), scenes.sample("test", ASKED))
    return float(np.mean(list(shares.values())))


def ours(share: float) -> tuple[Llava, float]:
    model, start = nano.new_vlm(), time.perf_counter()
    for stage in NANO_VLM.stages:
        data = {**stage.data, "scenes": max(500, round(share * stage.data["scenes"]))}
        nano.make(replace(stage, steps=max(2, round(share * stage.steps)), data=data), model)
    return model, time.perf_counter() - start


class OneQuestion(torch.utils.data.Dataset):
    """One image, one question and its answer, as transformers' LLaVA takes them."""

    def __init__(self, model: Llava, count: int):
        batch = scenes.sample("train", count)
        rows = talks(batch)
        self.images = render(batch)
        self.pairs = [(number, talk) for number, row in enumerate(rows) for talk in row]
        self.chats = encode([turns(*talk) for _, talk in self.pairs], model.tokens_per_image)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        ids, mask, labels = (part[place] for part in self.chats)
        image = to_tensor(self.images[self.pairs[place][0]][None])[0]
        return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels, "pixel_values": image}


def cut(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One batch, without columns that are padding in all of its rows."""
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    length = int(batch["attention_mask"].sum(1).max())
    return {name: values if name == "pixel_values" else values[:, :length] for name, values in batch.items()}


class Until(transformers.TrainerCallback):
    """Ends a training after some seconds."""

    def __init__(self, seconds: float):
        self.end = time.perf_counter() + seconds

    def on_step_end(self, arguments, state, control, **_):
        control.should_training_stop = time.perf_counter() > self.end


def library(seconds: float, count: int) -> tuple[Llava, int]:
    model = nano.new_vlm()
    theirs, data = to_transformers(model).train(), OneQuestion(model, count)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, per_device_train_batch_size=BATCH, learning_rate=RATE, max_steps=ENOUGH, warmup_steps=50,
            lr_scheduler_type="constant_with_warmup", weight_decay=0.05, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        trainer = transformers.Trainer(theirs, arguments, train_dataset=data, data_collator=cut,
                                       callbacks=[Until(seconds)])  # fmt: skip
        trainer.train()
    return from_transformers(theirs.cpu()), trainer.state.global_step


def main(share: float) -> None:
    mine, seconds = ours(share)
    other, steps = library(seconds, max(500, round(share * NANO_VLM.stage("vlm").data["scenes"])))
    ours_is, theirs_is, prior = accuracy(mine), accuracy(other), answers.prior_accuracy()
    print(
        f"nano VLM after {seconds:.0f} s each: ours {ours_is:.1%}, "
        f"transformers' LLaVA with Trainer {theirs_is:.1%} "
        f"({steps} steps), guessing by kind {prior:.1%}; {ours_is - theirs_is:+.1%}"
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.1)
