"""What this machine has, what it lacks, and the exact command that mends it.

A finding is "ok", "note" (something works less well or is needed for one purpose only) or "missing" (the
course does not work). Nothing here changes the machine or touches the network.
"""

import importlib
import os
import platform
import shutil
from importlib import metadata
from typing import NamedTuple

import psutil
import torch
from packaging.requirements import Requirement
from packaging.version import Version

from vlmcourse.workbook.card import SIGNS, Card, number_of
from vlmcourse.workbook.portfolio import nothing_yet, workspace

GIB = 1024**3
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")
CJK_FONTS = ["CJK JP", "CJK", "IPA", "Hiragino", "Yu Gothic", "Meiryo", "MS Gothic", "Takao", "VL Gothic"]
STATES = {"ok": SIGNS["passed"], "note": SIGNS["note"], "missing": SIGNS["wrong"]}
NOT_IMPORTABLE = (ImportError, RuntimeError, OSError, AttributeError)


class Finding(NamedTuple):
    """One line of the report: what was looked at, the result, its state, and what to do (or "")."""

    what: str
    result: str
    state: str = "ok"
    mend: str = ""


def doctor() -> Card:
    """The report as a card."""
    findings = examine()
    rows = [[STATES[finding.state], finding.what, finding.result, finding.mend] for finding in findings]
    table = ["", "what", "found", "what to do"], rows
    if missing := sum(finding.state == "missing" for finding in findings):
        return Card("wrong", f"{number_of(missing, 'thing')} to mend before you start", table=table)
    return Card("passed", "This machine is ready for the course", table=table)


def examine() -> list[Finding]:
    """Look at everything; takes a few seconds, as torch is loaded."""
    learning = [python(), *packages(), vision(), adapters(), pretrained(), published_eye()]
    return [*learning, hardware(), ram(), disk(), work(), fonts(), browser()]


def on_colab() -> bool:
    return "COLAB_RELEASE_TAG" in os.environ


def install(requirement: str) -> str:
    """The command that installs one package; on Colab without its dependencies, as torch must stay there."""
    return f'python -m pip install {"--no-deps " if on_colab() else ""}"{requirement}"'


