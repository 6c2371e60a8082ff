"""What is handed in holds the learner's work, and a broken zip is named, not run."""

import json
import random
import struct
import time
import warnings
import zipfile

import pytest

from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook import portfolio, submission
from vlmcourse.workbook.classroom import Person
from vlmcourse.workbook.gradebook import identical_answers
from vlmcourse.workbook.submission import BadSubmission, read_submission, usual_file, write_submission

from .learner import solution_file

SLOTS = ["vit.patchify", "clip.info_nce"]


@pytest.fixture
def work(workspace):
    """A workspace in which two answers passed, a hint was read and a plan was written."""
    for name in SLOTS:
        portfolio.keep(portfolio.Saved(portfolio.file_of(name), solution_file(all_exercises()[name])))
        portfolio.note(chapter="x", slot=name, status="passed")
    portfolio.note(chapter="x", quiz="02_vit/1", right=True)
    (workspace / "my_vlm" / "vlm.toml").write_text('name = "mine"')
    (workspace / "my_vlm" / "notes.py").write_text("secret")
    return workspace


def test_the_zip_holds_answers_diary_versions_and_plan(work):
    path = work / "out" / "ada.zip"
    made = write_submission(path, "Ada Lovelace")
    assert made == read_submission(path)
    assert (made.name, made.file, made.problems) == ("Ada Lovelace", "ada.zip", ())
    assert made.answers == {name: solution_file(all_exercises()[name]) for name in SLOTS}
    assert [event.get("quiz") for event in made.diary] == [None, None, "02_vit/1"]
    assert {"python", "torch", "vlmcourse"} <= made.versions.keys()
    with zipfile.ZipFile(path) as archive:
        names = {
            "submission.json",
            "diary.jsonl",
            "vlm.toml",
            "answers/vit_patchify.py",
            "answers/clip_info_nce.py",
        }
        assert set(archive.namelist()) == names
        about = json.loads(archive.read("submission.json"))
    assert (about["format"], about["seed"]) == (1, 20)


def test_a_torn_line_of_the_diary_costs_that_line_only(work):
    with (work / "my_vlm" / "diary.jsonl").open("a") as file:
        file.write('{"torn')
    assert len(write_submission(work / "ada.zip", "Ada").diary) == 3


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Ada Lovelace", "submission-ada-lovelace.zip"),
        ("../../etc", "submission-etc.zip"),
        ("千早 あき", "submission-千早-あき.zip"),
        ("///", "submission-nameless.zip"),
        ("Xaver Marx", "submission-xaver-marx.zip"),
        ("a" * 70, f"submission-{'a' * 60}.zip"),
    ],
)
def test_the_usual_name_is_a_file_name(name, file):
    assert usual_file(name) == file


@pytest.mark.parametrize(
    ("path", "name", "says"),
    [("ada.tar", "Ada", "does not end in .zip"), ("ada.zip", "  ", "say whose it is")],
)
def test_what_cannot_be_written_is_said(work, path, name, says):
    with pytest.raises(ValueError, match=says):
        write_submission(work / path, name)


TRY = "def info_nce(scores):\n    return scores\n"


def tried(slot, text=TRY):
    portfolio.keep(portfolio.Saved(portfolio.file_of(slot, passed=False), text))


def test_what_has_not_passed_is_handed_in_apart(work):
    tried("clip.normalise")
    tried(SLOTS[0])  # which has passed
    made = write_submission(work / "ada.zip", "Ada")
    assert made == read_submission(work / "ada.zip") and made.problems == ()
    assert made.attempts == {"clip.normalise"}
    passed = {name: solution_file(all_exercises()[name]) for name in SLOTS}
    assert made.answers == {**passed, "clip.normalise": TRY}
    with zipfile.ZipFile(work / "ada.zip") as archive:
        about, held = json.loads(archive.read("submission.json")), archive.namelist()
    assert set(about["answers"]) == set(SLOTS) and about["format"] == 1
    assert about["attempts"] == {"clip.normalise": submission._hash(TRY)}
    assert "attempts/clip_normalise.py" in held and "attempts/vit_patchify.py" not in held


