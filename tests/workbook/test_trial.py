"""What an exercise's reference and slips do is worked out once and shared by all checks."""

import pytest
import torch

from vlmcourse.exercises.base import EXERCISES, Exercise, Slip
from vlmcourse.models import vit
from vlmcourse.slots import REGISTRY, Slot
from vlmcourse.workbook.check import judge
from vlmcourse.workbook.outcomes import Trial, run, trial_of


def double(x):
    return 2 * x


@pytest.fixture
def task():
    """An exercise outside the course that notes the calls of its second slip."""
    calls = []
    noted = Slip(lambda x: calls.append(0) or 4 * x, "fourfold.")
    slips = [Slip(lambda x: 3 * x, "threefold."), noted, Slip(lambda x: 4 * x, "too late to speak.")]
    cases = [(torch.ones(2),), (torch.arange(3.0),)]
    exercise = Exercise(Slot(double), "02_vit", lambda: cases, slips, ["a", "b"])
    yield exercise, calls
    EXERCISES.pop("test_trial.double")
    REGISTRY.pop("test_trial.double")


def test_a_slip_runs_once_for_each_case_however_many_answers_are_checked(task):
    exercise, calls = task
    assert [judge(exercise, lambda x: 4 * x).says.en for _ in range(3)] == ["fourfold."] * 3
    assert len(calls) == 2


def test_the_first_slip_that_does_the_same_on_a_case_speaks(task):
    trial = Trial(task[0])
    assert trial.like_slip({0: run(lambda x: 4 * x, trial.names, trial.cases[0])}).says == "fourfold."
    assert trial.like_slip({0: run(lambda x: 5 * x, trial.names, trial.cases[0])}) is None
    assert [outcome.value.tolist() for outcome in trial.expected] == [[2, 2], [0, 2, 4]]


def test_another_function_in_any_slot_makes_a_new_trial(task):
    """References call other slots, so what they do may change."""
    before = trial_of(task[0], Slot.changes)
    assert trial_of(task[0], Slot.changes) is before
    vit.patchify.reset()
    assert trial_of(task[0], Slot.changes) is not before


def test_an_answer_that_changes_its_input_leaves_the_cases_of_the_next_check_alone(task):
    assert "in place" in judge(task[0], lambda x: x.mul_(2)).says.en
    assert judge(task[0], lambda x: 2 * x).status == "passed"
