"""Every other way to connect an eye with a language model, see recipes/connectors.py (notebooks 09 to 11).

    new_model       an untrained model of any family, with the parts that it takes from others
    load_connected  a shipped one, and its card
    make_connected  carry out a stage: parts that were taken stay frozen, all others learn

What is measured, and from what they learn, is the same as for nano-vlm, see families/nano.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlmcourse.data.assets import shipped
from vlmcourse.families import nano
from vlmcourse.families.clips import load_clip
from vlmcourse.families.listing import read_lists
from vlmcourse.families.nano import by_length, optimized
from vlmcourse.families.nano import pictures as pictures  # all have the same eye
from vlmcourse.families.preparing import load_prepared, meet_texts
from vlmcourse.models.blip import Blip, BlipConfig
from vlmcourse.models.blip2 import Blip2, Blip2Config, Blip2T5
from vlmcourse.models.flamingo import Flamingo, FlamingoConfig
from vlmcourse.models.language import Llama
from vlmcourse.models.t5 import T5, T5Config
from vlmcourse.models.vlm import VLM
from vlmcourse.recipes.book import RECIPES, find_recipe
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import card_of, load_weights
from vlmcourse.training.history import History
from vlmcourse.training.reading import read_json
from vlmcourse.world import scenes

_MODELS = {FlamingoConfig: Flamingo, BlipConfig: Blip, Blip2Config: Blip2}


def new_model(recipe: Recipe) -> VLM:
    """An untrained model of a recipe; the parts that ``recipe.start`` names are those of shipped models.

    Raises:
        FileNotFoundError: if such a model is not there.
    """
    torch.manual_seed(recipe.seed)
    config = recipe.model
    two_stacks = isinstance(config, Blip2Config) and isinstance(config.language, T5Config)
    model = Blip2T5(config) if two_stacks else _MODELS[type(config)](config)
    _take(model, recipe.start)
    return model


def _take(model: VLM, parts: Mapping[str, str]) -> None:
    """Give a model parts of shipped models: by name of the part, whose it is."""
    for part, name in parts.items():
        mine, theirs = getattr(model, part), shipped_part(part, name).state_dict()
        mine.load_state_dict({name: theirs[name] for name in mine.state_dict()})  # a Q-Former may know words


def shipped_part(part: str, name: str) -> nn.Module:
    """A part of a shipped model, such as its "vision"."""
    family = RECIPES[name].family if name in RECIPES else "nano"
    families = dict(connectors=load_connected, preparing=load_prepared, nano=nano.load_vlm)
    load = (families | dict(clips=load_clip))[family]
    model, _ = load(name)
    return model if isinstance(model, Llama) else getattr(model, part)


def own_parts(model: VLM, recipe: Recipe) -> nn.ModuleDict:
    """The parts of a model that it has from no other: what learns, and what its checkpoint holds."""
    return nn.ModuleDict({name: part for name, part in model.named_children() if name not in recipe.start})


def load_connected(name: str) -> tuple[VLM, dict[str, Any]]:
    """A shipped model in evaluation mode, and its card.

    Args:
        name: of its recipe; or a file that ``vlmcourse train`` wrote, ending in .safetensors.

    Raises:
        FileNotFoundError: if there is no such model, or one whose parts it takes is missing.
        CheckpointError: if the file is damaged, or another model's.
    """
    path = Path(name) if name.endswith(".safetensors") else shipped(f"{name}.safetensors")
    made = read_json(card_of(path)).get("recipe", {})
    recipe = find_recipe(made.get("name", path.stem), "connectors")
    model = new_model(recipe)
    card = load_weights(own_parts(model, recipe), path)
    return model.eval(), card


def load_named(name: str) -> tuple[Speaker, dict[str, Any]]:
    """A model of load_connected that can be asked, and its card."""
    model, card = load_connected(name)
    return Speaker(model), card


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe, or a variant of it."""
    model = new_model(recipe)
    for stage in recipe.stages:
        history = make_connected(recipe, stage, model, **options(stage, model))
        yield Made(stage, own_parts(model, recipe), history, partial(nano.measure, model))


def make_connected(recipe: Recipe, stage: Stage, model: VLM, **train_options: Any) -> History:
    """Run a stage of the recipe, or a variant of it; parts that its data say it ``begins`` with learn on.

    Args:
        train_options: further arguments of training.loop.train, such as checkpoint and resume.
    """
    _take(model, stage.data.get("begins", {}))
    model.requires_grad_(False)
    own_parts(model, recipe).requires_grad_(True)
    language = model.language
    if stage.name == "lists":
        with language.paced():
            return read_lists(model, stage, recipe.seed, **train_options)
    options = dict(steps=stage.steps, size=stage.size, seed=recipe.seed) | optimized(stage, model)
    options |= train_options
    if stage.name == "match":
        batch = scenes.sample("train", stage.data["scenes"], seed=recipe.seed)
        return meet_texts(model, batch, **options)
    features, rows = nano.lessons_of(stage, model, recipe.seed)
    with language.paced() if isinstance(language, T5) else nullcontext():
        return Speaker(model).tune(features, rows, loss=by_length, **options)
