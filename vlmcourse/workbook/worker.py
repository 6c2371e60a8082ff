"""The checker process: learners' functions run there, never in the notebook's kernel.

An endless loop, 100 GB of memory, sys.exit() or a crash in C therefore ends a check, not the notebook. The
process is started once, in the background, by ``begin()``; it imports torch and the exercises, and then only
waits: each answer is judged in a copy of it (a fork), which ends with the check. Whatever an answer changes,
starts or breaks is gone with the copy, and so is all that it started.

Functions travel by cloudpickle with the globals they use, saved ones as their text; verdicts come back as
JSON. A check that uses more CPU time than it may, or sleeps for far longer, is stopped.
"""

import _thread
import atexit
import contextlib
import ctypes
import dataclasses
import functools
import io
import json
import linecache
import os
import pickle
import queue
import select
import signal
import struct
import sys
import threading
import time
import types
from collections.abc import Callable
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import cloudpickle
import psutil
import torch

from vlmcourse.exercises.base import Exercise, Text, all_exercises
from vlmcourse.slots import Slot
from vlmcourse.workbook import outcomes, search
from vlmcourse.workbook.check import Verdict, error_sentence, judge
from vlmcourse.workbook.portfolio import Saved
from vlmcourse.workbook.say import phrase

TIME_LIMIT = 10.0  # seconds of CPU time a check may use
PATIENCE = 6  # times as many seconds may it sleep, or the checker be silent; waiting for a CPU does not count
START_LIMIT = 120.0  # seconds the process may need to import torch on a slow machine
MEMORY_LIMIT = 2 * 2**30  # bytes a check may take beside what torch itself maps
PRINT_LIMIT = 1000  # characters of the learner's prints that are shown
PROCESSES = 8  # that a check may consist of, should it find a way to start any
THREADS = 16  # that a check may start
STARTS_PROCESS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec",
                  "pty.spawn", "subprocess.Popen"}  # fmt: skip
UNSEEN = ((_thread, "start_new_thread"), (_thread, "start_new"), (threading, "_start_new_thread"))
"""Ways to start a thread of which Python before 3.12 tells no hook."""
DIE_WITH_PARENT, ADOPT_ORPHANS = 1, 36  # options of Linux' prctl
FORKS = hasattr(os, "fork")  # else the process judges by itself, ends with the check and is started again


class Checker:
    """The notebook's side: owns the process and talks to it. One check at a time, from any thread."""

    def __init__(self):
        self.process: Popen | None = None
        self.replies: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
        self.greeted = False  # whether the process has said that torch is imported
        self.number = 0  # of the latest request; its replies carry it
        self.lock = threading.Lock()
        atexit.register(self.stop)

    def start(self) -> None:
        """Start the process without waiting for it; does nothing if it is alive."""
        if self.process is not None and self.process.poll() is None:
            return
        command = [sys.executable, "-m", "vlmcourse.workbook.worker"]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, bufsize=0)
        self.replies, self.greeted = queue.Queue(), False
        threading.Thread(target=_pump, args=(self.process.stdout, self.replies), daemon=True).start()

    def stop(self) -> None:
        """End the process and all below it. The next check starts another."""
        if self.process is not None:
            with contextlib.suppress(psutil.Error):
                _kill(psutil.Process(self.process.pid).children(recursive=True))
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process = None

    def check(self, name: str, answer: Callable | Saved, seconds: float = TIME_LIMIT) -> Verdict:
        """Judge ``answer``, a function or a saved file, as an answer to the exercise ``name``.

        Returns:
            a Verdict, whatever the answer does; "unloadable" for a file that gives no function, "unchecked"
            if the process does not start.
        """
        try:
            request = pickle.dumps((name, seconds, PATIENCE * seconds, _packed(answer)))
        except Exception as error:
            return Verdict("wrong", phrase("cannot_travel", reason=str(error).splitlines()[0]))
        with self.lock:
            if not self.ready():
                return Verdict("unchecked", phrase("no_checker"))
            try:
                self.number += 1
                threading.Thread(target=_send, args=(self.process.stdin, self.number, request)).start()
                verdict = Verdict(**json.loads(self._answer(PATIENCE * seconds)))
                if FORKS:
                    return verdict
            except queue.Empty:
                verdict = Verdict("wrong", phrase("too_slow", seconds=seconds))
            except (EOFError, ValueError, TypeError):
                verdict = Verdict("wrong", phrase("crashed", code=self.process.poll()))
            except KeyboardInterrupt:
                self.stop()
                raise
            self.stop()
            self.start()
            return verdict

    def ready(self) -> bool:
        """Start the process if need be and wait until it is ready; False if it cannot start."""
        self.start()
        if not self.greeted:
            try:
                self._reply(START_LIMIT)
            except (queue.Empty, EOFError):
                self.stop()
                return False
            self.greeted = True
        return True

    def _answer(self, patience: float) -> bytes:
        """The reply to the latest request; queue.Empty if the process gives no sign of life for so long."""
        while True:
            number, reply = self._reply(patience)
            if number == self.number and reply:
                return reply

    def _reply(self, seconds: float) -> tuple[int, bytes]:
        reply = self.replies.get(timeout=seconds)
        if reply is None:
            raise EOFError("the checker process ended")
        return reply


