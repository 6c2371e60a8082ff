"""The checker process: learners' functions run there, never in the notebook's kernel.

An endless loop, 100 GB of memory, sys.exit() or a crash in C therefore ends a check, not the notebook. The
process is started once, in the background, by ``begin()``; it imports torch and the exercises, and then only
waits: each answer is judged in a copy of it (a fork), which ends with the check. Whatever an answer changes,
starts or breaks is gone with the copy, and so is all that it started.

Functions travel by cloudpickle with the globals they use, saved ones as their text; verdicts come back as
JSON. A check that uses more CPU time than it may, or sleeps for far longer, is stopped.
"""

import atexit
import contextlib
import dataclasses
import functools
import io
import json
import linecache
import os
import pickle
import queue
import struct
import sys
import threading
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
from vlmcourse.workbook.copies import ADOPT_ORPHANS, FORKS, Copy, ask_linux, kill_all, limit
from vlmcourse.workbook.portfolio import Saved
from vlmcourse.workbook.say import phrase

TIME_LIMIT = 10.0  # seconds of CPU time a check may use
PATIENCE = 6  # times as many seconds may it sleep, or the checker be silent; waiting for a CPU does not count
START_LIMIT = 120.0  # seconds the process may need to import torch on a slow machine
PRINT_LIMIT = 1000  # characters of the learner's prints that are shown


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
                kill_all(psutil.Process(self.process.pid).children(recursive=True))
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


def serve() -> None:
    """The process's side: greet when ready, then answer requests until the notebook goes away."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    torch.set_num_threads(1)
    exercises = all_exercises()
    warm_up(exercises)
    ask_linux(ADOPT_ORPHANS, 1)
    _send(replies, 0, b"ready")
    with contextlib.suppress(EOFError):
        while True:
            number, request = _receive(requests)
            name, seconds, patience, packed = pickle.loads(request)
            outcomes.trial_of(exercises[name], Slot.changes)  # kept here, so that every copy has it
            if not FORKS:
                _send(replies, number, _judged(exercises[name], packed, seconds))
                return
            for seeks in (True, False):  # what the search tries may bring down more than the answer does
                copy = Copy(functools.partial(_searched, exercises[name], packed, seconds, seeks))
                says, crashed = copy.message(seconds, patience, lambda n=number: _send(replies, n, b""))
                if not crashed:
                    break
            verdict = says if isinstance(says, bytes) else _as_json(Verdict("wrong", says))
            _send(replies, number, verdict)


def warm_up(exercises: dict[str, Exercise]) -> None:
    """Judge one reference, so that each copy finds loaded what the first check of a process loads."""
    task = exercises["attention.scaled_dot_product"]
    judge(task, task.slot.reference)


def _as_json(verdict: Verdict, dump: Callable[..., str] = json.dumps) -> bytes:
    return dump(dataclasses.asdict(verdict)).encode()


def _searched(exercise: Exercise, packed: bytes, seconds: float, seeks: bool) -> bytes:
    search.SEARCH *= seeks
    return _judged(exercise, packed, seconds)


def _judged(exercise: Exercise, packed: bytes, seconds: float) -> bytes:
    """The verdict on an answer, in JSON, with what it printed."""
    printed = _Printed()
    limit(seconds)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            verdict = verdict_on(exercise, cloudpickle.loads(packed))
        except BaseException as error:
            verdict = Verdict("wrong", *error_sentence(error, "unpacking it"))
    verdict.printed = printed.text()
    return _as_json(verdict)


def verdict_on(exercise: Exercise, answer: Callable | Saved, seed: int = outcomes.SEED) -> Verdict:
    """Judge an answer in this process, which may be changed by it; see Checker.check."""
    if isinstance(answer, Saved):
        try:
            answer = answer.load(exercise.slot.__name__)
        except BaseException as error:
            return Verdict("unloadable", Text(*[f"{type(error).__name__}: {error}"] * 2))
    if not isinstance(answer, types.FunctionType):
        return Verdict("wrong", phrase("not_a_function", kind=type(answer).__name__))
    calls = stand_in(exercise.slot, answer)
    verdict = judge(exercise, answer, seed)
    if "reference" in calls or ("itself" in calls and verdict.says == phrase("recursion")):
        return Verdict("wrong", phrase("own_slot", slot=exercise.slot.name))
    return verdict


def stand_in(slot: Slot, answer: Callable) -> set[str]:
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
