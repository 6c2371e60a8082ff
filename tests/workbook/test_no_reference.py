"""A class without references: what is open stops what needs it, and what passed runs."""

import pytest
import torch

from vlmcourse.exercises.base import all_exercises
from vlmcourse.models import attention, language, vit
from vlmcourse.slots import OpenExercise, Slot, raising
from vlmcourse.workbook import begin, engine, exercise, portfolio

from .learner import cell, solution_file

RIGHT = "def merge_heads(heads):\n    return heads.transpose(1, 2).flatten(2)\n"


def begun(chapter, **options):
    begin(chapter, **options)
    return {name for name, task in all_exercises().items() if getattr(task.slot.active, "left_open", False)}


def test_exercises_of_earlier_chapters_stop_and_later_ones_do_not(capsys):
    tasks = all_exercises()
    earlier = {name for name, task in tasks.items() if task.chapter < "02"}
    assert begun("02_vit", reference=False) == earlier
    assert "No references: an exercise that is open stops what needs it." in capsys.readouterr().out
    says = "naive.join is an open exercise of chapter 01_the_problem, and this class has no references"
    with pytest.raises(OpenExercise, match=says):
        tasks["naive.join"].slot(torch.ones(2, 3), torch.ones(2, 3))
    assert vit.patchify(torch.ones(1, 3, 8, 8), 4).shape == (1, 4, 48)  # until its cell has run


def test_a_chapters_own_exercise_stops_once_its_cell_has_run_and_runs_once_it_passes(capsys):
    begin("02_vit", reference=False)
    heads = torch.ones(2, 3, 4, 5)
    exercise(attention.merge_heads)(cell("def merge_heads(heads):\n    raise NotImplementedError\n"))
    assert "Nothing stands in: cells that need it stop until it passes." in capsys.readouterr().out
    with pytest.raises(OpenExercise, match=r"attention\.merge_heads is an open exercise of chapter 02_vit"):
        attention.merge_heads(heads)
    assert not attention.merge_heads.runs_mine and "nothing yet" in repr(attention.merge_heads)
    exercise(attention.merge_heads)(cell("def merge_heads(heads):\n    return heads\n"))
    with pytest.raises(OpenExercise):
        attention.merge_heads(heads)
    exercise(attention.merge_heads)(cell(RIGHT))
    assert attention.merge_heads(heads).shape == (2, 4, 15) and attention.merge_heads.runs_mine
    exercise(attention.merge_heads)(cell("def merge_heads(heads):\n    ...\n"))  # what passed keeps running
    assert attention.merge_heads(heads).shape == (2, 4, 15)


def test_what_passed_before_runs_in_later_chapters():
    task = all_exercises()["naive.join"]
    portfolio.keep(portfolio.Saved(portfolio.file_of("naive.join"), solution_file(task)))
    assert "naive.join" not in begun("02_vit", reference=False)
    assert task.slot.runs_mine


def test_references_come_back_with_the_next_begin():
    assert begun("02_vit", reference=False)
    assert begun("02_vit") == set()


@pytest.mark.parametrize(("value", "stand_in"), [("0", False), ("1", True), (None, True)])
def test_the_environment_says_it_for_all_notebooks(monkeypatch, value, stand_in):
    monkeypatch.delenv("VLMCOURSE_REFERENCE", raising=False)
    if value is not None:
        monkeypatch.setenv("VLMCOURSE_REFERENCE", value)
    assert bool(begun("01_the_problem")) is not stand_in
    assert engine.references is stand_in
    assert begun("01_the_problem", reference=True) == set()


def test_no_shortcut_goes_round_an_open_exercise():
    """Where a model takes torch's own way for a reference, it must not do so for one that is open."""
    begin("09_flamingo", reference=False)
    with pytest.raises(OpenExercise, match="attention"):
        attention.Attention(8, 2)(torch.ones(1, 3, 8))
    with pytest.raises(OpenExercise, match="rms_norm"):
        language.RMSNorm(8, 1e-6)(torch.ones(1, 3, 8))


def test_leaving_open_counts_as_a_change():
    before = Slot.changes
    attention.merge_heads.leave_open("x")
    assert Slot.changes == before + 1


def test_what_refuses_looks_like_the_reference_and_raises_anew_each_time():
    stops = raising(attention.merge_heads.reference, lambda: OpenExercise("not yet"))
    assert stops.__wrapped__ is attention.merge_heads.reference and stops.__name__ == "merge_heads"
    raised = []
    for arguments in ((), (1, 2, 3)):
        with pytest.raises(OpenExercise, match=r"^not yet$") as caught:
            stops(*arguments, anything=1)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
