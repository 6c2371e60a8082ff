"""Search for what in an answer makes it wrong, within a time, unheard, and whatever the answer does."""

import contextlib
import io
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from vlmcourse.exercises.base import Text
from vlmcourse.workbook import likeness, repair
from vlmcourse.workbook.outcomes import Trial
from vlmcourse.workbook.repair import Line

SEARCH = 1.0  # seconds of CPU time for each way of finding what is wrong


def cause(answer: Callable, trial: Trial, wrong: list[int]) -> tuple[Text | None, Line | None]:
    """What in the answer makes it wrong, found by trying, and the line of it."""
    findings = (
        lambda: repair.wrong_step(answer, trial, wrong),
        lambda: likeness.without_effect(answer, trial),
        lambda: repair.other_calls(answer, trial, wrong[0]),
        lambda: likeness.only_if_unrepeated(answer, trial, wrong[0]),
    )
    for find in findings:
        with contextlib.suppress(Exception, OutOfTime), unheard(), limited():
            if found := find():
                return (found, None) if isinstance(found, Text) else found
    return None, None


class OutOfTime(BaseException):
    """Trying took longer than it may; a learner's ``except Exception`` does not stop it."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise OutOfTime after SEARCH seconds of CPU time, where the system and the thread have such timers."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SEARCH)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Nothing that is printed or warned of while things are tried is the learner's to read."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
