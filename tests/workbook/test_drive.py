"""Copies of a learner's work outlast the session: whole, checked, joined, and never in the way."""

import json
import os
import sys
import types
import warnings
import zipfile
from pathlib import Path

import filelock
import pytest
import torch

from tests.workbook.learner import cell
from vlmcourse.data import keeping, pixels
from vlmcourse.training.checkpoints import load_checkpoint, load_weights, newest_checkpoint, save_checkpoint
from vlmcourse.training.checkpoints import save_weights as save
from vlmcourse.workbook import drive, engine, keep_on_drive, lesson, portfolio

ANSWER = "def normalise(images):\n    return (images - images.mean()) / images.std()\n"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder for copies; each `session` is a new workspace and a process that has seen nothing."""
    monkeypatch.setenv(keeping.KEEP, "")
    folder = tmp_path / "drive"
    folder.mkdir()
    return folder


@pytest.fixture
def session(kept, tmp_path, monkeypatch):
    def start(name="one", known=None):
        monkeypatch.setenv(keeping.KEEP, str(kept))
        monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path / name))
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(keeping, "_joined", set() if known is None else known)
        monkeypatch.setattr(keeping, "_kept_at", {})
        return tmp_path / name

    return start


def passes(slot: str, text: str = ANSWER) -> None:
    """What engine.exercise does when an answer has passed."""
    portfolio.keep(portfolio.Saved(portfolio.file_of(slot), text))
    portfolio.note(chapter="02_vit", slot=slot, status="passed")


def answers(home: Path) -> set[str]:
    return {path.stem for path in home.glob("my_vlm/*.py")}


def copies(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.zip"), key=lambda path: path.name)


def test_a_passed_exercise_is_there_in_the_next_session_and_its_diary_too(session, kept):
    home = session()
    passes("vit.one")
    portfolio.note(slot="vit.two", status="wrong")  # no reason to copy
    assert len(copies(kept)) == 1
    again = session("two")
    back = keeping.restore()
    assert sorted(back.files) == ["my_vlm/vit_one.py"] and back.damaged == []
    assert (again / "my_vlm" / "vit_one.py").read_text() == (home / "my_vlm" / "vit_one.py").read_text()
    assert [event["slot"] for event in portfolio.diary()] == ["vit.one"]
    assert keeping.restore().files == []
    assert len((again / "my_vlm" / "diary.jsonl").read_text().splitlines()) == 1


def test_what_is_not_right_yet_goes_along_and_comes_back(session, kept):
    home = session()
    tried = portfolio.Saved(portfolio.file_of("vit.two", passed=False), ANSWER)
    portfolio.keep(tried)
    passes("vit.one")
    again = session("two")
    assert sorted(keeping.restore().files) == ["my_vlm/attempts/vit_two.py", "my_vlm/vit_one.py"]
    assert (again / tried.path.relative_to(home)).read_text() == ANSWER and answers(again) == {"vit_one"}


def test_without_a_folder_nothing_is_copied_and_a_folder_that_is_gone_is_a_warning(
    kept, session, monkeypatch
):
    session()
    monkeypatch.setenv(keeping.KEEP, "")
    passes("vit.one")
    assert copies(kept) == [] and keeping.restore() == ([], [])
    monkeypatch.setenv(keeping.KEEP, str(kept / "unmounted"))
    with pytest.warns(UserWarning, match="not kept in .*unmounted: the folder is not there"):
        passes("vit.two")
    assert not (kept / "unmounted").exists(), "a drive that is not mounted is not made up"
    assert answers(portfolio.workspace()) == {"vit_one", "vit_two"}


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"?" + data[-8:]]
)
def test_a_half_or_changed_copy_is_named_and_an_older_one_taken(session, kept, damage):
    session()
    passes("vit.one")
    passes("vit.two")
    newest = copies(kept)[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    home = session("two")
    back = keeping.restore()
    assert (answers(home), back.damaged) == ({"vit_one"}, [newest.name])
    passes("vit.three")  # and nothing stops a new copy
    assert answers(session("three")) == set() and keeping.restore().damaged == [newest.name]
    assert answers(portfolio.workspace()) == {"vit_one", "vit_three"}


def test_with_two_copies_spoilt_the_third_is_taken(session, kept):
    session()
    for number in range(3):
        passes(f"vit.part{number}")
    for copy in copies(kept)[1:]:
        copy.write_bytes(b"")
    session("two")
    assert keeping.restore().files == ["my_vlm/vit_part0.py"]


def test_a_copy_that_died_before_its_name_is_none(session, kept):
    session()
    passes("vit.one")
    (kept / "0a1b2c3d.writing").write_bytes(copies(kept)[0].read_bytes()[:50])
    (kept / "my_vlm.zip").write_bytes(b"a person's own")
    session("two")
    assert keeping.restore() == (["my_vlm/vit_one.py"], [])


def test_what_is_read_back_differently_does_not_count(session, kept, monkeypatch):
    session()
    monkeypatch.setattr(keeping.shutil, "copyfile", lambda source, to: Path(to).write_bytes(b"half"))
    with pytest.warns(UserWarning, match="reads differently"):
        passes("vit.one")
    assert list(kept.rglob("*")) == []


def test_two_sessions_at_once_lose_nothing_of_each_other(session, kept):
    known = {"one": set(), "two": set()}
    for number in range(keeping.COPIES + 2):
        for name in known:
            session(name, known[name])
            passes(f"{name}.part{number}")
    assert len(copies(kept)) == keeping.COPIES
    home = session("three")
    keeping.restore()
    every = {f"{name}_part{number}" for name in known for number in range(keeping.COPIES + 2)}
    assert answers(home) == every
    assert (
        len(portfolio.diary()) == len(every)
        and {e["slot"].replace(".", "_") for e in portfolio.diary()} == every
    )


def test_of_the_same_exercise_passed_twice_the_newer_answer_comes_and_a_file_that_is_here_stays(session):
    session()
    passes("vit.one", "old = 1\n")
    passes("vit.one", "new = 1\n")
    home = session("two")
    keeping.restore()
    assert (home / "my_vlm" / "vit_one.py").read_text() == "new = 1\n"
    (home / "my_vlm" / "vit_one.py").write_text("here = 1\n")
    session("two")  # the kernel has been restarted
    keeping.restore()
    assert (home / "my_vlm" / "vit_one.py").read_text() == "here = 1\n"


def test_what_was_removed_here_stays_removed_when_something_else_passes(session):
    session()
    passes("vit.one")
    home = session("two")
    keeping.restore()
    (home / "my_vlm" / "vit_one.py").unlink()
    passes("vit.two")
    assert answers(home) == {"vit_two"}


def test_answers_come_back_to_a_workspace_that_is_not_there_yet(session):
    session()
    passes("vit.one")
    home = session("two")
    home.rmdir()
    assert keeping.restore() == (["my_vlm/vit_one.py"], [])
    assert [event["slot"] for event in portfolio.diary()] == ["vit.one"]


def test_weights_that_cannot_be_copied_are_a_warning_and_stay_where_they_are(session, kept, monkeypatch):
    home = session()
    monkeypatch.setenv(keeping.KEEP, str(kept / "unmounted"))
    with pytest.warns(UserWarning, match="not kept in .*unmounted: the folder is not there"):
        save(torch.nn.Linear(1, 1), home / "tiny.safetensors", {})
    assert (home / "tiny.safetensors").is_file() and copies(kept) == []


def test_checkpoints_and_weights_come_back_whole_and_a_run_goes_on(session, kept, monkeypatch):
    home = session()
    clock = [1000.0]
    monkeypatch.setattr(keeping.time, "monotonic", lambda: clock[0])
    model = torch.nn.Linear(3, 2)
    for step in (1, 2, 3):
        save_checkpoint(home / "runs" / "tiny" / "eye", step, {"model": model.state_dict()}, {"step": step})
        clock[0] += keeping.PAUSE / 2
    save(model, home / "runs" / "tiny.safetensors", {"recipe": "tiny"})
    save(model, home.parent / "elsewhere.safetensors", {})  # not in the workspace
    named = [path.relative_to(kept).as_posix().split(".2")[0] for path in copies(kept)]
    assert sorted(named) == ["runs/tiny.safetensors", "runs/tiny/eye", "runs/tiny/eye"]
    again = session("two")
    back = keeping.restore()
    assert "runs/tiny.safetensors" in back.files and "runs/tiny.json" in back.files
    found = newest_checkpoint(again / "runs" / "tiny" / "eye")
    tensors, state = load_checkpoint(found)
    assert (found.name, state) == ("step-00000003", {"step": 3})
    assert torch.equal(tensors["model"]["weight"], model.weight.detach())
    assert load_weights(torch.nn.Linear(3, 2), again / "runs" / "tiny.safetensors")["recipe"] == "tiny"
    before = {path: path.stat().st_mtime_ns for path in again.rglob("*") if path.is_file()}
    assert keeping.restore().files == []
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*") if path.is_file()} == before


def test_a_damaged_checkpoint_gives_way_to_the_one_before(session, kept, monkeypatch):
    home = session()
    for step in (1, 2):
        monkeypatch.setattr(keeping, "_kept_at", {})
        save_checkpoint(home / "runs" / "tiny", step, {"model": {"w": torch.ones(4)}}, {"step": step})
    newest = copies(kept)[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    again = session("two")
    assert keeping.restore().damaged == [newest.name]
    assert newest_checkpoint(again / "runs" / "tiny").name == "step-00000001"


def placed_copy(kept: Path, members: dict[str, str] | bytes, of="my_vlm", time="20300101-000000-000000"):
    """A copy with a right hash that holds what a copy never would."""
    draft = kept / "draft"
    if isinstance(members, bytes):
        draft.write_bytes(members)
    else:
        with zipfile.ZipFile(draft, "w") as archive:
            for place, text in members.items():
                archive.writestr(place, text)
    (kept / of).parent.mkdir(exist_ok=True, parents=True)
    return draft.rename(kept / f"{of}.{time}.{keeping._hash(draft)}.zip")


def encrypted(data: bytes) -> bytes:
    """A zip whose entries say that they have a password."""
    data = bytearray(data)
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize("place", [
    "my_vlm/../../evil.py", "../evil.py", "{root}/evil.py", "notebooks/evil.py", "evil.py",
    "my_vlm.py/evil.py", "my_vlm/../notebooks/evil.py",
])  # fmt: skip
def test_a_copy_cannot_write_outside_of_its_folder_and_stops_no_other(session, kept, place):
    session()
    passes("vit.one")
    evil = placed_copy(kept, {"my_vlm/good.py": "", place.format(root=kept.parent): "x = 1"})
    home = session("two")
    assert keeping.restore() == (["my_vlm/vit_one.py"], [evil.name])
    assert not list(kept.parent.rglob("evil.py")) and not (home / "my_vlm" / "good.py").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        passes("vit.two")
    session("three")
    assert set(keeping.restore().files) == {"my_vlm/vit_one.py", "my_vlm/vit_two.py"}


def test_a_file_that_is_no_zip_or_cannot_be_read_stops_nothing(session, kept):
    session()
    passes("vit.one")
    whole = copies(kept)[0].read_bytes()
    broken = {placed_copy(kept, data).name for data in (b"", b"hello", encrypted(whole), whole[:-40])}
    folder = kept / f"my_vlm.20300101-000000-000001.{'0' * 64}.zip"
    folder.mkdir()  # Drive has such names, too
    session("two")
    back = keeping.restore()
    assert back.files == ["my_vlm/vit_one.py"] and set(back.damaged) == broken | {folder.name}
    assert drive.brought_back()  # and a lesson begins
    folder.rmdir()


@pytest.mark.parametrize("place", ["runs/../../evil", "/evil", "my_vlm/evil.py"])
def test_weights_come_back_to_their_own_folder_only(session, kept, place):
    session()
    evil = placed_copy(kept, {"runs/w.safetensors": "w", place: "x"}, of="runs/w.safetensors")
    home = session("two")
    assert keeping.restore() == ([], [evil.name]) and list(home.rglob("*")) == []


@pytest.mark.parametrize(
    "time", ["20990101-000000-000000", "20990231-999999-999999", "99991231-235959-999999"]
)
def test_a_copy_from_a_clock_that_is_ahead_does_not_push_out_newer_ones(session, kept, time):
    session()
    for number in range(keeping.COPIES):
        placed_copy(kept, {"my_vlm/vit_old.py": f"old = {number}\n"}, time=time[:-1] + str(number))
    passes("vit.one", "first = 1\n")
    passes("vit.one", "second = 2\n")
    home = session("two")
    keeping.restore()
    assert (home / "my_vlm" / "vit_one.py").read_text() == "second = 2\n"
    assert keeping.COPIES <= len(copies(kept)) <= keeping.COPIES + 1


def test_an_answer_of_today_comes_before_an_older_one_whose_clock_was_ahead(session, kept):
    session()
    placed_copy(kept, {"my_vlm/vit_one.py": "old = 1\n"}, time="20990101-000000-000000")
    passes("vit.one", "new = 1\n")
    times = [copy.name.split(".")[1] for copy in copies(kept)]
    assert times == ["20990101-000000-000000", "20990101-000000-000001"]
    home = session("two")
    keeping.restore()
    assert (home / "my_vlm" / "vit_one.py").read_text() == "new = 1\n"


def test_links_old_times_and_folders_among_the_answers_stop_nothing(session, kept, tmp_path):
    home = session()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home / "my_vlm").symlink_to(elsewhere, target_is_directory=True)
    (tmp_path / "own.py").write_text("linked = 1\n")
    (elsewhere / "vit_two.py").symlink_to(tmp_path / "own.py")
    (elsewhere / "vit_gone.py").symlink_to(tmp_path / "nowhere.py")
    (elsewhere / "folder.py").mkdir()
    (elsewhere / "vit_old.py").write_text("old = 1\n")
    os.utime(elsewhere / "vit_old.py", (0, 0))  # 1970, which no zip can say
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        passes("vit.one")
    again = session("two")
    assert sorted(keeping.restore().files) == [f"my_vlm/vit_{name}.py" for name in ("old", "one", "two")]
    assert (again / "my_vlm" / "vit_two.py").read_text() == "linked = 1\n"


@pytest.mark.parametrize("wrong", ["file", "read-only"])
def test_a_place_that_cannot_be_used_changes_nothing(session, kept, tmp_path, monkeypatch, wrong):
    session()
    monkeypatch.setenv(keeping.KEEP, "")
    place = tmp_path / "taken"
    place.write_text("mine")
    with pytest.raises(OSError):
        keep_on_drive(place if wrong == "file" else place / "below")
    assert place.read_text() == "mine" and keeping.keep_folder() is None


def test_home_is_the_home_folder(session, monkeypatch, tmp_path, capsys):
    session()
    monkeypatch.setenv(keeping.KEEP, "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    keep_on_drive("~/copies")
    assert keeping.keep_folder() == tmp_path / "home" / "copies" and (tmp_path / "home" / "copies").is_dir()


# ---- in the notebook ------------------------------------------------------------------------------------


def test_keep_on_drive_copies_what_is_here_and_the_next_begin_brings_it_back(
    session, kept, monkeypatch, capsys
):
    session()
    monkeypatch.setenv(keeping.KEEP, "")
    engine.checker.start()
    engine.exercise(pixels.normalise)(cell(engine.pasted_source(pixels.normalise.reference)))
    assert pixels.normalise.runs_mine
    keep_on_drive(kept)
    assert f"Kept in {kept}" in capsys.readouterr().out and len(copies(kept)) == 1
    pixels.normalise.reset()
    session("two")
    lesson.begin("00_start_here")
    said = capsys.readouterr().out
    assert f"Brought back from {kept}: 1 files" in said and "Your code runs as: pixels.normalise" in said
    pixels.normalise.reset()
    session("next")
    keep_on_drive(kept)
    assert pixels.normalise.runs_mine, "what came back runs, also if a lesson has begun already"
    capsys.readouterr()
    copies(kept)[0].write_bytes(b"")
    session("three")
    lesson.begin("00_start_here")
    assert f"passed over: {copies(kept)[0].name}" in capsys.readouterr().out


def test_on_colab_the_drive_is_mounted_and_one_that_is_mounted_is_used(session, kept, monkeypatch, tmp_path):
    session()
    monkeypatch.setenv(keeping.KEEP, "")
    with pytest.raises(ValueError, match="this is not Colab; name a folder"):
        keep_on_drive()
    assert drive.DRIVE_FOLDER.as_posix() == "/content/drive/MyDrive/vlm-workbook", "older copies lie there"
    mounted = []
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setattr(drive, "DRIVE_FOLDER", tmp_path / "drive" / "MyDrive" / "vlm-workbook")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "test")
    assert drive.brought_back() == [engine.tell("not_kept")]
    keep_on_drive()
    assert mounted == ["/content/drive"] and keeping.keep_folder() == drive.DRIVE_FOLDER
    monkeypatch.setenv(keeping.KEEP, "")
    assert drive.brought_back() == [] and keeping.keep_folder() == drive.DRIVE_FOLDER


def test_a_folder_that_cannot_be_read_is_told_and_stops_no_lesson(session, kept, monkeypatch):
    session()

    def broken():
        raise OSError("transport endpoint is not connected")

    monkeypatch.setattr(drive, "restore", broken)
    said = drive.brought_back()
    assert said == [engine.tell("not_brought_back", place=kept, error="transport endpoint is not connected")]


def test_where_nothing_is_kept_begin_says_nothing_of_it(session, monkeypatch, capsys):
    session()
    monkeypatch.setenv(keeping.KEEP, "")
    lesson.begin("00_start_here")
    assert "keep" not in capsys.readouterr().out.lower()


def test_joining_a_diary_keeps_each_line_once(session, kept):
    session()
    path = portfolio.folder() / "diary.jsonl"
    path.write_text('{"slot": "b"}\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keeping._join_diary(path, b'{"slot": "a"}\n{"slot": "b"}\n')
    assert [json.loads(line)["slot"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_a_diary_is_joined_under_the_lock_that_a_note_takes(session, monkeypatch):
    session()
    passes("vit.one")
    home, taken, real = session("two"), [], filelock.FileLock
    monkeypatch.setattr(filelock, "FileLock", lambda path, **how: taken.append(path) or real(path, **how))
    keeping.restore()
    portfolio.note(slot="vit.two", status="wrong")
    assert taken == [home / "my_vlm" / "diary.lock"] * 2