def _pump(stream: io.BufferedReader, replies: queue.Queue) -> None:
    """Read replies in a thread, because pipes have no time-out on every system. None marks the end."""
    with contextlib.suppress(EOFError, OSError, ValueError):
        while True:
            replies.put(_receive(stream))
    replies.put(None)


def _packed(answer: Callable | Saved) -> bytes:
    """The answer. Code keeps its cell, whose name cloudpickle from 3.1.3 on leaves out, and its lines."""

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, thing):
            if isinstance(thing, types.CodeType):
                cell = thing.co_filename, linecache.getlines(thing.co_filename)
                return _code_of_cell, (*cell, *self.dispatch_table[types.CodeType](thing))
            return super().reducer_override(thing)

    packed = io.BytesIO()
    Pickler(packed).dump(answer)
    return packed.getvalue()


def _code_of_cell(cell: str, lines: list[str], make: Callable, parts: tuple) -> types.CodeType:
    linecache.cache.setdefault(cell, (sum(map(len, lines)), None, lines, cell))
    return make(*parts).replace(co_filename=cell)


def _send(stream: io.RawIOBase, number: int, message: bytes) -> None:
    """Write a message; what nobody reads any more is dropped: the reader's end is noticed elsewhere."""
    rest = memoryview(struct.pack(">QQ", number, len(message)) + message)
    with contextlib.suppress(OSError, ValueError):
        while rest:
            rest = rest[stream.write(rest) :]


def _receive(stream: io.BufferedReader) -> tuple[int, bytes]:
    header = stream.read(16)
    if len(header) < 16:
        raise EOFError
    number, length = struct.unpack(">QQ", header)
    return number, stream.read(length)


class _Printed(io.StringIO):
    """Keeps the first PRINT_LIMIT characters and counts the rest."""

    more = 0

    def write(self, text: str) -> int:
        kept = super().write(text[: PRINT_LIMIT - self.tell()])
        self.more += len(text) - kept
        return len(text)

    def text(self) -> str:
        return self.getvalue() + (f"… and {self.more:,} more characters" if self.more else "")


def _limit(seconds: float) -> None:
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


