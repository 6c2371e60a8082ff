"""The number format follows what the hardware really does fast."""

import itertools

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


def test_a_busy_moment_does_not_decide(monkeypatch):
    """fp32 takes 2 s and bf16 1 s; every other time something else keeps the machine busy for a minute."""
    durations = itertools.cycle([2.0, 61.0, 62.0, 1.0])  # of fp32 and bf16 in turn
    clock, reads = [0.0], itertools.count()

    def perf_counter():
        place = next(reads)
        if place and place % 2 == 0:  # place 0 is the beginning of all; then each has a begin and an end
            clock[0] += next(durations)
        return clock[0]

    monkeypatch.setattr(precision.time, "perf_counter", perf_counter)
    monkeypatch.setattr(precision, "LEAST_TRIES", 99)  # and nobody reads the clock in between
    precision.cpu_bf16_gain.cache_clear()
    assert precision.cpu_bf16_gain(8, 8) == 2
