"""A plan becomes a model that learns, resumes, is stored, and runs on the learner's code alone."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.workbook.learner import saved_solution
from vlmcourse import cli
from vlmcourse.data.photos import load_picture
from vlmcourse.exercises.base import all_exercises
from vlmcourse.families import assembled, mine, nano, own_pictures
from vlmcourse.families.carrying import carry_out, train_plan
from vlmcourse.families.making import load_speaker
from vlmcourse.interop.modelcard import model_card
from vlmcourse.recipes.plan import EXAMPLES, example, plan_of, read_plan, recipe_of
from vlmcourse.slots import REGISTRY
from vlmcourse.speak import Speaker
from vlmcourse.training.reading import CheckpointError
from vlmcourse.workbook import gathering, portfolio
from vlmcourse.world import scenes
from vlmcourse.world.render import render

ROOT = Path(__file__).parents[2]


def short(name: str, **change):
    table = read_plan(example(name)).table() | change
    table["stages"] = [{**table["stages"][0], "scenes": 12, "size": 4, "steps": 4}]
    return plan_of(table)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path))
    yield tmp_path
    for slot in REGISTRY.values():
        slot.reset()


def solved(names) -> None:
    """Save the course's own steps as the learner's answers, as if every exercise had passed."""
    for name in names:
        task = all_exercises()[name]
        saved = saved_solution(task)
        portfolio.keep(saved)
        portfolio.note(chapter=task.chapter, slot=name, status="passed", file=saved.fingerprint())


@pytest.mark.parametrize("name", EXAMPLES)
def test_with_everything_solved_no_reference_runs_from_training_to_answer(name, workspace):
    plan = short(name)
    slots = mine.slots_of(plan)
    assert len(slots) >= 20 and set(slots) <= set(all_exercises()), "every slot of a model is taught"
    expected = mine.try_plan(plan)
    with mine.without_references(slots), pytest.raises(mine.ReferenceRan):
        mine.try_plan(plan)
    solved(slots)
    with mine.without_references(slots):
        installed, complaints = mine.use_my_code()
        assert set(installed) == set(slots) and not complaints
        assert all(row.mine for row in mine.whose_code(slots))
        assert mine.try_plan(plan) == expected


def test_a_saved_function_that_was_changed_since_it_passed_is_not_used(workspace):
    solved(["vit.patchify", "projector.project"])
    file = portfolio.file_of("projector.project")
    file.write_text(file.read_text() + "\nprint('changed')\n")
    installed, complaints = mine.use_my_code()
    assert installed == ["vit.patchify"] and str(file) in complaints[0] and "checks it again" in complaints[0]
    rows = {row.slot: row for row in mine.whose_code(["vit.patchify", "projector.project"])}
    assert rows["vit.patchify"].mine and not rows["projector.project"].mine
    assert rows["vit.patchify"].part == "vision encoder" and rows["projector.project"].chapter[:2] == "07"


def test_all_functions_are_gathered_in_one_file_that_runs_by_itself(workspace):
    slots = mine.slots_of(short("llava"))
    solved([*slots, "clip.normalise", "fusion.late_fusion"])
    path = mine.gather_code(slots)
    text, held = path.read_text(), runpy.run_path(str(path))
    assert path.name == "my_vlm.py" and set(held["MY_CODE"]) == {
        *slots,
        "clip.normalise",
        "fusion.late_fusion",
    }
    assert held["normalise"] is held["MY_CODE"]["pixels.normalise"]
    assert held["clip_normalise"] is held["MY_CODE"]["clip.normalise"], "two slots have this name"
    places = [
        text.index(f"# {name}, chapter") for name in ("pixels.normalise", "vit.patchify", "projector.project")
    ]
    assert places == sorted(places) < [text.index("# language.causal_mask")]
    assert portfolio.strangers() == []
    images = torch.randint(0, 255, (2, 8, 12, 3), dtype=torch.uint8)
    assert torch.equal(held["normalise"](images), REGISTRY["pixels.normalise"].reference(images))
    code = "from my_vlm.my_vlm import install, MY_CODE; install(); from vlmcourse.slots import REGISTRY; " \
           "print(all(REGISTRY[n].active is f for n, f in MY_CODE.items()))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=workspace, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_with_nothing_saved_there_is_nothing_to_gather(workspace):
    with pytest.raises(ValueError, match="holds no function yet"):
        mine.gather_code()


def test_only_the_parts_of_a_stage_learn_and_only_trained_ones_are_stored(workspace):
    plan = short("llava")
    table = plan.table()
    table["stages"][0]["trains"] = ["connector", "language"]
    for chosen, parts in ((plan, {"projector"}), (plan_of(table), {"projector", "language"})):
        recipe = recipe_of(chosen)
        before = assembled.new_assembled(recipe).state_dict()
        *_, made = assembled.run(recipe, lambda stage, model: dict(precision="no"))
        after = made.measure.args[0].state_dict()
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert changed == parts == {name for name, _ in made.stored.named_children()}


def seeded(seed: int):
    """A short LLaVA plan with another seed."""
    return recipe_of(short("llava", seed=seed))


def test_a_new_model_has_shipped_parts_and_a_connector_whose_vectors_are_as_large_as_words(workspace):
    recipe = seeded(5)
    torch.manual_seed(3)  # which has no part in it
    model, again = assembled.new_assembled(recipe), assembled.new_assembled(recipe)
    other = assembled.new_assembled(seeded(0))
    assert not model.training
    shipped = nano.load_vlm()[0].state_dict()
    new = [name for name, weight in model.state_dict().items() if not torch.equal(weight, shipped[name])]
    assert {name.split(".")[0] for name in new} == {"projector"}
    for name in ("projector.expand.weight", "projector.contract.weight"):
        first, second, third = (one.state_dict()[name] for one in (model, again, other))
        assert torch.equal(first, second) and not torch.allclose(first, third, rtol=0.1)
    features = Speaker(model).features(render(scenes.sample("train", 500, seed=5))).float()
    tokens, size = model.connect(features), features.square().mean().sqrt()
    assert tokens.square().mean().sqrt().item() == pytest.approx(nano.WORD_SIZE, rel=0.05)
    # a new layer of 96 inputs draws weights up to 1/√96; calibrating divides them by the size of the inputs
    largest = model.projector.expand.weight.abs().max() * size
    assert largest.item() == pytest.approx(96**-0.5, rel=1e-3)


def test_a_run_stores_what_any_of_its_stages_trains_and_every_stage_has_the_seed(workspace, monkeypatch):
    given = []
    monkeypatch.setattr(
        assembled, "make_assembled", lambda *asked, **options: given.append((*asked, options))
    )
    recipe = seeded(7)
    trains = ["connector"], ["language"], ["connector"]
    stages = [replace(recipe.stages[0], data=recipe.stages[0].data | dict(trains=parts)) for parts in trains]
    made = [*assembled.run(replace(recipe, stages=tuple(stages)), lambda stage, model: dict(told=model))]
    for (stage, model, seed, options), one in zip(given, made, strict=True):
        assert stage is one.stage and seed == 7 and options == dict(told=model)
        assert {*one.stored} == {"projector", "language"} and one.measure.args == (model,)
        assert all(one.stored[part] is getattr(model, part) for part in one.stored)


@pytest.fixture
def tuned(monkeypatch):
    """With what the last stage was tuned; nothing is learned."""
    told = {}

    def tune(speaker, features, rows, **options):
        learning = {
            name.split(".")[0] for name, part in speaker.model.named_parameters() if part.requires_grad
        }
        told.update(options, features=features, rows=rows, learning=learning)

    monkeypatch.setattr(Speaker, "tune", tune)
    return told


def test_a_stage_is_tuned_as_it_says_and_options_may_change_that(workspace, monkeypatch, tuned):
    recipe, seeds = seeded(0), []
    monkeypatch.setattr(nano, "lessons_of", lambda stage, model, seed: seeds.append(seed) or (stage, "rows"))
    model, stage = assembled.new_assembled(recipe), replace(recipe.stages[0], size=6)
    assembled.make_assembled(stage, model)
    assert (tuned["steps"], tuned["size"], tuned["seed"]) == (4, 6, 0) and tuned["loss"] is nano.by_length
    assert tuned["learning"] == {"projector"} and (tuned["features"], tuned["rows"]) == (stage, "rows")
    later = replace(stage, data=stage.data | dict(trains=["language"]))
    assembled.make_assembled(later, model, 5, steps=2, schedule="mine")
    assert (tuned["steps"], tuned["size"], tuned["seed"], tuned["schedule"]) == (2, 6, 5, "mine")
    assert tuned["learning"] == {"language"} and seeds == [0, 5]


def test_own_pictures_are_drawn_with_the_seed_and_stand_beside_the_origin(workspace, monkeypatch, tuned):
    def lessons(speaker, folder, seed):
        return folder, seed, ["a", "b"]

    monkeypatch.setattr(own_pictures, "own_lessons", lessons)
    recipe = seeded(0)
    stage = replace(recipe.stages[0], data=recipe.stages[0].data | dict(folder="holiday"))
    assembled.make_assembled(stage, assembled.new_assembled(recipe), 5, origin=dict(recipe="mine"))
    assert (tuned["features"], tuned["rows"]) == ("holiday", 5)
    assert tuned["origin"] == dict(recipe="mine", pictures=["a", "b"])


@pytest.mark.parametrize("card", [{}, dict(recipe={}), dict(recipe=None), dict(recipe=dict(plan={}))])
def test_a_card_without_a_plan_is_named(tmp_path, card):
    (tmp_path / "mine.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"mine.json holds no plan that can be carried out \("):
        assembled.load_named(str(tmp_path / "mine.safetensors"))


@pytest.mark.parametrize("name", ["flamingo", "blip2"])
def test_the_other_connectors_learn_behind_parts_that_stay(name, workspace):
    recipe = recipe_of(short(name))
    before = assembled.new_assembled(recipe)
    *_, made = assembled.run(recipe, lambda stage, model: dict(precision="no"))
    after = made.measure.args[0]
    for part in ("vision", "language"):
        kept = getattr(before, part).state_dict()
        assert all(
            torch.equal(weight, kept[key]) for key, weight in getattr(after, part).state_dict().items()
        )


def test_a_slow_connector_moves_less(workspace):
    moved = []
    for factor in (1.0, 0.01):
        table = short("llava").table()
        table["stages"][0]["slow_connector"] = factor
        recipe = recipe_of(plan_of(table))
        start = assembled.new_assembled(recipe).projector.expand.weight.detach().clone()
        *_, made = assembled.run(recipe, lambda stage, model: dict(precision="no"))
        moved.append((made.measure.args[0].projector.expand.weight - start).norm().item())
    assert moved[1] < 0.1 * moved[0]


def test_a_run_that_was_broken_off_goes_on_to_equal_weights(workspace, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = recipe_of(short("llava"))
    card = assembled.recipe_card(short("llava"))
    whole = carry_out(recipe, workspace / "whole", False, card, tell=lambda line: None)

    class Killed(Exception):
        pass

    def die(step, **numbers):
        if step == 3:
            raise Killed

    def options(stage, model):
        origin = dict(recipe=recipe.name, **asdict(stage))
        return dict(
            checkpoint=workspace / "broken" / recipe.name, resume=True, origin=origin, save_every=2, watch=die
        )

    with pytest.raises(Killed):
        list(assembled.run(recipe, options))
    lines = []
    again = carry_out(recipe, workspace / "broken", False, card, tell=lines.append)
    assert whole.read_bytes() == again.read_bytes() and lines[1].startswith("align")


def test_my_vlm_is_trained_asked_and_exported_from_the_command_line(workspace, monkeypatch):
    run = CliRunner()
    missing = run.invoke(cli.app, ["train", "my_vlm"])
    assert missing.exit_code == 1 and "copy one of" in missing.output
    (workspace / "my_vlm").mkdir(exist_ok=True)
    mine.plan_file().write_text(example("llava").read_text().replace("steps = 350", "steps = abc"))
    assert "no TOML" in run.invoke(cli.app, ["train", "my_vlm"]).output
    text = example("llava").read_text().replace("size = 8 ", "size = 2\nscenes = 8 ")
    mine.plan_file().write_text(text)
    untrained = run.invoke(
        cli.app, ["ask", str(ROOT / "assets/examples/scene.png"), "?", "--model", "my_vlm"]
    )
    assert untrained.exit_code == 1 and "`vlmcourse train my_vlm` makes it" in untrained.output
    solved(["projector.project"])
    done = run.invoke(cli.app, ["train", "my_vlm", "--steps", "1", "--until", "align"])
    assert done.exit_code == 0, done.output
    file = mine.trained_file("my-llava")
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["code"] == ["projector.project"] and card["recipe"]["plan"]["name"] == "my-llava"
    asked = run.invoke(
        cli.app, ["ask", str(ROOT / "assets/examples/scene.png"), "How many?", "--model", "my_vlm"]
    )
    assert asked.exit_code == 0, asked.output + repr(asked.exception)
    assert "1 functions of yours run" in asked.output
    assert load_speaker("my_vlm")[0].familiar is not None
    out = run.invoke(cli.app, ["export", str(workspace / "out"), "--model", "my_vlm"])
    assert out.exit_code == 0, out.output
    assert "connector of kind mlp" in (workspace / "out" / "README.md").read_text()
    both = run.invoke(cli.app, ["train", "nano-vlm", "--config", str(file)])
    assert both.exit_code == 1 and "--config is for plans" in both.output
    assert "name a recipe" in run.invoke(cli.app, ["train"]).output


def test_a_card_whose_plan_was_changed_is_refused(workspace):
    plan = short("llava")
    path = train_plan_of(plan, workspace)
    card = path.with_suffix(".json")
    held = json.loads(card.read_text())
    held["recipe"]["plan"]["connector"]["kind"] = "magic"
    card.write_text(json.dumps(held))
    with pytest.raises((CheckpointError, ValueError), match="linear, mlp"):
        load_speaker(str(path))


def train_plan_of(plan, folder):
    recipe = recipe_of(plan).short(1)
    return carry_out(recipe, folder / "runs", False, assembled.recipe_card(plan), tell=lambda line: None)


def test_the_sections_name_every_slot_of_the_three_models():
    named = {gathering.section_of(name) for kind in EXAMPLES for name in mine.slots_of(short(kind))}
    assert named == set(gathering.SECTIONS)


def test_train_plan_reports_each_stage(workspace):
    (workspace / "my_vlm").mkdir()
    mine.plan_file().write_text(example("llava").read_text().replace("size = 8 ", "size = 2\nscenes = 8 "))
    lines = []
    path = train_plan(steps=1, tell=lines.append)
    assert re.match(r"0 of the \d+ functions that this plan calls are yours", lines.pop(0))
    assert lines[::2] == [f"making the data of {name} ..." for name in ("align", "answer", "polish")]
    assert [line.split(":")[0] for line in lines[1::2]] == ["align", "answer", "polish"] and path.is_file()


def test_a_training_says_first_which_functions_are_the_learners_and_what_is_left_to_solve(workspace):
    solved(["projector.project"])
    mine.use_my_code()
    mine.plan_file().write_text(example("llava").read_text().replace("size = 8 ", "size = 2\nscenes = 8 "))
    lines = []
    path = train_plan(until="align", steps=1, tell=lines.append)
    slots = mine.slots_of(short("llava"))
    assert lines[0].startswith(
        f"1 of the {len(slots)} functions that this plan calls are yours; the course's"
    )
    assert "Left to solve: chapter 00 (pixels.normalise), 02 (vit." in lines[0]
    assert "projector.project" not in lines[0]
    assert json.loads(path.with_suffix(".json").read_text())["code"] == ["projector.project"]
    solved(slots)
    mine.use_my_code()
    assert (
        mine.said_of_code(mine.whose_code(slots))
        == f"All {len(slots)} functions that this plan calls are yours."
    )
    assert mine.left_to_solve(mine.whose_code(slots)) == {}


BREAKS = """
def project(features, expand, contract):
    if len(features) > 3:
        raise RuntimeError("out of patience")
    from vlmcourse.models import projector
    return projector.project.reference(features, expand, contract)
