"""What every test stands on: a workspace of its own, quiet output, an honest count of what did not run."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import jaxtyping
import pytest

ROOT = Path(__file__).parents[1]
UNDER_CI = os.environ.get("CI", "").lower() in {"1", "true"}

WHY = {
    "gpu": "a CUDA GPU",
    "network": "the network (VLMCOURSE_NETWORK=1 runs them)",
    "browser": "Chromium (sudo apt-get install chromium)",
}
left_out: Counter = Counter()
SHARED = ("browser", "checkpoints")
"""Folders of tests/ whose files share something expensive, so one process runs all of them: a browser and a
JupyterLab, the shipped models."""


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


def group_of(test: str) -> str:
    """What stays together in one process: a notebook, a file, or a folder whose files share something."""
    path = test.split("::")[0].split("/")
    return path[1] if path[1] in SHARED else "/".join(path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out groups to the processes in the order in which they were collected."""
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group_of
    return scheduler


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


def pytest_sessionfinish(session):
    """A worker process tells what it left out; all of them collected the same tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}) if not left_out else {})


def minutes(reports) -> dict[str, float]:
    """Minutes that the tests of each part took, the longest first; what runs at once counts twice."""
    taken: Counter = Counter()
    for report in reports:
        path = report.nodeid.split("::")[0].split("/")
        taken["/".join(path[:2]) if path[0] == "tests" else path[0]] += report.duration / 60
    return dict(taken.most_common())


def pytest_terminal_summary(terminalreporter):
    """The closing lines: where the minutes went; what did not run here, and what it would need."""
    reports = [r for kind in terminalreporter.stats.values() for r in kind if hasattr(r, "duration")]
    parts = minutes(reports)
    if (total := sum(parts.values())) >= 1:
        named = ", ".join(f"{part} {taken:.1f}" for part, taken in parts.items() if taken >= 0.1)
        terminalreporter.write_line(f"Minutes, each process counted: {named}; {total:.1f} in all.")
    counts = ", ".join(f"{left_out[marker]} need {need}" for marker, need in WHY.items())
    terminalreporter.write_line(f"Not run on this machine: {counts}.")
