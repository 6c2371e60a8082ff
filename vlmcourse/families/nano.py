"""The nano VLM: a vision-language model trained from nothing, see recipes/nano_vlm.py (notebooks 00 and 08).

    load_vlm        a shipped model, the last stage or an earlier one, and its card
    run, make       carry out the recipe, or one stage of it
    tune            instruction tuning: projector and language model; `lessons` is what they learn from
    measure         every number of the card

A speaker (speak.py) asks and grades it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import encode
from vlmcourse.data.packing import Packs
from vlmcourse.data.pixels import in_grey
from vlmcourse.evaluation.answers import accuracy, prior_accuracy, twins_right
from vlmcourse.evaluation.statements import true_and_complete, true_share
from vlmcourse.families.captioner import loss_of
from vlmcourse.models.language import next_token_loss
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vlm import VLM
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.speak import Features, Images, Speaker, blinded
from vlmcourse.training import losses
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.training.regions import RegionReader, new_eye, train_eye
from vlmcourse.training.stages import align, set_stage
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import FULL, SHORT, hard_talks, last_talks, paired_talks, pale_talks, talks
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


def pictures(count: int = 4000) -> Images:
    """Scenes as the eye saw them in training, a share of them in grey."""
    images, pale = (
        render(scenes.sample("train", count, seed=1)),
        int(NANO_VLM.stage("eye").data["grey"] * count),
    )
    images = images[np.random.default_rng(1).permutation(count)]
    images[:pale] = in_grey(images[:pale])
    return images


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe, or a variant of it, such as ``recipe.since("vlm")``.

    A stage whose data say ``after`` begins where that stage ended, and is averaged with the one before it.
    """
    before = recipe.start.get("shipped")
    model = load_vlm(before)[0] if before else new_vlm(recipe.model, recipe.seed)
    measures = dict(words=_measure_words, aligned=_measure_captions, whole=measure)
    left = {}  # by the name of each stage
    for stage in recipe.stages:
        latest, after = _weights(model), stage.data.get("after")
        if after:
            model.load_state_dict(left[after])
        history = make(stage, model, recipe.seed, **options(stage, model))
        if after:
            model.load_state_dict(mean_weights(latest, _weights(model)))
        left[stage.name] = _weights(model)
        yield Made(stage, model, history, partial(measures.get(stage.name, lambda _: {}), model))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def mean_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean of two trainings that began with the same weights: it may do what either does well.

    Source: Wortsman et al. 2022 (model soups), arXiv:2203.05482, section 2.
    """
    return {name: (weight + other[name]) / 2 for name, weight in one.items()}


def make(stage: Stage, model: Llava, seed: int = NANO_VLM.seed, **train_options: Any) -> History:
    """Run a stage of the recipe, or a variant of it, on the model as the stages before it left it.

    Args:
        train_options: further arguments of training.loop.train, such as checkpoint and resume.
    """
    options = dict(steps=stage.steps, size=stage.size, seed=seed) | train_options
    if stage.name not in ("eye", "words", "aligned"):
        return tune(model, *lessons_of(stage, model, seed), stage=stage, **options)
    batch = scenes.sample("train", stage.data["scenes"], seed=seed)
    if stage.name == "eye":
        torch.manual_seed(seed)
        reader = RegionReader(model.vision)
        return train_eye(reader, batch, grey=stage.data["grey"], **optimized(stage, reader), **options)
    if stage.name == "words":
        return _read_captions(model, stage, batch, **optimized(stage, model.language), **options)
    images = features(model, render(batch))
    model.projector.calibrate(images[: stage.data["calibrated_on"]], WORD_SIZE)
    set_stage(model, 1)
    texts = captions.captions(batch, "full")
    return align(model, images, texts, **optimized(stage, model), **options)


def optimized(stage: Stage, model: nn.Module) -> dict[str, Any]:
    """Optimizer and schedule of a stage, for the parameters that learn in it."""
    rates = stage.rates["muon"], stage.rates["adamw"], stage.weight_decay
    schedule = warmup_linear(stage.steps, flat=stage.flat)
    return dict(optimizer=MuonAdamW(model, *rates, factors=stage.factors), schedule=schedule)


def _read_captions(
    model: Llava, stage: Stage, batch: scenes.Scenes, size: int, seed: int, **options: Any
) -> History:
    """Train the language model on instructions and captions without images; all of one style come first."""
    asked, chats = dict(full=FULL, short=SHORT), []
    for style in stage.data["captions"]:
        texts = captions.captions(batch, style)
        chats += [[("user", asked[style]), ("assistant", text)] for text in texts]
    ids, mask, _ = encode(chats)
    history = learn(model.language, Batches((ids, mask), size, seed=seed), loss_of, **options)
    model.eval()
    return history


def features(model: VLM, images: Images) -> Features:
    """See Speaker.features; in bf16, to save memory."""
    return Speaker(model).features(images, 500, torch.bfloat16)


def lessons(
    model: VLM,
    batch: scenes.Scenes,
    seed: int = 0,
    grey: float = INSTRUCTED.data["grey"],
    described: float | None = None,
    **paired: int,
) -> tuple[Features, Packs]:
    """Features and conversations of scenes for instruction tuning.

    Args:
        grey: share of scenes that are seen in grey and asked nothing of colours, so that the language model
            cannot learn which colours a shape usually has.
        described: see last_talks, in place of talks and hard_talks.
        paired: arguments of paired_talks, which then stand in their place as well.
    """
    images, pale = render(batch), np.random.default_rng(seed).random(len(batch)) < grey
    images[pale] = in_grey(images[pale])
    if paired:
        about = paired_talks(batch, seed, **paired)
    elif described is None:
        about = [a + b for a, b in zip(talks(batch, seed), hard_talks(batch, seed), strict=True)]
    else:
        about = last_talks(batch, seed, described)
    for number, row in zip(np.flatnonzero(pale), pale_talks(batch[pale], seed=seed), strict=True):
        about[number] = row
    return features(model, images), Speaker(model).encode(about)


def lessons_of(stage: Stage, model: VLM, seed: int) -> tuple[Features, Packs]:
    """What a stage of instruction tuning learns from; its data say which scenes, and what is asked."""
    data = stage.data
    drawn, objects = seed + data.get("draw", 0), data.get("objects", (1, scenes.MOST))
    batch = scenes.sample("train", data["scenes"], seed=drawn, objects=objects)
    paired = {name: data[name] for name in ("relations", "comparisons", "orders") if name in data}
    return lessons(model, batch, drawn, data["grey"], data.get("described"), **paired)


def tune(
    model: Llava, features: Features, rows: Packs, *, steps: int, stage: Stage = INSTRUCTED, **options: Any
) -> History:
    """Instruction tuning, stage 2: projector and language model learn; of the eye only features are needed.

    Args:
        features, rows: see features and Speaker.encode; one row per image.
        stage: whose rates and schedule are used, unless the options say otherwise.
        options: size, images per step; seed; further arguments of training.loop.train.
    """
    set_stage(model, 2)
    options = dict(seed=0, loss=by_length) | optimized(replace(stage, steps=steps), model) | options
    return Speaker(model).tune(features, rows, steps=steps, **options)


def by_length(hidden: Tensor, rows: Packs, head: Callable) -> Float[Tensor, ""]:
    """What instruction tuning makes small, see losses.balanced_loss."""
    return losses.balanced_loss(hidden, rows.labels, rows.packs, head)


def instruction_loss(model: Llava, features: Features, rows: Packs) -> Float[Tensor, ""]:
    """What `tune` makes small, see losses.balanced_loss; one row about each image."""
    return by_length(Speaker(model).hidden(features, rows.cut()), rows.cut(), model.head)


def measure(model: Llava, count: int = 300) -> dict[str, float]:
    """The metrics of the card, on scenes never seen: shares from 0 to 1.

    Args:
        count: scenes for each kind of question, for the twins of each kind, and for captions.
    """
    speaker, metrics = Speaker(model), {}
    for split, name in (("test", "answers"), ("novel", "answers, new combinations")):
        shares = accuracy(speaker, scenes.sample(split, count))
        metrics[name] = np.mean(list(shares.values()))
        metrics |= {f"{name}: {kind}": share for kind, share in shares.items()}
    batch = scenes.sample("test", count)
    blind = accuracy(speaker, batch, lambda batch: blinded(render(batch)))
    metrics["answers without the image"] = np.mean(list(blind.values()))
    metrics["answer prior"] = prior_accuracy(count)
    metrics["twins, both right"] = twins_right(speaker, count // 4)
    texts = speaker.answer(render(batch), [FULL] * count)
    metrics["captions, true statements"] = true_share(texts, batch)
    metrics["captions, all true and complete"] = true_and_complete(texts, batch).mean()
    return {name: round(float(value), 4) for name, value in metrics.items()}


def _measure_words(model: Llava) -> dict[str, float]:
    texts = captions.captions(scenes.sample("validation", 1000), "full")
    return {"caption perplexity, no image": round(caption_perplexity(model, texts), 4)}


def _measure_captions(model: Llava) -> dict[str, float]:
    batch = scenes.sample("test", 300)
    texts = Speaker(model).answer(render(batch), [FULL] * len(batch))
    return {"captions, true statements": round(true_share(texts, batch), 4)}


def held_out(model: Llava) -> Callable[[], float]:
    """A function that tells the share of right answers to questions of all kinds about 200 new scenes."""
    batch, speaker = scenes.sample("validation", 200), Speaker(model)
    rows = speaker.encode(talks(batch, sentences=0, captioned=False))
    images = features(model, render(batch))
    return lambda: speaker.grade(images, rows).float().mean().item()


@torch.no_grad()
def caption_perplexity(model: Llava, texts: Sequence[str]) -> float:
    """Perplexity per token of captions without their images: what instruction tuning left of the language."""
    ids, mask, labels = encode([[("user", FULL), ("assistant", text)] for text in texts])
    return math.exp(next_token_loss(model.language(ids, mask=mask), labels, mask).item())


def _former(method: str) -> Callable:
    return lambda model, *given: getattr(Speaker(model), method)(*given)


# for older copies of notebooks: nano.answer(model, images, instructions)
answer, encode_talks, answered_right = map(_former, ("answer", "encode", "grade"))