"""


def test_an_answer_that_fails_in_the_middle_is_named_and_its_training_goes_on_once_it_is_mended(workspace):
    def write(source):
        portfolio.file_of("projector.project").write_text(source)
        saved = portfolio.saved(["projector.project"])["projector.project"]
        portfolio.note(chapter="07", slot="projector.project", status="passed", file=saved.fingerprint())
        return mine.use_my_code()

    plan = short("llava")
    mine.plan_file().parent.mkdir(exist_ok=True)
    table = plan.table()
    names = "name", "vision", "language"
    text = [f"{name} = {json.dumps(table[name])}" for name in names] + [
        '[connector]\nkind = "mlp"',
        "[[stages]]",
    ]
    text += [f"{key} = {json.dumps(value)}" for key, value in table["stages"][0].items()]
    mine.plan_file().write_text("\n".join(text))
    write(BREAKS)
    with pytest.raises(mine.OwnCodeError) as stopped:
        train_plan(tell=lambda line: None)
    words = str(stopped.value)
    assert "projector_project.py, line 4" in words and 'raise RuntimeError("out of patience")' in words
    assert "raised RuntimeError: out of patience. Mend it in its notebook" in words
    done = CliRunner().invoke(cli.app, ["train", "my_vlm"])
    assert (
        done.exit_code == 1 and "out of patience. Mend it" in done.output and "Traceback" not in done.output
    )
    write(BREAKS.replace("> 3", "> 999"))
    assert train_plan(tell=lambda line: None).is_file()


def test_an_error_that_is_not_the_learners_stays_what_it_is(workspace):
    with pytest.raises(ZeroDivisionError), mine.own_mistakes():
        1 / 0  # noqa: B018


@pytest.fixture
def holiday(workspace):
    """A folder of four pictures of a learner's own, with an answer for each."""
    folder = workspace / "holiday"
    folder.mkdir()
    names = "red", "green", "blue", "grey"
    colours = (220, 30, 30), (30, 200, 30), (30, 30, 220), (128, 128, 128)
    rows = []
    for name, colour in zip(names, colours, strict=True):
        Image.new("RGB", (80, 64), colour).save(folder / f"{name}.png")
        rows.append(json.dumps(dict(image=f"{name}.png", instruction="What is it?", output=f"a {name} wall")))
    (folder / "train.jsonl").write_text("\n".join(rows))
    return folder


