"""A learner who solves everything gets through: the reference stands in each exercise cell."""

import ast
import inspect
import json
import os
import re
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from tests.workbook.learner import cell
from vlmcourse.exercises.base import all_exercises
from vlmcourse.exercises.edits import pasted_source
from vlmcourse.slots import Slot
from vlmcourse.workbook.chapters import CHAPTERS
from vlmcourse.workbook.engine import check

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
EXERCISE = re.compile(r"^@exercise\((?:\w+\.)?(\w+)\)\n", re.MULTILINE)
IMPORT = re.compile(r"^from vlmcourse\b.* import (?:\w.*|\((?:\n.*)*?\n\))$", re.MULTILINE)


def solve(notebook: nbformat.NotebookNode, chapter: str) -> list[str]:
    """Write the course's own steps below the ``def`` line of each exercise cell, as a learner does.

    Returns:
        the names of the slots, in the order of the notebook.
    """
    slots = {task.slot.__name__: task.slot for task in all_exercises().values() if task.chapter == chapter}
    names = []
    for each in notebook.cells:
        if each.cell_type == "code" and (match := EXERCISE.search(each.source)):
            slot = slots[match[1]]
            each.source = each.source[: match.end()] + under(each.source[match.end() :], slot)
            names.append(slot.name)
    return names


def under(stub: str, slot: Slot) -> str:
    """The stub's own ``def`` line with the steps of the course's version."""
    shown = pasted_source(slot.reference)
    names = [ast.parse(text).body[0].args for text in (stub, shown)]
    assert [a.arg for a in names[0].args] == [a.arg for a in names[1].args]
    return stub.partition("\n")[0] + "\n" + shown.partition("\n")[2]


def run(notebook: nbformat.NotebookNode, folder: Path) -> list[dict]:
    """Run a notebook in `folder` and return the diary the learner ends with."""
    # as long as `make test` gives a cell of a notebook
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    lines = (Path(os.environ["VLMCOURSE_WORKSPACE"]) / "my_vlm" / "diary.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def verdicts(diary: list[dict]) -> dict[str, str]:
    return {event["slot"]: event["status"] for event in diary if "status" in event}


def test_pasted_solution_passes_and_a_stub_is_still_to_do(tmp_path):
    stub = "@exercise(pixels.normalise)\ndef normalise(images):\n    raise NotImplementedError"
    setup = (
        "from vlmcourse.data import pixels\nfrom vlmcourse.workbook import begin, exercise\n"
        'begin("00_start_here", lang="en")'
    )
    notebook = new_notebook(cells=[new_code_cell(setup), new_code_cell(stub)])
    assert verdicts(run(notebook, tmp_path)) == {"pixels.normalise": "todo"}
    assert solve(notebook, "00_start_here") == ["pixels.normalise"]
    assert verdicts(run(notebook, tmp_path)) == {"pixels.normalise": "passed"}


@pytest.mark.slow
@pytest.mark.timeout(600)  # a whole notebook
def test_chapter_02_solved_from_its_first_cell_to_its_last(tmp_path):
    notebook = nbformat.read(NOTEBOOKS / "02_vit.ipynb", as_version=4)
    names = solve(notebook, "02_vit")
    assert set(names) == {name for name, task in all_exercises().items() if task.chapter == "02_vit"}
    assert verdicts(run(notebook, tmp_path)) == dict.fromkeys(names, "passed")
    saved = {path.stem for path in (tmp_path / "my_vlm").glob("*.py")}
    assert saved == {name.replace(".", "_") for name in names}


def stubs() -> list[tuple[str, str, str]]:
    """(slot name, imports of its notebook, source of the cell) of every exercise cell in every notebook."""
    names = {(task.chapter, task.slot.__name__): name for name, task in all_exercises().items()}
    found = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        sources = [
            cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
        ]
        imports = "\n".join(line for source in sources for line in IMPORT.findall(source))
        cells = [(match[1], source) for source in sources if (match := EXERCISE.search(source))]
        found += [(names[path.stem, function], imports, source) for function, source in cells]
    return found


def test_every_exercise_of_an_open_chapter_has_one_cell():
    ready = {chapter.name for chapter in CHAPTERS if chapter.ready}
    assert sorted(name for name, _, _ in stubs()) == sorted(
        n for n, task in all_exercises().items() if task.chapter in ready
    )


@pytest.mark.parametrize(("name", "imports", "source"), stubs(), ids=[name for name, _, _ in stubs()])
def test_a_stub_as_shipped_is_still_to_do(name, imports, source):
    space: dict = {}
    exec(imports, space)
    space["exercise"] = lambda slot: lambda function: function
    function = cell(source, **space)
    assert check(all_exercises()[name].slot, function).status == "todo"
    ours = inspect.signature(all_exercises()[name].slot.reference).parameters.values()
    stub = inspect.signature(function).parameters.values()
    assert [(p.name, p.kind, p.default) for p in stub] == [(p.name, p.kind, p.default) for p in ours]


SHOWN = {name: pasted_source(task.slot.reference) for name, task in all_exercises().items()}
NEEDY = [stub for stub in stubs() if re.match(r".*\n    (from|import) ", SHOWN[stub[0]])]


@pytest.mark.parametrize(("name", "imports", "source"), NEEDY, ids=[name for name, *_ in NEEDY])
def test_a_solution_brings_what_its_notebook_may_not_import(name, imports, source):
    slot = all_exercises()[name].slot
    space: dict = {}
    exec(imports, space)  # the stub's defaults stand there
    space["exercise"] = lambda slot: lambda function: function
    space["torch"] = torch
    begin = EXERCISE.search(source).end()
    verdict = check(slot, cell(source[:begin] + under(source[begin:], slot), **space))
    assert verdict.status == "passed", verdict.says
