"""What a learner's function did is found out without changing what it was given."""

import sys

import pytest
import torch

from vlmcourse.data.coordinates import Placement
from vlmcourse.workbook import outcomes
from vlmcourse.workbook.outcomes import Operations, convert, own_axes, parts, run, same

CHANGES = {
    "a weight": lambda layer: layer.weight.data.mul_(2),
    "a buffer": lambda layer: layer.counted.add_(1),
    "what learns": lambda layer: layer.weight.requires_grad_(False),
    "a gradient": lambda layer: layer.weight.sum().backward(),
    "a gradient lost": lambda layer: layer.zero_grad(),
    "the mode": lambda layer: layer.eval(),
    "a part taken out": lambda layer: setattr(layer, "bias", None),
}


def layer_with_a_past():
    layer = torch.nn.Linear(2, 3)
    layer.register_buffer("counted", torch.zeros(1))
    layer.bias.grad = torch.ones(3)
    return layer


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_module_is_a_changed_input(change):
    layer = layer_with_a_past()
    assert run(change, ["layer"], (layer,)).changed == "layer"
    assert run(lambda layer: layer(torch.ones(2)), ["layer"], (layer,)).changed is None
    assert layer.training and layer.weight.grad is None and layer.bias.grad.equal(torch.ones(3))


def test_a_listed_tensor_that_is_made_to_learn_is_a_changed_input():
    assert run(lambda some: some[1].requires_grad_(), ["some"], ([1, torch.ones(2)],)).changed == "some"
    assert run(lambda some: some[1].sum(), ["some"], ([1, torch.ones(2)],)).changed is None


def test_two_functions_that_draw_random_numbers_draw_the_same():
    def noisy(x):
        return x + torch.randn(x.shape)

    first, second = (run(noisy, ["x"], (torch.ones(2, 3),)) for _ in range(2))
    assert same(first, second)
    assert not same(first, run(lambda x: x + torch.rand(x.shape), ["x"], (torch.ones(2, 3),)))


def test_tensors_in_tuples_and_modules_are_changed_in_a_copy():
    module, x = torch.nn.Linear(2, 1), torch.ones(2)
    copied, (inner, word), alone = convert((module, (x, "word"), x), torch.Tensor.double)
    assert copied is not module and module.weight.dtype == torch.float32
    assert {copied.weight.dtype, inner.dtype, alone.dtype} == {torch.float64}
    assert word == "word"
    (place,) = convert((Placement(torch.ones(()), 3.0, 0, 1),), torch.Tensor.double)
    assert type(place) is Placement and place.scale_x.dtype == torch.float64 and place[1:] == (3.0, 0, 1)


def test_a_tensor_of_fewer_axes_has_the_last_of_the_names():
    assert own_axes("class prompt width", torch.zeros(2, 3)) == "prompt width"
    assert own_axes("class prompt width", torch.zeros(4, 2, 3)) == "class prompt width"
    assert own_axes("width", torch.zeros(4, 2, 3)) == "width"
    assert own_axes("width", torch.zeros(())) == ""
    assert own_axes(("token", "width"), (1, 2)) == ("token", "width")
    names = [axes for _, _, axes, _ in parts([torch.zeros(3)], [torch.zeros(3)], "token width")]
    assert names == ["token width", "width"]


def test_operations_are_noted_by_their_names():
    with Operations() as operations:
        torch.nn.Conv1d(1, 1, 1)(torch.zeros(1, 1, 3))
    assert "aten::convolution" in operations.seen
    assert "aten::mm" not in operations.seen


def test_an_alarm_that_nobody_can_catch_is_not_told_and_everything_else_is(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: told.append(one.exc_type))
    before = sys.unraisablehook

    class Leaves:
        def __init__(self, error):
            self.error = error

        def __del__(self):
            raise self.error

    with outcomes.limited(60):
        Leaves(outcomes.OutOfTime())
        Leaves(KeyError("x"))
    assert told == [KeyError] and sys.unraisablehook is before
    Leaves(outcomes.OutOfTime())
    assert told == [KeyError, outcomes.OutOfTime]