def own_plan(folder, **change):
    table = short("llava").table()
    table["stages"][0] |= dict(data="own", folder=str(folder), size=2, scenes=12) | change
    return plan_of(table)


def test_a_plan_learns_from_a_folder_of_own_pictures_and_says_so(holiday, workspace, monkeypatch):
    monkeypatch.setattr(own_pictures, "scenes_again", partial(own_pictures.scenes_again, count=8))
    plan = own_plan(holiday)
    recipe = recipe_of(plan)
    path = carry_out(recipe, workspace / "runs", False, assembled.recipe_card(plan), tell=lambda line: None)
    speaker, card = load_speaker(str(path))
    assert speaker.familiar is None, "of its own pictures nobody knows which are foreign to it"
    assert not path.with_suffix(".familiar.safetensors").exists()
    text = model_card("my-llava", card)
    assert "pictures of its owner's" in text and "no person's data" not in text and str(holiday) not in text
    assert "no person's data" in model_card("my-llava", dict(recipe=assembled.recipe_card(short("llava"))))


@pytest.mark.slow
def test_what_it_learned_of_own_pictures_it_answers(holiday, workspace, monkeypatch):
    monkeypatch.setattr(own_pictures, "scenes_again", partial(own_pictures.scenes_again, count=4))
    plan = own_plan(holiday, steps=60, size=8, trains=["connector", "language"])
    *_, made = assembled.run(recipe_of(plan), lambda stage, model: {})
    picture = load_picture(holiday / "green.png")
    assert made.history.losses[-1] < 0.2 * made.history.losses[0]
    assert Speaker(made.measure.args[0].eval()).answer(picture, "What is it?") == "a green wall"


