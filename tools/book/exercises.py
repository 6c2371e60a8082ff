"""What stands below an exercise's stub in the book: its hints one by one, and the course's own version."""

import ast
import html

from book.cells import coloured, with_code
from book.words import WORDS

OPEN = "○"  # begins the text of the card of an exercise that is not written; see vlmcourse/workbook/card.py


def asked(code: str) -> str | None:
    """The function that a cell asks for under `@exercise(...)`, or None.

    Raises:
        ValueError: if Python cannot read such a cell.
    """
    if "@exercise(" not in code:
        return None
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a magic command of IPython, or half a line
        raise ValueError(f"this cell asks for an exercise, but is no Python:\n{code}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            decorators = (ast.unparse(decorator) for decorator in node.decorator_list)
            if any(name.startswith("exercise(") for name in decorators):
                return node.name
    return None


def help_with(chapter: str, function: str, lang: str) -> str:
    """Hints and solution of an exercise, each behind a click.

    Raises:
        LookupError: if the chapter has no such exercise, or two.
    """
    from vlmcourse.exercises.base import all_exercises, in_both
    from vlmcourse.exercises.edits import pasted_source

    tasks = [
        task
        for task in all_exercises().values()
        if task.chapter == chapter and task.slot.__name__ == function
    ]
    if len(tasks) != 1:
        raise LookupError(f"chapter {chapter} has {len(tasks)} exercises called {function}, expected one")
    words, hints = WORDS[lang], [getattr(in_both(hint), lang) for hint in tasks[0].hints]
    parts = [f"<p>{html.escape(words['yours'])}</p>"]
    for number, hint in enumerate(hints, 1):
        parts.append(
            folded(words["hint"].format(number=number, last=len(hints)), f"<p>{with_code(hint)}</p>")
        )
    parts.append(folded(words["solution"], coloured(pasted_source(tasks[0].slot.reference))))
    return f'<div class="exercise">{"".join(parts)}</div>'


def folded(summary: str, body: str) -> str:
    """Something behind a click."""
    return f"<details><summary>{html.escape(summary)}</summary>{body}</details>"
