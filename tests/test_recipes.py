"""Recipes are found by name, varied without being changed, and written to a card and back."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from vlmcourse.families import making
from vlmcourse.recipes.book import RECIPES, find_recipe
from vlmcourse.recipes.nano_vlm import NANO_VLM


def test_every_recipe_has_its_name_and_comes_behind_what_it_needs():
    made = set()
    for name, recipe in RECIPES.items():
        assert recipe.name == name and set(recipe.needs) <= made
        made |= {stage.ships for stage in recipe.stages}
    assert {"tokenizer", "nano-vlm", "nano-words", "clip-order", "lm-captions", "smollm-openmoji"} <= made


def test_an_unknown_recipe_names_those_of_its_family():
    with pytest.raises(ValueError, match=r"no recipe 'ears'; there are tokenizer, .*nano-vlm"):
        find_recipe("ears")
    with pytest.raises(ValueError, match=r"no recipe 'nano-vlm'; there are clip-\w+, clip-\w+, clip-\w+$"):
        find_recipe("nano-vlm", "clips")
    assert find_recipe("clip-order", "clips").name == "clip-order"


def test_a_variant_leaves_the_recipe_as_it_is():
    other = NANO_VLM.vary("vlm", factors={}, steps=7)
    assert other.stage("vlm").factors == {} and other.stage("vlm").steps == 7
    assert other.stage("eye") is NANO_VLM.stage("eye") and NANO_VLM.stage("vlm").factors == {
        "projector": 0.01
    }
    with pytest.raises(FrozenInstanceError):
        NANO_VLM.seed = 1


def test_a_recipe_can_end_earlier_and_be_short():
    assert [stage.name for stage in NANO_VLM.until("words").stages] == ["eye", "words"]
    assert [stage.steps for stage in NANO_VLM.short(2).stages] == [2, 2, 2, 2, 2, 2, 2]
    assert [stage.steps for stage in find_recipe("smollm-openmoji").short(5).stages] == [
        0,
        5,
    ]  # one is in closed form
    with pytest.raises(
        ValueError, match="nano-vlm has the stages eye, words, aligned, vlm, last, sharp, whole, not 'ears'"
    ):
        NANO_VLM.until("ears")


def test_a_recipe_can_begin_behind_what_is_shipped():
    late = NANO_VLM.since("vlm")
    assert [stage.name for stage in late.stages] == ["vlm", "last", "sharp", "whole"]
    assert late.start == NANO_VLM.start | {"shipped": "nano-aligned"} and "shipped" not in NANO_VLM.start
    assert NANO_VLM.since("aligned").start["shipped"] == "nano-words"
    for name in ("eye", "words", "last"):
        with pytest.raises(ValueError, match=f"nothing is shipped before {name}, the stage to begin with"):
            NANO_VLM.since(name)


def test_a_card_is_plain_data_and_holds_every_number():
    card = NANO_VLM.card()
    assert json.loads(json.dumps(card)) == card and card["stages"][3]["factors"] == {"projector": 0.01}
    assert replace(NANO_VLM, seed=1).card() != card and NANO_VLM.vary("eye", flat=0.3).card() != card


@pytest.mark.parametrize("name", RECIPES)
def test_every_family_can_be_carried_out(name):
    recipe = find_recipe(name)
    assert callable(making._family(recipe.family).run)
    deaf = name in (
        "tokenizer",
        "lm-captions",
        "nano-chat",
        "nano-qformer",
        "smollm-dinov2",
    ) or name.startswith("clip-")
    assert making.can_be_asked(recipe) != deaf


def test_what_reads_no_instructions_cannot_be_asked():
    with pytest.raises(ValueError, match="clip-scenes cannot be asked about images; its family, clips"):
        making.load_speaker("clip-scenes")
    with pytest.raises(FileNotFoundError, match="nano-ears"):
        making.load_speaker("nano-ears")


def test_a_file_of_a_former_version_names_its_recipe(tmp_path):
    speaker, card = making.load_speaker("nano-words")
    from vlmcourse.training.checkpoints import save_weights

    path = save_weights(speaker.model, tmp_path / "mine.safetensors", {"recipe": "nano-vlm", "seconds": 1})
    assert making.load_speaker(str(path))[1]["recipe"] == "nano-vlm" and card["recipe"]["name"] == "nano-vlm"


def test_a_tokenizer_stores_itself(tmp_path, monkeypatch):
    from vlmcourse.data.text import load_tokenizer
    from vlmcourse.recipes.recipe import Made

    made = Made(find_recipe("tokenizer").stages[0], load_tokenizer(), None, dict)
    path = making.store(made, tmp_path / "deep" / "tokenizer.safetensors", {})
    assert len(load_tokenizer(path)) == len(load_tokenizer())
