"""A class is graded: each gets what their own answers are worth, whatever others handed in."""

import csv
import json
import unicodedata
import zipfile
from html.parser import HTMLParser

import pytest

from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook import classroom, gradebook
from vlmcourse.workbook.classroom import grade_folder, slots_of_chapters
from vlmcourse.workbook.copies import FORKS
from vlmcourse.workbook.submission import Submission, _hash

from .learner import solution_file

pytestmark = pytest.mark.skipif(not FORKS, reason="needs os.fork")
SLOTS = ["attention.split_heads", "attention.merge_heads", "clip.normalise"]
FILES = {name: f"answers/{name.replace('.', '_')}.py" for name in SLOTS}
SLIP = """import torch
def normalise(vectors, dim=-1):
    return vectors / vectors.norm()
"""
KILLS = """import os, ctypes, signal
try:
    os.kill(os.getppid(), signal.SIGKILL)
finally:
    raise SystemExit
"""


def right(name):
    return solution_file(all_exercises()[name])


def hand_in(folder, file, name, answers, diary=()):
    """Write a submission of these answers."""
    hashes = {slot: _hash(text) for slot, text in answers.items()}
    about = dict(format=1, name=name, made=1, versions={"python": "3"}, seed=20, answers=hashes)
    with zipfile.ZipFile(folder / file, "w") as archive:
        archive.writestr("submission.json", json.dumps(about))
        archive.writestr("diary.jsonl", "\n".join(map(json.dumps, diary)))
        for slot, text in answers.items():
            archive.writestr(FILES[slot], text)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    whole = {name: right(name) for name in SLOTS}
    diary = [{"quiz": "02_vit/1", "right": True}, {"quiz": "no quiz", "right": True},
             {"slot": "clip.normalise", "solution": True}]  # fmt: skip
    hand_in(folder, "a.zip", "Ada", whole, diary)
    hand_in(folder, "b.zip", "=Bob()", {**whole, "clip.normalise": SLIP})
    hand_in(folder, "c.zip", "Cleo <script>", {"clip.normalise": SLIP.replace("import", "# mine\nimport")})
    hand_in(folder, "d.zip", "ada", dict.fromkeys(SLOTS, KILLS))
    hand_in(folder, "e.zip", "Eve", {**dict.fromkeys(SLOTS, "while True: pass"), SLOTS[0]: whole[SLOTS[0]]})
    (folder / "f.zip").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no submission")
    said = []
    result = grade_folder(folder, seed=5, slots=SLOTS, seconds=2, tell=said.append)
    assert len(said) == 5
    return {person.submission.file: person for person in result}


def test_each_gets_what_their_answers_are_worth(people):
    assert list(people) == ["a.zip", "b.zip", "c.zip", "d.zip", "e.zip", "f.zip"]
    statuses = {file: [grade.status for grade in person.grades] for file, person in people.items()}
    assert statuses["a.zip"] == ["passed"] * 3
    assert statuses["b.zip"] == ["passed", "passed", "wrong"]
    assert statuses["c.zip"] == ["missing", "missing", "wrong"]
    assert statuses["d.zip"] == ["wrong"] * 3
    assert statuses["e.zip"] == ["passed", "wrong", "wrong"]
    assert statuses["f.zip"] == []
    assert (people["a.zip"].points, people["a.zip"].passed) == (3.0, 3)
    assert people["d.zip"].points == 0


def doubled(*names):
    """What is said of submissions 0.zip, 1.zip, ... of these names."""
    several = [Submission(f"{number}.zip", name, {}, [], {}) for number, name in enumerate(names)]
    found = classroom._doubled(several)
    return [found.get(one.file, ()) for one in several]


def test_a_name_with_letters_of_another_alphabet_is_noticed():
    twins = ("handed in under a name that looks like that of {}, with letters of another alphabet",)
    seen = doubled("Ada Poe", "Аdа Рое", "\u0391da Poe", "Ada Roe")
    one, two, three = (twins[0].format(others) for others in ("1.zip, 2.zip", "0.zip, 2.zip", "0.zip, 1.zip"))
    assert seen == [(one,), (two,), (three,), ()]
    assert doubled("Hope", "НОРЕ")[0] == (twins[0].format("1.zip"),)
    assert doubled("Наталья", "НАТАЛЬЯ", "Нина") == [
        ("handed in under the same name as 1.zip",), ("handed in under the same name as 0.zip",), (),
    ]  # fmt: skip
    assert doubled("Eva", "eva", "Еvа")[0] == (
        "handed in under the same name as 1.zip", twins[0].format("2.zip"),
    )  # fmt: skip
    assert doubled("Ada", "A\u200bda", "Adam")[1:] == [("handed in under the same name as 0.zip",), ()]
    assert doubled("", "", " ") == [(), (), ()]


