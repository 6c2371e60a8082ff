"""The nano VLM: a vision-language model trained from nothing, see recipes/nano_vlm.py (notebooks 00
and 08).

    new_vlm         an untrained one
    load_vlm        a shipped model, the last stage or an earlier one, and its card
    run             carry out the recipe
    make            one stage of it
    lessons         what instruction tuning learns from
    tune            instruction tuning: projector and language model
    measure         every number of the card

A speaker (speak.py) asks and grades it; the names of what a speaker does stand here too, for the course's own
words.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import encode
from vlmcourse.data.packing import Packs
from vlmcourse.data.pixels import in_grey
from vlmcourse.diagnostics.looks import Blind, twin_score
from vlmcourse.evaluation.statements import stated, true_share
from vlmcourse.models.language import next_token_loss
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Made, Recipe, Stage
from vlmcourse.speak import Features, Images, Speaker, blinded
from vlmcourse.training import losses
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.training.regions import RegionReader, new_eye, train_eye
from vlmcourse.training.stages import align, set_stage
from vlmcourse.world import captions, questions, scenes, twins
from vlmcourse.world.instructions import FULL, SHORT, Talk, hard_talks, pale_talks, talks
from vlmcourse.world.render import render

CONFIG = NANO_VLM.model
WORD_SIZE = NANO_VLM.start["word_size"]
INSTRUCTED = NANO_VLM.stage("vlm")


def new_vlm(config: LlavaConfig = CONFIG, seed: int = 0) -> Llava:
    """An untrained model; its vision encoder is new as well."""
    torch.manual_seed(seed)
    model = Llava(config)
    model.vision = new_eye(config.vision)
    nn.init.normal_(model.language.embedding.weight, std=WORD_SIZE)
    return model


def load_vlm(name: str = "nano-vlm") -> tuple[Llava, dict[str, Any]]:
    """A model in evaluation mode, and its card.

    Args:
        name: "nano-vlm"; "nano-words" or "nano-aligned", as the stages before left it; or a file that
            ``vlmcourse train`` wrote, ending in .safetensors.

    Raises:
        FileNotFoundError: if there is no such model; names those that there are.
        CheckpointError: if the file is damaged, or another model's.
    """
    model = new_vlm()
    card = load_weights(model, name if name.endswith(".safetensors") else shipped(f"{name}.safetensors"))
    return model.eval(), card


def load_named(name: str) -> tuple[Speaker, dict[str, Any]]:
    """A model of load_vlm that can be asked, and its card."""
    model, card = load_vlm(name)
    return Speaker(model), card


# ---- training ----------------------------------------------------------------------------------------------


def run(recipe: Recipe, options: Callable[[Stage, Llava], dict[str, Any]]) -> Iterator[Made]:
    """Carry out the recipe, or a variant of it.

    Args:
        options: further arguments of training.loop.train for a stage and the model, such as checkpoint.
    """
    model = new_vlm(recipe.model, recipe.seed)
    measures = dict(words=_measure_words, aligned=_measure_captions, vlm=measure)
    for stage in recipe.stages:
        history = make(stage, model, recipe.seed, **options(stage, model))
        yield Made(stage, model, history, partial(measures.get(stage.name, lambda _: {}), model))


def make(stage: Stage | str, model: Llava, seed: int = NANO_VLM.seed, **train_options: Any) -> History:
    """Run one stage on the model as the stages before it left it.

    Args:
        stage: of the recipe, by its name, or a variant of it.
        train_options: further arguments of training.loop.train, such as checkpoint and resume.

    Raises:
        ValueError: for an unknown stage.
    """
    stage = NANO_VLM.stage(stage) if isinstance(stage, str) else stage
    batch = scenes.sample("train", stage.data["scenes"], seed=seed)
    options = dict(steps=stage.steps, size=stage.size, seed=seed) | train_options
    if stage.name == "eye":
        torch.manual_seed(seed)
        reader = RegionReader(model.vision)
        return train_eye(reader, batch, grey=stage.data["grey"], **_optimized(stage, reader), **options)
    if stage.name == "words":
        return read_captions(model, _captioned(stage, batch), **_optimized(stage, model.language), **options)
    if stage.name == "aligned":
        images = features(model, render(batch))
        model.projector.calibrate(images[: stage.data["calibrated_on"]], WORD_SIZE)
        set_stage(model, 1)
        texts = captions.captions(batch, "full")
        return align(model, images, texts, **_optimized(stage, model), **options)
    return tune(model, *lessons(model, batch, seed, stage.data["grey"]), stage=stage, **options)


def _optimized(stage: Stage, model: nn.Module) -> dict[str, Any]:
    """Optimizer and schedule of a stage, for the parameters that learn in it."""
    rates = stage.rates["muon"], stage.rates["adamw"], stage.weight_decay
    schedule = warmup_linear(stage.steps, flat=stage.flat)
    return dict(optimizer=MuonAdamW(model, *rates, factors=stage.factors), schedule=schedule)


def _captioned(stage: Stage, batch: scenes.Scenes) -> list[tuple[str, str]]:
    """Instructions and the captions that follow them, all of one style before those of the next."""
    asked = dict(full=FULL, short=SHORT)
    return [
        (asked[style], text) for style in stage.data["captions"] for text in captions.captions(batch, style)
    ]


def read_captions(
    model: Llava,
    talk: Sequence[tuple[str, str]],
    *,
    steps: int,
    size: int = 64,
    seed: int = 0,
    **train_options: Any,
) -> History:
    """Train the language model on instructions and captions without images: how they read, before any can
    be seen."""
    ids, mask, _ = encode([[("user", asked), ("assistant", text)] for asked, text in talk])

    def loss(language: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return next_token_loss(language(batch[0]), *batch)

    options = dict(optimizer=MuonAdamW(model.language), schedule=warmup_linear(steps)) | train_options
    history = learn(model.language, Batches((ids, mask), size, seed=seed), loss, steps=steps, **options)
    model.eval()
    return history


def lessons(
    model: Llava, batch: scenes.Scenes, seed: int = 0, grey: float = INSTRUCTED.data["grey"]
) -> tuple[Features, Packs]:
    """Features and conversations of scenes for instruction tuning.

    Args:
        grey: share of scenes that are seen in grey and asked nothing of colours, so that the language model
            cannot learn which colours a shape usually has.
    """
    images, pale = render(batch), np.random.default_rng(seed).random(len(batch)) < grey
    images[pale] = in_grey(images[pale])
    about = [a + b for a, b in zip(talks(batch, seed=seed), hard_talks(batch, seed=seed), strict=True)]
    for number, row in zip(np.flatnonzero(pale), pale_talks(batch[pale], seed=seed), strict=True):
        about[number] = row
    return features(model, images), encode_talks(model, about)


def tune(
    model: Llava,
    features: Features,
    rows: Packs,
    *,
    steps: int,
    size: int = 32,
    stage: Stage = INSTRUCTED,
    seed: int = 0,
    **train_options: Any,
) -> History:
    """Instruction tuning, stage 2: projector and language model learn to answer; of the eye only features
    are needed.

    Args:
        features, rows: see features and encode_talks; one row per image.
        size: images per step.
        stage: whose rates and schedule are used, unless train_options say otherwise.
        train_options: further arguments of training.loop.train.
    """
    set_stage(model, 2)
    options = _optimized(replace(stage, steps=steps), model) | train_options
    return Speaker(model).tune(features, rows, steps=steps, size=size, loss=_by_length, seed=seed, **options)


def _by_length(hidden: Tensor, rows: Packs, head: Callable) -> Tensor:
    return losses.balanced_loss(hidden, rows.labels, rows.packs, head)


# ---- what a speaker does, for this family ------------------------------------------------------------------


def features(model: Llava, images: Images, batch: int = 500) -> Features:
    """See Speaker.features; in bf16, to save memory."""
    return Speaker(model).features(images, batch, torch.bfloat16)


def encode_talks(model: Llava, about: Sequence[Talk]) -> Packs:
    """See Speaker.encode."""
    return Speaker(model).encode(about)


def answer(model: Llava, images: Images, instructions: Sequence[str], batch: int = 200) -> list[str]:
    """See Speaker.answer."""
    return Speaker(model).answer(images, instructions, batch=batch)


def answered_right(
    model: Llava, features: Features, rows: Packs, batch: int = 100
) -> Bool[Tensor, "conversation"]:
    """See Speaker.grade."""
    return Speaker(model).grade(features, rows, batch)


def instruction_loss(model: Llava, features: Features, rows: Packs) -> Float[Tensor, ""]:
    """What `tune` makes small, see losses.balanced_loss; one row about each image."""
    return _by_length(Speaker(model).hidden(features, rows.cut()), rows.cut(), model.head)


# ---- measurement -------------------------------------------------------------------------------------------


def measure(model: Llava, count: int = 300) -> dict[str, float]:
    """The metrics of the card, on scenes never seen: shares from 0 to 1.

    Args:
        count: scenes for each kind of question, for the twins of each kind, and for captions.
    """
    metrics = {}
    for split, name in (("test", "answers"), ("novel", "answers, new combinations")):
        kinds = {kind: accuracy(model, scenes.sample(split, count), kind) for kind in questions.KINDS}
        metrics[name] = np.mean(list(kinds.values()))
        metrics |= {f"{name}: {kind}": share for kind, share in kinds.items()}
    batch = scenes.sample("test", count)
    blind = [accuracy(model, batch, kind, blind=True) for kind in questions.KINDS]
    metrics["answers without the image"] = np.mean(blind)
    metrics["answer prior"] = prior_accuracy(count)
    metrics["twins, both right"] = twins_right(model, count // 4)
    texts = answer(model, render(batch), [FULL] * count)
    metrics["captions, true statements"] = true_share(texts, batch)
    whole = [
        len(stated(text)) == things and true_share([text], batch[n : n + 1]) == 1
        for n, (text, things) in enumerate(zip(texts, batch.count.tolist(), strict=True))
    ]
    metrics["captions, all true and complete"] = np.mean(whole)
    return {name: round(float(value), 4) for name, value in metrics.items()}


def _measure_words(model: Llava) -> dict[str, float]:
    texts = captions.captions(scenes.sample("validation", 1000), "full")
    return {"caption perplexity, no image": round(caption_perplexity(model, texts), 4)}


def _measure_captions(model: Llava) -> dict[str, float]:
    batch = scenes.sample("test", 300)
    texts = answer(model, render(batch), [FULL] * len(batch))
    return {"captions, true statements": round(true_share(texts, batch), 4)}


def held_out(model: Llava) -> Callable[[], float]:
    """A function that tells the share of right answers to questions of all kinds about 200 new scenes."""
    batch = scenes.sample("validation", 200)
    images, rows = (
        features(model, render(batch)),
        encode_talks(model, talks(batch, sentences=0, captioned=False)),
    )
    return lambda: answered_right(model, images, rows).float().mean().item()


def asked_of(batch: scenes.Scenes, kind: str) -> tuple[scenes.Scenes, list[questions.Question]]:
    """The scenes that allow a question of this kind, and the question to each."""
    asked = questions.ask(batch, kind)
    rows = [n for n, question in enumerate(asked) if question]
    return batch[np.array(rows, int)], [asked[n] for n in rows]


def accuracy(model: Llava, batch: scenes.Scenes, kind: str, blind: bool = False) -> float:
    """Share of right answers to one question of this kind about each scene, with or without seeing it."""
    batch, asked = asked_of(batch, kind)
    images = blinded(render(batch)) if blind else render(batch)
    texts = answer(model, images, [question.text for question in asked])
    return float(np.mean([text == question.answer for text, question in zip(texts, asked, strict=True)]))


@torch.no_grad()
def caption_perplexity(model: Llava, texts: Sequence[str]) -> float:
    """Perplexity per token of captions without their images: what instruction tuning left of the language."""
    ids, mask, labels = encode([[("user", FULL), ("assistant", text)] for text in texts])
    return math.exp(next_token_loss(model.language(ids, mask=mask), labels, mask).item())


def prior_accuracy(count: int = 300) -> float:
    """Share of right answers by habit: for every kind the answer that is given most often in training
    scenes."""
    shares = []
    for kind in questions.KINDS:
        known = [question.answer for question in asked_of(scenes.sample("train", 2000), kind)[1]]
        asked = asked_of(scenes.sample("test", count), kind)[1]
        guess = Blind([kind] * len(known), known)([kind])[0]
        shares.append(np.mean([question.answer == guess for question in asked]))
    return float(np.mean(shares))


def twins_right(model: Llava, count: int = 75) -> float:
    """Share of twin pairs, of all kinds, with both answers right."""
    shares = []
    for kind in questions.KINDS:
        batch, asked = asked_of(scenes.sample("test", count, start=5000), kind)
        changed, other = twins.twins(batch, asked)
        texts = [question.text for question in asked]
        answers = [answer(model, render(images), texts) for images in (batch, changed)]
        right = [[question.answer for question in row] for row in (asked, other)]
        shares.append(twin_score(answers[0], right[0], answers[1], right[1])[1])
    return float(np.mean(shares))
