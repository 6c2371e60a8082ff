"""The checker process: learners' functions run there, never in the notebook's kernel.

An endless loop, 100 GB of memory, sys.exit() or a crash in C therefore ends the checker, not the notebook.
The process is started once, in the background, by ``begin()``; it imports torch, then judges one function
after another. Functions travel by cloudpickle with the globals they use; verdicts come back as JSON. A
check that uses more CPU time than it may is killed and the checker is started again.
"""

import atexit
import contextlib
import dataclasses
import io
import json
import os
import queue
import struct
import sys
import threading
import time
import types
from collections.abc import Callable
from subprocess import DEVNULL, PIPE, Popen

import cloudpickle
import psutil
import torch

from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook.check import Verdict, error_sentence, judge
from vlmcourse.workbook.say import phrase

TIME_LIMIT = 10.0  # seconds of CPU time a check may use
PATIENCE = 6  # times as many seconds may pass by the clock, since other programs run, too
START_LIMIT = 120.0  # seconds the process may need to import torch on a slow machine
MEMORY_LIMIT = 2 * 2**30  # bytes a check may take beside what torch itself maps
PRINT_LIMIT = 1000  # characters of the learner's prints that are shown


class Checker:
    """The notebook's side: owns the process and talks to it. One check at a time, from any thread."""

    def __init__(self):
        self.process: Popen | None = None
        self.replies: queue.Queue[bytes | None] = queue.Queue()
        self.greeted = False  # whether the process has said that torch is imported
        self.lock = threading.Lock()
        atexit.register(self.stop)

    def start(self) -> None:
        """Start the process without waiting for it; does nothing if it is alive."""
        if self.process is not None and self.process.poll() is None:
            return
        command = [sys.executable, "-m", "vlmcourse.workbook.worker"]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment)
        self.replies, self.greeted = queue.Queue(), False
        threading.Thread(target=_pump, args=(self.process.stdout, self.replies), daemon=True).start()

    def stop(self) -> None:
        """End the process. The next check starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process = None

    def check(self, name: str, function: Callable, seconds: float = TIME_LIMIT) -> Verdict:
        """Judge ``function`` as an answer to the exercise ``name``: a Verdict, whatever the function does."""
        try:
            request = _packed((name, function))
        except Exception as error:
            return Verdict("wrong", phrase("cannot_travel", reason=str(error).splitlines()[0]))
        with self.lock:
            try:
                if not self._ready():
                    return Verdict("wrong", phrase("no_checker"))
                _send(self.process.stdin, request)
                return Verdict(**json.loads(self._answer(seconds)))
            except queue.Empty:
                says = phrase("too_slow", seconds=seconds)
            except (EOFError, BrokenPipeError):
                says = phrase("crashed", code=self.process.wait())
            except KeyboardInterrupt:
                self.stop()
                raise
            self.stop()
            self.start()
            return Verdict("wrong", says)

    def _ready(self) -> bool:
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

    def _answer(self, seconds: float) -> bytes:
        """The reply to a request; queue.Empty if it takes too much CPU time, or far too long by the clock."""
        start, end = self._cpu_seconds(), time.monotonic() + PATIENCE * seconds
        while True:
            try:
                return self._reply(0.1)
            except queue.Empty:
                if self._cpu_seconds() - start > seconds or time.monotonic() > end:
                    raise

    def _cpu_seconds(self) -> float:
        """What the process has used so far; 0 if it is gone, which the next reply will tell."""
        try:
            return sum(psutil.Process(self.process.pid).cpu_times()[:2])  # for the program, for the system
        except psutil.Error:
            return 0.0

    def _reply(self, seconds: float) -> bytes:
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


def _packed(request: tuple[str, Callable]) -> bytes:
    """The request. Code keeps the name of its cell, which cloudpickle from 3.1.3 on leaves out."""

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, thing):
            if isinstance(thing, types.CodeType):
                return _code_of_cell, (thing.co_filename, *self.dispatch_table[types.CodeType](thing))
            return super().reducer_override(thing)

    packed = io.BytesIO()
    Pickler(packed).dump(request)
    return packed.getvalue()


def _code_of_cell(cell: str, make: Callable[..., types.CodeType], parts: tuple) -> types.CodeType:
    return make(*parts).replace(co_filename=cell)


def _send(stream: io.BufferedWriter, message: bytes) -> None:
    stream.write(struct.pack(">Q", len(message)) + message)
    stream.flush()


def _receive(stream: io.BufferedReader) -> bytes:
    header = stream.read(8)
    if len(header) < 8:
        raise EOFError
    return stream.read(struct.unpack(">Q", header)[0])


class _Printed(io.StringIO):
    """Keeps the first PRINT_LIMIT characters and counts the rest."""

    more = 0

    def write(self, text: str) -> int:
        kept = super().write(text[: PRINT_LIMIT - self.tell()])
        self.more += len(text) - kept
        return len(text)

    def text(self) -> str:
        return self.getvalue() + (f"… and {self.more:,} more characters" if self.more else "")


def _limit_memory() -> None:
    """Let a huge allocation fail with an exception instead of taking the machine down."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        limit = psutil.Process().memory_info().vms + MEMORY_LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def serve() -> None:
    """The process's side: greet when ready, then answer requests until the notebook goes away."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    torch.set_num_threads(1)
    exercises = all_exercises()
    torch.randn(8, 8).softmax(-1)  # load the libraries of the first operations before memory is limited
    _limit_memory()
    _send(replies, b"ready")
    with contextlib.suppress(EOFError):
        while True:
            request, printed = _receive(requests), _Printed()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                try:
                    name, function = cloudpickle.loads(request)
                    verdict = judge(exercises[name], function)
                except BaseException as error:
                    verdict = Verdict("wrong", *error_sentence(error, "unpacking it"))
            verdict.printed = printed.text()
            _send(replies, json.dumps(dataclasses.asdict(verdict)).encode())


if __name__ == "__main__":
    serve()
