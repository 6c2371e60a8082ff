"""Answers that nobody trusts are graded by what they compute; none reaches beyond its own process."""

import os
import socket
import sys
import textwrap
import time

import pytest
import torch

from vlmcourse.exercises import base
from vlmcourse.slots import Slot
from vlmcourse.workbook import landlock
from vlmcourse.workbook.copies import FORKS, Copy
from vlmcourse.workbook.grading import Grader
from vlmcourse.workbook.outcomes import trial_of

from .learner import solution_file

pytestmark = pytest.mark.skipif(not FORKS, reason="needs os.fork")
SLOT = "attention.merge_heads"


@pytest.fixture(scope="module")
def grader():
    return Grader(seed=77, seconds=3)


def file_of(name, before="", body=None):
    """A saved file: the course's solution behind some lines, or a function of another body."""
    task = base.all_exercises()[name]
    if body is None:
        return f"{before}\n{solution_file(task)}" if before.startswith("#") else solution_file(task)
    function = f"def {task.slot.__name__}(*given, **named):\n" + textwrap.indent(body, "    ")
    return f"import torch\n{before}\n{function}\n"


def test_every_reference_passes_on_another_seed(grader, tmp_path, monkeypatch):
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path))
    graded = grader.grade({name: file_of(name) for name in base.all_exercises()})
    assert [one for one in graded if one.status != "passed"] == []
    assert {one.credit for one in graded} == {1.0}
    assert len(graded) >= 111


def test_a_missing_answer_is_worth_nothing(grader):
    (one,) = grader.grade({}, [SLOT])
    assert (one.status, one.credit, one.right) == ("missing", 0.0, 0)
    assert one.cases == 2


def graded_body(grader, body, before="", name=SLOT):
    return grader.grade({name: file_of(name, before, body)}, [name])[0]


def test_the_share_of_right_cases_is_the_credit(grader):
    first = "given[0].shape[0]"
    body = f"x = given[0].transpose(1, 2).flatten(2)\nreturn x if {first} == FIRST else x + 1"
    cases = base.all_exercises()[SLOT].cases()
    one = graded_body(grader, body, f"FIRST = {cases[0][0].shape[0]}")
    assert (one.status, one.right, one.cases) == ("wrong", 1, 2)
    assert one.credit == pytest.approx(1 / 3)
    assert one.says


def test_right_values_without_a_gradient_are_not_a_pass(grader):
    one = graded_body(grader, "return given[0].detach().transpose(1, 2).flatten(2)")
    assert (one.status, one.right, one.cases) == ("wrong", 2, 2)
    assert one.credit == pytest.approx(2 / 3)
    assert "gradient" in one.says


def test_an_answer_that_knows_the_notebooks_cases_by_heart_fails(grader):
    name = "clip.info_nce"
    trial = trial_of(base.all_exercises()[name], Slot.changes)
    known = [float(right.value) for right in trial.expected]
    sizes = [case[0].shape[0] for case in trial.cases]
    table = dict(zip(sizes, known, strict=True))
    body = f"return torch.tensor({table}[given[0].shape[0]]) + 0 * given[0].sum() + 0 * given[1].sum()"
    one = graded_body(grader, body, name=name)
    assert (one.status, one.right) == ("wrong", 0)


FORGERIES = {
    "the comparison": "import vlmcourse.workbook.outcomes as o\no._equal = lambda a, b: True\n"
    "o.same = lambda a, b: True\nimport vlmcourse.workbook.check as c\nc.same = o.same\n"
    "c.rejection = lambda *a: None",
    "the verdict": "import vlmcourse.workbook.grading as g, vlmcourse.workbook.check as c\n"
    "g.verdict_on = lambda *a: c.Verdict('passed')",
    "what a slot runs": "import vlmcourse.models.attention as a\n"
    "reference = a.merge_heads.reference\na.merge_heads.reference = lambda *given: torch.zeros(2)",
    "the comparison of plain data": "import vlmcourse.workbook.plain as p, vlmcourse.workbook.grading as g\n"
    "p.same_data = g.same_data = lambda a, b: True",
}


@pytest.mark.parametrize("forged", FORGERIES)
def test_nobody_passes_by_changing_the_checker(grader, forged):
    one = graded_body(grader, "return torch.zeros(2)", FORGERIES[forged])
    assert (one.status, one.right, one.credit) == ("wrong", 0, 0.0)
    honest = grader.grade({SLOT: file_of(SLOT, "# after a forgery")}, [SLOT])[0]
    assert honest.status == "passed"


