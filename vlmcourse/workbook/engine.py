"""What stands above a learner's function: check it, explain what is wrong, install it when it is right.

After the cell with ``@exercise(vit.patchify)``, ``patchify`` is the slot: it runs the learner's code if that
passed, else the reference.
"""

import ast
import contextlib
import io
import itertools
import linecache
import textwrap
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

from vlmcourse.exercises.base import Text, all_exercises, exercise_of, in_both
from vlmcourse.exercises.edits import pasted_source
from vlmcourse.slots import Slot
from vlmcourse.workbook import portfolio
from vlmcourse.workbook.card import Card
from vlmcourse.workbook.check import Verdict
from vlmcourse.workbook.say import phrase
from vlmcourse.workbook.worker import TIME_LIMIT, Checker

checker = Checker()
language = "en"  # set by begin()
references = True  # set by begin(): whether they stand in for what is not written
_timed = itertools.count(1)
_hints_shown: Counter[str] = Counter()


def pick(text: Text | str) -> str:
    """The sentence in the language of the notebook; one from a chapter's exercises is given in English."""
    text = in_both(text) if isinstance(text, str) else text
    return text.ja if language == "ja" else text.en


def tell(sentence: str, **words: Any) -> str:
    """A sentence of say.py in the language of the notebook."""
    return pick(phrase(sentence, **words))


def exercise(slot: Slot) -> Callable[[Callable], Slot]:
    """Check the function below as an answer to ``slot``; use as a decorator.

    The function is judged in another process, for 10 s at most. Passed: it is installed and saved. Not
    written yet or wrong: the reference stays (or the version that passed earlier, if nothing is written), and
    the notebook goes on. What is wrong is kept, too, to be handed in, but apart from all that runs.

    Raises:
        TypeError, LookupError: if ``slot`` is not one of the course's exercises.
    """
    task = exercise_of(slot)

    def decorate(answer: Callable) -> Slot:
        with_source_of_magic(answer)
        slot.mine = answer if callable(answer) else None
        verdict = check(slot, answer)
        event, problem = {}, None
        if verdict.status == "passed":
            slot.mine, event, problem = made_to_last(slot, answer, task.chapter)
            slot.install(slot.mine)
        elif verdict.status == "wrong":
            slot.reset()
            keep_attempt(slot, answer, task.chapter)
        leave_open(slot, task.chapter)
        card = feedback(slot, verdict)
        if problem:
            card.lines.append(tell("not_saved", reason=problem))
        portfolio.note(chapter=task.chapter, slot=slot.name, status=verdict.status, **event)
        card.show()
        return slot

    return decorate


def leave_open(slot: Slot, chapter: str) -> None:
    """Let a slot stop whatever calls it, if no function of the learner's runs, nor a reference."""
    if not references and not slot.runs_mine:
        slot.leave_open(tell("left_open", slot=slot.name, chapter=chapter))


def made_to_last(
    slot: Slot, answer: Callable, chapter: str
) -> tuple[Callable, dict[str, str], Text | OSError | None]:
    """Save a passed answer, once the file by itself has passed too.

    Returns:
        (function, event, problem): what the file defines, so that this notebook runs what later ones will,
        and what the diary notes of it; or the answer itself, nothing, and why it could not be saved.
    """
    try:
        saved = portfolio.written(slot, answer, chapter)
        verdict = checker.check(slot.name, saved)
        if verdict.status != "passed":
            raise portfolio.CannotSave(phrase("file_differs", says=verdict.says))
        portfolio.keep(saved)
        portfolio.drop_attempt(slot.name)
        return quietly(saved, slot), {"file": saved.fingerprint()}, None
    except (portfolio.CannotSave, OSError) as error:
        keep_attempt(slot, answer, chapter)
        return answer, {}, getattr(error, "says", error)


def keep_attempt(slot: Slot, answer: Any, chapter: str) -> None:
    """Write an answer that is not right yet beside those that passed, to be handed in; it is not run.

    One that cannot be written is no matter: an earlier one stays, and the notebook goes on.
    """
    if isinstance(answer, types.FunctionType):
        with contextlib.suppress(Exception):  # it may hold whatever a learner can think of
            portfolio.keep(portfolio.written(slot, answer, chapter, passed=False))