def test_each_twin_is_a_letter_of_another_alphabet_for_a_latin_one():
    for letter, latin in classroom.TWINS.items():
        assert unicodedata.name(chr(letter)).split()[0] in ("CYRILLIC", "GREEK")
        assert chr(latin).isascii() and chr(letter).isupper() == chr(latin).isupper()


def test_the_sentence_of_the_slip_is_the_feedback(people):
    says = people["b.zip"].grades[2].says
    assert says and says == people["c.zip"].grades[2].says
    assert "length" in says


def test_a_broken_file_and_a_doubled_name_are_said_and_cost_nobody_else(people):
    assert "no whole zip" in people["f.zip"].problems[0]
    assert people["a.zip"].problems == ("handed in under the same name as d.zip",)
    assert people["a.zip"].points == 3.0


def test_the_diary_tells_of_quizzes_and_solutions(people):
    assert (people["a.zip"].quizzes, people["a.zip"].looked) == (1, {"clip.normalise"})
    assert (people["b.zip"].quizzes, people["b.zip"].looked) == (0, set())


def test_what_ends_a_grader_ends_it_for_one_submission(tmp_path, monkeypatch):
    """The process that grades dies; all others are graded by another one."""
    for number in range(4):
        hand_in(tmp_path, f"{number}.zip", f"{number}", {SLOTS[0]: right(SLOTS[0]) + f"\n# {number}\n"})
    hand_in(tmp_path, "x.zip", "x", {SLOTS[0]: "dies"})
    monkeypatch.setattr(classroom, "_grade_answers", dies_at)
    people = grade_folder(tmp_path, 5, SLOTS[:1], tell=lambda line: None)
    assert [person.points for person in people] == [1, 1, 1, 1, 0]
    assert people[-1].problems == ("grading it ended the grader twice; look at it by hand",)


def dies_at(answers, slots):
    import os

    if "dies" in answers.values():
        os._exit(1)
    return classroom._grader.grade(answers, slots)


def test_tables_and_pages(people, tmp_path):
    folder = gradebook.write_book(list(people.values()), tmp_path / "grades", seed=5)
    tables = {path.name: list(csv.DictReader(path.open(encoding="utf-8"))) for path in folder.glob("*.csv")}
    assert set(tables) == {"grades.csv", "answers.csv", "exercises.csv", "identical.csv"}
    grades = {row["file"]: row for row in tables["grades.csv"]}
    assert [grades["a.zip"][key] for key in ("name", "passed", "of", "percent")] == ["Ada", "3", "3", "100.0"]
    assert grades["b.zip"]["name"] == "'=Bob()"  # no formula for a spreadsheet
    assert grades["a.zip"]["solutions looked at"] == "1"
    assert len(tables["answers.csv"]) == 15
    (normalise,) = [row for row in tables["exercises.csv"] if row["slot"] == "clip.normalise"]
    assert [normalise[key] for key in ("passed", "wrong", "missing")] == ["1", "4", "0"]
    assert normalise["how often the commonest"] == "2" and "length" in normalise["the commonest mistake"]
    pages = sorted(path.name for path in (folder / "pages").iterdir())
    assert pages == [f"{number:03}-{letter}.html" for number, letter in enumerate("abcdef", 1)]


def test_a_page_shows_texts_as_texts(people):
    page = gradebook.person_page(people["c.zip"])
    assert "<script" not in page and "Cleo &lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert people["c.zip"].grades[2].says.split("*")[0][:20] in page
    parser = HTMLParser()
    parser.feed(page)
    assert page.count("<article") == page.count("</article>") == 3


def test_identical_answers_are_listed(people):
    rows = {row[0]: row for row in gradebook.identical_answers(list(people.values()))}
    assert rows["clip.normalise"] == ("clip.normalise", 4, False, ("b.zip", "c.zip"))
    slot, _, ours, files = rows["attention.split_heads"]
    assert (ours, files) == (True, ("a.zip", "b.zip", "e.zip"))
    assert slot == "attention.split_heads"


def test_a_book_replaces_none(people, tmp_path):
    with pytest.raises(FileExistsError, match="name a new folder"):
        gradebook.write_book(list(people.values()), tmp_path, seed=5)


def test_chapters_are_named_by_their_beginning():
    assert slots_of_chapters(["02"]) == [
        name for name, task in all_exercises().items() if task.chapter == "02_vit"
    ]
    assert slots_of_chapters([]) == list(all_exercises())
    with pytest.raises(ValueError, match="no chapter with exercises begins with '99'"):
        slots_of_chapters(["99"])


@pytest.mark.parametrize("kind", ["nothing", "file", "empty"])
def test_a_folder_without_submissions_is_named(tmp_path, kind):
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("x")
    if kind == "empty":
        place.mkdir()
    with pytest.raises((ValueError, NotADirectoryError), match=r"no folder|holds no \.zip"):
        grade_folder(place, 1)
