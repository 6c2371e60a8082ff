"""Copies of this process, in which what nobody trusts runs under limits (used by worker.py and grading.py).

Copy     a fork that does one piece of work; whatever it changes, starts or breaks is gone with it
limit    bounds memory, CPU time, processes and threads of this process
confine  besides: no file, no network, no other process
"""

import _thread
import contextlib
import ctypes
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from vlmcourse.exercises.base import Text
from vlmcourse.workbook.landlock import give_up_files
from vlmcourse.workbook.say import phrase
from vlmcourse.workbook.seccomp import give_up_calls

MEMORY_LIMIT = 2 * 2**30  # bytes a check may take beside what torch itself maps
PROCESSES = 8  # that a check may consist of, should it find a way to start any
THREADS = 16  # that a check may start
MOST_THREADS = 256  # that it may have, with those that a library starts by machine code, one for each core
STARTS_PROCESS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec",
                  "pty.spawn", "subprocess.Popen"}  # fmt: skip
UNSEEN = ((_thread, "start_new_thread"), (_thread, "start_new"), (threading, "_start_new_thread"))
"""Ways to start a thread of which Python before 3.12 tells no hook."""
DIE_WITH_PARENT, ADOPT_ORPHANS = 1, 36  # options of Linux' prctl
FORKS = hasattr(os, "fork")
MOST_FILES = 4096  # that a process has open
MOST_OPEN = 256  # that a confined one has; each pipe keeps 64 KB in the kernel, which no other limit counts
MOST_BYTES = 2**27  # of a message


