"""Answers that seek what is kept from them, pretend to be right, or reach for the grader, gain nothing."""

import os
import textwrap

import pytest

from vlmcourse.exercises import base
from vlmcourse.workbook import grading
from vlmcourse.workbook.copies import FORKS
from vlmcourse.workbook.grading import Grader
from vlmcourse.workbook.landlock import landlock_version

pytestmark = pytest.mark.skipif(not FORKS, reason="needs os.fork")
SLOT = "attention.merge_heads"
GOOD = "return given[0].transpose(1, 2).flatten(2)"


@pytest.fixture(scope="module")
def grader():
    few = {name: base.all_exercises()[name] for name in (SLOT, "attention.scaled_dot_product")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "all_exercises", lambda: few)
        yield Grader(seed=77, seconds=3)


def graded(grader, body, before=""):
    text = f"import torch\n{before}\ndef merge_heads(*given):\n" + textwrap.indent(body, "    ") + "\n"
    return grader.grade({SLOT: text}, [SLOT])[0]


READS = {
    "torch": "text = bytes(torch.from_file(place, size=size, dtype=torch.uint8).tolist())",
    "torchvision": "import torchvision\ntext = torchvision.io.read_file(place)",
    "machine code": "import cffi\nc = cffi.FFI()\nc.cdef('int open(const char *, int);')\n"
    "assert c.dlopen(None).open(place.encode(), 0) >= 0",
}
"""Ways to read a file that Python does not know of."""


@pytest.mark.skipif(not landlock_version(), reason="only the kernel can refuse it, by Landlock")
@pytest.mark.parametrize("way", READS)
def test_the_source_of_the_courses_own_function_is_out_of_reach(grader, way):
    if way == "machine code":
        pytest.importorskip("cffi")
    before = (
        "import os\nimport vlmcourse.models.{} as a\nplace, size = a.__file__, os.stat(a.__file__).st_size\n"
    )
    assert graded(grader, GOOD, before.format("attention") + READS[way]).right == 0
    assert graded(grader, GOOD, before.format("vit") + READS[way]).status == "passed"


FRAMES = """
import sys
from vlmcourse.workbook import outcomes
def found():
    frame, kept = sys._getframe(), []
    while frame:
        for value in list(frame.f_locals.values()):
            if type(value).__name__ == 'Grader':
                kept += [*value.expected, *value.known]
        if frame.f_code.co_name == '_values':
            kept += [*frame.f_locals['trial'].expected, *frame.f_locals['task'].slips]
            kept += ['a trial'] * outcomes.trial_of.cache_info().currsize
        frame = frame.f_back
    return kept
"""


def test_no_right_output_and_no_other_answer_is_found_by_going_up_the_frames(grader):
    assert graded(grader, GOOD, "# an answer that is kept").status == "passed"
    assert grader.known and grader.expected
    one = graded(grader, f"assert not found()\n{GOOD}", FRAMES)
    assert (one.status, one.says) == ("passed", "")


def test_an_answer_leaves_nothing_for_the_next_one(grader):
    """Were there a way, one answer could tell the next what the checker's own process knows."""
    graded(grader, GOOD, "import torch, sys\ntorch.left = sys.left = 1\nimport vlmcourse\nvlmcourse.left = 1")
    before = "import sys, vlmcourse\nassert not any(hasattr(m, 'left') for m in (torch, sys, vlmcourse))"
    assert graded(grader, GOOD, before).status == "passed"


PRETENDS = {
    "equal to everything": "class E(torch.Tensor):\n    def __eq__(self, other): return True\n"
    "    @classmethod\n    def __torch_function__(cls, *_, **__): return torch.ones(1, dtype=torch.bool)\n"
    "return torch.zeros(2, 5, 12).as_subclass(E)",
    "of the right shape": "class E(torch.Tensor):\n    shape = torch.Size([2, 5, 12])\n"
    "return torch.zeros(2).as_subclass(E)",
    "an array": "class E:\n    dtype, shape = 'float32', (2, 5, 12)\n    def tobytes(self): return b''\n"
    "return E()",
    "a dictionary of everything": "class D(dict):\n    def __eq__(self, other): return True\n"
    "    def keys(self): return {0: 0}.keys()\nreturn D()",
    "not a number": "return torch.full((2, 5, 12), torch.nan)",
    "without numbers": "return torch.zeros(2, 5, 12, device='meta')",
    "a value that unpickles": "class P:\n    def __reduce__(self): return (torch.zeros, (2,))\nreturn P()",
}


