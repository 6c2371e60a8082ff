"""Outcomes as plain data say what they were made from, and run nothing."""

import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

from vlmcourse.exercises.base import all_exercises
from vlmcourse.slots import Slot
from vlmcourse.workbook.outcomes import Outcome, same, trial_of
from vlmcourse.workbook.plain import Opaque, as_data, same_data, tidy


def sent(value):
    """What arrives of a value that a call returned."""
    return json.loads(json.dumps(as_data(Outcome(value))))


@dataclass
class Record:
    size: int
    vectors: torch.Tensor


class Pair(NamedTuple):
    first: int
    second: str


VALUES = [
    torch.randn(2, 3),
    torch.zeros(0, 4),
    torch.tensor(3.0).expand(1, 1),  # whose stride is 0
    torch.arange(6).reshape(2, 3).T,
    torch.tensor([1.5, -2], dtype=torch.bfloat16),
    torch.tensor([math.nan, math.inf]),
    (1, [2.5, "three", None, True]),
    {"a": torch.ones(2), "b": {1, 2}},
    Record(2, torch.ones(3)),
    Pair(1, "one"),
    np.float32(2.5),
    np.arange(4),
    math.nan,
    torch.float16,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_arrives_as_it_was(value):
    assert same_data(sent(value), as_data(Outcome(value)))


@pytest.mark.parametrize(
    ("got", "right"),
    [
        (torch.ones(2), torch.ones(3)),
        (torch.ones(2), torch.ones(2).double()),
        (torch.ones(2), torch.ones(2) + 1e-3),
        (torch.ones(2), torch.ones(1, 2)),
        (1.0, 1.001),
        (1.0, 1),
        (True, 1),
        ((1, 2), [1, 2]),
        ((1, 2), (1, 2, 3)),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 2}),
        ({"a": 1.0}, {"a": 1}),
        (Record(2, torch.ones(3)), Record(3, torch.ones(3))),
        ({1, 2}, {1, 3}),
        ("1", 1),
        (np.float32(1), np.float64(1)),
        (None, 0),
    ],
)
def test_another_value_is_not_alike(got, right):
    assert not same_data(sent(got), as_data(Outcome(right)))
    assert not same(Outcome(got), Outcome(right))


@pytest.mark.parametrize(
    ("got", "right"),
    [
        (torch.ones(2), torch.ones(2) + 1e-6),
        (1, 1.0),
        (1.0, 1 + 1e-6),
        (1e-6, 0.0),  # near 0 the difference itself counts
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1.0}),
        ([1.0], [1 + 1e-6]),
        ((torch.ones(2),), (torch.ones(2) + 1e-6,)),
        (Record(2, torch.ones(3)), Record(2, torch.ones(3) + 1e-6)),
    ],
)
def test_rounding_and_order_of_keys_do_not_count(got, right):
    assert same_data(sent(got), as_data(Outcome(right)))
    assert same(Outcome(got), Outcome(right))


def test_errors_and_changed_arguments_count():
    right = as_data(Outcome(error=ValueError("x")))
    assert same_data(as_data(Outcome(error=ValueError("y"))), right)
    assert not same_data(as_data(Outcome(error=TypeError("x"))), right)
    assert not same_data(as_data(Outcome(1, changed="tokens")), as_data(Outcome(1)))


@pytest.mark.parametrize("value", [torch.nn.Linear(1, 1), object(), torch.ones(2).to_sparse()])
def test_what_cannot_be_written_down_is_named(value):
    with pytest.raises(Opaque):
        as_data(Outcome([value]))


def test_values_nested_without_end_are_refused():
    value = []
    value.append(value)
    with pytest.raises(Opaque, match="nested"):
        as_data(Outcome(value))


@pytest.mark.parametrize("deep", [40, 41])
def test_values_may_be_nested_forty_deep(deep):
    value = 1
    for _ in range(deep):
        value = [value]
    if deep > 40:
        with pytest.raises(Opaque, match="more than 40 deep"):
            as_data(Outcome(value))
    else:
        assert same_data(sent(value), as_data(Outcome(value)))


def test_letters_that_are_no_base64_are_refused():
    right = as_data(Outcome(torch.ones(2)))
    got = sent(torch.ones(2))
    assert same_data(got, right)
    got["value"][4] = f"?{got['value'][4]}"
    assert not same_data(got, right)


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("as it is: ×²", "as it is: ×²"),
        ("two\n lines\tof\r\nit ", "two lines of it"),
        ("\x1b[2J\x00\ud800", "\\x1b[2J\\x00\\ud800"),
        ("x" * 1000, "x" * 1000),
        ("x" * 1001, "x" * 1000 + " …"),
    ],
)
def test_a_sentence_of_a_stranger_is_one_short_line(sentence, line):
    assert tidy(sentence) == line


@pytest.mark.parametrize(
    "junk",
    [
        None,
        [],
        {},
        {"value": 3, "error": None, "changed": None},
        {"value": ["tensor", "torch.float32", [2], "cpu", "?"], "error": None, "changed": None},
        {"value": ["tensor", "torch.os", [2], "cpu", ""], "error": None, "changed": None},
        {"value": ["tensor", "torch.float32", [10**12], "cpu", "AAAA"], "error": None, "changed": None},
    ],
)
def test_junk_is_not_alike(junk):
    assert same_data(junk, as_data(Outcome(torch.ones(2)))) is False  # which can be counted


@pytest.mark.parametrize("task", all_exercises().values(), ids=lambda task: task.slot.name)
def test_right_and_wrong_outputs_of_every_exercise_are_told_apart_as_the_checker_does(task):
    trial = trial_of(task, Slot.changes)
    for place, right in enumerate(trial.expected):
        assert same_data(json.loads(json.dumps(as_data(right))), as_data(right))
        for number in range(len(task.slips)):
            got = trial.slip(number, place)
            try:
                arrived = as_data(got)
            except Opaque:
                arrived = None
            assert same_data(arrived, as_data(right)) == same(got, right)