def test_who_passed_nothing_hands_in_what_was_tried(workspace):
    tried("clip.normalise")
    made = write_submission(workspace / "ada.zip", "Ada")
    assert made.answers == {"clip.normalise": TRY} and made.attempts == {"clip.normalise"}


def test_what_was_tried_alike_is_alike(tmp_path, monkeypatch):
    """And so is what passed for one person, and not for another."""
    texts = {"a": False, "b": False, "c": True}
    for name, passed in texts.items():
        monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path / name))
        portfolio.keep(portfolio.Saved(portfolio.file_of("clip.normalise", passed), TRY))
        write_submission(tmp_path / f"{name}.zip", name)
    people = [Person(read_submission(tmp_path / f"{name}.zip"), (), ()) for name in texts]
    assert identical_answers(people) == [("clip.normalise", 2, False, ("a.zip", "b.zip", "c.zip"))]


def test_an_attempt_that_cannot_be_read_is_named(work):
    tried("clip.normalise")
    portfolio.file_of("clip.normalise", passed=False).write_bytes(b"\xff")
    with pytest.raises(OSError, match=r"cannot be read: .*attempts.clip_normalise\.py"):
        write_submission(work / "ada.zip", "Ada")


def test_a_zip_from_before_attempts_has_none(tmp_path):
    answer = ("answers/vit_patchify.py", "x")
    about = {**ABOUT, "answers": {"vit.patchify": submission._hash("x")}}
    read = read_submission(zipped(tmp_path / "old.zip", [answer], about))
    assert (read.answers, read.attempts, read.problems) == ({"vit.patchify": "x"}, frozenset(), ())


@pytest.mark.parametrize(
    ("files", "listed", "says"),
    [
        ([("attempts/vit_patchify.py", "x")], {}, "the attempt at vit.patchify is not as it was"),
        ([], {"vit.patchify": "0"}, "the attempt at 'vit.patchify' is listed, but not there"),
        ([("attempts/os_system.py", "x")], {}, "'attempts/os_system.py' is no part of a submission"),
        ([("attempts/vit_patchify.py", "x" * 200_001)], {}, "more than 200,000 bytes"),
    ],
)
def test_an_attempt_that_is_not_as_it_was_is_named(tmp_path, files, listed, says):
    read = read_submission(zipped(tmp_path / "ada.zip", files, {**ABOUT, "attempts": listed}))
    assert says in read.problems[0]


def test_an_answer_that_passed_comes_before_an_attempt_at_it(tmp_path):
    files = [("attempts/vit_patchify.py", "x"), ("answers/vit_patchify.py", "y")]
    read = read_submission(zipped(tmp_path / "ada.zip", files))
    assert (read.answers, read.attempts) == ({"vit.patchify": "y"}, frozenset())


def test_nothing_passed_is_nothing_to_hand_in(workspace):
    with pytest.raises(ValueError, match=r"no answer has passed in .*, and none was wrong"):
        write_submission(workspace / "ada.zip", "Ada")


ABOUT = dict(format=1, name="Ada", made=1, versions={"python": "3"}, seed=20, answers={})