def test_other_pictures_do_not_go_on_with_a_training(holiday, workspace, monkeypatch):
    monkeypatch.setattr(own_pictures, "scenes_again", partial(own_pictures.scenes_again, count=8))
    plan = own_plan(holiday)
    carry_out(recipe_of(plan), workspace, False, assembled.recipe_card(plan), tell=lambda line: None)
    Image.new("RGB", (80, 64), (250, 250, 0)).save(holiday / "red.png")
    with pytest.raises(CheckpointError, match="pictures"):
        carry_out(recipe_of(plan), workspace, False, assembled.recipe_card(plan), tell=lambda line: None)


@pytest.mark.parametrize(("spoil", "words"), [
    (lambda folder: shutil.rmtree(folder), "is no folder; name one that holds pictures"),
    (lambda folder: (folder / "train.jsonl").unlink(), "needs one .jsonl or .csv"),
    (lambda folder: (folder / "train.jsonl").write_text(""), "has no row that can be used"),
    (lambda folder: (folder / "red.png").write_bytes(b"text"), "red.png"),
])  # fmt: skip
def test_a_folder_that_cannot_be_used_is_named_before_anything_is_trained(holiday, workspace, spoil, words):
    spoil(holiday)
    with pytest.raises(ValueError, match=words):
        mine.rehearse(own_plan(holiday))
    assert not (workspace / "runs").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from dataclasses import asdict
