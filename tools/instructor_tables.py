"""The table of mistakes in INSTRUCTOR.md, from the exercises themselves.

python tools/instructor_tables.py            write it
python tools/instructor_tables.py --check    end with 1 if it is not as the exercises say
"""

import sys
from pathlib import Path

from vlmcourse.exercises.base import all_exercises

PAGE = Path(__file__).parents[1] / "INSTRUCTOR.md"
BEGINS, ENDS = "<!-- mistakes: tools/instructor_tables.py -->", "<!-- end of mistakes -->"
SHOWN = 2  # mistakes of an exercise


def mistakes() -> str:
    """A table of every exercise with the first mistakes that its checker knows."""
    lines = ["| chapter | exercise | two mistakes, as the checker says them |", "|---|---|---|"]
    for name, task in all_exercises().items():
        said = " ".join(f"({number}) {slip.says}" for number, slip in enumerate(task.slips[:SHOWN], 1))
        lines.append(f"| {task.chapter[:2]} | `{name}` | {said.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def page_with(text: str) -> str:
    """The page's text with the table as it is now."""
    before, rest = text.split(BEGINS)
    return f"{before}{BEGINS}\n\n{mistakes()}\n\n{ENDS}{rest.split(ENDS)[1]}"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(text != page_with(text))
    PAGE.write_text(page_with(text), encoding="utf-8")
