"""Every point of the roadmap leads to a cell that is there and that can fail."""

import re
from pathlib import Path

import pytest

from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook.chapters import CHAPTERS
from vlmcourse.workbook.roadmap import ROADMAP, roadmap

SOURCES = Path(__file__).parents[2] / "notebooks" / "src"


@pytest.mark.parametrize("point", ROADMAP, ids=lambda point: f"{point.chapter}-{point.cell}")
def test_the_cell_is_there_and_asserts(point):
    (source,) = SOURCES.glob(f"{point.chapter}_*.py")
    cells = re.split(r"^# %% ", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (cell,) = [cell for cell in cells if cell.startswith(f'id="{point.cell}"')]
    assert "assert " in cell


def test_it_is_shown_as_a_table(capsys):
    roadmap()
    assert "proved in" in capsys.readouterr().out


def test_it_says_which_exercises_are_left_and_how_many_of_a_chapter_are_the_learners(capsys):
    task = all_exercises()["vit.patchify"]
    task.slot.install(lambda images, size: task.slot.reference(images, size))
    try:
        left = roadmap()
    finally:
        task.slot.reset()
    shown = capsys.readouterr().out
    assert set(left) == {chapter.name for chapter in CHAPTERS}
    assert "vit.patchify" not in left["02_vit"] and "pixels.normalise" in left["00_start_here"]
    of = sum(other.chapter == "02_vit" for other in all_exercises().values())
    assert f"1/{of}" in shown and "Left to solve" in shown and f"02: {', '.join(left['02_vit'])}" in shown


def test_with_everything_solved_nothing_is_left(capsys, monkeypatch):
    for task in all_exercises().values():
        monkeypatch.setattr(task.slot, "active", lambda *given: None)
    assert not any(roadmap().values())
    assert "Every exercise of the course is yours." in capsys.readouterr().out
