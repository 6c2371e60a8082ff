"""nano-grpo: nano-vlm practises with rewards what it is unsure about, see recipes/nano_grpo.py (notebook 20).

    run         carry out the recipe, or a variant of it
    practise    one stage of it
    questions   what is asked in a stage: what the model is unsure about, and some of all else
    measure     the metrics of its card

In each step the model answers anew, inside what computes the loss: so processes that share a batch, or the
model, draw what one alone would.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vlmcourse.data.batches import Batches
from vlmcourse.families import nano
from vlmcourse.families.nano import load_named as load_named  # it is a model like nano-vlm
from vlmcourse.families.nano import optimized
from vlmcourse.families.nano import pictures as pictures  # with the same eye
from vlmcourse.families.rewarding import (
    Drill,
    Rollouts,
    chances_of_truth,
    drill_about,
    drill_of_twins,
    group_loss,
    hard_questions,
    join_drills,
    sample_draws,
)
from vlmcourse.recipes.nano_grpo import NANO_GRPO
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.speak import Speaker
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.world import captions, scenes

ANSWER_STEPS = 8  # tokens of an answer at most
RATIO_CLIP = 0.2  # of the policy loss; each answer serves one step, so all ratios are 1 and do not reach it


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe, or a variant of it."""
    begins = recipe.start["begins"]
    model, reference = nano.load_vlm(begins)[0], nano.load_vlm(begins)[0]
    for stage in recipe.stages:
        history = practise(stage, model, reference, recipe.seed, **options(stage, model))
        yield Made(stage, model, history, partial(measure, model))


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
    """Questions about new scenes and their twins that the model answers sometimes right, sometimes wrong.

    Behind them stand questions of kinds that are only to be kept, about scenes without twins, sure or not.

    Raises:
        ValueError: if there are fewer to practise than a step asks.
    """
    data, drawn = stage.data, seed + stage.data["draw"]
    start = data["begin"] + data["draw"] * data["scenes"]
    batch = scenes.sample("train", data["scenes"], start=start, objects=(2, 4), seed=seed)
    hard = hard_questions(speaker, drill_of_twins(speaker, batch, data["kinds"], drawn))
    if len(hard.image) < stage.size:
        there = f"the model is unsure about {len(hard.image)} questions of {data['scenes']} scenes"
        raise ValueError(f"{there}, but a step asks {stage.size}; ask about more scenes")
    # as many scenes as make the share of what is kept
    share = data["keep"] / (1 - data["keep"])
    some = batch[: round(len(hard.image) * share / len(data["kept"]))]
    return join_drills([hard, drill_about(speaker, some, data["kept"], drawn)])


def measure(model: nn.Module, count: int = 300) -> dict[str, float]:
    """The metrics of nano-vlm's card, of what was practised and of what was not; see nano.measure.

    "both right" is the share of questions answered right about a scene and about its twin alike. Nobody
    rewarded the perplexity of captions.
    """
    metrics, speaker = nano.measure(model, count), Speaker(model)
    for split, name in (("test", "both right"), ("novel", "both right, new combinations")):
        batch = scenes.sample(split, count)
        for kind in NANO_GRPO.stages[0].data["kinds"]:
            right = chances_of_truth(speaker, drill_of_twins(speaker, batch, [kind])) > 0.5
            one, other = right.chunk(2)
            metrics[f"twins of {kind}, {name}"] = (one & other).float().mean().item()
    texts = captions.captions(scenes.sample("test", count), "full")
    metrics["caption perplexity"] = nano.caption_perplexity(model, texts)
    return {name: round(value, 4) for name, value in metrics.items()}
