"""What a copy of the process does is watched: its time, its sleep, its processes, threads and message."""

import ctypes
import itertools
import json
import os
import struct
import sys
import time
from unittest import mock

import pytest

from vlmcourse.workbook import copies
from vlmcourse.workbook.copies import FORKS, Copy, confine, limit, threads_of, tree_of, use_of

pytestmark = pytest.mark.skipif(not FORKS, reason="needs os.fork")


class Silent(Copy):
    """A copy that never says a word; what it uses is told by the test, once in each second."""

    def __init__(self, uses, monkeypatch, processes=1, threads=1):
        self.pid, self.reading, self.beats = 1, 0, 0
        clock, uses = itertools.count(), iter(uses)
        monkeypatch.setattr(copies.select, "select", lambda *_: ([], [], []))
        monkeypatch.setattr(copies.time, "monotonic", lambda: next(clock))
        monkeypatch.setattr(copies, "tree_of", lambda pid: [pid] * processes)
        monkeypatch.setattr(copies, "use_of", lambda _: next(uses))
        monkeypatch.setattr(copies, "threads_of", lambda tree: threads)

    def ends_after(self, seconds=10, patience=5):
        """How many seconds it was watched, and what was said."""

        def beat():
            self.beats += 1

        says = self._watched(seconds, patience, beat, 100)
        return self.beats, says.en.partition(" so ")[0]


USES = {  # CPU seconds used so far, whether all of it waits: in second 1, 2, ...
    "computes": (((k, False) for k in itertools.count(1)), 11),
    "computes in a thread": (((k, True) for k in itertools.count(1)), 11),
    "computes in four": (((4 * k, True) for k in itertools.count(1)), 3),
    "sleeps": (itertools.repeat((0, True)), 6),
    "sleeps after a second": (itertools.chain([(1, False)], itertools.repeat((1, True))), 7),
    "stirs in its sleep": (((k / 8, True) for k in itertools.count(1)), 6),
    "sleeps half of the time": (((k / 2, True) for k in itertools.count(1)), 11),
}


@pytest.mark.parametrize("how", USES)
def test_time_is_up_after_so_many_seconds_of_work_or_of_sleep(monkeypatch, how):
    uses, seconds = USES[how]
    assert Silent(uses, monkeypatch).ends_after() == (seconds, "no answer after 10 s,")


def test_waiting_for_a_processor_is_no_sleep(monkeypatch):
    uses = itertools.chain(itertools.repeat((0, False), 500), [(99, False)])
    assert Silent(uses, monkeypatch).ends_after()[0] == 501


def test_processes_and_threads_are_counted(monkeypatch):
    uses = [(1, False), (99, False)]
    slow = (2, "no answer after 10 s,")
    many = (1, "it starts more than 8 processes, or hundreds of threads,")
    assert Silent(uses, monkeypatch, 8, 256).ends_after() == slow
    assert Silent(uses, monkeypatch, 9, 1).ends_after() == many
    assert Silent(uses, monkeypatch, 1, 257).ends_after() == many


@pytest.mark.skipif(sys.platform != "linux", reason="speaks to Linux' C library")
def test_threads_of_machine_code_are_seen():
    def work():
        libc, name = ctypes.CDLL(None), ctypes.c_ulong()
        for _ in range(300):
            libc.pthread_create(ctypes.byref(name), None, libc.sleep, ctypes.c_void_p(60))
        time.sleep(3)
        return b"done"

    message, _ = Copy(work).message(10, 10, lambda: None)
    assert message.en.startswith("it starts more than 8 processes, or hundreds of threads")


def test_what_this_process_uses_is_measured():
    mine = tree_of(os.getpid())
    began, (used, waits) = time.process_time(), use_of(mine)
    while time.process_time() < began + 0.1:
        pass
    assert use_of(mine)[0] - used > 0.05 and not waits
    assert threads_of(mine) >= 1 and threads_of(mine * 2) == 2 * threads_of(mine)
    assert tree_of(2**22 + 1) == []


def sent(*pieces, most=100):
    """What a copy is taken to have said that writes these pieces, and ends."""

    def work():
        for piece in pieces:
            os.write(made[-1][1], piece)
        os._exit(3)

    made, pipe = [], os.pipe
    with mock.patch("os.pipe", lambda: made.append(pipe()) or made[-1]):
        copy = Copy(work)
    return copy.message(5, 5, lambda: None, most)


def test_a_message_may_come_in_pieces_and_no_longer_than_it_may_be():
    length = struct.pack(">Q", 100)
    assert sent(length[:3], length[3:] + b"a" * 60, b"a" * 40) == (b"a" * 100, False)
    assert sent(length + b"a" * 100, most=99)[1]
    assert sent(length + b"a" * 99) == (sent()[0], True)
    assert "exit code 3" in sent()[0].en
    assert sent(length[:7])[1] and sent(struct.pack(">Q", 0)) == (b"", False)


def in_a_copy(work, readable=(sys.prefix,)):
    """What some work gives in a confined copy."""

    def confined():
        limit(5)
        confine(readable)
        return json.dumps(work()).encode()

    message, _ = Copy(confined).message(10, 10, lambda: None)
    return json.loads(message)


def test_what_no_other_limit_counts_is_bounded():
    """Pipes keep what is written to them in the kernel, beside the memory of the process."""

    def work():
        kept = 0
        try:
            while kept < 2**26:
                _, writing = os.pipe()
                os.set_blocking(writing, False)
                kept += os.write(writing, bytes(2**16))
        except OSError as error:
            return [kept, error.errno]

    kept, error = in_a_copy(work)
    assert kept < 2**24 and error == 24  # too many open files


def test_the_limits_are_what_they_are_for_good():
    resource = pytest.importorskip("resource")
    limits = in_a_copy(lambda: [resource.getrlimit(getattr(resource, name)) for name in LIMITS])
    for name, (now, most) in zip(LIMITS, limits, strict=True):
        assert now == most and (LIMITS[name] is None or now == LIMITS[name]), name
    assert 0 < limits[0][0] < 2**46


LIMITS = {"RLIMIT_AS": None, "RLIMIT_CPU": 10, "RLIMIT_FSIZE": 0, "RLIMIT_NOFILE": 256}


def test_nothing_of_the_environment_is_left():
    os.environ["VLMCOURSE_SECRET"] = "key"
    try:
        assert in_a_copy(lambda: dict(os.environ)) == {}
    finally:
        del os.environ["VLMCOURSE_SECRET"]


def test_a_copy_holds_no_file_of_this_process_and_prints_nowhere(capfd, tmp_path):
    with open(tmp_path / "kept", "w") as kept:

        def work():
            os.write(1, b"heard")
            os.write(2, b"heard")
            held = []
            for number in range(3, 100):
                try:
                    os.fstat(number)
                    held.append(number)
                except OSError:
                    pass
            return json.dumps([len(held), kept.fileno() in held, os.getpgid(0) == os.getpid()]).encode()

        message, ended = Copy(work).message(5, 5, lambda: None)
    assert json.loads(message) == [1, False, True] and not ended
    assert capfd.readouterr() == ("", "")
