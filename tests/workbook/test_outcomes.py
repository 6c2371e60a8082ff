"""What a learner's function did is found out without changing what it was given."""

import signal
import sys
import threading
import time

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


def busy(seconds):
    """Take so much CPU time, in steps between which an alarm is heard."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_takes_too_long_is_stopped_and_what_does_not_goes_through():
    began = time.process_time()
    with pytest.raises(outcomes.OutOfTime), outcomes.limited(0.1):
        busy(5)
    assert 0.02 <= time.process_time() - began < 4  # the alarm counts in ticks
    with outcomes.limited(5):
        busy(0.05)
    assert not issubclass(outcomes.OutOfTime, Exception)  # which a learner may catch


def test_what_catches_the_alarm_hears_it_again():
    caught = 0
    with outcomes.limited(0.02):
        while caught < 3:
            try:
                busy(5)
            except outcomes.OutOfTime:
                caught += 1
            assert caught
    busy(0.15)  # when all is over nothing rings


def test_a_time_within_another_ends_with_the_shorter_of_the_two():
    for outer, inner in ((0.1, 5), (5, 0.1)):
        began = time.process_time()
        with outcomes.limited(outer), pytest.raises(outcomes.OutOfTime), outcomes.limited(inner):
            busy(5)
        assert time.process_time() - began < 4


def test_what_is_left_of_the_outer_time_goes_on_behind_the_inner_one():
    began, left = time.process_time(), []
    with pytest.raises(outcomes.OutOfTime), outcomes.limited(0.3):
        with outcomes.limited(5):
            busy(0.1)
        left += signal.getitimer(signal.ITIMER_PROF)
        busy(5)
    assert 0.1 < left[0] <= 0.21 and left[1] > 0 and time.process_time() - began < 4
    reached = False
    with pytest.raises(outcomes.OutOfTime), outcomes.limited(0.05):
        with outcomes.limited(5):
            signal.setitimer(signal.ITIMER_PROF, 0)  # no alarm comes while the outer time runs out
            busy(0.1)
            reached = True
        busy(5)
    assert reached


def test_behind_it_alarm_and_handler_are_as_they_were():
    rings = []
    old = signal.signal(signal.SIGPROF, lambda *_: rings.append(1))
    try:
        with outcomes.limited(5):
            assert signal.getitimer(signal.ITIMER_PROF)[0] > 4
            ring = signal.getsignal(signal.SIGPROF)
            with pytest.raises(outcomes.OutOfTime):
                ring()
        ring()  # it was on its way when all was over
        assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)
        signal.raise_signal(signal.SIGPROF)
        assert rings == [1]
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # one that is on its way would end the process
        with outcomes.limited(5):
            pass
        assert signal.getsignal(signal.SIGPROF) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGPROF, old if callable(old) else signal.SIG_IGN)


def test_where_there_is_no_timer_nothing_is_tried(monkeypatch):
    tried = []

    def work():
        try:
            with outcomes.limited(5):
                tried.append(1)
        except outcomes.OutOfTime:
            tried.append("out of time")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    monkeypatch.delattr(signal, "setitimer")
    work()
    assert tried == ["out of time"] * 2