def _ask_linux(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):  # macOS and Windows have no prctl
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def serve() -> None:
    """The process's side: greet when ready, then answer requests until the notebook goes away."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    torch.set_num_threads(1)
    exercises = all_exercises()
    torch.randn(8, 8).softmax(-1)  # load the libraries of the first operations
    _ask_linux(ADOPT_ORPHANS, 1)
    _send(replies, 0, b"ready")
    with contextlib.suppress(EOFError):
        while True:
            number, request = _receive(requests)
            name, seconds, patience, packed = pickle.loads(request)
            outcomes.trial_of(exercises[name], Slot.changes)  # kept here, so that every copy has it
            if not FORKS:
                _send(replies, number, _judged(exercises[name], packed, seconds))
                return
            private = requests.fileno(), replies.fileno()
            for seeks in (True, False):  # what the search tries may bring down more than the answer does
                copy = _Copy(private, exercises[name], packed, seconds, seeks)
                verdict = copy.verdict(seconds, patience, lambda n=number: _send(replies, n, b""))
                if not copy.crashed:
                    break
            _send(replies, number, verdict)


class _Copy:
    """A fork of this process that judges one answer, in a group of its own so that all of it can be ended."""

    def __init__(
        self, private: tuple[int, ...], exercise: Exercise, packed: bytes, seconds: float, seeks: bool
    ):
        self.crashed = False
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.setpgid(0, 0)
                _ask_linux(DIE_WITH_PARENT, signal.SIGKILL)
                for descriptor in (*private, self.reading):
                    os.close(descriptor)
                search.SEARCH *= seeks
                message = _judged(exercise, packed, seconds)
                with os.fdopen(writing, "wb") as stream:
                    stream.write(struct.pack(">Q", len(message)) + message)
            finally:
                os._exit(0)
        os.close(writing)

    def verdict(self, seconds: float, patience: float, beat: Callable[[], None]) -> bytes:
        """The copy's verdict, or the one on how it behaves; ends it, and calls `beat` now and then."""
        says = self._watched(seconds, patience, beat)
        code = self._end()
        if isinstance(says, bytes):
            return says
        self.crashed = says is None
        return _as_json(Verdict("wrong", says or phrase("crashed", code=code)))

    def _watched(self, seconds: float, patience: float, beat: Callable[[], None]) -> bytes | Text | None:
        got, slept, used, last = b"", 0.0, 0.0, time.monotonic()
        while True:
            if select.select([self.reading], [], [], 0.2)[0]:
                more = os.read(self.reading, 2**20)
                got += more
                if len(got) >= 8 and len(got) >= 8 + struct.unpack(">Q", got[:8])[0]:
                    return got[8:]
                if not more:
                    return None
            passed = time.monotonic() - last
            if passed < 0.2:
                continue
            beat()
            last += passed
            tree, before = _tree(self.pid), used
            used, waits = _use_of(tree)
            slept += passed * (waits and used == before)
            if used > seconds or slept > patience:
                return phrase("too_slow", seconds=seconds)
            if len(tree) > PROCESSES:
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
            _kill(rest)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)
        return os.waitstatus_to_exitcode(status)


def _tree(pid: int) -> list[psutil.Process]:
    """The process and all below it; none if it is gone."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _use_of(processes: list[psutil.Process]) -> tuple[float, bool]:
    """CPU seconds that the processes used; and whether all wait, but neither for a CPU nor for a disk."""
    used, waits = 0.0, True
    for process in processes:
        with contextlib.suppress(psutil.Error):
            used += sum(process.cpu_times()[:2])  # for the program, for the system
            waits &= process.status() not in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
    return used, waits


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _as_json(verdict: Verdict, dump: Callable[..., str] = json.dumps) -> bytes:
    return dump(dataclasses.asdict(verdict)).encode()


def _judged(exercise: Exercise, packed: bytes, seconds: float) -> bytes:
    """The verdict on an answer, in JSON, with what it printed."""
    printed = _Printed()
    _limit(seconds)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            verdict = _verdict(exercise, cloudpickle.loads(packed))
        except BaseException as error:
            verdict = Verdict("wrong", *error_sentence(error, "unpacking it"))
    verdict.printed = printed.text()
    return _as_json(verdict)


def _verdict(exercise: Exercise, answer: Callable | Saved) -> Verdict:
    if isinstance(answer, Saved):
        try:
            answer = answer.load(exercise.slot.__name__)
        except BaseException as error:
            return Verdict("unloadable", Text(*[f"{type(error).__name__}: {error}"] * 2))
    if not isinstance(answer, types.FunctionType):
        return Verdict("wrong", phrase("not_a_function", kind=type(answer).__name__))
    calls = _stand_in(exercise.slot, answer)
    verdict = judge(exercise, answer)
    if "reference" in calls or ("itself" in calls and verdict.says == phrase("recursion")):
        return Verdict("wrong", phrase("own_slot", slot=exercise.slot.name))
    return verdict


def _stand_in(slot: Slot, answer: Callable) -> set[str]:
    """Let the slot run ``answer``, as it will once that passed, and its reference tell who calls it.

    Returns:
        a set: "itself" joins it when the slot is called, "reference" when the answer calls the reference.
    """
    reference, calls = slot.reference, set()

    def itself(*args: Any, **kwargs: Any) -> Any:
        calls.add("itself")
        return answer(*args, **kwargs)

    @functools.wraps(reference)
    def ours(*args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code is answer.__code__:
                calls.add("reference")
            frame = frame.f_back
        return reference(*args, **kwargs)

    slot.active, slot.reference, slot.__wrapped__ = itself, ours, ours
    return calls


if __name__ == "__main__":
    serve()
