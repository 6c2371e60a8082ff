"""A fully solved course gives a vision-language model that runs on that code alone, from its training on."""

import ast
import json
import linecache
import time
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from tests.notebooks.test_solved import EXERCISE, NOTEBOOKS, under
from vlmcourse import cli
from vlmcourse.exercises.base import all_exercises
from vlmcourse.families import mine
from vlmcourse.recipes.plan import example, read_plan
from vlmcourse.slots import REGISTRY
from vlmcourse.workbook import portfolio
from vlmcourse.workbook.chapters import CHAPTERS
from vlmcourse.workbook.engine import checker

SCENE = NOTEBOOKS.parent / "assets" / "examples" / "scene.png"


def solve_chapter(chapter: str, only: set[str] | None = None) -> None:
    """Run the imports and the exercise cells of a notebook in their order, each with the course's own steps.

    The cells go through the engine as in a notebook: it checks, saves and installs them.

    Args:
        only: slots to solve, if not all of them; the others stay stubs.
    """
    slots = {task.slot.__name__: task.slot for task in all_exercises().values() if task.chapter == chapter}
    space: dict = {"__name__": "__main__"}
    for number, each in enumerate(nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4).cells):
        if each.cell_type != "code":
            continue
        match = EXERCISE.search(each.source)
        if match is None:
            imports = [n for n in ast.parse(each.source).body if isinstance(n, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), chapter, "exec"), space)
            continue
        slot, source = slots[match[1]], each.source
        if only is None or slot.name in only:
            source = source[: match.end()] + under(source[match.end() :], slot)
        file = f"<{chapter}, cell {number}>"
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
        exec(compile(source, file, "exec"), space)


@pytest.fixture
def course(workspace):
    """A workspace for a course, and no answers installed when it ends."""
    checker.start()
    yield workspace
    for slot in REGISTRY.values():
        slot.reset()
        slot.mine = None


def plan_in(workspace: Path, name: str) -> None:
    """One of the examples as the learner's plan, with few scenes."""
    text = example(name).read_text().replace("size = 8 ", "size = 2\nscenes = 8 ")
    (workspace / "my_vlm").mkdir(exist_ok=True)
    mine.plan_file().write_text(text)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments))
    assert done.exit_code == 0, f"{arguments}: {done.output} {done.exception!r}"
    return done.output


@pytest.mark.slow
@pytest.mark.timeout(1800)  # its checks wait for a busy machine
def test_every_chapter_solved_then_trained_measured_asked_and_exported_on_that_code_alone(course):
    begin = time.perf_counter()
    for chapter in (one for one in CHAPTERS if one.ready):
        solve_chapter(chapter.name)
    print(f"solved in {time.perf_counter() - begin:.0f} s")
    statuses = {event["slot"]: event["status"] for event in portfolio.diary() if "status" in event}
    assert statuses == dict.fromkeys(all_exercises(), "passed")
    for slot in REGISTRY.values():  # a new program: only what was saved counts
        slot.reset()
    plan_in(course, "llava")
    with mine.without_references(all_exercises()):
        trained = run("train", "my_vlm", "--runs", "runs", "--steps", "2")
        called = mine.slots_of(mine.my_plan())
        assert f"{len(all_exercises())} functions of yours run" in trained
        assert f"All {len(called)} functions that this plan calls are yours." in trained
        run("evaluate", "my_vlm", "--count", "8", "--json", str(course / "report.json"))
        assert run("ask", str(SCENE), "How many things are there?", "--model", "my_vlm")
        run("export", str(course / "out"), "--model", "my_vlm", "--report", str(course / "report.json"))
        for other in ("flamingo", "blip2"):
            assert len(mine.try_plan(read_plan(example(other)))) == 3
    card = json.loads(mine.trained_file("my-llava").with_suffix(".json").read_text())
    assert card["code"] == sorted(called) and len(called) >= 20
    written = f"{len(called)} of its functions were written by its owner"
    assert written in (course / "out" / "README.md").read_text()
    assert (course / "out" / "model.safetensors").is_file()
