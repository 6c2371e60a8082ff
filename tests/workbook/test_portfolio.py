"""A learner's work stands above the notebooks, and its diary is a list of whole events."""

import json

import pytest

from vlmcourse.workbook import lesson, portfolio


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("course/notebooks", "course"),
        ("course/notebooks/ja", "course"),
        ("course", "course"),
        ("other/a", "other/a"),
    ],
)
def test_the_workspace_is_the_folder_above_the_notebooks_or_here(tmp_path, monkeypatch, here, there):
    monkeypatch.delenv("VLMCOURSE_WORKSPACE")
    (tmp_path / here).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / here)
    assert portfolio.workspace() == tmp_path / there
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path / "chosen"))
    assert portfolio.workspace() == tmp_path / "chosen"


def test_a_diary_is_a_line_for_each_event_with_its_time(workspace, monkeypatch):
    monkeypatch.setattr(portfolio.time, "time", lambda: 12.6)
    assert portfolio.diary() == []
    portfolio.note(slot="vit.patchify", status="passed")
    portfolio.note(quiz="02_vit/1", right=True)
    lines = (workspace / "my_vlm" / "diary.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"time": 13, "slot": "vit.patchify", "status": "passed"}
    (workspace / "my_vlm" / "diary.jsonl").write_text("[1]\n" + "\n".join(lines) + '\n{"time": 1')
    assert portfolio.diary() == [json.loads(line) for line in lines]


def test_a_diary_waits_ten_seconds_for_another_kernel_and_then_goes_on(workspace, monkeypatch):
    asked = []

    class Locked:
        def __init__(self, path, timeout=-1):
            asked.append((path.name, timeout))

        def __enter__(self):
            raise TimeoutError("locked")

        def __exit__(self, *error):
            pass

    monkeypatch.setattr("filelock.FileLock", Locked)
    with pytest.warns(UserWarning, match="progress was not recorded: locked"):
        portfolio.note(slot="vit.patchify")
    assert asked == [("diary.lock", 10)]


@pytest.mark.parametrize(
    ("kind", "threads", "words"),
    [
        ("cuda", 3, "Tesla T4"),
        ("mps", 3, "Apple GPU"),
        ("cpu", 3, "CPU, 3 threads"),
        ("cpu", 1, "CPU, 1 thread"),
    ],
)
def test_a_device_is_named_in_words(monkeypatch, kind, threads, words):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert (lesson.device(), lesson.device_words()) == (kind, words)
