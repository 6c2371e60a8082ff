"""What every test stands on: a workspace of its own, quiet output, an honest count of what did not run."""

import os
import shutil
import tempfile
from collections import Counter

import jaxtyping
import pytest

UNDER_CI = os.environ.get("CI", "").lower() in {"1", "true"}

WHY = {
    "gpu": "a CUDA GPU",
    "network": "the network (VLMCOURSE_NETWORK=1 runs them)",
    "browser": "Chromium (sudo apt-get install chromium)",
}
left_out: Counter = Counter()


def pytest_configure(config):
    """Kernels that run notebooks inherit these: quiet, with a workspace in which nothing was solved yet."""
    os.environ["CI"] = "true"
    os.environ["VLMCOURSE_WORKSPACE"] = tempfile.mkdtemp(prefix="vlmcourse-")


def pytest_unconfigure(config):
    shutil.rmtree(os.environ["VLMCOURSE_WORKSPACE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """Every test has a fresh workspace, and none reads or writes a learner's own work."""
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path))
    return tmp_path


@pytest.fixture
def unchecked():
    """For what the code itself says of wrong input: the check of its annotations would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def lacking() -> set[str]:
    """The markers of tests that cannot run on this machine.  Under CI a missing browser is a failure."""
    import torch

    from vlmcourse.workbook.doctor import find_browser

    missing = {
        "gpu": not torch.cuda.is_available(),
        "network": os.environ.get("VLMCOURSE_NETWORK") != "1",
        "browser": not find_browser() and not UNDER_CI,
    }
    return {marker for marker, absent in missing.items() if absent}


def pytest_collection_modifyitems(config, items):
    """Deselect what this machine cannot run, and count it."""
    absent = lacking()
    kept, dropped = [], []
    for item in items:
        reasons = absent & {mark.name for mark in item.iter_markers()}
        left_out.update(sorted(reasons)[:1])
        (dropped if reasons else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def pytest_terminal_summary(terminalreporter):
    """The closing line: what did not run here, and what it would need."""
    counts = ", ".join(f"{left_out[marker]} need {need}" for marker, need in WHY.items())
    terminalreporter.write_line(f"Not run on this machine: {counts}.")
