"""The slips test the checker: each is rejected with its own sentence, and the reference passes."""

import inspect

import pytest
import torch

from vlmcourse.exercises.base import all_exercises, all_quizzes, annotated_axes, in_both, japanese
from vlmcourse.slots import Slot
from vlmcourse.workbook.check import judge, rejection
from vlmcourse.workbook.outcomes import own_axes, same, surroundings, trial_of

EXERCISES = list(all_exercises().values())
SLIPS = [(task, number) for task in EXERCISES for number in range(len(task.slips))]


def named(value):
    return value.slot.name if hasattr(value, "slot") else str(value)


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_the_reference_passes(task):
    assert judge(task, task.slot.reference).status == "passed"


@pytest.mark.parametrize(("task", "number"), SLIPS, ids=named)
def test_every_slip_is_rejected_with_its_own_sentence(task, number):
    slip = task.slips[number]
    verdict = judge(task, slip.wrong)
    assert verdict.status == "wrong"
    others = {in_both(one.says): place for place, one in enumerate(task.slips)}
    said = others.get(verdict.says, verdict.says.en)
    told = f"slip {number} is answered by {said}: give a case in which their outputs differ, or drop one"
    assert verdict.says == in_both(slip.says), told


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_cases_of_other_seeds_ask_as_much(task):
    """Who grades draws other cases: there, too, the reference passes and no slip does."""
    for seed in (1, 2, 1000):
        assert judge(task, task.slot.reference, seed).status == "passed"
        trial = trial_of(task, Slot.changes, seed)
        with surroundings(task):
            for number, slip in enumerate(task.slips):
                got = [trial.slip(number, place) for place in range(len(trial.cases))]
                assert not all(map(same, got, trial.expected)) or rejection(slip.wrong, trial), slip.says


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_no_slip_stumbles_over_a_name(task):
    """A slip is wrong in the way its sentence says, not by a name that its module does not know."""
    trial = trial_of(task, Slot.changes)
    for number in range(len(task.slips)):
        errors = [trial.slip(number, place).error for place in range(len(trial.cases))]
        assert not any(isinstance(error, NameError | AttributeError) for error in errors)


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_an_exercise_has_enough_slips_and_hints(task):
    assert len(task.slips) >= 3
    assert len(task.hints) >= 2
    for sentence in sentences(task):
        assert sentence.strip().endswith((".", "?", ")."))


def sentences(task):
    return [*task.hints, *(slip.says for slip in task.slips), *(promise.says for promise in task.unaffected)]


def test_every_sentence_has_its_japanese_and_the_table_holds_no_other():
    said = {sentence for task in EXERCISES for sentence in sentences(task)}
    for quiz in all_quizzes().values():
        said |= {quiz.question, *(text for choice in quiz.choices for text in (choice[0], choice[2]))}
    assert sorted(said - japanese().keys()) == []
    assert sorted(japanese().keys() - said) == []
    assert all(japanese().values())
    spoken = [japanese()[sentence] for task in EXERCISES for sentence in sentences(task)]
    assert all(any(ord(letter) > 0x3000 for letter in sentence) for sentence in spoken)
    assert [sentence for sentence in japanese().values() if "である。" in sentence] == []  # です and ます


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_axis_names_are_those_of_the_annotations(task):
    """An exercise names axes itself only where the annotation leaves them open with "..."."""
    annotated = annotated_axes(task.slot.reference)
    for argument, axes in task.axes.items():
        written = annotated.get(argument, "")
        assert axes == written or "..." in written


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_cases_tell_axes_apart(task):
    """Every axis of an argument has another size; batch > 1; some size is odd, if there are sizes at all."""
    torch.manual_seed(20)
    names = list(inspect.signature(task.slot.reference).parameters)
    annotations = inspect.unwrap(task.slot.reference).__annotations__
    odd = not any(isinstance(value, torch.Tensor) for case in task.cases() for value in case)
    for case in task.cases():
        for name, value in zip(names, case, strict=False):
            if not isinstance(value, torch.Tensor) or name not in task.axes:
                continue
            axes = own_axes(task.axes[name], value).split()
            assert len(axes) == value.dim(), f"{name} has {value.dim()} axes, named {axes}"
            sizes = [n for axis, n in zip(axes, value.shape, strict=True) if n > 1]
            same_by_nature = {("query", "key")} if axes[-2:] == ["query", "key"] else set()
            assert len(set(sizes)) == len(sizes) - (
                1 if same_by_nature and value.shape[-1] == value.shape[-2] else 0
            )
            odd |= any(n % 2 for n in sizes)
            if "batch" in axes and "#batch" not in str(annotations[name]):  # which may be 1
                assert value.shape[axes.index("batch")] > 1
    assert odd


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_cases_are_the_same_every_time(task):
    torch.manual_seed(20)
    first = repr(task.cases())
    torch.manual_seed(20)
    assert repr(task.cases()) == first


@pytest.mark.parametrize("quiz", all_quizzes().values(), ids=lambda quiz: quiz.name)
def test_a_quiz_has_one_right_choice_and_explains_each(quiz):
    assert sum(right for _, right, _ in quiz.choices) == 1
    assert len(quiz.choices) >= 3
