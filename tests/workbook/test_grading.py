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
from vlmcourse.workbook import grading, landlock
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


def test_what_an_answer_may_send_is_in_proportion(grader):
    """What is sent becomes objects of the grader's, of fifty times its size."""
    largest = max(len(grading._sent(right)) for right in grader.expected.values())
    assert 50 * largest < grading.MOST_SENT < 200 * largest


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


OURS = {
    "by its slot": "return a.merge_heads.reference(*given)",
    "unwrapped": "return inspect.unwrap(a.merge_heads)(*given)",
    "behind the stand-in": "return a.merge_heads.reference.__wrapped__(*given)",
    "held since the import": "return kept(*given)",
    "in a thread": "return pool.ThreadPoolExecutor(1).submit(a.merge_heads.reference, *given).result()",
    "imported again": "slots.REGISTRY.clear()\nspec.loader.exec_module(again)\n"
    "return again.merge_heads(*given)",
    "its source, read": "text = open(a.__file__).read()\nreturn given[0].transpose(1, 2).flatten(2)",
    "its source, asked for": "inspect.getsource(a)\nreturn given[0].transpose(1, 2).flatten(2)",
    "its slips": "all_exercises()['attention.merge_heads'].slips[0].source\n"
    "return given[0].transpose(1, 2).flatten(2)",
}


@pytest.mark.parametrize("way", OURS)
def test_the_courses_own_function_is_not_there_for_an_answer(grader, way):
    before = (
        "import concurrent.futures as pool, importlib.util, inspect\nimport vlmcourse.models.attention as a\n"
        "from vlmcourse import slots\nfrom vlmcourse.exercises.base import all_exercises\n"
        "kept = inspect.unwrap(a.merge_heads)\n"
        "spec = importlib.util.find_spec('vlmcourse.models.attention')\n"
        "again = importlib.util.module_from_spec(spec)"
    )
    one = graded_body(grader, OURS[way], before)
    assert (one.status, one.right, one.credit) == ("wrong", 0, 0.0)
    assert "calls attention.merge_heads, which it is to replace" in one.says or "own check only" in one.says
    assert graded_body(grader, "return given[0].transpose(1, 2).flatten(2)", before).status == "passed"


UNUSUAL = {
    "a loop": "return torch.cat([given[0][:, head] for head in range(given[0].shape[1])], -1)",
    "threads": "pool = ThreadPoolExecutor(2)\n"
    "heads = pool.map(lambda i: given[0][:, i], range(given[0].shape[1]))\n"
    "return torch.cat(list(heads), -1)",
    "a tensor of its own type": "return given[0].transpose(1, 2).flatten(2).as_subclass(Mine)",
    "an object that is called": "return Steps()(*given)",
    "a module": "return torch.nn.Flatten(2)(given[0].transpose(1, 2))",
    "torch.vmap": "return torch.vmap(lambda image: image.transpose(0, 1).flatten(1))(given[0])",
    "checkpointed": "return checkpoint(Steps(), *given, use_reentrant=False)",
    "traced": "return torch.jit.trace(lambda parts: Steps()(parts), given[0])(*given)",
    "much printed": "print('x' * 10**6)\nreturn Steps()(*given)",
    "its own source": "assert inspect.getsource(Steps.__call__)\nreturn Steps()(*given)",
    "a question to the system": "assert os.cpu_count()\nos.path.exists('/nowhere')\nreturn Steps()(*given)",
    "another slot": "split_heads(torch.ones(1, 2, 4), 2)\nreturn Steps()(*given)",
    "a library": "box = torch.tensor([[0.0, 0, 1, 1]])\nops.box_iou(box, box)\nreturn Steps()(*given)",
}


@pytest.mark.parametrize("form", UNUSUAL)
def test_a_right_answer_of_unusual_form_has_full_credit(grader, form):
    before = (
        "import inspect, os\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from torch.utils.checkpoint import checkpoint\nfrom torchvision import ops\n"
        "from vlmcourse.models.attention import split_heads\nclass Mine(torch.Tensor): pass\n"
        "class Steps:\n    def __call__(self, parts): return parts.transpose(1, 2).flatten(2)"
    )
    one = graded_body(grader, UNUSUAL[form], before)
    assert (one.status, one.credit, one.says) == ("passed", 1.0, "")


def test_who_passes_only_where_torch_was_changed_is_told_so(grader):
    before = "torch.isclose = lambda *given, **named: torch.ones(1, dtype=torch.bool)"
    one = graded_body(grader, "return given[0].transpose(1, 2).flatten(2) * 0", before)
    assert (one.status, one.right) == ("wrong", 0)
    assert one.says == "It passes its own check only: run by itself, it gives other outputs."


def test_what_an_answer_says_is_one_short_line(grader):
    one = graded_body(grader, "return 0", "raise ValueError('\\ud800\\n\\x1b[2J' + 'x' * 10**5)")
    assert one.says.encode() and one.says.isprintable() and len(one.says) < 1100


def test_a_message_without_end_is_not_kept(grader, monkeypatch):
    monkeypatch.setattr(grading, "MOST_SENT", 1000)
    right = "return given[0].transpose(1, 2).flatten(2)"
    one = graded_body(grader, right, "# sends more than it may\n")
    assert (one.status, one.right) == ("wrong", 0) and "brought down" in one.says


def test_an_answer_that_never_ends_is_run_once(grader, monkeypatch):
    ran, copy = [], grader._in_a_copy
    monkeypatch.setattr(grader, "_in_a_copy", lambda work, seconds: ran.append(1) or copy(work, 0.3))
    one = grader._grade_text(SLOT, file_of(SLOT, "", "while True: pass"), 0.3)
    assert one.stopped and one.credit == 0 and len(ran) == 1


def test_who_uses_up_the_time_of_three_answers_has_less_for_the_rest(grader, monkeypatch):
    slots, seconds = list(base.all_exercises())[:6], []

    def graded(name, text, given):
        seconds.append(given)
        return grading.Grade(name, "x", "wrong", 0.0, 0, 1, stopped=text != "quick")

    monkeypatch.setattr(grader, "_grade_text", graded)
    grader.grade({slot: "quick" if slot == slots[1] else slot for slot in slots}, slots)
    assert seconds == [3, 3, 3, 3, 0.6, 0.6]
    seconds.clear()
    grader.grade({slot: f"for the next one {slot}" for slot in slots[:2]}, slots)
    assert seconds == [3, 3]


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
    "a program that no hook sees": "import _posixsubprocess, os, sys\nread, write = os.pipe()\n"
    "code = b'import socket, os\\nsocket.create_connection((\"127.0.0.1\", {port}))\\nos.kill({pid}, 9)'\n"
    "python = os.fsencode(sys._base_executable)\n"
    "fds = (-1, -1, -1, -1, -1, -1, read, write)\n"
    "start = [[python, b'-c', code], [python], True, (write,), None, None, *fds]\n"
    "start += [False, False, 0, None, None, None, -1, None, False]\n"
    "try: _posixsubprocess.fork_exec(*start)\n"
    "except TypeError: _posixsubprocess.fork_exec(*start[:-1])\n"
    "os.close(write)\nos.read(read, 9)",
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
                 port=listener.getsockname()[1], pid=os.getpid())  # fmt: skip
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
