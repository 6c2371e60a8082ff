"""The number format follows what the hardware really does fast."""

import pytest
import torch

from vlmcourse.training import precision


@pytest.mark.parametrize(
    ("capability", "name"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp16")],
)
def test_a_gpu_gets_bf16_from_compute_capability_8(monkeypatch, capability, name):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # as a T4 claims, by emulation
    assert precision.choose_precision("cuda") == name


@pytest.mark.parametrize(("gain", "name"), [(0.1, "no"), (1.4, "no"), (1.6, "bf16"), (10.0, "bf16")])
def test_a_cpu_gets_bf16_only_where_it_was_measured_to_win(monkeypatch, gain, name):
    monkeypatch.setattr(precision, "cpu_bf16_gain", lambda *size: {(512, 64): gain}[size])
    assert precision.choose_precision("cpu", rows=512, width=64) == name


def test_without_a_size_a_cpu_and_apple_gpus_stay_in_fp32():
    assert precision.choose_precision("cpu") == precision.choose_precision("mps", 512, 64) == "no"


def test_the_probe_measures_once_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    gain = precision.cpu_bf16_gain(96, 32)
    assert gain > 0 and precision.cpu_bf16_gain(96, 32) == gain
    assert torch.equal(torch.get_rng_state(), before)


def test_the_probe_can_be_asked_where_no_gradients_are_kept():
    with torch.no_grad():
        assert precision.cpu_bf16_gain(80, 16) > 0
