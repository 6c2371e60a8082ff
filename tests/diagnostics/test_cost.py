"""What a computation costs, counted where the count is known."""

from types import SimpleNamespace

import torch
from torch import nn

from vlmcourse.diagnostics import cost
from vlmcourse.diagnostics.cost import cpu_seconds, flops, kept_bytes


def test_a_product_of_matrices_counts_its_multiplications_and_additions():
    assert flops(lambda: torch.randn(3, 5) @ torch.randn(5, 7)) == 2 * 3 * 5 * 7


def test_what_the_backward_pass_needs_is_counted_once():
    layer, inputs = nn.Linear(64, 32, bias=False), torch.randn(16, 64)
    one = kept_bytes(lambda: layer(inputs).sum())
    assert one >= 4 * 16 * 64
    assert kept_bytes(lambda: (layer(inputs) + layer(inputs)).sum()) == one


def test_time_is_that_of_the_middle_call(monkeypatch):
    calls, clock = [], iter([0, 9, 10, 11, 20, 23])  # three calls of 9, 1 and 3 seconds
    monkeypatch.setattr(cost, "time", SimpleNamespace(process_time=lambda: next(clock)))
    assert cpu_seconds(lambda: calls.append(1), times=3) == 3 and len(calls) == 3
