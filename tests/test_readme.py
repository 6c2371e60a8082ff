"""Numbers that the README states are those of the course, or kept with the command that gave them."""

import json
import re
from datetime import date

import pytest
import torch

from tests.test_project import README, ROOT
from vlmcourse.data import photos
from vlmcourse.data.pixels import standardise
from vlmcourse.data.records import MOST_SKIPPED
from vlmcourse.diagnostics.attention import attention_maps
from vlmcourse.exercises.base import all_exercises
from vlmcourse.families.estimating import STAGES, estimate_published, estimate_recipe, reached
from vlmcourse.families.making import load_speaker
from vlmcourse.families.museum_exhibits import EXHIBITS
from vlmcourse.interop.summary import find_summary
from vlmcourse.recipes.book import RECIPES
from vlmcourse.training.memory import in_gib
from vlmcourse.workbook.chapters import CHAPTERS

FROM_NOTHING = [
    "nano-vlm",
    "nano-flamingo",
    "nano-blip",
    "nano-blip2",
    "nano-blip2-t5",
    "nano-minigpt4",
    "nano-video",
]
UNITS = r" ?x\b| ?[kMG]i?B?\b| million| (?:minutes|hours|seconds|lines|tokens|times)\b"
STATED = json.loads((ROOT / "benchmarks" / "stated.json").read_text(encoding="utf-8"))


def stated(form: str) -> list[str]:
    """What the README says in place of the groups of a form, words separated by any white space.

    Raises:
        AssertionError: if it says no such thing.
    """
    found = re.search(form.replace(" ", r"\s+"), README)
    assert found, f"the README no longer says {form!r}"
    return list(found.groups())


def test_exercises_and_chapters_are_counted():
    exercises, chapters = stated(r"(\d+) checked exercises, (\d+) chapters")
    assert (int(exercises), int(chapters)) == (len(all_exercises()), sum(one.ready for one in CHAPTERS))


def test_what_is_trained_from_nothing_is_no_larger_than_it_says():
    (most,) = stated(r"at most ([\d.]+) million parameters")
    sizes = [sum(p.numel() for p in load_speaker(name)[0].model.parameters()) for name in FROM_NOTHING]
    assert round(max(sizes) / 1e6, 1) == float(most)


def test_llavas_memory_and_share_of_the_peak_are_those_of_the_estimate():
    memory = [int(number) for number in stated(r"gives (\d+) and (\d+) GiB on each of eight GPUs")]
    assert memory == [round(in_gib(estimate_published(stage).size)) for stage in STAGES]
    hours = [float(number) for number in stated(r"published ([\d.]+) and ([\d.]+) hours on eight A100")]
    assert hours == [stage.hours for stage in STAGES]
    shares = [int(number) for number in stated(r"are (\d+) and (\d+) % of their bf16 peak")]
    assert shares == [round(100 * reached(stage)) for stage in STAGES]


def test_no_recipe_needs_more_than_it_says():
    (most,) = stated(r"on one GPU in fp16 at most ([\d.]+) GiB")
    sizes = [cost.size for recipe in RECIPES.values() for cost in estimate_recipe(recipe)]
    assert round(in_gib(max(sizes)), 1) == float(most)


