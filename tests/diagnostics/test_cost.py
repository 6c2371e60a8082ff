"""What a computation costs, counted where the count is known."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vlmcourse.diagnostics import cost
from vlmcourse.diagnostics.cost import cpu_seconds, flops, kept_bytes, prompt_flops
from vlmcourse.models.attention import scaled_dot_product
from vlmcourse.models.language import Llama, LlamaConfig


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


@pytest.mark.parametrize(("tokens", "groups", "hidden"), [(13, 2, 40), (5, 4, 24), (70, 1, 16)])
def test_flops_of_a_prompt_are_what_torch_counts(tokens, groups, hidden):
    config = LlamaConfig(97, width=48, depth=3, heads=4, groups=groups, hidden=hidden)
    model, ids = Llama(config).eval(), torch.zeros(1, tokens, dtype=torch.long)
    plain = scaled_dot_product.reference
    scaled_dot_product.install(lambda *args, **options: plain(*args, **options))  # torch counts no fused one
    try:
        counted = flops(lambda: model(ids))
    finally:
        scaled_dot_product.reset()
    assert counted == prompt_flops(tokens, 48, 3, hidden, 48 // 4 * groups, 97)
