"""From the decorated cell to the installed, saved and re-installed function."""

import multiprocessing
import subprocess
import sys

import pytest
import torch

from tests.workbook.learner import cell
from vlmcourse.exercises.base import EXERCISES, Exercise, all_exercises
from vlmcourse.models import attention, vit
from vlmcourse.slots import REGISTRY, Slot
from vlmcourse.workbook import begin, engine, exercise, hint, lesson, portfolio, progress, solution
from vlmcourse.workbook.chapters import Chapter
from vlmcourse.workbook.check import judge
from vlmcourse.workbook.portfolio import CannotSave, Saved

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
    assert said == "✓ attention.merge_heads: passed. From here on the course runs your code.\n"
    assert SLOT.active is SLOT.mine
    assert SLOT.active.__name__ == "merge_heads"
    assert SLOT.reference is not SLOT.active


def test_a_wrong_answer_leaves_the_reference_and_says_why(capsys):
    said = attempt(WRONG, capsys)
    assert "✗ attention.merge_heads: not right yet." in said
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
    assert "○ attention.merge_heads: not written yet. The reference stands in" in attempt(STUB, capsys)
    assert SLOT(torch.zeros(1, 2, 3, 4)).shape == (1, 3, 8)


def test_breaking_a_passed_function_brings_the_reference_back(capsys):
    attempt(GOOD, capsys)
    attempt(WRONG, capsys)
    assert SLOT.active is SLOT.reference


def test_an_empty_cell_does_not_undo_what_passed_before(capsys):
    attempt(GOOD, capsys)
    assert "The version you passed earlier keeps running" in attempt(STUB, capsys)
    assert SLOT.active is not SLOT.reference


def test_the_first_miss_offers_a_hint_until_one_was_seen(capsys):
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
    text = portfolio.file_of(SLOT.name).read_text()
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
    file = portfolio.file_of(SLOT.name)
    file.write_text(file.read_text().replace("h * p)", "h * p) * 2"))
    begin("02_vit")
    said = capsys.readouterr().out
    assert "attention.merge_heads from my_vlm/ no longer passes" in said
    assert "every number is 2 times" in said
    assert SLOT.active is SLOT.reference


def test_a_saved_file_with_a_syntax_error_is_named(capsys):
    portfolio.file_of(SLOT.name).write_text("def merge_heads(:\n")
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
    assert "import torch" in portfolio.file_of(SLOT.name).read_text()


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


def test_progress_names_a_chapter_that_is_to_come(monkeypatch):
    later = Chapter("99_later", ready=False)
    monkeypatch.setattr(lesson, "CHAPTERS", [*lesson.CHAPTERS, later])
    assert any(row[0] == "99_later" and row[1] == "to come" for row in progress().table[1])


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


def seconds_of(code: str) -> float:
    """The CPU time that a new interpreter needs for ``code``."""
    code += "\nimport time\nprint('CPU', time.process_time())"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    return float(done.stdout.rpartition("CPU")[2])


def test_setup_is_quick_and_needs_nothing_heavy():
    """The package is light; a notebook's setup cell loads torch and matplotlib, not transformers."""
    setup = seconds_of(
        "import sys, vlmcourse\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "from vlmcourse.workbook import begin\nbegin('02_vit')\n"
        "assert not {'transformers', 'accelerate', 'sklearn', 'datasets', 'anywidget'} & set(sys.modules)"
    )
    assert setup < 1.5 * seconds_of("import torch, matplotlib")


@pytest.fixture
def join_images(monkeypatch):
    """A slot whose module's name holds an underscore, with its exercise."""

    def join_images(images, gap):
        return torch.cat([images[0], images.new_zeros(len(images[0]), gap), images[1]], dim=1)

    slot = Slot(join_images, name="multi_image.join_images")
    task = Exercise(slot, "02_vit", lambda: [(torch.randn(2, 3, 4), 1)], slips=[], hints=[])

    def check(name, answer):
        return judge(EXERCISES[name], answer.load("join_images") if isinstance(answer, Saved) else answer)

    monkeypatch.setattr(engine.checker, "check", check)
    yield task.slot
    del EXERCISES[slot.name], REGISTRY[slot.name]


def test_a_slot_of_a_module_with_an_underscore_is_saved_and_found_again(join_images, capsys):
    source = (
        "def join_images(images, gap):\n    return torch.cat([F.pad(images[0], (0, gap)), images[1]], 1)\n"
    )
    exercise(join_images)(cell(source))
    assert (portfolio.folder() / "multi_image_join_images.py").is_file()
    join_images.reset()
    assert engine.reinstall() == (["multi_image.join_images"], [])
    assert join_images.active is not join_images.reference


def test_every_saved_function_has_a_file_of_its_own():
    names = list(all_exercises())
    assert len({portfolio.file_of(name) for name in names}) == len(names)


def test_a_file_of_the_former_version_is_found_and_others_are_left_alone(capsys):
    (portfolio.folder() / "attention_merge_heads.py").write_text(f'"""Mine."""\nimport torch\n{GOOD}')
    (portfolio.folder() / "my_own_notes.py").write_text("raise RuntimeError\n")
    assert engine.reinstall() == (["attention.merge_heads"], [])


def test_what_cannot_be_saved_or_loaded_is_said_in_japanese_too(capsys):
    engine.language = "ja"
    source = "def merge_heads(parts):\n    return parts.transpose(1, 2).flatten(2) + settings['shift']\n"
    exercise(SLOT)(cell(source, settings={"shift": 0}))
    said = capsys.readouterr().out
    assert (
        "合格" in said and "保存できませんでした：このノートブックの `settings`（dict）を使っています" in said
    )
    portfolio.file_of(SLOT.name).write_text("def merge_heads(:\n")
    assert "を読み込めません" in engine.reinstall()[1][0]
    portfolio.file_of(SLOT.name).write_text(WRONG)
    assert "合格しなくなりました" in engine.reinstall()[1][0]


def test_every_part_of_a_card_speaks_the_language_of_the_notebook(capsys):
    engine.language = "ja"
    attempt(CRASH, capsys)
    said = attempt(CRASH, capsys)
    for words in (
        "まだ正しくありません",
        "該当行: `return parts",
        "参照実装で先へ進みます",
        "`hint(merge_heads)` で",
    ):
        assert words in said
    assert "まだ書かれていません" in attempt(STUB, capsys)