def test_more_that_is_counted():
    assert stated(r"all (\w+) stages") == ["seven"] and len(RECIPES["nano-vlm"].stages) == 7
    assert stated(r"assets/examples/ has (\w+)") == ["three"]
    assert len(list((ROOT / "assets" / "examples").glob("*.toml"))) == 3
    assert stated(r"a museum of (\w+)") == ["sixteen"] and len(EXHIBITS) == 16
    assert stated(r"more than one in a (\w+), nothing is trained") == ["hundred"] and MOST_SKIPPED == 1 / 100
    assert stated(r"an example has (\d+) and (\d+) tokens") == [str(stage.tokens) for stage in STAGES]
    assert stated(r"plans for (\w+) and (\w+) weeks") == ["six", "fourteen"]
    weeks = (ROOT / "INSTRUCTOR.md").read_text(encoding="utf-8")
    assert "### Fourteen weeks" in weeks and "### Six weeks" in weeks
    (python,) = stated(r"needs Python ([\d.]+) or newer")
    assert f'requires-python = ">={python}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_speeds_are_those_that_make_bench_kept():
    kept = json.loads((ROOT / "benchmarks" / "steps.json").read_text(encoding="utf-8"))
    assert kept["nano"] and kept["device"] == "CPU, 1 thread(s)", (
        "the README says one thread and small models"
    )
    assert 'make bench OPTIONS="--json benchmarks/steps.json"' in README
    assert f"{date.fromisoformat(kept['date']):%B %Y}" in README
    rows = {(row["model"], row["way"]): row for row in kept["rows"]}
    lines = re.findall(r"^\| (ViT|CLIP|language model|LLaVA),[^|]*\| (.*) \|$", README, re.MULTILINE)
    assert [model for model, _ in lines] == ["ViT", "CLIP", "language model", "LLaVA"]
    for model, line in lines:
        ours, steps = rows[model, "as it is"], rows[model, "attention in steps"]
        form = ours["precision"].replace("no", "fp32")
        assert line == f"{form} | {ours['ratio']:.2f} | {steps['ratio']:.2f} | {100 * ours['mfu']:.0f} %"


@pytest.mark.parametrize("record", STATED, ids=lambda record: record["says"])
def test_what_no_test_can_measure_is_kept_with_its_command(record):
    assert record["says"].format(record["value"]) in " ".join(README.split())
    assert record["command"] and record["machine"] and date.fromisoformat(record["date"])


def test_heads_that_find_the_cats_eyes():
    """Of six heads, those whose class token looks at the eyes at least three times as much as chance."""
    eye = find_summary()
    if eye is None:
        pytest.skip("the published eye is optional")
    (first, second) = map(int, stated(r"about layers (\d+) and (\d+), many heads find its eyes"))
    near = torch.zeros(16, 16, dtype=torch.bool)
    near[5:8, 4:7] = near[6:9, 11:14] = True  # a patch around each eye of chapter 02's `marks`
    cat = standardise(torch.from_numpy(photos.photo("chelsea", 224))[None])
    with torch.no_grad():
        looks = attention_maps(eye.vit, cat)[0, :, :, 0, 1:]  # layer, head, patch
    share = looks[..., near.flatten()].sum(-1) / looks.sum(-1)
    finding = (share > 3 * 18 / 256).sum(1).tolist()
    assert finding == [0, 0, 0, 0, 0, 0, 0, 5, 3, 1, 2, 0]
    assert sorted(range(12), key=finding.__getitem__)[-2:] == [second, first]


def test_every_number_with_a_unit_is_held_by_a_test():
    """What is left when all that the tests above and those named here compare is taken out."""
    left = README.split("<!-- report cards")[0] + README.split("<!-- end of report cards -->")[1]
    left = re.sub(r"^\| (ViT|CLIP|language model|LLaVA),.*$", "", left, flags=re.MULTILINE)
    left = " ".join(re.sub(r"\]\([^)]*\)", "]", left).split())  # without addresses of links
    for record in STATED:
        left = left.replace(record["says"].format(record["value"]), "")
    elsewhere = [
        r"`dist/vlmcourse-\*\.whl` \(\d+ MB\)",  # tests/test_wheel.py
        r"a 135M language model",  # tests/test_bench.py, and the two aims
        r"45 % MFU and 1\.3 times `Trainer`",
        r"gives \d+ and \d+ GiB on each|\d+ and \d+ % of their bf16 peak",  # these are compared above
        r"[\d.]+ and [\d.]+ hours on eight A100",
        r"an example has \d+ and \d+ tokens|in fp16 at most [\d.]+ GiB|at most [\d.]+ million parameters",
    ]
    for form in elsewhere:
        assert re.search(form, left), f"the README no longer says {form!r}"
        left = re.sub(form, "", left)
    unheld = re.findall(r".{20}\d[\d.,]*(?: ?[%×]|" + UNITS + r")", left)
    assert not unheld, "compare each in a test, or keep it with its command in benchmarks/stated.json"
