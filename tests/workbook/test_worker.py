"""What goes to the checker and comes back: a function knows its cell, and prints are kept, up to a limit."""

import os
import signal
import sys
import textwrap
import time

import cloudpickle
import psutil
import pytest
import torch

from tests.workbook.learner import cell
from vlmcourse.diagnostics import reach
from vlmcourse.models import attention
from vlmcourse.workbook import engine
from vlmcourse.workbook.engine import check
from vlmcourse.workbook.worker import Checker, _code_of_cell, _packed, _Printed

SLOT = attention.merge_heads


def test_a_function_that_was_sent_knows_the_cell_it_comes_from():
    answer = cell("def double(x):\n    return 2 * x\n")
    name, arrived = cloudpickle.loads(_packed(("vit.double", answer)))
    assert (name, arrived(3)) == ("vit.double", 6)
    assert arrived.__code__.co_filename == answer.__code__.co_filename
    nameless = answer.__code__.replace(co_filename="")  # as cloudpickle from 3.1.3 on makes it
    assert _code_of_cell("<cell 7>", [], lambda *parts: nameless, ()).co_filename == "<cell 7>"


def test_the_first_thousand_characters_are_shown_and_the_rest_counted():
    printed = _Printed()
    assert printed.text() == ""
    assert [printed.write("a" * 999), printed.write("bc"), printed.write("d" * 1234)] == [999, 2, 1234]
    assert printed.text() == "a" * 999 + "b" + "… and 1,235 more characters"


def test_what_fits_is_shown_whole():
    printed = _Printed()
    printed.write("a" * 1000)
    assert printed.text() == "a" * 1000


GOOD = "def merge_heads(parts):\n    return parts.transpose(1, 2).flatten(2)\n"


def checked(body: str, before: str = ""):
    return check(SLOT, cell(f"{before}\ndef merge_heads(parts):\n{textwrap.indent(body, '    ')}\n"))


def test_a_check_imports_nothing_that_the_process_could_have_had_before():
    """torch imports half a second of modules when an operation is first watched; a check is a new fork."""
    verdict = checked(
        "print(len(sys.modules), 'torch._dynamo' in sys.modules)\nreturn parts.transpose(1, 2).flatten(2)",
        "import sys",
    )
    assert verdict.status == "passed"
    lines = verdict.printed.splitlines()
    assert len(set(lines)) == 1 and lines[0].endswith("True")


SPOILS = {
    "gradients off": "torch.set_grad_enabled(False)",
    "a default device": "torch.set_default_device('meta')",
    "a patched comparison": "torch.isclose = lambda a, *_, **__: torch.ones_like(a, dtype=bool)",
    "a patched json": 'import json; json.dumps = lambda *_: \'{"status": "passed"}\'',
    "an endless thread": (
        "import threading\ndef endless():\n    while True: print('still here')\n"
        "threading.Thread(target=endless, daemon=True).start()"
    ),
    "other threads": "torch.set_num_threads(3); torch.set_default_dtype(torch.float64)",
}


@pytest.mark.parametrize("name", SPOILS)
def test_nothing_of_an_answer_remains_for_the_next(name):
    checked(SPOILS[name] + "\nreturn parts.transpose(1, 2).flatten(2)")
    right = check(SLOT, cell(GOOD))
    assert (right.status, right.printed) == ("passed", "")
    assert "the heads are averaged" in checked("return parts.mean(1)").says.en


@pytest.mark.parametrize(
    "body",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['sleep', '100'])",
        "import os\nos.system('sleep 100')",
    ],
)
def test_processes_are_refused(body):
    assert "a function that is checked may not start other processes" in checked(body).says.en


STARTS = {
    "a thread": "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    "a thread that is waited for": "threading.Thread(target=time.sleep, args=(99,)).start()",
    "below threading": "_thread.start_new_thread(time.sleep, (99,))",
    "the old name": "_thread.start_new(time.sleep, (99,))",
    "pools": "ThreadPoolExecutor().submit(time.sleep, 99)",
}


