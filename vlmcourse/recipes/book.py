"""All recipes by their names, as they stand in this folder; each behind those whose results it needs."""

import pkgutil
from graphlib import TopologicalSorter
from importlib import import_module

from vlmcourse import recipes as folder
from vlmcourse.recipes.recipe import Recipe


def _in_order() -> dict[str, Recipe]:
    there: dict[str, Recipe] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        if module.name not in ("book", "recipe"):
            values = vars(import_module(f"{folder.__name__}.{module.name}")).values()
            there |= {value.name: value for value in values if isinstance(value, Recipe)}
    makers = {stage.ships: recipe.name for recipe in there.values() for stage in recipe.stages}
    order = TopologicalSorter({name: [makers[need] for need in there[name].needs] for name in sorted(there)})
    return {name: there[name] for name in order.static_order()}


RECIPES = _in_order()


def find_recipe(name: str, family: str = "") -> Recipe:
    """The recipe of this name, of a family if one is given.

    Raises:
        ValueError: if there is none; names those that there are.
    """
    there = [recipe.name for recipe in RECIPES.values() if family in ("", recipe.family)]
    if name not in there:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(there)}")
    return RECIPES[name]