def version(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def python() -> Finding:
    return Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def packages() -> list[Finding]:
    """The course's requirements in pyproject.toml: one finding if all are there, else one for each."""
    wanted = [Requirement(text) for text in metadata.requires("vlmcourse") or [] if "extra ==" not in text]
    wanted = [r for r in wanted if not (on_colab() and r.name == "jupyterlab")]
    problems = []
    for requirement in wanted:
        present = version(requirement.name)
        if present is None or not requirement.specifier.contains(present, prereleases=True):
            need = f"{present or 'not installed'}, needs {requirement.specifier}"
            problems.append(Finding(requirement.name, need, "missing", install(str(requirement))))
    largest = ("torch", "transformers", "ipywidgets", "anywidget")
    named = ", ".join(f"{name} {version(name)}" for name in largest)
    return problems or [Finding("packages", f"all {len(wanted)}, among them {named}")]


def vision() -> Finding:
    """torch and torchvision must come from the same release, or open_clip and timm cannot be imported."""
    pair = f"torch {version('torch')}, torchvision {version('torchvision')}"
    try:
        importlib.import_module("torchvision")
    except NOT_IMPORTABLE as error:
        colab = "Runtime > Disconnect and delete runtime; then install nothing that brings its own torch"
        mend = colab if on_colab() else "python -m pip install --upgrade --force-reinstall torch torchvision"
        clash = f"{pair} do not fit together: {first_line(error)}"
        return Finding("torch and torchvision", clash, "missing", mend)
    return Finding("torch and torchvision", pair)


def adapters() -> Finding:
    """peft 0.19 and later refuses to work beside torchao older than 0.16, which Colab brings."""
    peft, torchao = version("peft"), version("torchao")
    if peft and torchao and Version(peft) >= Version("0.19") and Version(torchao) < Version("0.16"):
        clash = f"peft {peft} cannot be used beside torchao {torchao}"
        return Finding("LoRA", clash, "note", install("torchao>=0.16") + "  (before the LoRA chapter)")
    return Finding("LoRA", f"peft {peft}" + (f", torchao {torchao}" if torchao else ""))


def pretrained() -> Finding:
    """SmolLM2 for the chapter on real models: from the hub's cache, or from a pip package that carries it."""
    try:
        from vlmcourse.interop import hub
    except NOT_IMPORTABLE as error:  # said in full by packages() and vision()
        return Finding("SmolLM2", f"transformers cannot be used: {first_line(error)}", "note")
    try:
        return Finding("SmolLM2", f"in {hub.resolve(hub.SMOLLM2, fetch=False).origin}")
    except hub.MissingModel:
        mend = f"{hub.CARRIED[hub.SMOLLM2].pip}  (chapter 17 only, 98 MB)"
        return Finding("SmolLM2", "not here: the language model of chapter 17", "note", mend)


def published_eye() -> Finding:
    """DINOv2 for chapters 02 and 17, from the hub's cache or a pip package; both also run without it."""
    try:
        from vlmcourse.interop import hub
    except NOT_IMPORTABLE:  # said by pretrained()
        return Finding("DINOv2", "transformers cannot be used", "note")
    try:
        return Finding("DINOv2", f"in {hub.resolve(hub.DINOV2, fetch=False).origin}")
    except hub.MissingModel:
        mend = f"{hub.CARRIED[hub.DINOV2].pip}  (optional, 90 MB)"
        return Finding("DINOv2", "not here: the published eye of chapters 02 and 17", "note", mend)


def hardware() -> Finding:
    """What training runs on."""
    cores = ", ".join((number_of(os.cpu_count() or 1, "core"), number_of(torch.get_num_threads(), "thread")))
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        # not is_bf16_supported(): on a T4 it is true through emulation, which is slow
        precision = "bf16" if gpu.major >= 8 else "fp16 (bf16 would only be emulated)"
        count = f", {torch.cuda.device_count()} of them" if torch.cuda.device_count() > 1 else ""
        memory = f"{gpu.total_memory / GIB:.0f} GiB"
        return Finding("device", f"{gpu.name}{count}, {memory}, {precision}; CPU: {cores}")
    if torch.backends.mps.is_available():
        return Finding("device", f"Apple GPU; CPU: {cores}")
    if shutil.which("nvidia-smi"):
        mend = "update the NVIDIA driver, or install the torch build for it: https://pytorch.org/get-started/locally/"
        return Finding("device", f"CPU, {cores}; there is an NVIDIA GPU that torch cannot use", "note", mend)
    return Finding("device", f"CPU, {cores}: enough for every chapter")


def ram() -> Finding:
    total, free = (value / GIB for value in psutil.virtual_memory()[:2])
    sizes = f"{total:.0f} GiB, {free:.0f} free"
    if free < 3:
        return Finding("memory", sizes, "note", "close other programs: training a chapter needs about 3 GiB")
    return Finding("memory", sizes)


def disk() -> Finding:
    free = shutil.disk_usage(workspace()).free / GIB
    if free < 2:
        mend = "free some space: runs and checkpoints need about 2 GiB"
        return Finding("disk", f"{free:.1f} GiB free", "note", mend)
    return Finding("disk", f"{free:.0f} GiB free")


def work() -> Finding:
    """Where the learner's passed functions and training runs are kept."""
    folder = workspace()
    if not os.access(folder, os.W_OK):
        mend = "set VLMCOURSE_WORKSPACE to a folder you can write to, and restart the kernel"
        return Finding("your work", f"{folder} cannot be written", "missing", mend)
    if nothing := nothing_yet():
        return Finding("your work", nothing, "note")
    return Finding("your work", str(folder / "my_vlm"))


def fonts() -> Finding:
    """Latin text always works: matplotlib brings a font.  Japanese needs one of the system's."""
    from matplotlib import font_manager

    names = {font.name for font in font_manager.fontManager.ttflist}
    if japanese := [name for part in CJK_FONTS for name in sorted(names) if part in name]:
        return Finding("fonts", f"{len(names)}, Japanese among them ({japanese[0]})")
    apt = shutil.which("apt-get")
    mend = "sudo apt-get install fonts-noto-cjk" if apt else "install the font Noto Sans CJK JP"
    found = f"{len(names)}, none for Japanese figures"
    return Finding("fonts", found, "note", f"{mend}  (Japanese edition only)")


def browser() -> Finding:
    """The browser tests drive Chromium; a learner's own browser shows the notebooks."""
    if path := find_browser():
        return Finding("browser", path)
    mend = "sudo apt-get install chromium" if shutil.which("apt-get") else "install Chromium or Chrome"
    return Finding("browser", "no Chromium or Chrome", "note", mend + "  (for `make test` only)")


def find_browser() -> str | None:
    """The path of Chromium, Chrome or Edge, whichever is found first."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
