"""Every card holds the recipe that stands in vlmcourse/recipes, and everything that is shipped has one."""

import json
import runpy
from pathlib import Path

import pytest

from vlmcourse.data.assets import shipped
from vlmcourse.families import nano
from vlmcourse.families.making import FAMILIAR, can_be_asked, load_speaker
from vlmcourse.families.remedies import HabitScores
from vlmcourse.families.spoiling import MENDED
from vlmcourse.recipes.book import RECIPES

CONNECTED = [name for name, recipe in RECIPES.items() if recipe.family == "connectors"]
SHIPPED = {stage.ships: recipe for recipe in RECIPES.values() for stage in recipe.stages if stage.ships}


def test_every_shipped_file_has_a_recipe_or_is_a_recorded_run():
    files = {path.name for path in shipped("tokenizer.json").parent.iterdir()}
    known = {name.removesuffix(FAMILIAR) for name in files if name.endswith(FAMILIAR)}
    recorded = {"nano-stages", "nano-queries", "report-cards"}
    recorded |= {"blip-trials", "data-trials", "efficient-trials", "redrawn-trials", "remedy-trials"}
    assert {name.split(".")[0] for name in files} == {*SHIPPED, *recorded}
    asked = {name for name, recipe in SHIPPED.items() if can_be_asked(recipe)}
    assert known == {name for name in asked if "vision" not in SHIPPED[name].start}  # each eye once


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "tools/tried").iterdir()), ids=lambda f: f.stem
)
def test_a_card_says_what_else_was_tried(file):
    assert json.loads(shipped(file.name).read_text())["tried"] == json.loads(file.read_text())


def test_the_recorded_run_of_stages_is_what_its_command_makes():
    card, root = json.loads(shipped("nano-stages.json").read_text()), Path(__file__).parents[2]
    tool = runpy.run_path(str(root / card["command"].removeprefix("python ")))
    assert card["setting"] == tool["SETTING"] and list(card["arms"]) == list(tool["ARMS"])
    points = tool["STEPS"] // tool["EVERY"]
    assert all(len(arm) == points and arm == sorted(arm) for arm in card["arms"].values())
    assert card["hardware"] and 0 < card["answer prior"] < 1 < card["perplexity before"]


def test_the_recorded_trials_of_queries_are_what_their_command_makes():
    card, root = json.loads(shipped("nano-queries.json").read_text()), Path(__file__).parents[2]
    tool = runpy.run_path(str(root / card["command"].removeprefix("python ")))
    setting = json.loads(json.dumps(tool["SETTING"]))
    assert card["setting"] == setting and list(card["arms"]) == list(tool["ARMS"])
    steps = list(range(0, setting["steps"][1] + 1, setting["every"]))
    for name, arm in card["arms"].items():
        assert [step for step, _ in arm["right"]] == steps and arm["questions"] > 500
        assert (arm["right"][-1][1] > arm["right blind"] + 0.1) is (name != "new and frozen")  # the control
        assert len(arm["ends"]) == setting["seeds"]


def test_the_recorded_trials_of_blip_are_what_their_command_makes():
    card, root = json.loads(shipped("blip-trials.json").read_text()), Path(__file__).parents[2]
    tool = runpy.run_path(str(root / card["command"].removeprefix("python ")))
    assert card["setting"] == tool["SETTING"] and card["hardware"]
    seeds = len(tool["SEEDS"])
    for arms in (card["negatives"], card["capfilt"], card["relations"]):
        assert all(len(arm) == seeds and 0 < min(arm) <= max(arm) <= 1 for arm in arms.values())


def test_the_recorded_trials_of_data_are_what_their_command_makes():
    card, root = json.loads(shipped("data-trials.json").read_text()), Path(__file__).parents[2]
    tool = runpy.run_path(str(root / card["command"].removeprefix("python ")))
    assert card["setting"] == tool["SETTING"] and card["seeds"] == list(tool["SEEDS"])
    sets = ["clean", *(name for fault in MENDED for name in (fault, f"{fault}, mended"))]
    assert list(card["right"]) == sets
    assert all(len(seeds) == len(tool["SEEDS"]) for seeds in card["right"].values())
    mean = {name: sum(seeds) / len(seeds) for name, seeds in card["right"].items()}
    assert all(mean[fault] < mean[f"{fault}, mended"] < mean["clean"] + 0.02 for fault in MENDED)
    for fault in MENDED:  # notebook 12: every cure brings back four fifths of what was lost, or more
        assert mean[f"{fault}, mended"] - mean[fault] > 0.8 * (mean["clean"] - mean[fault])


