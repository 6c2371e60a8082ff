"""How long a class takes to grade, wrong and endless answers among them, and whether each is graded as made.

python -m benchmarks.hundred          a hundred submissions to all exercises; eleven minutes of CPU time
python -m benchmarks.hundred 4        four of them

Wrong answers are the slips of the exercises; others raise an error, never end, or are missing.
"""

import os
import random
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.workbook.learner import solution_file
from vlmcourse.exercises.base import Exercise, all_exercises
from vlmcourse.exercises.edits import Edit, plain_source
from vlmcourse.workbook import portfolio
from vlmcourse.workbook.classroom import grade_folder
from vlmcourse.workbook.submission import write_submission

FAULTS = {
    "wrong": 70,
    "broken": 10,
    "missing": 19,
    "endless": 1,
}  # how often an answer that is not right is so
SEED = 77  # of the cases


def wrong_texts(task: Exercise, right: str) -> list[str]:
    """The saved answer with each slip that is an edit; none if it is saved in other words than it has."""
    plain = plain_source(task.slot.reference)
    edited = [slip.source for slip in task.slips if isinstance(slip, Edit) and plain in right]
    return [right.replace(plain, source) for source in edited]


def with_first(text: str, function: str, statement: str) -> str:
    """An answer whose function begins with another statement, which it does not survive."""
    begin = text.rindex(f"def {function}(")
    end = text.index(":\n", text.index(")", begin))
    return f"{text[: end + 2]}    {statement}\n{text[end + 2 :]}"


def hand_in(folder: Path, people: int) -> Counter:
    """Write the submissions; how many answers there are of each sort."""
    tasks, dice, made = all_exercises(), random.Random(5), Counter()
    right = {name: solution_file(task) for name, task in tasks.items()}
    wrong = {name: wrong_texts(task, right[name]) for name, task in tasks.items()}
    sorts: dict[str, Callable[[str], str]] = {
        "right": right.get,
        "wrong": lambda name: dice.choice(wrong[name]),
        "broken": lambda name: with_first(right[name], tasks[name].slot.__name__, "raise RuntimeError"),
        "endless": lambda name: with_first(right[name], tasks[name].slot.__name__, "while True: pass"),
    }
    for person in range(people):
        with tempfile.TemporaryDirectory() as desk:
            os.environ["VLMCOURSE_WORKSPACE"] = desk
            skill = 0.35 + 0.6 * dice.random()
            for name in tasks:
                sort = "right" if dice.random() < skill else dice.choices([*FAULTS], [*FAULTS.values()])[0]
                sort = "broken" if sort == "wrong" and not wrong[name] else sort
                made[sort] += 1
                if sort != "missing":
                    file = portfolio.file_of(name, sort == "right")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(sorts[sort](name), encoding="utf-8")
            write_submission(folder / f"{person:03}.zip", f"Person {person}")
    return made


def main(people: int = 100) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = hand_in(Path(folder), people)
        graded = grade_folder(folder, SEED)
    found = Counter(grade.status for person in graded for grade in person.grades)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    print(f"made {dict(made)}\nfound {dict(found)}; {seconds:.0f} s of CPU time")
    assert found["passed"] == made["right"] and found["missing"] == made["missing"]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
