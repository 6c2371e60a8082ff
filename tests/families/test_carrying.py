"""What a training is told and what is kept of it, whatever is trained."""

import re
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from vlmcourse.families import carrying
from vlmcourse.families.carrying import carry_out
from vlmcourse.families.mine import WhoseCode
from vlmcourse.recipes.plan import example, read_plan
from vlmcourse.training.checkpoints import save_checkpoint


@dataclass(frozen=True)
class Part:
    """A stage."""

    name: str


class History(SimpleNamespace):
    """Of a stage."""

    def __str__(self):
        return f"{self.seconds} s"


@pytest.fixture
def carried(monkeypatch, tmp_path):
    """Carries out stages of these names; with what they were run, and what was stored."""
    seen = SimpleNamespace(options=[], stored=[], told=[], folder=tmp_path / "runs" / "small")

    def run(recipe, options):
        for number, stage in enumerate(recipe.stages):
            seen.options.append(options(stage, "model"))
            yield SimpleNamespace(stage=stage, history=History(seconds=number + 0.4) if stage.name else None)

    def store(made, path, card):
        seen.stored.append((made.stage.name, path, card))
        return path

    monkeypatch.setattr(carrying, "run", run)
    monkeypatch.setattr(carrying, "store", store)
    monkeypatch.delenv("RANK", raising=False)

    def carry(*names, fresh=False, **more):
        recipe = SimpleNamespace(name="small", stages=tuple(map(Part, names)))
        return carry_out(recipe, tmp_path / "runs", fresh, {"a": 1}, seen.told.append, **more)

    return carry, seen


def test_stages_have_folders_of_their_own_where_there_are_several(carried):
    carry, seen = carried
    path = carry("one", "two", code=["vit.patchify"])
    assert [given["checkpoint"] for given in seen.options] == [seen.folder / "one", seen.folder / "two"]
    assert (
        seen.options[1]["origin"] == {"recipe": "small", "name": "two"} and seen.options[1]["resume"] is True
    )
    assert set(seen.options[0]) == {"checkpoint", "resume", "origin"}
    data = ["making the data of one ...", "making the data of two ..."]
    assert seen.told == [data[0], "one: 0.4 s", data[1], "two: 1.4 s"]
    card = {"recipe": {"a": 1}, "seconds": 2, "code": ["vit.patchify"]}
    assert (
        seen.stored == [("two", seen.folder.parent / "small.safetensors", card)] and path == seen.stored[0][1]
    )


def test_a_stage_alone_is_kept_in_the_folder_of_its_recipe(carried):
    carry, seen = carried
    carry("", fastest=True)
    assert seen.options[0]["checkpoint"] == seen.folder and seen.options[0]["fastest"] is True
    assert seen.told == ["making the data of  ..."] and seen.stored[0][2]["seconds"] == 0


@pytest.mark.parametrize(("fresh", "rank", "left"), [
    (False, "0", True), (True, "0", False), (True, None, False), (True, "1", True),
])  # fmt: skip
def test_only_the_first_process_throws_away_and_only_if_it_is_asked(carried, monkeypatch, fresh, rank, left):
    carry, seen = carried
    if rank:
        monkeypatch.setenv("RANK", rank)
    (seen.folder / "step-3").mkdir(parents=True)
    other = seen.folder.parent / "other"
    other.mkdir()
    carry("one", fresh=fresh)
    assert (seen.folder / "step-3").exists() is left and other.exists()


def test_all_processes_train_and_the_first_one_writes(carried, monkeypatch):
    carry, seen = carried
    monkeypatch.setenv("RANK", "1")
    assert carry("one", "two") is None
    assert len(seen.options) == 2 and seen.stored == [] and seen.told == []


@pytest.mark.parametrize(("kept", "fresh", "says"), [
    ({}, False, "stopped before its first step; nothing is lost"),
    ({"two": []}, False, "stopped before its first checkpoint; the same command begins anew"),
    ({"one": [7]}, False, "stopped; step 7 of one is kept, and the same command goes on from there"),
    ({"one": [7], "two": [200, 400]}, False,
     "stopped; step 400 of two is kept, and the same command goes on from there"),
    ({"one": [7]}, True,
     "stopped; step 7 of one is kept, and the same command without --fresh goes on from there"),
])  # fmt: skip
def test_ctrl_c_says_what_is_kept(carried, monkeypatch, kept, fresh, says):
    carry, seen = carried

    def interrupted(recipe, options):
        for name, steps in kept.items():
            keep(seen.folder / name, {"recipe": "small", "name": name, "weights": "abc"}, steps)
        raise KeyboardInterrupt

    monkeypatch.setattr(carrying, "run", interrupted)
    with pytest.raises(carrying.Stopped, match=f"^{re.escape(says)}$"):
        carry("one", "two", fresh=fresh)


def test_a_checkpoint_of_another_beginning_or_a_damaged_one_does_not_count(tmp_path):
    keep(tmp_path, {"recipe": "small", "name": "one", "steps": 2}, [3, 4])
    with pytest.raises(carrying.Stopped, match="before its first checkpoint"):
        stop(tmp_path, {"recipe": "small", "name": "one", "steps": 9})
    (tmp_path / "step-00000004" / "state.json").write_text("{}")
    with pytest.raises(carrying.Stopped, match="step 3 of one"):
        stop(tmp_path, {"recipe": "small", "name": "one", "steps": 2})


def keep(folder, origin, steps):
    """Checkpoints of these steps of what begins so."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        save_checkpoint(folder, step, {"model": {"weight": torch.ones(2)}}, {"origin": origin})


def stop(place, origin):
    with carrying.told_if_stopped({place: origin}, fresh=False):
        raise KeyboardInterrupt


def test_a_plan_is_rehearsed_whole_and_its_card_names_the_learners_functions(monkeypatch, tmp_path):
    plan, done, rows = read_plan(example("llava")), [], [
        WhoseCode("words", "b.two", "05", True), WhoseCode("words", "a.one", "05", True),
        WhoseCode("words", "c.three", "05", False),
    ]  # fmt: skip
    monkeypatch.setattr(carrying, "rehearse", lambda given: done.append(given) or rows)
    monkeypatch.setattr(carrying, "carry_out", lambda *given, **named: done.append((given, named)))
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path))
    told = []
    first = carrying.recipe_of(plan, carrying.device()).stages[0].name
    carrying.train_plan(example("llava"), until=first, steps=3, fresh=True, tell=told.append, fastest=True)
    rehearsed, ((recipe, runs, fresh, card, tell, fastest), named) = done
    assert rehearsed == plan and told[0].startswith("2 of the 3 functions")
    assert [stage.name for stage in recipe.stages] == [first] and recipe.stages[0].steps == 3
    assert (runs, fresh, fastest, named) == (tmp_path / "runs", True, True, {"code": ["a.one", "b.two"]})
    assert card == {"name": plan.name, "family": "assembled", "plan": plan.table()} and tell == told.append
