"""nano-grpo: nano-vlm practises with rewards what it is unsure about, see recipes/nano_grpo.py (notebook 20).

    run         carry out the recipe, or a variant of it
    tell_lessons  its first stages: what no reward can praise, since the model never does it, is told
    contrast_lessons  what is told: questions in twos about one picture
    practise    one of the other stages
    questions   what is asked in it: what the model is unsure about, and some of all else
    measure     the metrics of its card

In each step the model answers anew, inside what computes the loss: so processes that share a batch, or the
model, draw what one alone would.
"""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlmcourse.data.batches import Batches
from vlmcourse.data.packing import Packs
from vlmcourse.evaluation.answers import asked_of_contrasts
from vlmcourse.families import nano
from vlmcourse.families.nano import load_named as load_named  # it is a model like nano-vlm
from vlmcourse.families.nano import optimized
from vlmcourse.families.nano import pictures as pictures  # with the same eye
from vlmcourse.families.rewarding import (
    Drill,
    Rollouts,
    chances_of_truth,
    drill_about,
    drill_of_contrasts,
    drill_of_twins,
    group_loss,
    hard_questions,
    join_drills,
    sample_draws,
)
from vlmcourse.recipes.nano_grpo import NANO_GRPO
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.speak import Features, Speaker
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import FULL, last_talks, ordered_captions
from vlmcourse.world.render import render

