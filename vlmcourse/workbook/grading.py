"""Grade answers that somebody sent in, none of which is trusted (used by ``vlmcourse grade``).

    Grader        judges the answers of one person after the other
    Grade        what one answer is worth, and why

Each answer runs in copies of this process, see copies.py: without files, network or other processes. The
first copy knows the cases of a seed that the person did not have, but no right output, and neither the
course's own function nor its source. It computes; what it gives comes back as plain data and is compared
*here*, so nobody passes with wrong values by changing the checker. A second copy says what is wrong, and
looks at what values do not show: gradients, dtypes, devices.
Whoever attacks the checker could forge those, but no more.
"""

import contextlib
import functools
import gc
import importlib
import inspect
import json
import linecache
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

import vlmcourse
from vlmcourse.exercises.base import Exercise, all_exercises
from vlmcourse.slots import Slot
from vlmcourse.workbook import outcomes, portfolio, search
from vlmcourse.workbook.check import signature_problem
from vlmcourse.workbook.copies import ADOPT_ORPHANS, Copy, ask_linux, confine, limit
from vlmcourse.workbook.plain import Opaque, as_data, same_data, tidy
from vlmcourse.workbook.portfolio import Saved
from vlmcourse.workbook.say import phrase
from vlmcourse.workbook.worker import TIME_LIMIT, stand_in, verdict_on, warm_up

SECONDS_TO_EXPLAIN = 0.5  # seconds of CPU time for finding out what is wrong, beyond the slips
MOST_STOPPED = 3  # answers of a person that use up their time; after that each has a fifth of it
MOST_SENT = 2**21  # bytes of what an answer gives; the largest that is right has a hundredth of it
OURS = "the course's own version is not there while an answer is graded"
IMPORTED_BEFORE = {
    "matplotlib": "matplotlib.pyplot",
    "transformers": "transformers.modeling_utils",
    "compile": "torch._dynamo",
}
IMPORTED_BEFORE |= {name: name for name in ("open_clip", "peft", "skimage", "sklearn", "timm", "torchvision")}
"""By a word in an answer: what it may import that needs more than reading files while it is imported."""
COURSE = Path(vlmcourse.__file__).resolve().parent


def library_folders(entries: Iterable[str], readable: Iterable[str | Path]) -> tuple[Path, ...]:
    """Entries of sys.path outside of ``readable`` in which a package is installed, such as a user's own.

    Left out are folders above the current one or the workspace, where zips of a class and a teacher's own
    answers may lie, and those with another copy of the course, whose source nothing would hide. So is a
    checkout that sys.path names: it holds no installed package, but may hold such a copy.
    """
    roots = [Path(root).resolve() for root in readable]
    private = [Path.cwd(), portfolio.workspace().resolve()]
    found = []
    for folder in (Path(entry).resolve() for entry in entries if os.path.isdir(entry)):
        known = any(folder.is_relative_to(root) for root in (*roots, *found))
        installed = next(folder.glob("*.dist-info"), None) is not None
        shared = not any(place.is_relative_to(folder) for place in private)
        copied = (folder / COURSE.name).is_dir() and folder / COURSE.name != COURSE
        if installed and shared and not known and not copied:
            found.append(folder)
    return tuple(found)


PYTHONS = (sys.prefix, sys.base_prefix, COURSE, "/usr/lib", "/usr/share/zoneinfo")
READABLE = (*PYTHONS, *library_folders(sys.path, PYTHONS))
"""Folders below which an answer may read, taken from sys.path before any answer can change it."""


class Grade(NamedTuple):
    """One answer.

    Attributes:
        status: "passed", "wrong" or "missing".
        credit: 1 for a passed answer; else the share of cases in which its output is right, where all that
            values do not show counts as one case more; 0 for a missing one.
        right, cases: how many cases there are, and are right.
        says: what is wrong with it; "" if nothing is.
        stopped: whether it used up its time.
    """

    slot: str
    chapter: str
    status: str
    credit: float
    right: int
    cases: int
    says: str = ""
    stopped: bool = False


