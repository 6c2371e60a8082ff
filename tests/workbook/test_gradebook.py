"""Tables and pages of a class, made of grades that were not measured: quick."""

import csv
import io
import json
import zipfile
from dataclasses import replace

import pytest

from vlmcourse.workbook import classroom, gradebook
from vlmcourse.workbook.classroom import Person
from vlmcourse.workbook.gradebook import as_csv, identical_answers, person_page, write_book
from vlmcourse.workbook.grading import Grade
from vlmcourse.workbook.submission import Submission

FOUR = "def normalise(vectors, dim=-1):\n    a = vectors\n    b = a.norm()\n    return a / b\n"
GRADES = (
    Grade("clip.normalise", "04_clip", "passed", 1.0, 2, 2),
    Grade("clip.info_nce", "04_clip", "wrong", 0.6667, 2, 3, "only one direction: <b>each</b>"),
    Grade("vit.patchify", "02_vit", "missing", 0.0, 0, 4),
)


def person(file, name, answers=(), grades=GRADES, problems=(), diary=()):
    return Person(
        Submission(file, name, dict(answers), list(diary), {"python": "3"}), tuple(grades), problems
    )


@pytest.fixture
def tables(tmp_path):
    people = [
        person("a.zip", "Ada", {"clip.normalise": FOUR, "clip.info_nce": "def info_nce(a): return 1"}),
        person("b.zip", "=1+1;=2", {"clip.normalise": "# mine\n" + FOUR}, problems=("one", "two")),
        person("c\udcff.zip", "C\ud800", grades=()),
    ]
    folder = write_book(people, tmp_path / "grades", seed=77)
    assert (folder / "seed.txt").read_text() == "Cases of seed 77; --seed 77 draws the same again.\n"
    return {path.name: list(csv.reader(path.open(encoding="utf-8"))) for path in folder.glob("*.csv")}


def test_grades_word_by_word(tables):
    header, ada, bob, nobody = tables["grades.csv"]
    assert header == ["file", "name", "passed", "of", "points", "percent", "quizzes right", "quizzes",
                      "solutions looked at", "identical to another's", "problems"]  # fmt: skip
    assert ada[:7] == ["a.zip", "Ada", "1", "3", "1.67", "55.6", "0"] and ada[8:] == ["0", "1", ""]
    assert bob[1] == "'=1+1;=2" and bob[9:] == ["1", "one; two"]
    assert nobody[0] == "c\\udcff.zip" and nobody[2:6] == ["0", "0", "0", "0.0"]  # nothing is lost by a name


def test_answers_word_by_word(tables):
    rows = tables["answers.csv"]
    assert rows[0] == ["file", "chapter", "slot", "status", "credit", "right cases", "cases", "what is wrong"]
    assert rows[2] == ["a.zip", "04_clip", "clip.info_nce", "wrong", "0.667", "2", "3",
                       "only one direction: <b>each</b>"]  # fmt: skip
    assert len(rows) == 7


def test_exercises_word_by_word(tables):
    assert tables["exercises.csv"] == [
        ["chapter", "slot", "passed", "wrong", "missing", "how often the commonest", "the commonest mistake"],
        ["04_clip", "clip.normalise", "2", "0", "0", "0", ""],
        ["04_clip", "clip.info_nce", "0", "2", "0", "2", "only one direction: <b>each</b>"],
        ["02_vit", "vit.patchify", "0", "0", "2", "0", ""],
    ]


def test_identical_word_by_word(tables):
    header, row = tables["identical.csv"]
    assert header == ["slot", "lines", "the course's own", "files"]
    assert row == ["clip.normalise", "4", "", "a.zip b.zip"]


def test_only_the_chosen_chapters_count():
    """A quiz, a solution and a copied answer of chapter 04 count in no row of chapter 02."""
    both = ["clip.normalise", "vit.patchify"]
    answers = dict.fromkeys(both, FOUR)
    diary = [
        {"quiz": "04_clip/1", "right": True}, {"quiz": "02_vit/1", "right": True},
        {"quiz": "02_vit/2", "right": True}, {"slot": "clip.normalise", "solution": True},
    ]  # fmt: skip
    counted = {}
    for chapters in (["02"], ["04"], ["02", "04"], []):
        slots = tuple(classroom.slots_of_chapters(chapters))
        handed_in = [person("a.zip", "Ada", answers, diary=diary), person("b.zip", "Bob", answers)]
        people = [replace(one, slots=slots) for one in handed_in]
        identical = identical_answers(people)
        listed = [row[0] for row in identical]
        counted[" ".join(chapters)] = (listed, *gradebook._grades_table(people, identical)[1][6:10])
    assert counted == {
        "02": (["vit.patchify"], 2, 3, 0, 1), "04": (["clip.normalise"], 1, 3, 1, 1),
        "02 04": (both, 3, 6, 1, 2), "": (both, 3, 63, 1, 2),
    }  # fmt: skip