TOLD = ("told", "rehearsed", "described")  # the stages without rewards
ROWS_OF_SCENE = 4  # of three texts each; even of a scene of one object ten can be asked
ANSWER_STEPS = 8  # tokens of an answer at most
RATIO_CLIP = 0.2  # of the policy loss; each answer serves one step, so all ratios are 1 and do not reach it


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe, or a variant of it."""
    model, reference = nano.load_vlm(recipe.start["begins"])[0], None
    for stage in recipe.stages:
        if stage.name in TOLD:
            history = tell_lessons(stage, model, recipe.seed, **options(stage, model))
        else:
            reference = reference or deepcopy(model)  # as it was before the first reward
            history = practise(stage, model, reference, recipe.seed, **options(stage, model))
        yield Made(stage, model, history, partial(measure, model))


def tell_lessons(stage: Stage, model: nn.Module, seed: int = NANO_GRPO.seed, **options: Any) -> History:
    """Run a stage of the recipe that tells, or a variant of it: instruction tuning on `contrast_lessons`.

    Where its data name no forms of questions, the lessons are those of nano-vlm, see nano.lessons_of.

    Args:
        options: further arguments of training.loop.train, such as checkpoint and resume.
    """
    options = dict(steps=stage.steps, size=stage.size, seed=seed) | options
    usual = "forms" not in stage.data
    told = nano.lessons_of(stage, model, seed) if usual else contrast_lessons(Speaker(model), stage, seed)
    return nano.tune(model, *told, stage=stage, **options)


def contrast_lessons(speaker: Speaker, stage: Stage, seed: int = NANO_GRPO.seed) -> tuple[Features, Packs]:
    """Questions in twos about one picture with their answers, and beside them usual lessons in short rows.

    Of usual lessons a row has three texts, so that it is about as long as one of two questions.
    """
    data, drawn = stage.data, seed + stage.data["draw"]
    batch = scenes.sample("train", data["scenes"], start=data["begin"], objects=(3, scenes.MOST), seed=seed)
    shown, *both = asked_of_contrasts(batch, "comparison", drawn)
    chosen = [n for n, one in enumerate(both[0]) if any(form in one.text for form in data["forms"])]
    about = [[(asked[number].text, asked[number].answer) for asked in both] for number in chosen]
    pictures = [render(shown[np.array(chosen, int)])]

    count = round(len(chosen) * data["kept"] / (1 - data["kept"]) / ROWS_OF_SCENE)
    usual = scenes.sample("train", count, start=data["begin"] + data["scenes"], seed=seed)
    draw = np.random.default_rng(drawn)
    for row in last_talks(usual, drawn):
        mixed = [row[number] for number in draw.permutation(len(row))]
        about += [mixed[3 * part : 3 * part + 3] for part in range(ROWS_OF_SCENE)]
    pictures.append(render(usual).repeat(ROWS_OF_SCENE, axis=0))
    return nano.features(speaker.model, np.concatenate(pictures)), speaker.encode(about)


def practise(
    stage: Stage, model: nn.Module, reference: nn.Module, seed: int = NANO_GRPO.seed, **options: Any
) -> History:
    """Run a stage of the recipe, or a variant of it: GRPO on what the model is unsure about by then.

    Where a stage goes over its questions again, each keeps its numbers of chance; the model has changed.

    Args:
        reference: the model that it must not go far away from.
        options: further arguments of training.loop.train, such as checkpoint and resume.
    """
    speaker, data = Speaker(model), stage.data
    drill = questions(speaker, stage, seed)
    asked = dict(samples=data["samples"], repeats=1, steps=ANSWER_STEPS)
    rollouts = Rollouts(speaker, drill, **asked, reference=reference)

    def loss_of(model: nn.Module, numbers: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = numbers.tolist()
        draws = sample_draws(chosen, data["samples"], ANSWER_STEPS, seed + data["draw"])
        return group_loss(speaker, rollouts.draw(chosen, draws), RATIO_CLIP, data["beta"])

    model.requires_grad_(True)
    model.vision.requires_grad_(False)
    batches = Batches(torch.arange(len(drill.image)), stage.size, seed=seed)
    options = dict(steps=stage.steps, precision="no") | optimized(stage, model) | options
    return learn(model, batches, loss_of, by_block=False, **options)


def questions(speaker: Speaker, stage: Stage, seed: int = NANO_GRPO.seed) -> Drill:
    """Questions about new scenes that the model answers sometimes right, sometimes wrong: the same about a
    scene and its twin, and different ones about one picture.

    Behind them stand questions of kinds that are only to be kept, about scenes without twins, sure or not.

    Raises:
        ValueError: if there are fewer to practise than a step asks.
    """
    data, drawn = stage.data, seed + stage.data["draw"]
    start = data["begin"] + data["draw"] * data["scenes"]
    batch = scenes.sample("train", data["scenes"], start=start, objects=(2, 4), seed=seed)
    asked = [ask(speaker, batch, data["kinds"], drawn) for ask in (drill_of_twins, drill_of_contrasts)]
    hard = hard_questions(speaker, join_drills(asked))
    if len(hard.image) < stage.size:
        there = f"the model is unsure about {len(hard.image)} questions of {data['scenes']} scenes"
        raise ValueError(f"{there}, but a step asks {stage.size}; ask about more scenes")
    # as many scenes as make the share of what is kept
    share = data["keep"] / (1 - data["keep"])
    some = batch[: round(len(hard.image) * share / (len(data["kept"]) + 1))]
    kept = drill_about(speaker, some, data["kept"], drawn)
    # and captions, which are cut after ANSWER_STEPS: no reward, only the divergence
    texts = ordered_captions(some)
    described = Drill(kept.features, [*range(len(texts))], [FULL] * len(texts), texts)
    return join_drills([hard, kept, described])


def measure(model: nn.Module, count: int = 300) -> dict[str, float]:
    """The metrics of nano-vlm's card, of what was practised and of what was not; see nano.measure.

    "both right" is the share of questions answered right about a scene and about its twin alike, or of two
    questions about one picture. Nobody rewarded the perplexity of captions.
    """
    metrics, speaker = nano.measure(model, count), Speaker(model)
    for split, name in (("test", "both right"), ("novel", "both right, new combinations")):
        batch = scenes.sample(split, count)
        for ask, what in ((drill_of_twins, "twins"), (drill_of_contrasts, "contrasts")):
            for kind in NANO_GRPO.stages[-1].data["kinds"]:
                one, other = (chances_of_truth(speaker, ask(speaker, batch, [kind])) > 0.5).chunk(2)
                metrics[f"{what} of {kind}, {name}"] = (one & other).float().mean().item()
    texts = captions.captions(scenes.sample("test", count), "full")
    metrics["caption perplexity"] = nano.caption_perplexity(model, texts)
    return {name: round(value, 4) for name, value in metrics.items()}