@pytest.mark.parametrize("how", PRETENDS)
def test_who_pretends_to_be_right_is_wrong(grader, how):
    one = graded(grader, PRETENDS[how])
    assert (one.status, one.right, one.credit) == ("wrong", 0, 0.0) and one.says


CHANGES = {
    "torch's comparisons": "yes = lambda *a, **k: torch.ones(1, dtype=torch.bool)\n"
    "torch.equal = torch.allclose = torch.isclose = torch.eq = yes\ntorch.Tensor.__eq__ = yes\n"
    "torch.testing.assert_close = lambda *a, **k: None",
    "what is traced": "import sys\ndef trace(frame, *_):\n    frame.f_locals['done'] = frame.f_trace = None\n"
    "sys.settrace(trace)\nsys.setprofile(trace)",
    "its signals": "import signal\nfor number in range(1, 65):\n"
    "    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass",
    "how it is written down": "import json\njson.dumps = lambda *a, **k: '[{\"error\": null}, 1e999]'",
    "what the system does": "import os, sys\nos._exit = sys.exit = lambda *_: None\nos.write = lambda *_: 1",
    "what is built in": "import builtins\nbuiltins.isinstance = lambda *_: True\nbuiltins.len = lambda _: 2",
}


@pytest.mark.parametrize("what", CHANGES)
def test_who_changes_its_process_changes_no_grade(grader, what):
    one = graded(grader, "return torch.zeros(2, 5, 12)", CHANGES[what])
    assert (one.status, one.right, one.credit) == ("wrong", 0, 0.0) and one.says
    assert graded(grader, GOOD, f"# after {what}").status == "passed"


MESSAGES = {
    "deep": "b'[' * 10**6",
    "wide": "b'[' + b'{},' * 10**6 + b'0]'",
    "no JSON": "bytes(100)",
    "numbers": "b'[' + b'9' * 10**5 + b']'",
    "no outcomes": "b'[0, null]'",
    "half of an outcome": 'b\'[{"error": null, "changed": null}, {"value": ["tensor"]}]\'',
    "passed": 'b\'{"status": "passed", "says": "", "problem": ""}\'',
    "steers a terminal": 'b\'{"says": "\\\\u001b[2J\\\\u202e"}\'',
}


@pytest.mark.parametrize("what", MESSAGES)
def test_whatever_is_sent_is_read(grader, what):
    before = (
        f"import posix, struct\ntext = {MESSAGES[what]}\nrest = struct.pack('>Q', len(text)) + text\n"
        "for number in range(3, 64):\n    try:\n        while rest: rest = rest[posix.write(number, rest):]\n"
        "    except OSError: pass\nposix._exit(0)"
    )
    one = graded(grader, GOOD, before)
    assert (one.status, one.credit) == ("wrong", 0.0) and one.says.isprintable()


def test_the_grader_keeps_its_turn(grader):
    """Who runs as root could slow down, move or stop any process, by calls that Python tells no hook."""
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("speaks to Linux")
    calls = {
        "priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), os.getpriority(os.PRIO_PROCESS, 0) + 1)",
        "class": "os.sched_setscheduler(os.getppid(), os.SCHED_BATCH, os.sched_param(0))",
        "processors": "os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))",
    }

    def turn():
        return os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), os.sched_getaffinity(0)

    before = turn()
    for call in calls.values():
        assert "PermissionError" in graded(grader, GOOD, f"import os\n{call}").says
    assert turn() == before