def zipped(path, files, about=ABOUT):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if about is not None:
            archive.writestr("submission.json", about if isinstance(about, str) else json.dumps(about))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that stand twice
            for name, content in files:
                archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("files", "about", "says"),
    [
        ([("answers/vit_patchify.py", "a"), ("answers/vit_patchify.py", "b")], ABOUT, "twice"),
        ([(f"{number}", "") for number in range(1001)], ABOUT, "more than 1000 files"),
        ([], None, "no whole submission.json"),
        ([], "{", "no whole submission.json"),
        ([], "[" * 100_000, "no whole submission.json"),
        ([], "[1, 2]", "no whole submission.json"),
        ([], {**ABOUT, "answers": 3}, "no whole submission.json"),
        ([], {**ABOUT, "answers": [[1, 2], ["a", "b"]]}, "no whole submission.json"),
        ([], {**ABOUT, "versions": 3}, "no whole submission.json"),
        ([], {**ABOUT, "attempts": 3}, "no whole submission.json"),
        ([], {**ABOUT, "name": None}, "no whole submission.json"),
        ([], json.dumps(ABOUT).replace('"format": 1', '"format": Infinity'), "no whole submission.json"),
        ([], json.dumps(ABOUT).replace('"made": 1', f'"made": 1{"0" * 400}'), "no whole submission.json"),
        ([], {**ABOUT, "format": 2}, "format 2, this course reads 1"),
    ],
)
def test_what_is_no_submission_is_named(tmp_path, files, about, says):
    with pytest.raises(BadSubmission, match=says):
        read_submission(zipped(tmp_path / "bad.zip", files, about))


def test_no_bytes_whatsoever_end_the_reading(work):
    """Each of 300 changed files is read, or refused as a BadSubmission."""
    path = work / "ada.zip"
    write_submission(path, "Ada")
    whole, draw, refused = path.read_bytes(), random.Random(1), 0
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 2, 5])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        path.write_bytes(bytes(changed))
        try:
            read_submission(path)
        except BadSubmission:
            refused += 1
    assert 50 < refused < 300


def test_a_name_that_is_no_text_of_its_zip_is_refused(tmp_path):
    path = zipped(tmp_path / "bad.zip", [("ä", "x")])
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))
    with pytest.raises(BadSubmission, match="no whole zip"):
        read_submission(path)


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_may_take_gigabytes_to_unpack_is_refused(tmp_path, packed):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", packed) as archive:
        archive.writestr("submission.json", json.dumps(ABOUT))
    with pytest.raises(BadSubmission, match=r"'submission\.json' is packed in another way"):
        read_submission(tmp_path / "bad.zip")


def test_a_hundred_thousand_entries_are_refused_at_once():
    entries = [zipfile.ZipInfo(f"{number}") for number in range(100_000)]
    began = time.process_time()
    with pytest.raises(BadSubmission, match="more than 1000 files"):
        submission._refuse_entries(entries)
    assert time.process_time() - began < 2


def test_a_folder_and_a_huge_file_are_refused_unopened(tmp_path, monkeypatch):
    (tmp_path / "bad.zip").mkdir()
    with pytest.raises(BadSubmission, match="it is no file"):
        read_submission(tmp_path / "bad.zip")
    (tmp_path / "large.zip").write_bytes(b"x" * 2001)
    monkeypatch.setattr(submission, "MOST_TOTAL", 2000)
    with pytest.raises(BadSubmission, match=r"large\.zip has more than 2,000 bytes"):
        read_submission(tmp_path / "large.zip")


