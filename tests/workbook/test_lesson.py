"""Budget and quiz."""

import logging
import warnings

import pytest

from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook import budget, lesson, portfolio, quiz
from vlmcourse.workbook.chapters import CHAPTERS


def test_the_budget_fits_the_device_and_is_said(capsys, monkeypatch):
    monkeypatch.setattr(lesson, "device", lambda: "cpu")
    assert budget(cpu=dict(steps=300), gpu=dict(steps=3000)).steps == 300
    assert "steps = 300" in capsys.readouterr().out
    monkeypatch.setattr(lesson, "device", lambda: "cuda")
    monkeypatch.setattr(lesson, "device_words", lambda: "Tesla T4")
    assert budget(cpu=dict(steps=300), gpu=dict(steps=3000)).steps == 3000
    assert capsys.readouterr().out == "Budget for Tesla T4: steps = 3,000\n"


def test_budgets_of_different_sizes_are_an_error():
    with pytest.raises(ValueError, match="differ in batch"):
        budget(cpu=dict(steps=300), gpu=dict(steps=3000, batch=2))


def test_an_unknown_quiz_names_what_there_is():
    with pytest.raises(LookupError, match=r"no quiz question '02/9'; there are 00_start_here/1"):
        quiz("02/9")


def test_a_quiz_speaks_the_language_of_the_notebook(monkeypatch):
    monkeypatch.setattr(lesson.engine, "language", "ja")
    assert "コネクタ" in quiz("00_start_here/1").question


def test_progress_counts_chapters_and_the_whole_and_links_to_notebooks(tmp_path, monkeypatch):
    tasks = all_exercises()
    first = [name for name, task in tasks.items() if task.chapter == "00_start_here"]
    for name in [*first, "vit.patchify"]:
        portfolio.note(slot=name, status="passed")
    portfolio.note(slot="vit.rollout", status="wrong")
    (tmp_path / "ja").mkdir()
    for name in ("00_start_here", "02_vit", "ja/02_vit"):
        (tmp_path / f"{name}.ipynb").write_text("{}")
    monkeypatch.chdir(tmp_path)
    card, passed, ready = lesson.progress(), len(first) + 1, sum(chapter.ready for chapter in CHAPTERS)
    assert f"{passed} of {len(tasks)} exercises passed, 1 of {ready} chapters complete" in card.title
    assert card.table[1][-1][:2] == ["in all", f"{passed}/{len(tasks)}"]
    assert card.table[1][2][1].startswith("█░")
    waiting = [[chapter.name, "to come", ""] for chapter in CHAPTERS if not chapter.ready]
    assert [row for row in card.table[1] if "to come" in row] == waiting
    assert card.links == {"00_start_here": "00_start_here.ipynb", "02_vit": "02_vit.ipynb"}
    monkeypatch.chdir(tmp_path / "ja")
    assert lesson.progress().links == {"00_start_here": "../00_start_here.ipynb", "02_vit": "02_vit.ipynb"}
    monkeypatch.setattr(lesson.engine, "language", "ja")
    assert lesson.progress().table[0] == ["章", "合格した演習", "クイズの正解"]


def test_a_quiz_answer_reaches_the_diary():
    widget = quiz("02_vit/1")
    widget.chosen = 1
    widget.chosen = 0
    assert [event["right"] for event in portfolio.diary()] == [False, True]
    assert {(event["chapter"], event["quiz"]) for event in portfolio.diary()} == {("02_vit", "02_vit/1")}


def test_libraries_do_not_speak_to_their_own_authors_on_the_page(caplog):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        lesson._hush_libraries()
        warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed", FutureWarning, 2)
        warnings.warn("something else will be removed", FutureWarning, 2)
    assert [str(one.message) for one in told] == ["something else will be removed"]
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load")
    logging.getLogger("bitsandbytes.backends.cpu.ops").error("no memory")
    assert [record.message for record in caplog.records] == ["no memory"]
