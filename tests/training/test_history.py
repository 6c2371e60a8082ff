"""What is shown of a training while it runs."""

import sys
from types import SimpleNamespace

import pytest
from accelerate import Accelerator

from vlmcourse.training.history import History, Log


@pytest.mark.parametrize("steps, shown", [(1, False), (2, True)])
def test_a_training_of_one_step_has_no_bar(steps, shown, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    log = Log(History(), None, Accelerator(cpu=True), steps, 0.0, "tiny")
    assert log.bar.disable is not shown
    log.bar.close()
