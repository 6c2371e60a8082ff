"""A learner hands in, a teacher grades: by the command line alone."""

import csv
import html
import json
import re

import pytest
from typer.testing import CliRunner

from tests.workbook.learner import solution_file
from vlmcourse import cli
from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook import portfolio
from vlmcourse.workbook.copies import FORKS

run = CliRunner()
SLIP = "def normalise(features):\n    return features / features.norm(dim=1, keepdim=True)\n"
SAYS = "the length runs along axis 1 (also F.normalize&#x27;s default). The width is the last axis: dim=-1."
SLOTS = [name for name, task in all_exercises().items() if task.chapter == "04_clip"]


@pytest.fixture
def learner(tmp_path, monkeypatch):
    """A workspace in which chapter 04 passed, but normalise is a slip, and the last was not begun."""
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    for name in SLOTS[:-1]:
        passed = name != "clip.normalise"
        text = solution_file(all_exercises()[name]) if passed else SLIP
        portfolio.keep(portfolio.Saved(portfolio.file_of(name, passed), text))
        portfolio.note(chapter="04_clip", slot=name, status="passed" if passed else "wrong")
    portfolio.note(chapter="04_clip", quiz="04_clip/1", right=True)
    return tmp_path


@pytest.mark.skipif(not FORKS, reason="needs os.fork")
def test_a_learner_hands_in_and_a_teacher_grades(learner):
    handed = run.invoke(cli.app, ["submit", "--name", "Ada Lovelace"])
    assert handed.exit_code == 0, handed.output
    counts = f"{len(SLOTS) - 2} passed, 1 not yet; give this file to your teacher"
    assert handed.output.strip() == f"written: submission-ada-lovelace.zip by Ada Lovelace, {counts}"
    (learner / "class").mkdir()
    (learner / "submission-ada-lovelace.zip").rename(learner / "class" / "ada.zip")
    graded = run.invoke(cli.app, ["grade", "class", "--chapter", "04", "--processes", "1"])
    assert graded.exit_code == 0, graded.output
    told = re.search(r"Cases of seed (\d+); --seed \1 draws the same again\.", graded.output)
    assert (learner / "grades" / "seed.txt").read_text() == told[0] + "\n"
    assert f"1 of 1  ada.zip: {len(SLOTS) - 2} of {len(SLOTS)} passed" in graded.output
    (row,) = csv.DictReader((learner / "grades" / "grades.csv").open())
    assert (row["name"], row["passed"], row["quizzes right"]) == ("Ada Lovelace", f"{len(SLOTS) - 2}", "1")
    assert (row["quizzes"], row["solutions looked at"]) == ("3", "0"), "of chapter 04 alone"
    (slip,) = [one for one in csv.DictReader((learner / "grades" / "answers.csv").open())
               if one["slot"] == "clip.normalise"]  # fmt: skip
    assert slip["status"] == "wrong" and 0 < float(slip["credit"]) < 1 and int(slip["right cases"]) > 0
    assert float(row["points"]) == pytest.approx(len(SLOTS) - 2 + float(slip["credit"]), abs=0.01)
    page = (learner / "grades" / "pages" / "001-ada.html").read_text()
    assert re.search(r"clip\.normalise: wrong, 0\.\d\d of 1, right in [1-9] of \d cases", page)
    assert SAYS in page and f"{SLOTS[-1]}: missing" in page and html.escape(SLIP) in page
    again = run.invoke(cli.app, ["grade", "class"])
    assert again.exit_code == 1 and "grades is there; name a new folder with --to" in again.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["submit"], "say whose it is: --name 'Ada Lovelace'"),
        (["submit", "--name", "Ada", "--to", "ada.tar"], "ada.tar does not end in .zip"),
        (["submit", "--name", "Ada", "--to", "work/my_vlm/diary.jsonl/a.zip"], "diary.jsonl"),
        (["grade", "nowhere"], "nowhere is no folder; name the one that holds the submissions"),
        (["grade", "work"], "work holds no .zip"),
        (["grade", "work", "--chapter", "99"], "no chapter with exercises begins with '99'"),
        (["grade", "work", "--to", "work"], "work is there; name a new folder with --to"),
        (["progress", "--export", "x.txt"], "x.txt does not end in .json"),
    ],
)
def test_a_mistake_is_named_in_one_line(learner, words, says):
    result = run.invoke(cli.app, words)
    assert result.exit_code == 1
    assert says in result.output and "Traceback" not in result.output


def test_progress_as_data(learner):
    result = run.invoke(cli.app, ["progress", "--export", "progress.json"])
    assert result.exit_code == 0, result.output
    counted = json.loads((learner / "progress.json").read_text())
    assert counted["04_clip"]["passed"] == len(SLOTS) - 2
    assert (counted["04_clip"]["exercises"], counted["04_clip"]["right"]) == (len(SLOTS), 1)
    assert counted["02_vit"] == {"passed": 0, "exercises": 8, "right": 0, "quizzes": 3}
    assert f"{len(SLOTS) - 2}/{len(SLOTS)}" in result.output
