"""Every card holds the recipe that stands in vlmcourse/recipes, and everything that is shipped has one."""

import json

import pytest

from vlmcourse.data.assets import shipped
from vlmcourse.recipes.book import RECIPES

SHIPPED = {stage.ships: recipe for recipe in RECIPES.values() for stage in recipe.stages if stage.ships}


def test_every_shipped_file_has_a_recipe():
    files = {path.stem for path in shipped("tokenizer.json").parent.iterdir()}
    assert files == set(SHIPPED)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "tokenizer"])
def test_a_card_holds_its_recipe(name):
    card = json.loads(shipped(f"{name}.json").read_text())
    assert card["recipe"] == SHIPPED[name].card() and card["seed"] == SHIPPED[name].seed
    assert card["hardware"] and card["metrics"]
