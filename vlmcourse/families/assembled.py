"""Models that a person planned: an eye, a connector and a language model of their choice (notebook 18).

    new_assembled   an untrained model of a plan, with the parts that it takes from shipped ones
    run             carry out a plan's recipe, stage by stage; a run that was broken off goes on
    load_named      a trained one that can be asked, and its card

The loop, the lessons and the loss are those of every other family; here is only which part learns when.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlmcourse.families import nano
from vlmcourse.families.connectors import shipped_part
from vlmcourse.families.nano import by_length, optimized
from vlmcourse.families.nano import pictures as pictures  # that the eye knows
from vlmcourse.models.blip2 import Blip2
from vlmcourse.models.flamingo import Flamingo, FlamingoConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vlm import VLM
from vlmcourse.recipes.plan import FAMILY, Plan, PlanError, plan_of, recipe_of
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import card_of, load_weights
from vlmcourse.training.history import History
from vlmcourse.training.reading import CheckpointError, read_json
from vlmcourse.training.stages import part_of, trained_parts
from vlmcourse.world import scenes
from vlmcourse.world.render import render

CALIBRATED_ON = 500  # scenes, whose features say how large a new projector's numbers have to be


def new_assembled(recipe: Recipe) -> VLM:
    """An untrained model of a plan's recipe: a new connector between parts of shipped models.

    Raises:
        FileNotFoundError: if such a model is not there.
    """
    torch.manual_seed(recipe.seed)
    config = recipe.model
    kind = (
        Llava
        if isinstance(config, LlavaConfig)
        else Flamingo
        if isinstance(config, FlamingoConfig)
        else Blip2
    )
    model = kind(config)
    for part, name in recipe.start.items():
        getattr(model, part).load_state_dict(shipped_part(part, name).state_dict())
    if isinstance(model, Llava):
        batch = scenes.sample("train", CALIBRATED_ON, seed=recipe.seed)
        model.projector.calibrate(Speaker(model).features(render(batch)), nano.WORD_SIZE)
    return model.eval()


def stored_parts(model: VLM, recipe: Recipe) -> nn.ModuleDict:
    """The parts of a model that its checkpoint holds: those that some stage trains."""
    trained = {part for stage in recipe.stages for part in stage.data["trains"]}
    return nn.ModuleDict({name: part for name, part in model.named_children() if part_of(name) in trained})


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe of a plan, see recipes.plan.recipe_of."""
    model = new_assembled(recipe)
    for stage in recipe.stages:
        history = make_assembled(stage, model, recipe.seed, **options(stage, model))
        yield Made(stage, stored_parts(model, recipe), history, partial(nano.measure, model))


def make_assembled(stage: Stage, model: VLM, seed: int = 0, **train_options: Any) -> History:
    """Run one stage: the parts that it names learn, all others stay as they are.

    Args:
        train_options: further arguments of training.loop.train, such as checkpoint and resume.
    """
    named = dict(model.named_parameters())
    learning = set(trained_parts(list(named), stage.data["trains"]))
    for name, parameter in named.items():
        parameter.requires_grad_(name in learning)
    if folder := stage.data.get("folder"):
        from vlmcourse.families.own_pictures import own_lessons  # which asks for planned models, too

        features, rows, taken = own_lessons(Speaker(model), folder, seed)
        if "origin" in train_options:  # other pictures, another training
            train_options = train_options | dict(origin=train_options["origin"] | dict(pictures=taken))
    else:
        features, rows = nano.lessons_of(stage, model, seed)
    slow = {
        part: stage.factors["connector"] for part, _ in model.named_children() if part_of(part) == "connector"
    }
    stage = replace(stage, factors=slow)
    options = dict(steps=stage.steps, size=stage.size, seed=seed) | optimized(stage, model) | train_options
    return Speaker(model).tune(features, rows, loss=by_length, **options)


def load_named(name: str) -> tuple[Speaker, dict[str, Any]]:
    """A trained model that can be asked, and its card.

    Args:
        name: a file that ``vlmcourse train`` wrote, ending in .safetensors.

    Raises:
        CheckpointError: if the file or its card is damaged, or another model's.
    """
    recipe = recipe_of(plan_on_card(Path(name)))
    model = new_assembled(recipe)
    card = load_weights(stored_parts(model, recipe), Path(name))
    return Speaker(model.eval()), card


def plan_on_card(path: Path) -> Plan:
    """The plan of a trained model, from the card beside its weights.

    Raises:
        CheckpointError: if there is none, or a wrong one.
    """
    card = card_of(path)
    try:
        return plan_of(read_json(card)["recipe"]["plan"])
    except (KeyError, TypeError, PlanError) as error:
        raise CheckpointError(f"{card} holds no plan that can be carried out ({error})") from error


def recipe_card(plan: Plan) -> dict[str, Any]:
    """What the card of a trained model says of how it came about."""
    return dict(name=plan.name, family=FAMILY, plan=plan.table())