def test_what_is_sent_in_place_of_a_message_is_not_believed(grader):
    """An answer may write to every descriptor that it holds."""
    before = (
        "import json, struct, posix\n"
        "fake = json.dumps({'status': 'passed', 'says': ''}).encode()\n"
        "for number in range(3, 64):\n"
        "    try: posix.write(number, struct.pack('>Q', len(fake)) + fake)\n"
        "    except OSError: pass\n"
        "posix._exit(0)"
    )
    one = graded_body(grader, "return 0", before)
    assert (one.status, one.credit) == ("wrong", 0.0)


HARM = {
    "write a file": "open({place!r}, 'w').write('x')",
    "write by a descriptor": "import os\nos.write(os.open({place!r}, os.O_CREAT | os.O_WRONLY), b'x')",
    "write by torch": "torch.save(torch.ones(3), {place!r})",
    "empty a file by torch": "torch.save(torch.ones(3), {other!r})",
    "write by NumPy": "import numpy\nnumpy.ones(3).tofile({place!r})",
    "make a folder": "import os\nos.mkdir({place!r})",
    "remove a file": "import os\nos.remove({other!r})",
    "rename a file": "import os\nos.rename({other!r}, {place!r})",
    "read another's answer": "text = open({other!r}).read()\nassert text\nraise SystemExit",
    "list a folder": "import os\nassert os.listdir({folder!r})\nopen({place!r}, 'w')",
    "run a program": "import subprocess\nsubprocess.run(['touch', {place!r}])",
    "reach the network": "import socket\nsocket.create_connection(('127.0.0.1', {port})).send(b'x')",
    "end its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "load a library": "import ctypes\nctypes.CDLL(None).kill(ctypes.CDLL(None).getppid(), 9)",
    "an endless loop": "while True: pass",
    "sleep": "import time\ntime.sleep(10_000)",
    "memory": "torch.ones(10**11)",
    "end": "import os\nos._exit(0)",
    "a crash": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "no text": "\0",
    "no Python": "def (",
    "another name": "merge = 1",
    "an endless message": "import posix\nfor _ in range(10**6): posix.write(3, b'x' * 10**6)",
}


@pytest.fixture(scope="module")
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        yield server


@pytest.mark.parametrize("harm", HARM)
def test_a_hostile_answer_harms_nobody(grader, harm, tmp_path, listener):
    other = tmp_path / "other.py"
    other.write_text("another's")
    words = dict(place=str(tmp_path / "made"), other=str(other), folder=str(tmp_path),
                 port=listener.getsockname()[1])  # fmt: skip
    began, mine = time.monotonic(), os.getpid()
    one = graded_body(grader, "return 0", HARM[harm].format(**words))
    assert (one.status, one.credit) == ("wrong", 0.0)
    assert one.says
    assert os.getpid() == mine and other.read_text() == "another's"
    assert [path.name for path in tmp_path.iterdir()] == ["other.py"]
    with pytest.raises(TimeoutError):
        listener.accept()
    assert grader.grade({SLOT: file_of(SLOT, f"# after: {harm!r}")}, [SLOT])[0].status == "passed"
    assert time.monotonic() - began < 120


def test_the_same_text_is_run_once(grader, monkeypatch):
    text = file_of(SLOT, "# twice")
    first = grader.grade({SLOT: text}, [SLOT])
    monkeypatch.setattr(grader, "_grade_text", lambda *_: pytest.fail("run again"))
    assert grader.grade({SLOT: text}, [SLOT]) == first


def test_the_kernel_refuses_what_no_hook_of_python_sees(tmp_path):
    """torch writes files without Python's knowledge."""
    if not landlock.landlock_version():
        pytest.skip("this system has no Landlock")

    def work():
        landlock.give_up_files([sys.prefix])
        try:
            torch.save(torch.ones(3), str(tmp_path / "made"))
        except RuntimeError as error:
            return str(error).encode()
        return b"written"

    message, _ = Copy(work).message(5, 30, lambda: None)
    assert b"cannot be opened" in message or b"Permission" in message
    assert list(tmp_path.iterdir()) == []