def limit(seconds: float) -> None:
    """Bound memory and CPU time of this process, and what it may start: no process, THREADS threads."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        most = psutil.Process().memory_info().vms + MEMORY_LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (most, most))  # a huge allocation fails with an exception
        resource.setrlimit(resource.RLIMIT_CPU, (round(seconds) + 5,) * 2)  # should nobody be left to watch
    threads = 0

    def watch(event: str, _: tuple) -> None:
        nonlocal threads
        if event in STARTS_PROCESS:
            raise PermissionError("a function that is checked may not start other processes")
        if event.startswith("_thread.start"):
            threads += 1
            if threads > THREADS:
                raise PermissionError(f"a function that is checked may not start more than {THREADS} threads")

    sys.addaudithook(watch)  # limits of the system do not hold for root, which many notebooks run as
    if sys.version_info < (3, 12):
        for module, name in UNSEEN:
            setattr(module, name, _seen(getattr(module, name)))


def _seen(start: Callable) -> Callable:
    """Starts a thread, and raises the event that hooks see from Python 3.12 on."""

    def start_new_thread(*arguments: Any) -> int:
        sys.audit("_thread.start_new_thread", *arguments)
        return start(*arguments)

    return start_new_thread


def ask_linux(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):  # macOS and Windows have no prctl
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def confine(readable: Iterable[str | Path], hidden: tuple[str, ...] = ()) -> None:
    """Let this process read files only below `readable`, write none, reach no network and no other process.

    Args:
        hidden: beginnings of paths below `readable` that it may not open either.

    The kernel refuses it where it can (landlock.py, seccomp.py); and Python's audit events are refused, which
    stops who writes Python on other machines, too.
    """
    roots = tuple(f"{Path(root).resolve()}{os.sep}" for root in readable)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_OPEN, MOST_OPEN))
    give_up_files(readable, hidden)
    give_up_calls()  # which gives up to change limits, too
    os.environ.clear()

    def watch(event: str, given: tuple) -> None:
        if event == "open" or event in LISTS:
            path, flags = given[0], given[2] if event == "open" else 0
            place = os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes) else ""
            inside = f"{place}{os.sep}".startswith(roots)  # a root itself may be listed, as an import does
            if not inside or place.startswith(hidden) or (flags or 0) & WRITES:
                raise PermissionError(f"an answer may not open {path!r:.200}")
        elif event.startswith(FORBIDDEN) and event not in ALLOWED_EVENTS:
            raise PermissionError(f"an answer may not do this: {event}")

    sys.addaudithook(watch)


WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LISTS = ("os.listdir", "os.scandir")  # which an import does, too
ALLOWED_EVENTS = ("os.putenv", "os.unsetenv")
FORBIDDEN = ("os.", "shutil.", "socket.", "ctypes.", "signal.", "fcntl.", "resource.", "subprocess.", "mmap.",
             "sqlite3.", "pty.", "syslog.", "sys._current", "gc.")  # fmt: skip
"""Beginnings of the audit events that an answer has no need of."""


class Copy:
    """A fork of this process that does one piece of work, in a group of its own, so that all of it can end.

    It holds no file, pipe or connection of this process but the one on which its message comes back.

    Args:
        work: what it does; gives its message.
    """

    def __init__(self, work: Callable[[], bytes]):
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.setpgid(0, 0)
                ask_linux(DIE_WITH_PARENT, signal.SIGKILL)
                _let_go(writing)
                message = work()
                rest = memoryview(struct.pack(">Q", len(message)) + message)
                while rest:  # not as a file, which a confined process may not open
                    rest = rest[os.write(writing, rest) :]
            finally:
                os._exit(0)
        os.close(writing)

    def message(
        self, seconds: float, patience: float, beat: Callable[[], None], most: int = MOST_BYTES
    ) -> tuple[bytes | Text, bool]:
        """What its work gave, or a sentence on how it behaves; ends it, and calls `beat` now and then.

        Args:
            seconds: of CPU time that it may use.
            patience: seconds that it may sleep.
            most: bytes that its message may have.

        Returns:
            (message, whether it ended by itself without one)
        """
        says = self._watched(seconds, patience, beat, most)
        code = self._end()
        return (phrase("crashed", code=code), True) if says is None else (says, False)

    def _watched(
        self, seconds: float, patience: float, beat: Callable[[], None], most: int
    ) -> bytes | Text | None:
        got, slept, used, last = bytearray(), 0.0, 0.0, time.monotonic()
        while True:
            if select.select([self.reading], [], [], 0.2)[0]:
                more = os.read(self.reading, 2**20)
                got += more
                length = struct.unpack(">Q", got[:8])[0] if len(got) >= 8 else 0
                if not more or length > most:
                    return None
                if len(got) >= 8 + length:
                    return bytes(got[8:])
            passed = time.monotonic() - last
            if passed < 0.2:
                continue
            beat()
            last += passed
            tree, before = tree_of(self.pid), used
            used, waits = use_of(tree)
            slept += max(0.0, passed - (used - before)) * waits  # though it stirs now and then
            if used > seconds or slept > patience:
                return phrase("too_slow", seconds=seconds)
            if len(tree) > PROCESSES or threads_of(tree) > MOST_THREADS:
                return phrase("too_many", most=PROCESSES)

    def _end(self) -> int:
        """End the copy and what it left; its exit code, or minus the signal that ended it."""
        os.close(self.reading)
        for _ in range(20):  # what closed its end of the pipe may still be about to exit
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                break
            time.sleep(0.01)
        with contextlib.suppress(OSError):  # nothing is left of the group
            os.killpg(self.pid, signal.SIGKILL)
        if not ended:
            _, status = os.waitpid(self.pid, 0)
        while rest := psutil.Process().children(recursive=True):
            kill_all(rest)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)
        return os.waitstatus_to_exitcode(status)


def _let_go(kept: int) -> None:
    """Close what this process inherited; what it prints goes nowhere."""
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    os.closerange(3, kept)
    os.closerange(kept + 1, MOST_FILES)


def tree_of(pid: int) -> list[psutil.Process]:
    """The process and all below it; none if it is gone."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def use_of(processes: list[psutil.Process]) -> tuple[float, bool]:
    """CPU seconds that the processes used; and whether all wait, but neither for a CPU nor for a disk."""
    used, waits = 0.0, True
    for process in processes:
        with contextlib.suppress(psutil.Error):
            used += sum(process.cpu_times()[:2])  # for the program, for the system
            waits &= process.status() not in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
    return used, waits


def threads_of(processes: list[psutil.Process]) -> int:
    """How many threads the processes have."""
    threads = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            threads += process.num_threads()
    return threads


def kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
