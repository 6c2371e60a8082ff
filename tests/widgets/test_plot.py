from types import SimpleNamespace

import numpy as np
import pytest

from vlmcourse.widgets import plot as module
from vlmcourse.widgets.plot import MOST_STEPS, LivePlot


@pytest.fixture
def messages(monkeypatch):
    """What is sent to the browser after the widget exists."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(module, "display", lambda *_: None)
    sent = []
    keep = lambda _, change: change.name == "points" and sent.append(change.new)  # noqa: E731
    monkeypatch.setattr(LivePlot, "notify_change", keep)
    return sent


def table(points, width):
    return np.frombuffer(points, "<f4").reshape(-1, width)


def test_at_most_ten_messages_a_second_and_nothing_is_lost(messages, monkeypatch):
    now = iter(np.arange(0, 10, 0.001))  # a clock on which every step takes a millisecond
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with LivePlot("x", series=("loss", "accuracy")) as plot:
        for step in range(550):
            plot.add(step, loss=1.0)
        assert 5 <= len(messages) <= 6
    last = table(messages[-1], 3)
    assert last[-1, 0] == plot.history["step"][-1] and np.isnan(last[:, 2]).all()


def test_long_runs_are_thinned_and_keep_the_newest_step(messages, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 1e9)
    with LivePlot("x") as plot:
        for step in range(5_000):
            plot.add(step, loss=step / 10)
    last = table(messages[-1], 2)
    assert len(last) <= MOST_STEPS and tuple(last[-1]) == (4_999, np.float32(499.9))
    assert len(plot.history["loss"]) == 5_000


def test_under_ci_nothing_is_sent(messages, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with LivePlot("x") as plot:
        plot.add(1, loss=2.0)
    assert plot.comm is None and messages == [] and plot.history["loss"] == [2.0]


def test_the_picture_tells_the_last_numbers():
    plot = LivePlot("digits", series=("train_loss", "held_out_loss", "accuracy"))
    assert plot.static_figure().alt == "digits: no points yet"
    plot.add(1, train_loss=2.0, held_out_loss=2.5)
    plot.add(2, train_loss=1.5)
    assert plot.static_figure().alt == "digits: last step 2, train_loss 1.5, held_out_loss 2.5"


def test_unknown_names_are_refused():
    with pytest.raises(KeyError, match=r"acc.*LivePlot\(series="):
        LivePlot("x").add(0, loss=1, acc=2)
    with pytest.raises(ValueError, match="different names"):
        LivePlot("x", series=("loss", "accuracy", "loss"))