def quietly(saved: portfolio.Saved, slot: Slot) -> Callable:
    """The function of a file that has passed; what the file prints was seen when it did."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return saved.load(slot.__name__)


def with_source_of_magic(answer: Callable) -> None:
    """Let Python find the source of a function below a magic such as %%time, which hides it."""
    code = getattr(answer, "__code__", None)
    if isinstance(code, types.CodeType) and code.co_filename == "<timed exec>":
        from IPython import get_ipython

        cell = get_ipython().history_manager.input_hist_raw[-1]
        text = cell.lstrip().partition("\n")[2]
        name = f"<timed cell {next(_timed)}>"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        answer.__code__ = code.replace(co_filename=name)


def check(slot: Slot, answer: Callable) -> Verdict:
    """Judge ``answer`` without installing anything."""
    if not isinstance(answer, types.FunctionType):
        return Verdict("wrong", phrase("not_a_function", kind=type(answer).__name__))
    return Verdict("todo") if is_stub(answer) else checker.check(slot.name, answer)


def is_stub(function: Callable) -> bool:
    """Whether the body holds nothing but a docstring, ``...``, ``pass`` or ``raise NotImplementedError``."""
    try:
        body = ast.parse(textwrap.dedent(portfolio.source_of(function))).body[0].body
    except portfolio.CannotSave:
        return False
    for node in body:
        gives_up = isinstance(node, ast.Raise) and node.exc and "NotImplementedError" in ast.dump(node.exc)
        constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (gives_up or constant or isinstance(node, ast.Pass)):
            return False
    return True


def feedback(slot: Slot, verdict: Verdict) -> Card:
    """The card for a verdict, in the language of the notebook."""
    if verdict.status == "passed":
        return Card("passed", tell("passed", slot=slot.name), printed=verdict.printed)
    if verdict.status == "unchecked":
        return Card("note", f"{slot.name}: {pick(verdict.says)}", printed=verdict.printed)
    stands_in = "reference_stays" if references else "nothing_stands_in"
    stays = tell("yours_stays" if slot.runs_mine else stands_in)
    if verdict.status == "todo":
        return Card("todo", tell("not_written", slot=slot.name, stays=stays))
    lines = [pick(verdict.says)]
    if verdict.line and (code := linecache.getline(*verdict.line).strip()):
        lines.append(tell("the_line", code=code))
    lines.append(stays)
    if not _hints_shown[slot.name]:
        lines.append(tell("hint_is_there", function=slot.name.split(".")[-1]))
    pictures = {tell(name): array for name, array in verdict.pictures.items()}
    title = tell("not_right", slot=slot.name)
    return Card("wrong", title, lines, printed=verdict.printed, pictures=pictures)


def hint(slot: Slot) -> None:
    """Show the next hint for ``slot``; after the last, the last one again."""
    task = exercise_of(slot)
    number = _hints_shown[slot.name] = min(_hints_shown[slot.name] + 1, len(task.hints))
    portfolio.note(chapter=task.chapter, slot=slot.name, hint=number)
    title = tell("hint", slot=slot.name, number=number, last=len(task.hints))
    Card("note", title, [pick(task.hints[number - 1])]).show()


def solution(slot: Slot) -> None:
    """Show the course's own version of ``slot``."""
    task = exercise_of(slot)
    portfolio.note(chapter=task.chapter, slot=slot.name, solution=True)
    Card("note", tell("solution", slot=slot.name), code=pasted_source(slot.reference)).show()


def reinstall() -> tuple[list[str], list[str]]:
    """Check every saved function again, in the checker's process, and load and install what passes.

    One that cannot be checked again, as the machine is slow, is installed if it is as it was when it passed.

    Returns:
        (installed, complaints): names of slots that run the learner's code, and one sentence per file that
        does not.
    """
    if not any(portfolio.workspace().glob("my_vlm/*.py")):
        return [], []  # the exercises are not needed, whose import takes seconds
    slots = {task.slot.name: task.slot for task in all_exercises().values()}
    passed = {(event.get("slot"), str(event.get("file"))) for event in portfolio.diary()}
    installed, complaints = [], []
    for name, saved in portfolio.saved(slots).items():
        slots[name].reset()
        unread = isinstance(saved, Exception)
        verdict = Verdict("unloadable", Text(*[str(saved)] * 2)) if unread else checker.check(name, saved)
        late = verdict.status == "unchecked" or verdict.says == phrase("too_slow", seconds=TIME_LIMIT)
        as_passed = late and (name, saved.fingerprint()) in passed
        if as_passed:
            complaints.append(tell("kept_unchecked", slot=name))
        if verdict.status == "passed" or as_passed:
            slots[name].mine = quietly(saved, slots[name])
            slots[name].install(slots[name].mine)
            installed.append(name)
        elif verdict.status == "unloadable":
            file = portfolio.file_of(name).name
            complaints.append(tell("does_not_load", file=file, error=verdict.says))
        elif not as_passed:
            complaints.append(tell("no_longer_passes", slot=name, says=verdict.says))
    return installed, complaints
