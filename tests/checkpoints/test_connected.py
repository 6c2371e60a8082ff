"""The shipped connectors: their cards state what they reach, and what they took is as it was, bit for bit."""

import json

import pytest
import torch

from vlmcourse.data.assets import shipped
from vlmcourse.families import connectors, nano
from vlmcourse.recipes.book import RECIPES

CONNECTED = [name for name, recipe in RECIPES.items() if recipe.family == "connectors"]


@pytest.mark.parametrize("name", CONNECTED)
def test_it_answers_because_it_sees(name):
    found = json.loads(shipped(f"{name}.json").read_text())["metrics"]
    assert found["answers"] >= 0.92 and found["twins, both right"] >= 0.8
    assert found["answers without the image"] <= found["answer prior"]


@pytest.mark.parametrize("name", CONNECTED)
def test_what_it_took_never_learned(name):
    model, _ = connectors.load_connected(name)
    for part, other in RECIPES[name].start.items():
        theirs = connectors.shipped_part(part, other).state_dict()
        mine = getattr(model, part).state_dict()
        assert mine and all(torch.equal(weight, theirs[key]) for key, weight in mine.items())


def test_words_before_which_nothing_is_shown_are_those_of_the_frozen_language_model():
    model, ids = connectors.load_connected("nano-flamingo")[0], torch.arange(40)[None]
    words = nano.load_vlm()[0].language
    assert torch.equal(model.language(ids), words(ids)) and torch.equal(model(ids), words(ids))


def test_the_gates_are_open():
    model, _ = connectors.load_connected("nano-flamingo")
    assert max(block.look_gate.tanh().abs().item() for block in model.gated) > 0.2
