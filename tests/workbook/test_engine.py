"""From the decorated cell to the installed, saved and re-installed function."""

import multiprocessing
import subprocess
import sys
import time

import pytest
import torch

from tests.workbook.learner import cell
from vlmcourse.models import attention, vit
from vlmcourse.workbook import begin, exercise, hint, portfolio, progress, solution
from vlmcourse.workbook.portfolio import CannotSave

GOOD = """
import torch.nn.functional as functional

def side_by_side(x, n):
    return x.transpose(2, 3) if n == TWO else x

TWO = 2

def merge_heads(parts):
    b, h, t, p = parts.shape
    return side_by_side(parts.transpose(1, 2), 0).reshape(b, t, h * p)
"""
STUB = 'def merge_heads(parts):\n    """Write me."""\n    raise NotImplementedError\n'
WRONG = "def merge_heads(parts):\n    return parts.mean(1)\n"
CRASH = "def merge_heads(parts):\n    return parts.reshape(-1, 0)\n"
SLOT = attention.merge_heads


def attempt(source, capsys):
    returned = exercise(SLOT)(cell(source))
    assert returned is SLOT
    return capsys.readouterr().out


def test_a_right_answer_is_installed_and_says_so(capsys):
    said = attempt(GOOD, capsys)
    assert said == "✅ attention.merge_heads: passed. From here on the course runs your code.\n"
    assert SLOT.active is SLOT.mine
    assert SLOT.active.__name__ == "merge_heads"
    assert SLOT.reference is not SLOT.active


def test_a_wrong_answer_leaves_the_reference_and_says_why(capsys):
    said = attempt(WRONG, capsys)
    assert "❌ attention.merge_heads: not right yet." in said
    assert "the heads are averaged" in said
    assert "The reference stands in" in said
    assert SLOT.active is SLOT.reference
    assert SLOT.mine is not None


def test_a_crashing_answer_shows_its_line(capsys):
    said = attempt(CRASH, capsys)
    assert "RuntimeError in line 2" in said
    assert "The line: `return parts.reshape(-1, 0)`" in said
    assert SLOT.active is SLOT.reference


def test_a_crash_in_a_helper_shows_the_line_of_the_answer_that_called_it(capsys):
    helper = cell("\ndef flatten(parts):\n    return parts.reshape(-1, 0)\n")
    answer = cell("def merge_heads(parts):\n    found = flatten(parts)\n    return found\n", flatten=helper)
    exercise(SLOT)(answer)
    assert "The line: `found = flatten(parts)`" in capsys.readouterr().out


def test_an_unwritten_answer_lets_the_notebook_go_on(capsys):
    assert "⬜ attention.merge_heads: not written yet. The reference stands in" in attempt(STUB, capsys)
    assert SLOT(torch.zeros(1, 2, 3, 4)).shape == (1, 3, 8)


def test_breaking_a_passed_function_brings_the_reference_back(capsys):
    attempt(GOOD, capsys)
    attempt(WRONG, capsys)
    assert SLOT.active is SLOT.reference


def test_an_empty_cell_does_not_undo_what_passed_before(capsys):
    attempt(GOOD, capsys)
    assert "The version you passed earlier keeps running" in attempt(STUB, capsys)
    assert SLOT.active is not SLOT.reference


def test_the_second_miss_offers_a_hint_until_one_was_seen(capsys):
    assert "hint(" not in attempt(WRONG, capsys)
    assert "`hint(merge_heads)` gives you a first hint" in attempt(WRONG, capsys)
    hint(SLOT)
    assert "hint 1/2" in capsys.readouterr().out
    assert "hint(" not in attempt(WRONG, capsys)


def test_hints_go_from_vague_to_concrete_and_stay_at_the_last(capsys):
    for number in (1, 2, 2):
        hint(SLOT)
        assert f"hint {number}/2" in capsys.readouterr().out


def test_the_solution_is_the_references_source_without_decorator(capsys):
    solution(SLOT)
    said = capsys.readouterr().out
    assert "def merge_heads" in said
    assert "@slot" not in said
    assert "def pre_norm_block" not in said


def test_a_passed_function_is_saved_with_all_it_uses_and_comes_back(capsys):
    attempt(GOOD, capsys)
    text = portfolio.file_of(SLOT).read_text()
    assert "def side_by_side" in text
    assert "TWO = 2" in text
    SLOT.reset()
    begin("02_vit")
    said = capsys.readouterr().out
    assert "Your code runs as: attention.merge_heads" in said
    assert SLOT.active is not SLOT.reference
    assert torch.equal(
        SLOT(torch.arange(24.0).view(1, 2, 3, 4)), SLOT.reference(torch.arange(24.0).view(1, 2, 3, 4))
    )


