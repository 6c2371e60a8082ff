"""Our loss scaling equals torch.amp.GradScaler step by step, overflows included."""

import math

import pytest
import torch
from torch import nn

from vlmcourse.training.scaling import LossScaler, next_scale, unscaled

SIZES = (1e-3, 1.0, math.inf, 1e-9, 2.0, 3.0, math.nan, 1.0, 1.0, 1.0, 1.0, -math.inf, 1e30, 1.0, 5.0)


@pytest.mark.parametrize("rule", [(2.0, 0.5, 3), (4.0, 0.25, 1), (1.5, 0.7, 2)])
def test_the_same_scales_weights_and_skipped_steps(rule):
    growth, backoff, interval = rule
    theirs = torch.amp.GradScaler("cpu", 1024.0, growth, backoff, interval)
    mine = LossScaler(1024.0, growth=growth, backoff=backoff, interval=interval)
    torch.manual_seed(0)
    one, other = nn.Linear(4, 3), nn.Linear(4, 3)
    other.load_state_dict(one.state_dict())
    steppers = [torch.optim.AdamW(layer.parameters(), 0.1) for layer in (one, other)]
    skipped = 0
    for size in SIZES:
        for layer, scaler in ((one, mine), (other, theirs)):
            layer.zero_grad()
            scaler.scale(size * layer(torch.ones(2, 4)).square().mean()).backward()
        taken = mine.step(steppers[0])
        theirs.step(steppers[1])
        theirs.update()
        skipped += not taken
        assert mine.factor == pytest.approx(theirs.get_scale(), rel=1e-6)
        for weight, same in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(weight, same, rtol=1e-6, atol=1e-8)
            assert weight.isfinite().all()
    assert mine.skipped == skipped >= 3


def test_the_scale_by_hand():
    steps, state = [False, False, True, False, False, False, True, True], (8.0, 0)
    seen = []
    for overflow in steps:
        state = next_scale(*state, overflow, interval=3)
        seen.append(state)
    assert seen == [(8, 1), (8, 2), (4, 0), (4, 1), (4, 2), (8, 0), (4, 0), (2, 0)]
    assert next_scale(8.0, 1999, False) == (16.0, 0)


def test_gradients_come_back_in_fp32_and_stay_as_they_were():
    half = torch.tensor([2.0, 6e-5, -3.0], dtype=torch.half)
    found, overflow = unscaled([half, torch.tensor([8.0])], 4.0)
    assert found[0].dtype == torch.float32 and not overflow
    assert found[0].tolist() == pytest.approx([0.5, 1.5e-5, -0.75], rel=1e-3) and found[1].item() == 2.0
    assert half[0] == 2.0
    for bad in (math.inf, -math.inf, math.nan):
        assert unscaled([torch.ones(2), torch.tensor([1.0, bad])], 4.0)[1] is True


def test_what_fp16_loses_is_kept_by_the_scale():
    lost = torch.tensor(2e-8)
    assert lost.half() == 0
    found, _ = unscaled([(lost * 1024).half()], 1024.0)
    assert found[0].item() == pytest.approx(2e-8, rel=0.01)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_that_is_no_scale_is_refused(scale):
    with pytest.raises(ValueError, match="finite number above 0"):
        LossScaler(scale)


def test_a_scale_below_1_is_a_scale():
    scaler = LossScaler(0.5)
    assert scaler.scale(torch.tensor(6.0)) == 3 and scaler.factor == 0.5
