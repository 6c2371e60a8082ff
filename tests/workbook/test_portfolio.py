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


def test_damaged_lines_of_a_diary_are_counted_and_the_rest_stays(workspace, capsys):
    portfolio.note(slot="vit.patchify", status="passed")
    with (workspace / "my_vlm" / "diary.jsonl").open("ab") as file:
        file.write(
            b"\xff\xfe\n" + b"[" * 100_000 + b'\n{"slot": ["a"], "status": "passed"}\n3\n{"slot": "b", "sta'
        )
    portfolio.note(slot="vit.rollout")
    assert [event["slot"] for event in portfolio.diary()] == ["vit.patchify", "vit.rollout"]
    assert portfolio.damaged() == [2, 3, 4, 5, 6]
    card = lesson.progress()
    assert str(workspace / "my_vlm" / "diary.jsonl") in card.lines[0]
    assert card.lines[1] == "Lines of it that are damaged and do not count: 5 (2, 3, 4, 5, 6)"


def test_a_folder_in_place_of_the_diary_is_said(workspace):
    (workspace / "my_vlm" / "diary.jsonl").mkdir(parents=True)
    assert "Your diary cannot be read" in lesson.progress().lines[0]
    with pytest.warns(UserWarning, match="progress was not recorded"):
        portfolio.note(slot="a")


def test_a_clone_in_a_folder_called_notebooks_is_found_from_all_its_folders(tmp_path, monkeypatch):
    monkeypatch.delenv("VLMCOURSE_WORKSPACE")
    root = tmp_path / "notebooks" / "clone"
    for here in ("notebooks/ja", "tests/workbook"):
        (root / here).mkdir(parents=True)
    (root / "notebooks" / "00_start_here.ipynb").write_text("{}")
    for here in (".", "notebooks", "notebooks/ja", "tests/workbook"):
        monkeypatch.chdir(root / here)
        assert portfolio.workspace() == root


def test_the_folder_that_a_wheel_has_opened_is_found_from_where_it_was_made(tmp_path, monkeypatch):
    monkeypatch.delenv("VLMCOURSE_WORKSPACE")
    (tmp_path / "here" / "vlm-workbook" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert portfolio.workspace() == tmp_path / "here", "a folder of that name alone is not the course"
    (tmp_path / "here" / "vlm-workbook" / "notebooks" / "00_start_here.ipynb").write_text("{}")
    assert portfolio.workspace() == tmp_path / "here" / "vlm-workbook"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").write_text("{}")
    assert portfolio.workspace() == tmp_path, "the course that it stands in comes first"


def test_a_working_folder_that_is_gone_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("VLMCOURSE_WORKSPACE")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError, match="is gone; restart it from another"):
        portfolio.workspace()
    assert "is gone" in lesson.progress().lines[0]


def test_files_of_no_exercise_are_named_and_not_run(capsys):
    (portfolio.folder() / "my_own_notes.py").write_text("print('run')\nraise RuntimeError\n")
    lesson.begin("02_vit")
    said = capsys.readouterr().out
    assert "Left alone in my_vlm/, since no exercise has such a name: my_own_notes.py" in said
    assert "run\n" not in said