def test_a_saved_file_that_no_longer_passes_is_named_and_not_installed(capsys):
    attempt(GOOD, capsys)
    file = portfolio.file_of(SLOT)
    file.write_text(file.read_text().replace("h * p)", "h * p) * 2"))
    begin("02_vit")
    said = capsys.readouterr().out
    assert "attention.merge_heads from my_vlm/ no longer passes" in said
    assert "every number is 2 times" in said
    assert SLOT.active is SLOT.reference


def test_a_saved_file_with_a_syntax_error_is_named(capsys):
    portfolio.file_of(SLOT).write_text("def merge_heads(:\n")
    begin("02_vit")
    said = capsys.readouterr().out
    assert "my_vlm/attention_merge_heads.py does not load" in said


def test_an_answer_that_cannot_be_saved_still_runs_and_says_so(capsys):
    source = "def merge_heads(parts):\n    return parts.transpose(1, 2).flatten(2) + settings['shift']\n"
    answer = cell(source, settings={"shift": 0})
    exercise(SLOT)(answer)
    said = capsys.readouterr().out
    assert "could not be saved for later chapters: it uses `settings`, a dict" in said
    assert SLOT.active is answer


def test_a_notebook_variable_named_like_a_method_is_not_saved_along(capsys):
    source = "def merge_heads(parts):\n    return torch.cat(list(parts.unbind(1)), dim=-1)\n"
    exercise(SLOT)(cell(source, cat=torch.zeros(3)))
    assert "could not be saved" not in capsys.readouterr().out
    assert "import torch" in portfolio.file_of(SLOT).read_text()


def test_an_unwritable_workspace_is_a_warning_not_a_crash(capsys, monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(blocker))
    with pytest.warns(UserWarning, match="progress was not recorded"):
        said = attempt(GOOD, capsys)
    assert "passed" in said
    assert "could not be saved" in said


def test_things_that_are_no_exercise_are_refused_with_what_there_is():
    with pytest.raises(TypeError, match="belong to slots such as"):
        exercise(torch.relu)
    with pytest.raises(ValueError, match="no chapter '2'; the chapters are 00_start_here"):
        begin("2")
    with pytest.raises(ValueError, match="no edition in 'fr'"):
        begin("02_vit", lang="fr")


def test_cards_speak_japanese_too(capsys):
    begin("02_vit", lang="ja")
    assert "準備ができました" in capsys.readouterr().out
    assert "head を平均すると" in attempt(WRONG, capsys)


def test_progress_counts_what_passed(capsys):
    attempt(WRONG, capsys)
    assert ["02_vit", "░" * 8 + " 0/8", "0/3"] in progress().table[1]
    attempt(GOOD, capsys)
    attempt(GOOD, capsys)
    portfolio.note(chapter="02_vit", quiz="02_vit/1", right=True)
    assert ["02_vit", "█" + "░" * 7 + " 1/8", "1/3"] in progress().table[1]
    assert any(row[1] == "to come" for row in progress().table[1])


def test_a_half_written_diary_line_is_passed_over(workspace):
    portfolio.note(slot="a", status="passed")
    with (workspace / "my_vlm" / "diary.jsonl").open("a") as file:
        file.write('{"slot": "b", "sta')
    assert [event["slot"] for event in portfolio.diary()] == ["a"]


def _write(number):
    for count in range(50):
        portfolio.note(kernel=number, count=count)


def test_two_kernels_writing_at_once_lose_nothing():
    processes = [multiprocessing.Process(target=_write, args=(number,)) for number in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seen = {(event["kernel"], event["count"]) for event in portfolio.diary()}
    assert seen == {(kernel, count) for kernel in (1, 2) for count in range(50)}


def test_the_source_of_something_without_source_is_an_error():
    with pytest.raises(CannotSave, match="not available"):
        portfolio.source_of(eval("lambda x: x"))


def test_installed_code_runs_in_a_model(capsys):
    attempt(GOOD, capsys)
    model = vit.ViT(vit.ViTConfig(image_size=16, patch_size=8, width=16, depth=1, heads=2))
    images = torch.randn(2, 3, 16, 16)
    mine = model(images)
    SLOT.reset()
    assert torch.equal(mine, model(images))


def test_setup_is_quick_and_needs_nothing_heavy():
    """The package is light; a notebook's setup cell loads torch and matplotlib, not transformers or accelerate."""
    code = (
        "import sys, vlmcourse\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "from vlmcourse.workbook import begin\nbegin('02_vit')\n"
        "assert not {'transformers', 'accelerate', 'sklearn', 'datasets', 'anywidget'} & set(sys.modules)"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert time.perf_counter() - start < 8  # seconds, cold, with the interpreter's own start