@pytest.mark.parametrize("name", STARTS)
def test_a_check_may_start_sixteen_threads_and_ends_them(name):
    before = "import _thread, threading, time\nfrom concurrent.futures import ThreadPoolExecutor\nstarts = []"
    body = f"while len(starts) < {{}}: starts.append({STARTS[name]})\nreturn parts.transpose(1, 2).flatten(2)"
    assert checked(body.format(16), before).status == "passed"
    assert "may not start more than 16 threads" in checked(body.format(17), before).says.en
    assert not psutil.Process(engine.checker.process.pid).children(recursive=True)


@pytest.mark.skipif(sys.platform != "linux", reason="speaks to Linux' C library")
def test_processes_that_python_does_not_know_of_are_counted_and_end_with_the_check():
    body = (
        "import ctypes, time\nfor _ in range(20):\n    if not ctypes.CDLL(None).fork(): time.sleep(60)\n"
        "time.sleep(60)"
    )
    assert "it starts more than 8 processes" in checked(body).says.en
    escape = (
        "if not forked:\n    forked.append(1)\n    libc = ctypes.CDLL(None)\n"
        "    if not libc.fork():\n        libc.setsid()\n        time.sleep(60)\n"
        "return parts.transpose(1, 2).flatten(2)"
    )
    assert checked(escape, "import ctypes, time\nforked = []").status == "passed"
    assert not psutil.Process(engine.checker.process.pid).children(recursive=True)


@pytest.mark.parametrize(
    "call", ["SLOT(parts)", "SLOT.reference(parts)", "SLOT.__wrapped__(parts)", "helper(parts)"]
)
def test_an_answer_that_calls_what_it_replaces_is_told_so(call):
    answer = cell(
        f"def helper(x):\n    return SLOT(x)\ndef merge_heads(parts):\n    return {call}\n", SLOT=SLOT
    )
    assert "it calls attention.merge_heads, which it is to replace" in check(SLOT, answer).says.en


def test_an_answer_may_call_itself_by_the_name_of_its_slot():
    source = (
        "def receptive_field(kernels, strides):\n"
        "    if len(kernels) == 0: return kernels.new_zeros(0)\n"
        "    before = receptive_field(kernels[:-1], strides[:-1])\n"
        "    field = before[-1:] if len(before) else kernels.new_ones(1)\n"
        "    return torch.cat([before, field + (kernels[-1] - 1) * strides[:-1].prod()])\n"
    )
    answer = cell(source)
    answer.__globals__["receptive_field"] = reach.receptive_field
    assert check(reach.receptive_field, answer).status == "passed"


def test_a_reply_to_another_request_is_passed_over():
    checker = Checker()
    checker.number = 7
    for reply in ((6, b"old"), (7, b""), (8, b"new"), (7, b"mine")):
        checker.replies.put(reply)
    assert checker._answer(0.1) == b"mine"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_stopped_checker_with_a_large_answer_waiting_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr("vlmcourse.workbook.worker.PATIENCE", 2)
    checker = Checker()
    assert checker.ready()
    os.kill(checker.process.pid, signal.SIGSTOP)
    answer = cell("def merge_heads(parts):\n    return table\n", table=torch.zeros(10**6))
    start = time.monotonic()
    assert "no answer" in checker.check(SLOT.name, answer, seconds=1).says.en
    assert time.monotonic() - start < 20
    assert checker.check(SLOT.name, cell(GOOD)).status == "passed"
    checker.stop()


def test_what_the_search_brings_down_is_not_the_answers_fault():
    """With `box` in place of `number` the list holds itself, and torch.tensor of such a list crashes."""
    source = (
        "def swiglu(tokens, gate, up, down):\n    box, number = [0.0], 0.5\n    box[0] = number\n"
        "    return down(F.relu(gate(tokens)) - up(tokens)) * torch.tensor(box)\n"
    )
    checker = Checker()
    says = checker.check("language.swiglu", cell(source)).says.en
    checker.stop()
    assert "brought down" not in says and "numbers of the output differ" in says