def test_the_recorded_trials_of_remedies_are_what_their_command_makes():
    card, root = json.loads(shipped("remedy-trials.json").read_text()), Path(__file__).parents[2]
    tool = runpy.run_path(str(root / card["command"].removeprefix("python ")))
    assert card["setting"] == tool["SETTING"] and card["seeds"] == list(tool["SEEDS"])
    assert tool["CHOICE"] not in card["seeds"] and list(card["arms"]) == list(tool["ARMS"])
    for arm in card["arms"].values():
        assert list(arm) == [*HabitScores._fields, "seconds"]
        assert all(len(numbers) == len(card["seeds"]) for numbers in arm.values())
        assert all(0 < share < 1 for what in ("right", "blank", "against") for share in arm[what])
    one, two = card["milliseconds an answer"]
    assert 1.5 < two / one < 2.5
    right = {name: arm["right"] for name, arm in card["arms"].items()}
    for most, *others in zip(right.pop("twins"), *right.values(), strict=True):
        assert max(others) < most
    assert list(card["choice"]) == list(tool["TRIED"])  # by which the remedies' numbers were chosen
    tried = {name: of_all for name, (of_all, _) in card["choice"].items()}
    assert tried["swap loss, 0.05"] == max(share for name, share in tried.items() if "swap" in name)
    assert tried["words dropped, 0.05"] == max(share for name, share in tried.items() if "dropped" in name)
    assert all(len(row) == len(card["alphas"]) for row in card["choice of alpha"].values())


def test_the_recorded_trials_of_tuning_are_what_their_command_makes():
    card, root = json.loads(shipped("efficient-trials.json").read_text()), Path(__file__).parents[2]
    tool = runpy.run_path(str(root / card["command"].removeprefix("python ")))
    assert card["setting"] == tool["SETTING"] and card["seeds"] == list(tool["SEEDS"]) and card["hardware"]
    assert list(card["arms"]) == list(tool["ARMS"])
    mean = {}
    for name, arm in card["arms"].items():
        grades = [arm[what] for what in ("new", "old", "words", "seconds")]
        assert all(len(seeds) == len(card["seeds"]) for seeds in grades)
        counted, measured = arm["activations, counted and measured"]
        assert counted == pytest.approx(measured, rel=0.1)
        mean[name] = [sum(seeds) / len(seeds) for seeds in grades]
    new = {name: grades[0] for name, grades in mean.items()}
    assert max(new, key=new.get) == "full" and min(new.values()) > card["before"]["new"] + 0.05
    assert max(grades[1] for grades in mean.values()) < card["before"]["old"]


def test_the_recorded_trials_of_layers_are_what_their_command_makes():
    card, root = json.loads(shipped("redrawn-trials.json").read_text()), Path(__file__).parents[2]
    tool = runpy.run_path(str(root / card["command"].removeprefix("python ")))
    recipe = SHIPPED["smollm-dinov2"]
    assert card["setting"] == tool["SETTING"] and card["hardware"]
    chosen = dict(
        hidden=recipe.model["hidden"], drop=recipe.stages[0].data["drop"], steps=recipe.stages[0].steps
    )
    assert chosen.items() <= card["setting"].items()
    assert list(card["layers"]) == [str(layer) for layer in range(13)]
    reached = {layer: sum(shares) for layer, shares in card["layers"].items()}
    assert max(reached, key=reached.get) == str(recipe.model["layer"])
    others = [f"{name} {number}" for other in tool["OTHERS"] for name, number in other.items()]
    assert list(card["others"]) == others
    # none is clearly better: a share of 250 drawings has a standard error of 3 points
    assert max(map(sum, card["others"].values())) < reached[str(recipe.model["layer"])] + 0.06


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "tokenizer"])
def test_a_card_holds_its_recipe(name):
    card = json.loads(shipped(f"{name}.json").read_text())
    assert card["recipe"] == SHIPPED[name].card() and card["seed"] == SHIPPED[name].seed
    assert card["hardware"] and card["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano-vlm", *CONNECTED])
def test_measuring_again_says_what_the_card_says(name):
    speaker, card = load_speaker(name)
    assert nano.measure(speaker.model) == pytest.approx(card["metrics"], abs=0.01)
