"""Carrying out recipes, and asking what came of them: the same for every family.

A family is a module of this folder that a recipe names. It has ``run(recipe, options)``; if its models can
be asked, also ``load_named(name)``, which gives a Speaker and the card, and ``pictures()``, as its vision
encoder saw them in training.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from vlmcourse.data.assets import assets_folder, shipped
from vlmcourse.diagnostics.familiar import fit_familiar, read_familiar, save_familiar
from vlmcourse.families.mine import MINE, my_plan, trained_file
from vlmcourse.recipes.book import RECIPES, find_recipe
from vlmcourse.recipes.plan import FAMILY, plan_of, recipe_of
from vlmcourse.recipes.recipe import Made, Options, Recipe
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import card_of, files_of, save_weights, written_whole
from vlmcourse.training.reading import CheckpointError, read_json, refuse_sizes, stored_tensors

FAMILIAR = ".familiar.safetensors"  # beside the weights, in place of .safetensors


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out a recipe and give what each of its trained stages left."""
    return _family(recipe.family).run(recipe, options)


def store(made: Made, path: Path, card: dict[str, Any], beside: Path | None = None) -> Path:
    """Write the weights of a stage and their card; ``path`` ends in .safetensors. A tokenizer has no card.

    What they share with those ``beside`` is not written again, see save_weights.

    Beside a model that can be asked stands which pictures it learned from, see diagnostics/familiar.py; not
    where it has its eye from another model, beside which that stands already.
    """
    if isinstance(made.stored, nn.Module):
        save_weights(made.stored, path, card, beside)
        recipe = card["recipe"]
        asked = hasattr(_family(recipe["family"]), "load_named")
        if asked and not _eye_known(recipe).is_file() and not _own_pictures(recipe):
            store_familiar(str(path))
        return path
    with written_whole(path.with_suffix(".json")) as writing:
        made.stored.save(writing)
    return path.with_suffix(".json")


def can_be_asked(recipe: Recipe) -> bool:
    """Whether its models answer instructions about images."""
    return hasattr(_family(recipe.family), "load_named")


def load_speaker(name: str) -> tuple[Speaker, dict[str, Any]]:
    """A vision-language model in evaluation mode, and its card.

    Args:
        name: of a shipped checkpoint; a file that ``vlmcourse train`` wrote, ending in .safetensors; or
            "my_vlm", the model of the plan in my_vlm/vlm.toml.

    Raises:
        FileNotFoundError: if there is no such model; says what there is, or how it is made.
        CheckpointError: if the file or its card is damaged, or made up.
        ValueError: if it is no model that can be asked about images.
    """
    path = _path(name)
    speaker, card = _family_of(path).load_named(str(path) if name == MINE else name)
    if _own_pictures(card.get("recipe")):  # which of them are foreign to it is not known
        return speaker, card
    known = _eye_known(card.get("recipe"))
    beside = known if known.is_file() else path.with_suffix(FAMILIAR)
    if beside.is_file():
        try:
            speaker.familiar = read_familiar(beside, speaker.model.vision)
        except CheckpointError as error:
            remedy = f"`python tools/ship.py --familiar {name}` fits it anew"
            warnings.warn(f"{error}; nothing is said of foreign pictures. {remedy}", stacklevel=2)
    return speaker, card


def family_of(name: str) -> ModuleType:
    """The family module of a model that can be asked; arguments and errors as load_speaker's."""
    return _family_of(_path(name))


def _eye_known(recipe: Any) -> Path:
    """Where it stands which pictures the eye of a recipe's models knows, if it is another model's."""
    return assets_folder() / "checkpoints" / f"{_taken(recipe).get('vision', '')}{FAMILIAR}"


def _own_pictures(recipe: Any) -> bool:
    """Whether a model that a person planned learned from pictures of theirs."""
    planned = isinstance(recipe, dict) and recipe.get("family") == FAMILY
    return planned and plan_of(recipe.get("plan", {})).own_pictures


