"""What stands above a learner's function: check it, explain what is wrong, install it when it is right.

After the cell with ``@exercise(vit.patchify)``, ``patchify`` is the slot: it runs the learner's code if that
passed, else the reference.
"""

import ast
import linecache
import textwrap
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

from vlmcourse.exercises.base import Text, all_exercises, exercise_of, in_both
from vlmcourse.exercises.edits import plain_source
from vlmcourse.slots import Slot
from vlmcourse.workbook import portfolio
from vlmcourse.workbook.card import Card
from vlmcourse.workbook.check import Verdict
from vlmcourse.workbook.say import phrase
from vlmcourse.workbook.worker import Checker

checker = Checker()
language = "en"  # set by begin()
_hints_shown: Counter[str] = Counter()
_misses: Counter[str] = Counter()


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
    the notebook goes on.

    Raises:
        TypeError, LookupError: if ``slot`` is not one of the course's exercises.
    """
    task = exercise_of(slot)

    def decorate(answer: Callable) -> Slot:
        slot.mine = answer if callable(answer) else None
        verdict = check(slot, answer)
        if verdict.status == "passed":
            slot.install(answer)
        elif verdict.status == "wrong":
            slot.reset()
            _misses[slot.name] += 1
        card = feedback(slot, verdict)
        if verdict.status == "passed":
            try:
                portfolio.save(slot, answer, task.chapter)
            except (portfolio.CannotSave, OSError) as error:
                card.lines.append(tell("not_saved", reason=getattr(error, "says", error)))
        portfolio.note(chapter=task.chapter, slot=slot.name, status=verdict.status)
        card.show()
        return slot

    return decorate


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
    stays = tell("reference_stays" if slot.active is slot.reference else "yours_stays")
    if verdict.status == "todo":
        return Card("todo", tell("not_written", slot=slot.name, stays=stays))
    lines = [pick(verdict.says)]
    if verdict.line and (code := linecache.getline(*verdict.line).strip()):
        lines.append(tell("the_line", code=code))
    lines.append(stays)
    if _misses[slot.name] >= 2 and not _hints_shown[slot.name]:
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
    Card("note", tell("solution", slot=slot.name), code=plain_source(slot.reference)).show()


def reinstall() -> tuple[list[str], list[str]]:
    """Load every saved function, check it again and install what passes.

    Returns:
        (installed, complaints): names of slots that run the learner's code, and one sentence per file that
        does not.
    """
    if not any(
        portfolio.workspace().glob("my_vlm/*.py")
    ):  # then the exercises are not needed, whose import takes seconds
        return [], []
    slots = {task.slot.name: task.slot for task in all_exercises().values()}
    installed, complaints = [], []
    for name, answer in portfolio.saved(slots).items():
        slots[name].reset()
        if isinstance(answer, Exception):
            complaints.append(tell("does_not_load", file=portfolio.file_of(name).name, error=answer))
            continue
        verdict = checker.check(name, answer)
        if verdict.status == "passed":
            slots[name].install(answer)
            slots[name].mine = answer
            installed.append(name)
        else:
            complaints.append(tell("no_longer_passes", slot=name, says=verdict.says))
    return installed, complaints