def test_what_a_submission_holds_in_all_is_bounded(tmp_path, monkeypatch):
    size = len(json.dumps(ABOUT))
    path = zipped(tmp_path / "ada.zip", [("vlm.toml", "x" * 1000)])
    monkeypatch.setattr(submission, "MOST_TOTAL", size + 1000)
    assert read_submission(path).problems == ()
    monkeypatch.setattr(submission, "MOST_TOTAL", size + 999)
    with pytest.raises(BadSubmission, match="more than"):
        read_submission(path)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("  Ada \n Lovelace\t", "Ada Lovelace"),
        ("Ada\ud800", "Ada?"),
        ("\u202eadA\u202c", "adA"),
        ("\x1b[2JAda\0", "[2JAda"),
        ("e\u0301va", "éva"),
        ("千早 あき", "千早 あき"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_name_is_one_plain_line(tmp_path, name, plain):
    assert submission.plain_name(name) == plain
    assert read_submission(zipped(tmp_path / "ada.zip", [], {**ABOUT, "name": name})).name == plain


def test_a_submission_without_a_name_says_so(tmp_path):
    read = read_submission(zipped(tmp_path / "ada.zip", [], {**ABOUT, "name": " \n"}))
    assert (read.name, read.problems) == ("", ("it bears no name",))


def test_of_many_problems_the_first_are_told(tmp_path):
    read = read_submission(zipped(tmp_path / "ada.zip", [(f"{number}.sh", "") for number in range(50)]))
    assert len(read.problems) == 21 and read.problems[-1] == "and 30 more of such problems"


def test_the_same_work_gives_the_same_small_bytes(work, monkeypatch):
    monkeypatch.setattr(submission.time, "time", lambda: 1)
    (work / "my_vlm" / "vlm.toml").write_text("x" * 10_000)
    write_submission(work / "one.zip", "Ada")
    write_submission(work / "two.zip", "Ada")
    assert (work / "one.zip").read_bytes() == (work / "two.zip").read_bytes()
    assert (work / "one.zip").stat().st_size < 8000
    with zipfile.ZipFile(work / "one.zip") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_an_answer_that_cannot_be_read_is_named_and_nothing_is_written(work):
    portfolio.file_of(SLOTS[0]).write_bytes(b"\xff")
    with pytest.raises(OSError, match="an answer cannot be read"):
        write_submission(work / "ada.zip", "Ada")
    assert not (work / "ada.zip").exists()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 40])
def test_a_file_that_is_no_zip_is_named(tmp_path, content):
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(BadSubmission, match=r"bad\.zip is no whole zip"):
        read_submission(tmp_path / "bad.zip")


def test_a_cut_zip_is_named(work):
    path = work / "ada.zip"
    write_submission(path, "Ada")
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:length])
        with pytest.raises(BadSubmission):
            read_submission(path)


def test_a_zip_that_lies_about_its_sizes_fills_no_memory(tmp_path):
    path = zipped(tmp_path / "bomb.zip", [("answers/vit_patchify.py", "x" * 300_000)])
    content = bytearray(path.read_bytes())
    for place in (content.rfind(struct.pack("<I", 300_000)), content.find(struct.pack("<I", 300_000))):
        content[place : place + 4] = struct.pack("<I", 10)
    path.write_bytes(bytes(content))
    try:
        read = read_submission(path)
    except BadSubmission:
        return
    assert read.answers == {} and len(read.problems) == 1


def test_files_of_no_submission_are_left_out_and_named(tmp_path):
    strangers = [
        ("../../evil.py", "x"),
        ("answers/os_system.py", "x"),
        ("run.sh", "x"),
        ("answers/../a.py", "x"),
    ]
    read = read_submission(zipped(tmp_path / "ada.zip", strangers))
    assert read.answers == {} and len(read.problems) == 4
    assert [path.name for path in tmp_path.rglob("*")] == ["ada.zip"]


@pytest.mark.parametrize(
    ("content", "says"),
    [("x" * 200_001, "more than 200,000 bytes"), (b"\xff\xfe", "is no text"), ("x", "not as it was")],
)
def test_an_answer_that_cannot_be_taken_is_named(tmp_path, content, says):
    read = read_submission(zipped(tmp_path / "ada.zip", [("answers/vit_patchify.py", content)]))
    assert any(says in problem for problem in read.problems)
    assert read.name == "Ada"


def test_an_answer_that_is_listed_but_not_there_is_named(tmp_path):
    about = {**ABOUT, "answers": {"vit.patchify": "0"}}
    read = read_submission(zipped(tmp_path / "ada.zip", [], about))
    assert read.problems == ("the answer to 'vit.patchify' is listed, but not there",)


def test_reading_runs_nothing(tmp_path):
    harm = f"open({str(tmp_path / 'made')!r}, 'w')"
    read = read_submission(zipped(tmp_path / "ada.zip", [("answers/vit_patchify.py", harm)]))
    assert read.answers == {"vit.patchify": harm}
    assert not (tmp_path / "made").exists()
