"""The slips test the checker: each is rejected with its own sentence, the reference passes, the stub is a todo."""

import inspect

import pytest
import torch

from vlmcourse.exercises.base import all_exercises, all_quizzes
from vlmcourse.workbook.check import judge

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
    assert verdict.says == slip.says


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_an_exercise_has_enough_slips_and_hints_in_both_languages(task):
    assert len(task.slips) >= 3
    assert len(task.hints) >= 2
    for text in [*task.hints, *(slip.says for slip in task.slips)]:
        assert text.en.strip().endswith((".", "?", ")."))
        assert any(ord(letter) > 0x3000 for letter in text.ja)


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_cases_tell_axes_apart(task):
    """Every axis of an argument has another size; batch > 1; some size is odd, if there are sizes at all."""
    torch.manual_seed(20)
    names = list(inspect.signature(task.slot.reference).parameters)
    odd = not any(isinstance(value, torch.Tensor) for case in task.cases() for value in case)
    for case in task.cases():
        for name, value in zip(names, case, strict=False):
            if not isinstance(value, torch.Tensor) or name not in task.axes:
                continue
            axes = task.axes[name].split()
            assert len(axes) == value.dim(), f"{name} has {value.dim()} axes, named {axes}"
            sizes = [n for axis, n in zip(axes, value.shape, strict=True) if n > 1]
            same_by_nature = {("query", "key")} if axes[-2:] == ["query", "key"] else set()
            assert len(set(sizes)) == len(sizes) - (
                1 if same_by_nature and value.shape[-1] == value.shape[-2] else 0
            )
            odd |= any(n % 2 for n in sizes)
            if "batch" in axes:
                assert value.shape[axes.index("batch")] > 1
    assert odd


@pytest.mark.parametrize("task", EXERCISES, ids=named)
def test_cases_are_the_same_every_time(task):
    torch.manual_seed(20)
    first = repr(task.cases())
    torch.manual_seed(20)
    assert repr(task.cases()) == first


@pytest.mark.parametrize("quiz", all_quizzes().values(), ids=lambda quiz: quiz.name)
def test_a_quiz_has_one_right_choice_and_explains_each_in_both_languages(quiz):
    assert sum(right for _, right, _ in quiz.choices) == 1
    assert len(quiz.choices) >= 3
    for text in [quiz.question, *(text for choice in quiz.choices for text in (choice[0], choice[2]))]:
        assert text.en
        assert text.ja
