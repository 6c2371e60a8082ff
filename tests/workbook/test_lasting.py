"""What passes lasts: a saved answer, loaded elsewhere, is the function that passed, and it is installed."""

import functools
import linecache
import subprocess
import sys
from typing import Optional

import numpy
import pytest
import torch

from tests.workbook.learner import cell
from vlmcourse.data import chat
from vlmcourse.data.formats.llava import SPEAKERS
from vlmcourse.families.mine import use_my_code
from vlmcourse.models import attention, vit
from vlmcourse.workbook import begin, engine, exercise, portfolio
from vlmcourse.workbook.check import Verdict
from vlmcourse.workbook.say import phrase

SLOT = attention.merge_heads
BODY = "    b, h, t, p = parts.shape\n    return parts.transpose(1, 2).reshape(b, t, h * p)"
MADE = "    return parts.transpose(1, 2).flatten(2)"
LASTING = {
    "annotations": ("def merge_heads(parts: Tensor) -> Optional[int]:\n" + BODY, {}),
    "an infinite global": (f"def merge_heads(parts):\n{MADE}.clamp(LOW)", {"LOW": float("-inf")}),
    "a numpy number": (f"def merge_heads(parts):\n{MADE} * ONE", {"ONE": numpy.float32(1)}),
    "a tuple, a dtype": (f"def merge_heads(parts):\n{MADE} * KIND[1]", {"KIND": (torch.float32, 1)}),
    "a default from a global": (f"def merge_heads(parts, a=AXIS):\n{MADE}.flip(a).flip(a)", {"AXIS": -1}),
    "another name": (f"def mine(parts):\n{MADE}", {}),
    "a decorated helper": (
        "def twice(f):\n    @functools.wraps(f)\n    def g(x):\n        return 2 * f(x)\n    return g\n"
        "@twice\ndef half(x):\n    return x / 2\n"
        f"def merge_heads(parts):\n{MADE.replace('parts.', 'half(parts).')}",
        {},
    ),
    "a decorator in between": (
        "def twice(f):\n    def g(x):\n        return 2 * f(x)\n    return g\n"
        f"@twice\ndef merge_heads(parts):\n{MADE} / 2",
        {},
    ),
    "a closure": (
        "def maker(axis):\n    def merge(parts):\n"
        "        return parts.transpose(1, axis).flatten(axis)\n    return merge\nmerge_heads = maker(2)",
        {},
    ),
    "a lambda": (f"same = lambda x: x\ndef merge_heads(parts):\n{MADE} + same(0)", {}),
    "functions of torch": ("def merge_heads(parts):\n    return flatten(swap(parts, 1, 2), 2)",
                           {"flatten": torch.flatten, "swap": torch.transpose}),
    "a table of the course": (f"def merge_heads(parts):\n{MADE} * (len(SPEAKERS) - 2)",
                              {"SPEAKERS": SPEAKERS}),
}  # fmt: skip


def passes(slot, source, capsys, **names) -> str:
    words = {"Tensor": torch.Tensor, "Optional": Optional, "Strange": 3, "functools": functools}
    exercise(slot)(cell(source + "\n", **words, **names))
    said = capsys.readouterr().out
    assert "passed" in said
    return said


@pytest.mark.parametrize("name", LASTING)
def test_what_passes_is_saved_and_installed_as_it_was_saved(name, capsys):
    source, names = LASTING[name]
    assert "could not be saved" not in passes(SLOT, source, capsys, **names)
    saved = portfolio.saved([SLOT.name])[SLOT.name]
    assert SLOT.mine.__globals__["__file__"] == str(saved.path)
    parts = torch.randn(2, 3, 4, 5)
    assert torch.equal(saved.load("merge_heads")(parts), SLOT.reference(parts))


