"""Numbers that the README states are those of the course; each names the command that gives them."""

import re

from tests.test_project import README
from vlmcourse.exercises.base import all_exercises
from vlmcourse.families.estimating import STAGES, estimate_published, estimate_recipe, reached
from vlmcourse.families.making import load_speaker
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
