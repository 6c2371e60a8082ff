"""What the course does on devices that a machine may not have: each is simulated by what torch says of it."""

import importlib
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from vlmcourse.training import loop
from vlmcourse.training.optimizers import MuonAdamW
from vlmcourse.training.precision import choose_precision, precision_of
from vlmcourse.workbook import lesson

doctor = importlib.import_module("vlmcourse.workbook.doctor")
GIB = 2**30
# name, compute capability, bytes of memory, precision
GPUS = {
    "Tesla T4": ((7, 5), 15 * GIB, "fp16"),
    "NVIDIA L4": ((8, 9), 22 * GIB, "bf16"),
    "NVIDIA A100-SXM4-40GB": ((8, 0), 40 * GIB, "bf16"),
    "NVIDIA H100 80GB HBM3": ((9, 0), 80 * GIB, "bf16"),
}


@pytest.fixture
def computer(monkeypatch):
    """A machine with one of the GPUs, with "Apple GPU", or with a "CPU" alone."""

    def build(name: str) -> None:
        capability, memory, _ = GPUS.get(name, ((0, 0), 0, "no"))
        gpu = SimpleNamespace(name=name, major=capability[0], minor=capability[1], total_memory=memory)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: name in GPUS)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(name in GPUS))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # as a T4 says too
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: name == "Apple GPU")

    return build


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_is_found_named_and_given_its_precision(computer, capsys, name):
    computer(name)
    precision = GPUS[name][2]
    assert choose_precision("cuda") == precision_of(4096, 96) == precision
    assert lesson.device() == "cuda" and lesson.device_words() == name
    assert lesson.budget(cpu=dict(steps=10), gpu=dict(steps=100)).steps == 100
    assert capsys.readouterr().out == f"Budget for {name}: steps = 100\n"
    found = doctor.hardware()
    memory = GPUS[name][1] // GIB
    assert found.state == "ok" and found.result.startswith(f"{name}, {memory} GiB, {precision}")
    assert ("emulated" in found.result) == (name == "Tesla T4")


def test_apples_gpu_is_found_and_stays_in_fp32(computer, capsys):
    computer("Apple GPU")
    assert choose_precision("mps") == choose_precision("mps", 4096, 96) == "no"
    assert lesson.device() == "mps" and lesson.device_words() == "Apple GPU"
    assert lesson.budget(cpu=dict(steps=10), gpu=dict(steps=100)).steps == 100
    assert capsys.readouterr().out == "Budget for Apple GPU: steps = 100\n"
    assert doctor.hardware().result.startswith("Apple GPU; CPU: ") and doctor.hardware().state == "ok"


def test_precision_of_asks_no_cpu_how_fast_it_is_where_training_runs_on_an_apple_gpu(computer, monkeypatch):
    from vlmcourse.training import precision

    computer("Apple GPU")
    monkeypatch.setattr(precision, "cpu_bf16_gain", lambda *_: 10.0)  # of the CPU; autocast is the GPU's
    assert precision_of(4096, 96) == "no"
    computer("CPU")
    assert precision_of(4096, 96) == "bf16"


def test_a_cpu_alone_has_the_small_budget(computer, capsys):
    computer("CPU")
    assert choose_precision("cpu") == "no" and lesson.device() == "cpu"
    assert lesson.budget(cpu=dict(steps=10), gpu=dict(steps=100)).steps == 10
    assert "Budget for CPU, " in capsys.readouterr().out


class Pretended(Accelerator):
    """An Accelerator that notes what it was made with; its device is what the test says."""

    device = torch.device("cuda")
    num_processes = 1
    made: ClassVar[list] = []

    def __init__(self, **options):
        self.made.append(options)


@pytest.mark.parametrize(("device", "name"), [("cuda", name) for name in GPUS] + [("mps", "Apple GPU")])
def test_the_loop_starts_accelerate_with_what_the_device_is_good_at(computer, monkeypatch, device, name):
    computer(name)
    monkeypatch.setattr(Pretended, "device", torch.device(device))
    monkeypatch.setattr(Pretended, "made", [])
    monkeypatch.setattr(loop, "Accelerator", Pretended)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    loop._start_accelerator(None, 1)
    assert Pretended.made[-1]["mixed_precision"] == GPUS.get(name, (0, 0, "no"))[2]
    loop._start_accelerator("no", 1)
    assert Pretended.made[-1]["mixed_precision"] == "no"
    assert not any(options["cpu"] for options in Pretended.made)


def numbers_of(tensors) -> set[torch.dtype]:
    return {tensor.dtype for tensor in tensors if torch.is_tensor(tensor)}


@pytest.mark.parametrize("make", [lambda model: loop.adamw(model, 0.01), MuonAdamW])
def test_nothing_that_a_training_holds_is_in_float64(make):
    """Which Apple's GPU does not have."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = make(model)
    options = dict(steps=2, precision="no", optimizer=optimizer)
    loop.train(model, [torch.randn(8, 4)], lambda model, batch: model(batch).square().mean(), **options)
    held = [value for state in optimizer.state.values() for value in state.values()]
    assert numbers_of([*model.parameters(), *held]) == {torch.float32}