def _taken(recipe: Any) -> Mapping[str, Any]:
    """Which parts the models of a recipe on a card have from whom: as our recipe says, not the card.

    Of a model that a person planned the plan on the card says it, once it has been checked.
    """
    if isinstance(recipe, dict) and recipe.get("family") == FAMILY:
        return recipe_of(plan_of(recipe.get("plan", {}))).start
    name = recipe.get("name") if isinstance(recipe, dict) else None
    known = RECIPES.get(name) if isinstance(name, str) else None
    return known.start if known and known.family in ("connectors", "video") else {}


def _of_its_own(recipe: Any) -> Any:
    """A recipe on a card without the parts that its file does not hold."""
    if not (taken := _taken(recipe)) or not isinstance(config := recipe.get("model"), dict):
        return recipe
    return recipe | {"model": {name: value for name, value in config.items() if name not in taken}}


def store_familiar(name: str) -> Path:
    """Fit which pictures a stored model learned from, and write it beside the weights."""
    path = _path(name)
    family = _family_of(path)
    speaker, _ = family.load_named(name)
    familiar = fit_familiar(speaker.features(family.pictures()))
    return save_familiar(familiar, speaker.model.vision, path.with_suffix(FAMILIAR))


def _path(name: str) -> Path:
    """Of the weights, see load_speaker."""
    if name in RECIPES and all(stage.ships is None for stage in RECIPES[name].stages):
        file = f"runs/{name}.safetensors"
        raise FileNotFoundError(
            f"the course does not ship {name}: `vlmcourse train {name}` makes {file}; name that"
        )
    if name == MINE:
        return _trained(my_plan().name)
    if name.endswith(".safetensors"):
        return _own_file(Path(name))
    if name not in _shipped_by(RECIPES.values()):
        asked = ", ".join(_shipped_by(filter(can_be_asked, RECIPES.values())))
        yours = f"or a file of yours that ends in .safetensors, or {MINE} for the model of your plan"
        raise FileNotFoundError(f"there is no model {name!r}; name one of {asked}, {yours}")
    return shipped(f"{name}.safetensors")


def _own_file(path: Path) -> Path:
    """Weights that a person names, with their card beside them; FileNotFoundError says what is missing."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not there"
        raise FileNotFoundError(f"{path} is {what}; name a .safetensors file that `vlmcourse train` wrote")
    if not (card := card_of(path)).is_file():
        raise FileNotFoundError(
            f"{card} is missing: it is the card of {path.name}, which says what model the weights belong to. "
            f"`vlmcourse train` writes both; copy the card from where {path.name} comes from"
        )
    return path


def _trained(name: str) -> Path:
    """The weights of the learner's plan; FileNotFoundError says how they come about."""
    if not (path := trained_file(name)).is_file():
        raise FileNotFoundError(
            f"{path} does not exist: `vlmcourse train {MINE}` makes it from my_vlm/vlm.toml"
        )
    return path


def _shipped_by(recipes: Iterable[Recipe]) -> list[str]:
    """The names of what their stages ship, in order."""
    return sorted({stage.ships for recipe in recipes for stage in recipe.stages if stage.ships})


def _family_of(path: Path) -> ModuleType:
    """The family of a stored model that can be asked; the errors of load_speaker otherwise."""
    card, stored = card_of(path), stored_tensors(files_of(path))
    recipe = read_json(card).get("recipe")
    refuse_sizes({"recipe": _of_its_own(recipe)}, stored, card)
    known = isinstance(recipe, str)
    if not known and not (isinstance(recipe, dict) and isinstance(recipe.get("family"), str)):
        raise CheckpointError(f"{card} does not say by which recipe the weights were made")
    name = find_recipe(recipe).family if known else recipe["family"]
    family = _family(name)
    if not hasattr(family, "load_named"):
        raise ValueError(
            f"{path.stem} cannot be asked about images; its family, {name}, reads no instructions"
        )
    return family


def _family(name: str) -> ModuleType:
    if not (Path(__file__).parent / f"{name}.py").is_file() or not name.isidentifier():
        raise ValueError(f"the course has no family {name!r}")
    return import_module(f"vlmcourse.families.{name}")
