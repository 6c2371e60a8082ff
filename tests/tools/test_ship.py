"""Tests of tools/ship.py: who is watched, what a stage goes on from, and whose CPU seconds count."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vlmcourse.data.assets import shipped
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Made

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("ship", ROOT / "tools" / "ship.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_a_clock_counts_training_alone_and_goes_on_where_it_was(monkeypatch, tmp_path):
    ticks = iter([0, 7, 100, 103, 1000, 0])  # three times: begin or end of training
    monkeypatch.setattr(tool, "time", SimpleNamespace(process_time=lambda: next(ticks)))
    model, file = torch.nn.Linear(1, 1), tmp_path / "new" / "vlm.json"
    clock = tool.Clock(model, 5.0, file, lambda: 0.25 if not model.training else 0.0)
    clock.add(49, loss=1.0)
    clock.add(50, loss=1.0)
    assert clock.spent == 12 and clock.curve == [] and model.training
    clock.add(100, loss=1.0)
    assert clock.spent == 15 and clock.curve == [[15, 0.25]] and model.training
    again = tool.Clock(model, 5.0, file, None)
    assert again.spent == 15 and again.curve == [[15, 0.25]]


@pytest.fixture
def stages(monkeypatch, tmp_path):
    """The recipe is only noted: the options of every stage, and what is stored."""
    given, stored = {}, []

    def run(recipe, options):
        for stage in recipe.stages:
            given[stage.name] = options(stage, None)
            given[stage.name]["watch"].spent += 10
            yield Made(stage, None, None, dict)

    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "run", run)
    monkeypatch.setattr(tool.nano, "held_out", lambda model: lambda: 0.5)
    monkeypatch.setattr(tool, "card_of", lambda made, recipe, clocks: (recipe, clocks[-1].spent))
    monkeypatch.setattr(
        tool,
        "store",
        lambda made, path, card, beside: stored.append(
            (path.stem, *card, *([beside.stem] if beside else []))
        ),
    )
    return given, stored


def test_all_stages_are_shipped_and_those_that_answer_are_watched(stages, tmp_path):
    given, stored = stages
    tool.ship(NANO_VLM)
    assert [*given] == [stage.name for stage in NANO_VLM.stages]
    assert {name for name, one in given.items() if one["watch"].accuracy} == {"vlm", "last", "sharp", "whole"}
    assert stored == [
        ("nano-words", NANO_VLM, 20),
        ("nano-aligned", NANO_VLM, 30, "nano-words"),
        ("nano-vlm", NANO_VLM, 70, "nano-words"),
    ]
    last = given["last"]
    assert last["resume"] is True and last["checkpoint"] == tmp_path / "runs/shipping/nano-vlm/last"
    assert last["watch"].file == tmp_path / "runs/shipping/nano-vlm/last.json"
    assert last["origin"]["recipe"] == "nano-vlm" and last["origin"]["steps"] == NANO_VLM.stage("last").steps


def test_later_stages_alone_count_the_seconds_of_those_before(stages):
    given, stored = stages
    before = json.loads(shipped("nano-aligned.json").read_text())["cpu_seconds"]
    tool.ship(NANO_VLM, "vlm")
    assert [*given] == ["vlm", "last", "sharp", "whole"]
    assert stored == [("nano-vlm", NANO_VLM, before + 40, "nano-words")]  # the card holds the whole recipe