def test_short_answers_are_alike_by_chance():
    """They are listed, but nobody's row counts them."""
    three = FOUR.replace("    b = a.norm()\n", "").replace("a / b", "a / a.norm()")
    assert three.count("\n") == gradebook.SHORT - 1
    for text, counted in ((three, "0"), (FOUR, "1")):
        people = [person(file, file, {"clip.normalise": text}) for file in ("a.zip", "b.zip")]
        identical = identical_answers(people)
        assert [row[0] for row in identical] == ["clip.normalise"]
        assert str(gradebook._grades_table(people, identical)[1][9]) == counted


@pytest.mark.parametrize("text", ["def (", "\0", "x = " + "(" * 5000])
def test_what_is_no_python_is_like_nothing(text):
    assert identical_answers([person(f"{n}.zip", "x", {"clip.normalise": text}) for n in range(2)]) == []


def test_a_docstring_and_another_name_of_a_variable():
    documented = '"""Mine."""\n' + FOUR
    renamed = FOUR.replace("a = vectors", "c = vectors").replace("a.norm", "c.norm").replace("a / b", "c / b")
    people = [
        person(f"{n}.zip", "x", {"clip.normalise": t}) for n, t in enumerate((FOUR, documented, renamed))
    ]
    assert [row[3] for row in identical_answers(people)] == [("0.zip", "1.zip")]


def test_a_page_word_by_word():
    page = person_page(person("a.zip", "Ada & Co", {"clip.info_nce": "x < 1"}, problems=("<i>late</i>",)))
    assert "<h1>Ada &amp; Co</h1><p>1.67 of 3 points; 1 of 3 answers passed.</p>" in page
    assert "<p><strong>&lt;i&gt;late&lt;/i&gt;</strong></p>" in page
    assert page.count("<h2>") == 2 and page.index("<h2>04_clip</h2>") < page.index("<h2>02_vit</h2>")
    wrong = "clip.info_nce: wrong, 0.67 of 1, right in 2 of 3 cases</h3>"
    assert (
        wrong + "<p>only one direction: &lt;b&gt;each&lt;/b&gt;</p><details><summary>The answer</summary>"
        in page
    )
    assert "<pre>x &lt; 1</pre></details></article>" in page
    assert "clip.normalise: passed, 1 of 1</h3></article>" in page
    assert "vit.patchify: missing, 0.00 of 1</h3></article>" in page
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in page
    colours = [page.split("border-color:")[n][:7] for n in (1, 2, 3)]
    assert len(set(colours)) == 3
    assert "<h1>b.zip</h1>" in person_page(person("b.zip", ""))


def test_pages_are_files_whatever_the_names_hold(tmp_path):
    names = ["../../a b.zip", "x" * 99 + ".zip", "千早\n.zip", "\udcff.zip"]
    folder = write_book([person(name, name) for name in names], tmp_path / "grades", seed=5)
    pages = sorted(path.name for path in (folder / "pages").iterdir())
    assert pages == ["001-a-b.html", f"002-{'x' * 60}.html", "003-千早-.html", "004--.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grades"]


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-x", "@x", "\t=1", "\r=1", "\n=1", " =1", "＝1", "＋1", "－1", "＠x"]
)
def test_a_formula_stays_a_text(cell):
    assert list(csv.reader(io.StringIO(as_csv([[cell, "a=1", 3]])))) == [[f"'{cell}", "a=1", "3"]]


def test_texts_stand_in_quotation_marks():
    """A spreadsheet that cuts at semicolons would find a formula in a;=1+1."""
    assert as_csv([["a;=1+1", 'say "=1"', 2, 0.5]]) == '"a;=1+1","say ""=1""",2,0.5\n'


@pytest.mark.parametrize("other", ["ada", "ADA", "Ａda", "Ada"])
def test_one_name_in_another_form_is_told(other):
    submissions = [Submission("1.zip", "Ada", {}, [], {}), Submission("2.zip", other, {}, [], {}),
                   Submission("3.zip", "Bob", {}, [], {}), Submission("4.zip", "", {}, [], {}),
                   Submission("5.zip", "", {}, [], {})]  # fmt: skip
    assert classroom._doubled(submissions) == {
        "1.zip": ("handed in under the same name as 2.zip",),
        "2.zip": ("handed in under the same name as 1.zip",),
    }


def test_whatever_ends_the_reading_of_one_submission_is_its_own_problem(tmp_path, monkeypatch):
    def fails(path):
        raise MemoryError("of its own kind")

    monkeypatch.setattr(classroom, "read_submission", fails)
    read, problems = classroom._read(tmp_path / "a.zip")
    assert read.file == "a.zip" and problems == ("it cannot be read: MemoryError('of its own kind')",)


def test_all_that_can_be_read_are_graded_and_what_cannot_is_told(tmp_path, monkeypatch):
    """Also one that states no versions."""
    about = dict(format=1, name="Ada", made=1, versions={}, answers={})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("submission.json", json.dumps(about))
    (tmp_path / "b.zip").write_bytes(b"broken")
    monkeypatch.setattr(classroom, "_graded", lambda some, *_: {one.file: (GRADES, ()) for one in some})
    ada, broken = classroom.grade_folder(tmp_path, 5)
    assert (ada.passed, ada.problems) == (1, ())
    assert broken.grades == () and "b.zip is no whole zip" in broken.problems[0]