def test_a_new_process_runs_what_was_saved(capsys):
    passes(SLOT, *LASTING["a decorator in between"][:1], capsys)
    code = (
        "from vlmcourse.workbook import engine; from vlmcourse.models.attention import merge_heads\n"
        "print(engine.reinstall()); import torch\n"
        "assert merge_heads.active is not merge_heads.reference\n"
        "print(merge_heads(torch.ones(1, 2, 3, 4)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(['attention.merge_heads'], [])" in done.stdout


def test_two_answers_with_helpers_of_one_name_keep_their_own(capsys):
    helper = "def turn(x):\n    return x.transpose(1, 2)\n"
    passes(SLOT, helper + "def merge_heads(parts):\n    return turn(parts).flatten(2)", capsys)
    other = "def turn(x):\n    return x.unflatten(2, (HEADS(x), -1))\n"
    source = "def split_heads(tokens, heads):\n    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)"
    passes(attention.split_heads, other + source, capsys)
    parts = torch.randn(2, 3, 4, 5)
    assert torch.equal(SLOT(parts), SLOT.reference(parts))
    assert engine.reinstall()[1] == []


def test_what_cannot_be_saved_says_so_at_once_and_why(capsys):
    said = passes(SLOT, f"def merge_heads(parts):\n{MADE} + table[0]", capsys, table=[0])
    assert "could not be saved for later chapters: it uses `table`, a list of this notebook" in said
    assert not portfolio.file_of(SLOT.name).exists()


def test_a_file_that_does_not_do_the_same_alone_is_not_kept(capsys):
    answer = cell(f"def merge_heads(parts):\n{MADE}\n")
    file = answer.__code__.co_filename
    edited = ["def merge_heads(parts):\n", "    return parts.mean(1)\n"]
    linecache.cache[file] = (0, None, edited, file)
    exercise(SLOT)(answer)
    said = capsys.readouterr().out
    assert "as a file of its own it does not do the same: the heads are averaged" in said
    assert SLOT.active is answer and not portfolio.file_of(SLOT.name).exists()


MEAN = "def merge_heads(parts):\n    return parts.mean(1)"
MAX = "def merge_heads(parts):\n    return parts.amax(1)"
STUB = "def merge_heads(parts):\n    raise NotImplementedError"


def tries(source, **names):
    """The file of the attempt after a cell has run, or None."""
    exercise(SLOT)(cell(source + "\n", **names))
    attempts = portfolio.saved([SLOT.name], passed=False)
    return attempts[SLOT.name] if attempts else None


def test_the_latest_wrong_answer_is_kept_until_one_passes(workspace, capsys):
    assert tries(STUB) is None  # nothing was tried
    first = tries(MEAN)
    assert first.path == workspace / "my_vlm" / "attempts" / "attention_merge_heads.py"
    assert "not right yet, in chapter 02_vit" in first.text and "passed" not in first.text
    parts = torch.randn(2, 3, 4, 5)
    assert torch.equal(first.load("merge_heads")(parts), parts.mean(1))
    assert torch.equal(tries(MAX).load("merge_heads")(parts), parts.amax(1))
    assert "amax" in tries(STUB).text
    assert portfolio.saved([SLOT.name]) == {}
    assert tries(f"def merge_heads(parts):\n{MADE}") is None and not list(first.path.parent.iterdir())
    assert "mean" in tries(MEAN).text and list(portfolio.saved([SLOT.name])) == [SLOT.name]


def test_an_attempt_is_never_run_nor_installed(workspace, capsys):
    """Not even one that would pass: begin() and the learner's model see passed answers only."""
    harm = f"open({str(workspace / 'made')!r}, 'w')\n"
    text = f"{harm}def merge_heads(parts):\n{MADE}\n"
    portfolio.keep(portfolio.Saved(portfolio.file_of(SLOT.name, passed=False), text))
    assert engine.reinstall() == ([], []) and use_my_code() == ([], [])
    portfolio.keep(portfolio.Saved(portfolio.file_of("attention.split_heads"), "def split_heads(x, heads):"))
    begin("03_cnn_vs_vit")
    assert not SLOT.runs_mine and SLOT.active is SLOT.reference
    assert use_my_code()[0] == [] and portfolio.strangers() == []
    assert not (workspace / "made").exists()


@pytest.mark.parametrize("blocked", ["a file", "a full disk"])
def test_an_attempt_that_cannot_be_kept_costs_nothing(workspace, capsys, monkeypatch, blocked):
    (workspace / "my_vlm").mkdir()
    if blocked == "a file":
        (workspace / "my_vlm" / "attempts").write_text("in the way")
    else:
        tries(MAX)
        write = type(workspace).write_text

        def full(path, text, **options):
            if path.suffix == ".writing":
                write(path, text[:9])
                raise OSError(28, "No space left on device")
            return write(path, text, **options)

        monkeypatch.setattr(type(workspace), "write_text", full)
    kept = tries(MEAN)
    assert "the heads are averaged" in capsys.readouterr().out
    assert kept is None if blocked == "a file" else "amax" in kept.text
    monkeypatch.undo()
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(workspace))
    assert "could not be saved" not in passes(SLOT, f"def merge_heads(parts):\n{MADE}", capsys)
    assert SLOT.runs_mine and [event["status"] for event in portfolio.diary()][-1] == "passed"


