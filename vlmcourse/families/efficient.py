"""Ways to teach an old model something new, at equal data and steps (notebook 15).

    ARMS           full, frozen encoder, projector only, LoRA, QLoRA: the rate of each
    in_fog         pictures of little contrast, which nano-vlm has never seen
    teach          let the arm's part of nano-vlm learn to answer questions about them
    grades_of      right answers to new questions and to old ones, and what is left of the language

What learns in which part says training.memory.METHODS; what it holds in memory says the ledger.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vlmcourse.data.batches import Batches
from vlmcourse.data.packing import Packs
from vlmcourse.evaluation.answers import accuracy, asked_of, grade_questions
from vlmcourse.families.nano import by_length, caption_perplexity, load_vlm
from vlmcourse.models.llava import Llava
from vlmcourse.models.lora import lora_state
from vlmcourse.speak import Images, Speaker
from vlmcourse.training.history import History
from vlmcourse.training.loop import train
from vlmcourse.training.memory import METHODS, Ledger, Setting, ledger, parts_of, saved_bytes
from vlmcourse.training.optimizers import warmup_linear
from vlmcourse.training.peak import prepare
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.render import render, to_tensor

# of AdamW; what is new, a projector or a detour, may take larger steps than what is old
ARMS = {"full": 1e-3, "frozen encoder": 1e-3, "projector only": 3e-3, "LoRA": 3e-3, "QLoRA": 3e-3}
SIZE = 16  # pictures per step


NEW_KINDS = ("colour", "shape", "size")


class Grades(NamedTuple):
    """What a model says after it has learned; shares from 0 to 1, and perplexity."""

    new: float  # right about pictures in fog: colour, shape and size
    old: float  # right about ordinary pictures, all kinds of questions; none was asked while it learned
    words: float  # perplexity per token of captions, without their images


def in_fog(images: Images) -> Images:
    """Three tenths of the contrast before a light grey."""
    return (0.3 * images + 175).astype(np.uint8)


def new_lessons(count: int, seed: int = 0) -> tuple[Images, list[list[tuple[str, str]]]]:
    """Pictures in fog, and questions about the colour, shape and size of things in them."""
    batch = scenes.sample("train", count, start=50_000 + 10_000 * seed)
    asked = [questions.ask(batch, kind, seed=seed) for kind in NEW_KINDS]
    about = [[(one.text, one.answer) for one in row if one] for row in zip(*asked, strict=True)]
    kept = [number for number, row in enumerate(about) if row]
    return in_fog(render(batch)[kept]), [about[number] for number in kept]


def teach(
    arm: str, steps: int, seed: int = 0, rate: float | None = None, **options: Any
) -> tuple[Speaker, History]:
    """nano-vlm after ``steps`` steps in which the arm's part of it learned about fog.

    Args:
        options: further arguments of training.loop.train.
    """
    torch.manual_seed(seed)
    model = load_vlm("nano-vlm")[0]
    prepare(model, METHODS[arm])
    speaker, encoder_learns = Speaker(model), arm == "full"
    images, about = new_lessons(min(steps * SIZE, 3000), seed)
    seen = torch.from_numpy(images) if encoder_learns else speaker.features(images)

    def loss(model: Llava, batch: tuple[Tensor, tuple]) -> Tensor:
        some = Packs(*batch[1]).cut()
        features = model.image_features(to_tensor(batch[0].numpy())) if encoder_learns else batch[0]
        return by_length(speaker.hidden(features, some), some, model.head)

    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, rate or ARMS[arm], weight_decay=0.0, fused=True)
    batches = Batches((seen, tuple(speaker.encode(about))), SIZE, seed=seed)
    given = dict(optimizer=optimizer, schedule=warmup_linear(steps), precision="no", name=arm)
    history = train(model, batches, loss, steps=steps, **given | options)
    model.cpu().eval()
    return speaker, history


def grades_of(speaker: Speaker, split: str = "test", count: int = 150) -> Grades:
    """Grade a model on scenes never seen."""
    batch = scenes.sample(split, count)
    right = [
        grade_questions(speaker, *asked_of(batch, kind), lambda some: in_fog(render(some))).float().mean()
        for kind in NEW_KINDS
    ]
    old = np.mean(list(accuracy(speaker, batch).values()))
    words = caption_perplexity(speaker.model, captions.captions(batch, "full"))
    return Grades(float(np.mean(right)), float(old), words)


def held_by(arm: str, tokens: int = 150, predicted: int = 30, setting: Setting | None = None) -> Ledger:
    """The ledger of a step of ``teach``: rows of so many tokens, so many of them answers."""
    config = load_vlm("nano-vlm")[0].config
    return ledger(parts_of(config, tokens, predicted), METHODS[arm], setting or Setting(SIZE))


def stored_for(model: nn.Module) -> int:
    """How many numbers must be kept to have what was learned beside the model that everybody has."""
    if state := lora_state(model):
        rest = sum(w.numel() for n, w in model.named_parameters() if w.requires_grad and n not in state)
        return sum(tensor.numel() for tensor in state.values()) + rest
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def measured_by(arm: str) -> tuple[float, float]:
    """(counted, measured) bytes of activations in a first step of ``teach``."""
    model = load_vlm("nano-vlm")[0]
    prepare(model, METHODS[arm])
    images, about = new_lessons(SIZE)
    speaker = Speaker(model)
    rows = speaker.encode(about).cut()
    pixels = to_tensor(images)

    def run() -> Tensor:
        with torch.set_grad_enabled(arm == "full"):
            features = model.image_features(pixels)
        return by_length(speaker.hidden(features, rows), rows, model.head)

    predicted = round(float((rows.labels >= 0).sum()) / SIZE)
    counted = held_by(arm, rows.ids.shape[1], predicted).total("activations")
    return counted, float(saved_bytes(run, model))