class Grader:
    """Judges answers on the cases of one seed; one after the other, each in processes of its own.

    Args:
        seed: of the cases. Another than the notebooks', so that an answer that knows theirs by heart fails.
        seconds: of CPU time that an answer may use.
    """

    def __init__(self, seed: int, seconds: float = TIME_LIMIT):
        self.seed, self.seconds = seed, seconds
        torch.set_num_threads(1)
        ask_linux(ADOPT_ORPHANS, 1)
        self.exercises = all_exercises()
        warm_up(self.exercises)
        self.expected = {name: self._expected(task) for name, task in self.exercises.items()}
        self.known: dict[tuple[str, str, float], Grade] = {}
        gc.collect()
        gc.freeze()  # copies would copy whatever their collector touches

    def grade(self, answers: Mapping[str, str], slots: Iterable[str] | None = None) -> list[Grade]:
        """Every exercise of the course, or of ``slots``, with what its answer is worth.

        Args:
            answers: by slot, the text of a file as portfolio.written makes it.
        """
        grades: list[Grade] = []
        for name in slots or self.exercises:
            slow = sum(one.stopped for one in grades) >= MOST_STOPPED
            grades.append(self.grade_one(name, answers.get(name), self.seconds / 5 if slow else self.seconds))
        return grades

    def grade_one(self, name: str, text: str | None, seconds: float) -> Grade:
        """One answer, with so many seconds of CPU time; the same text twice is run once."""
        if text is None:
            return Grade(name, self.exercises[name].chapter, "missing", 0.0, 0, self._cases(name))
        if (name, text, seconds) not in self.known:
            self.known[name, text, seconds] = self._grade_text(name, text, seconds)
        return self.known[name, text, seconds]

    def _grade_text(self, name: str, text: str, seconds: float) -> Grade:
        task, saved = self.exercises[name], Saved(Path(f"{name.replace('.', '_')}.py"), text)
        cases = self._cases(name)
        import_libraries(text)
        values = self._in_a_copy(functools.partial(self._values, task, saved, seconds), seconds)
        got = _read(values)
        right = sum(map(same_data, got, self.expected[name])) if isinstance(got, list) else 0
        form = Grade(name, task.chapter, "wrong", right / (cases + 1), right, cases)
        if values == phrase("too_slow", seconds=seconds):
            return form._replace(says=values.en, stopped=True)
        judged = self._in_a_copy(functools.partial(self._verdict, task, saved, seconds), seconds)
        verdict = _read(judged)
        says = verdict["says"] if isinstance(verdict, dict) else _english(judged)
        passed = isinstance(verdict, dict) and verdict["status"] == "passed"
        if passed and isinstance(got, list) and len(got) == cases == right:
            return form._replace(status="passed", credit=1.0)
        if passed:
            says = "It passes its own check only: run by itself, it gives other outputs."
            if not isinstance(got, list):
                says = got["problem"] if isinstance(got, dict) else _english(values)
        return form._replace(says=tidy(says), stopped=judged == phrase("too_slow", seconds=seconds))

    def _cases(self, name: str) -> int:
        return len(self.expected[name])

    def _expected(self, task: Exercise) -> list[dict[str, Any]]:
        trial = outcomes.trial_of(task, Slot.changes, self.seed)
        return [as_data(right) for right in trial.expected]

    def _in_a_copy(self, work: Any, seconds: float) -> Any:
        return Copy(work).message(seconds, seconds, lambda: None, MOST_SENT)[0]

    def _values(self, task: Exercise, saved: Saved, seconds: float) -> bytes:
        """In a copy: what the answer gives in each case; no right output is left in this process."""
        trial = outcomes.trial_of(task, Slot.changes, self.seed)
        cases, names, trial.expected = trial.cases, trial.names, []
        outcomes.trial_of.cache_clear()
        self.expected, self.known = {}, {}
        self._enter(seconds, forget(task))
        try:
            answer = saved.load(task.slot.__name__)
            if problem := signature_problem(answer, trial):
                return _sent({"problem": problem.en})
            stand_in(task.slot, answer)
            with outcomes.surroundings(task):
                done = [outcomes.run(answer, names, case) for case in cases]
            if any(str(one.error) == OURS for one in done):
                return _sent({"problem": phrase("own_slot", slot=task.slot.name).en})
            return _sent([as_data(one) for one in done])
        except Opaque as error:
            return _sent({"problem": f"The output holds {error}."})
        except BaseException as error:
            return _sent({"problem": f"The file does not load: {type(error).__name__}: {error}"[:500]})

    def _verdict(self, task: Exercise, saved: Saved, seconds: float) -> bytes:
        """In a copy: the verdict of the checker, as a notebook would give it."""
        self.expected, self.known = {}, {}
        self._enter(seconds)
        search.SEARCH = SECONDS_TO_EXPLAIN
        try:
            verdict = verdict_on(task, saved, self.seed)
        except BaseException as error:  # of the checker, which an answer may have changed
            return _sent({"says": f"The check ended with {type(error).__name__}: {error}"[:500]})
        return _sent({"status": verdict.status, "says": verdict.says.en})

    def _enter(self, seconds: float, hidden: tuple[str, ...] = ()) -> None:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - open until this process ends
        limit(seconds)
        confine(READABLE, hidden)


def import_libraries(text: str) -> None:
    """Import here, and once, those of IMPORTED_BEFORE that an answer names; nothing of it is run."""
    for word, library in IMPORTED_BEFORE.items():
        if re.search(rf"\b{word}\b", text):
            with contextlib.suppress(Exception):  # which the answer will be told
                importlib.import_module(library)


def forget(task: Exercise) -> tuple[str, ...]:
    """Take the course's own answer out of this process: its code, its edits, the lines of its module.

    Returns:
        beginnings of the files that hold its source.
    """

    def refuses(*given: Any, **named: Any) -> None:
        raise PermissionError("the course's own version is not there while an answer is graded")  # OURS

    function = inspect.unwrap(task.slot.reference)
    file = Path(inspect.getfile(function)).resolve()
    if not function.__code__.co_freevars:
        function.__code__ = refuses.__code__  # of the function itself: whoever holds it holds no other
    task.slips.clear()
    linecache.clearcache()
    return str(file), str(file.parent / "__pycache__" / f"{file.stem}.")


def _sent(value: Any) -> bytes:
    return json.dumps(value).encode()


def _read(message: Any) -> Any:
    """What a copy sent; None where it sent nothing that can be read."""
    try:
        value = json.loads(message)
    except (TypeError, ValueError, RecursionError):
        return None
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return {"status": "wrong", "says": "", "problem": ""} | value
    return value if isinstance(value, list) else None


def _english(message: Any) -> str:
    """A sentence on how a copy behaved."""
    return getattr(message, "en", "") or phrase("crashed", code="?").en