def test_what_cannot_be_written_down_is_left_out_of_an_attempt(capsys):
    """It is handed in with a comment: the teacher sees what was tried."""
    kept = tries(
        f"def merge_heads(parts):\n{MADE} + table[0]", table=[0]
    ).text  # passes, in this notebook only
    assert "# table cannot be written down\n" in kept and "+ table[0]" in kept
    assert not portfolio.file_of(SLOT.name).exists()
    assert tries(MEAN).text != kept


@pytest.mark.parametrize("answer", [3, len, torch.nn.Identity()])
def test_what_is_no_function_with_a_source_is_no_attempt(workspace, capsys, answer):
    exercise(SLOT)(answer)
    assert "not right yet" in capsys.readouterr().out
    assert portfolio.saved([SLOT.name], passed=False) == {}


def test_what_could_not_be_checked_is_no_attempt(monkeypatch, capsys):
    monkeypatch.setattr(engine.checker, "check", lambda *_: Verdict("unchecked", phrase("no_checker")))
    assert tries(MEAN) is None


def test_a_function_without_the_references_defaults_is_called_with_them():
    slot = chat.label_mask
    seen = []

    def label_mask(ids, opens, closes):
        seen.append((opens, closes))
        return slot.reference(ids, opens, closes)

    slot.install(label_mask)
    ids = torch.arange(12)[None]
    assert torch.equal(slot(ids), slot.reference(ids))
    assert torch.equal(slot(ids=ids, end=5), slot.reference(ids, end=5))
    assert seen == [(8, 9), (8, 5)]


def test_a_call_with_an_argument_the_function_lacks_runs_the_reference():
    slot = vit.interpolate_positions
    slot.install(lambda positions, old_grid, new_grid: positions.new_zeros(3))
    positions = torch.randn(1 + 12, 5)
    assert slot(positions, (3, 4), (2, 2)).shape == (3,)
    wanted = slot.reference(positions, (3, 4), (2, 2), antialias=True)
    assert torch.equal(slot(positions, (3, 4), (2, 2), antialias=True), wanted)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys\nsys.exit()\n", "does not load: SystemExit"),
        ("raise KeyboardInterrupt\n", "does not load: KeyboardInterrupt"),
        ("import os\nos._exit(3)\n", "no longer passes: it brought down the Python process"),
        ("merge_heads = 3\n", "this is an int"),
        ("def other(parts):\n    return parts\n", "does not load: KeyError"),
        ("print('x' * 10_000_000)\nimport os\nos.fork()\n", "does not load: PermissionError"),
    ],
)
def test_a_saved_file_that_misbehaves_is_named_and_the_lesson_goes_on(text, words, capsys):
    portfolio.file_of(SLOT.name).write_text(text)
    installed, (complaint,) = engine.reinstall()
    assert not installed and words in complaint
    assert capsys.readouterr().out == ""


def test_a_saved_file_that_is_no_text_is_named():
    portfolio.file_of(SLOT.name).write_bytes(b"\xff\xfe\x00")
    assert "attention_merge_heads.py does not load" in engine.reinstall()[1][0]


def test_a_function_that_passed_is_not_dropped_when_the_checker_is_late(capsys, monkeypatch):
    passes(SLOT, f"def merge_heads(parts):\n{MADE}", capsys)
    SLOT.reset()
    late = Verdict("unchecked", phrase("no_checker"))
    monkeypatch.setattr(engine.checker, "check", lambda name, saved: late)
    installed, (line,) = engine.reinstall()
    assert installed == [SLOT.name] and "could not be checked again" in line
    file = portfolio.file_of(SLOT.name)
    file.write_text(file.read_text() + "\nwhile True: pass\n")
    assert engine.reinstall()[0] == []


def test_a_cell_under_a_timing_magic_is_saved_too():
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_cell('from vlmcourse.workbook import exercise; from vlmcourse.models import attention')\n"
        "shell.run_cell('%%time\\n@exercise(attention.merge_heads)\\ndef merge_heads(parts):\\n'\n"
        "               '    return parts.transpose(1, 2).flatten(2)\\n', store_history=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "passed" in done.stdout and "could not be saved" not in done.stdout
    assert "flatten(2)" in portfolio.file_of(SLOT.name).read_text()