from vlmcourse.families import assembled
from vlmcourse.recipes.plan import plan_of, recipe_of
plan = plan_of({plan!r})
recipe = recipe_of(plan)
def die(step, **numbers):
    if step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
def options(stage, model):
    origin = dict(recipe=recipe.name, **asdict(stage))
    return dict(checkpoint=Path({place!r}), resume=True, origin=origin, save_every=3, watch=die)
list(assembled.run(recipe, options))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_again_and_again_it_comes_to_equal_weights_and_the_same_curve(workspace, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    table = short("blip2").table()
    table["stages"][0]["steps"] = 11
    plan = plan_of(table)
    recipe = recipe_of(plan)
    card, quiet = assembled.recipe_card(plan), dict(tell=lambda line: None)
    whole = carry_out(recipe, workspace / "whole", False, card, **quiet)
    place = workspace / "broken" / recipe.name
    code = KILLED.format(plan=table, place=str(place))
    for step in (5, 10):
        done = subprocess.run(
            [sys.executable, "-c", code, str(step)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert done.returncode == -9
    again = carry_out(recipe, workspace / "broken", False, card, **quiet)
    assert whole.read_bytes() == again.read_bytes()

    def finished(folder):
        origin = dict(recipe=recipe.name, **asdict(recipe.stages[0]))
        options = dict(checkpoint=folder / recipe.name, resume=True, origin=origin)
        return list(assembled.run(recipe, lambda stage, model: options))[-1].history.losses

    assert finished(workspace / "whole") == finished(workspace / "broken")
    assert len(finished(workspace / "broken")) == 11


def noted(name: str, text: str) -> Path:
    """A saved file with this text, as if it had passed."""
    file = portfolio.folder() / f"{name.replace('.', '_')}.py"
    file.write_text(text)
    fingerprint = portfolio.saved([name])[name].fingerprint()
    portfolio.note(chapter="07", slot=name, status="passed", file=fingerprint)
    return file


def test_a_file_that_does_not_load_any_more_is_named_and_the_course_runs_on(workspace):
    solved(["vit.patchify"])
    names = {
        "projector.project": (
            "import no_such_library\n",
            "ModuleNotFoundError: No module named 'no_such_library'",
        ),
        "pixels.normalise": ("def normalise(images)\n", "SyntaxError"),
        "language.rope": ("def ripe(parts, angles):\n    return parts\n", "KeyError: 'rope'"),
        "language.swiglu": ("swiglu = 3\n", "TypeError: language.swiglu can only be replaced by a function"),
    }
    for name, (text, _) in names.items():
        noted(name, text)
    installed, complaints = mine.use_my_code()
    assert installed == ["vit.patchify"] and len(complaints) == 4
    for name, (_, words) in names.items():
        (said,) = [one for one in complaints if name.replace(".", "_") in one]
        assert words in said and said.endswith(f"the course's {name} runs")
    assert not any(row.mine for row in mine.whose_code(names))


def test_two_answers_that_changed_places_are_not_used(workspace):
    solved(["vit.patchify", "projector.project"])
    files = [portfolio.file_of(name) for name in ("vit.patchify", "projector.project")]
    texts = [file.read_text() for file in files]
    for file, text in zip(files, reversed(texts), strict=True):
        file.write_text(text)
    installed, complaints = mine.use_my_code()
    assert (
        installed == []
        and len(complaints) == 2
        and all("as it was when it passed" in one for one in complaints)
    )


def test_a_folder_of_answers_that_is_none_is_named(workspace):
    (workspace / "my_vlm").write_text("a file")
    done = CliRunner().invoke(cli.app, ["train", "my_vlm"])
    assert done.exit_code == 1 and "there is no plan" in done.output and "Traceback" not in done.output
    (workspace / "my_vlm").unlink()
    solved(["vit.patchify"])
    portfolio.file_of("vit.patchify").write_bytes(b"\xff\xfe\x00")
    installed, complaints = mine.use_my_code()
    assert installed == [] and "vit_patchify.py cannot be read" in complaints[0]
    (workspace / "my_vlm" / "diary.jsonl").unlink()
    (workspace / "my_vlm" / "diary.jsonl").mkdir()
    done = CliRunner().invoke(cli.app, ["train", "my_vlm"])
    assert done.exit_code == 1 and "diary.jsonl" in done.output


def test_a_name_that_two_answers_import_from_two_places_stays_two_things(workspace):
    helper = "def helper(x):\n    return sqrt(x)\n\n\n"
    answers = {
        "vit.patchify": f"from torch import sqrt\n\n\n{helper}def patchify(x):\n    return helper(x)\n",
        "projector.project": f"from math import sqrt\n\n\n{helper}def project(x):\n    return helper(x)\n",
        "language.rope": f"from torch import sqrt\n\n\n{helper}def rope(x):\n    return 2 * helper(x)\n",
    }
    for name, text in answers.items():
        noted(name, text)
    path = mine.gather_code()
    assert path.read_text().count("from torch import sqrt") == 1
    code = runpy.run_path(str(path))["MY_CODE"]
    assert isinstance(code["projector.project"](4.0), float)
    assert torch.equal(code["vit.patchify"](torch.tensor(9.0)), torch.tensor(3.0))
    assert torch.equal(code["language.rope"](torch.tensor(9.0)), torch.tensor(6.0))


def test_what_is_gathered_names_its_sections_once_and_says_what_is_no_python(workspace):
    solved(["vit.patchify", "vit.add_class_and_positions", "projector.project"])
    text = mine.gather_code().read_text()
    for heading in ("vision encoder", "connector"):
        assert text.count(f" {heading} ---") == 1
    assert "# vit.patchify, chapter 02_vit\n" in text and text.endswith("REGISTRY[name].install(function)\n")
    noted("pixels.normalise", "def normalise(images)\n    pass\n")
    with pytest.raises(ValueError, match=r"my_vlm/pixels_normalise.py is no Python \(.*; pass it again"):
        mine.gather_code()
    assert mine.plan_file().parent.joinpath("my_vlm.py").read_text() == text, "the old file stays"
