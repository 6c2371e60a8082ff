"""What a teacher gets of a class that was graded: tables, and a page for each person.

write_book           grades.csv, answers.csv, exercises.csv, identical.csv, seed.txt and pages/
identical_answers    what several people handed in alike
person_page          one person's page
"""

import ast
import csv
import html
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from vlmcourse.data.assets import written_beside
from vlmcourse.exercises.base import all_exercises
from vlmcourse.exercises.edits import pasted_source
from vlmcourse.workbook.card import SIGNS, STATE_COLOURS
from vlmcourse.workbook.classroom import Person
from vlmcourse.workbook.grading import Grade

SHORT = 4  # lines of code: shorter answers are alike by chance
STATUS = {"passed": "passed", "wrong": "wrong", "missing": "todo"}  # and the card that looks like it
GRADES = ("file", "name", "passed", "of", "points", "percent", "quizzes right", "quizzes",
          "solutions looked at", "identical to another's", "problems")  # fmt: skip


def identical_answers(people: Sequence[Person]) -> list[tuple[str, int, bool, tuple[str, ...]]]:
    """Answers that several people handed in alike, names of variables included; comments do not count.

    Of each person those that count are compared, as Person says.

    Returns:
        (slot, lines of code, whether it is the course's own solution, files) with the longest first.
    """
    groups = defaultdict(list)
    for person in people:
        for slot, text in person.answers.items():
            groups[slot, _code_of(text)].append(person.submission.file)
    rows = []
    for (slot, code), files in groups.items():
        if len(files) > 1 and code:
            ours = _body_of(pasted_source(all_exercises()[slot].slot.reference))
            rows.append((slot, code.count("\n") + 1, ours == _body_of(code), tuple(sorted(files))))
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _code_of(text: str) -> str:
    """A file without comments, layout and docstring; "" if it is no Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    if tree.body and isinstance(tree.body[0], ast.Expr):
        del tree.body[0]
    return ast.unparse(tree)


def _body_of(text: str) -> str:
    """The steps of the last function in a file."""
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return "\n".join(map(ast.unparse, functions[-1].body)) if functions else ""


def refuse_there(folder: str | Path) -> None:
    """FileExistsError if a folder is there: nobody's grades are replaced."""
    if Path(folder).exists():
        raise FileExistsError(
            f"{folder} is there; name a new folder with --to, so that no grades are replaced"
        )


def seed_line(seed: int) -> str:
    """How to grade on the same cases again."""
    return f"Cases of seed {seed}; --seed {seed} draws the same again."


def write_book(people: Sequence[Person], folder: str | Path, seed: int) -> Path:
    """Write tables and pages into a new folder, which appears whole or not at all.

    Args:
        seed: of the cases that were graded on; seed.txt keeps it.

    Raises:
        FileExistsError: if it is there.
    """
    folder = Path(folder)
    refuse_there(folder)
    identical = identical_answers(people)
    with written_beside(folder) as draft:
        (draft / "pages").mkdir(parents=True)
        (draft / "seed.txt").write_text(seed_line(seed) + "\n", encoding="utf-8")
        tables = {
            "grades.csv": _grades_table(people, identical),
            "answers.csv": _answers_table(people),
            "exercises.csv": _exercises_table(people),
            "identical.csv": [("slot", "lines", "the course's own", "files")]
            + [
                (slot, lines, "yes" if ours else "", " ".join(files))
                for slot, lines, ours, files in identical
            ],
        }
        for name, rows in tables.items():
            (draft / name).write_text(as_csv(rows), encoding="utf-8", errors="backslashreplace")
        for number, person in enumerate(people, 1):
            page = draft / "pages" / _page_name(number, person)
            page.write_text(person_page(person), encoding="utf-8", errors="backslashreplace")
    return folder


def _page_name(number: int, person: Person) -> str:
    stem = "".join(
        letter if letter.isalnum() or letter in "-_" else "-" for letter in Path(person.submission.file).stem
    )
    return f"{number:03}-{stem[:60]}.html"


def as_csv(rows: Iterable[Sequence]) -> str:
    """Rows as comma-separated values; a text that a spreadsheet would run as a formula is led by a quote.

    All texts stand in quotation marks: a spreadsheet that cuts at semicolons might find a formula in one.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([[_harmless(cell) for cell in row] for row in rows])
    return text.getvalue()


FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
)  # full width counts in some languages


def _harmless(cell: object) -> object:
    led = isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA)
    return f"'{cell}" if led else cell


def _grades_table(people: Sequence[Person], identical: list) -> list[tuple]:
    copied = Counter()
    for _, lines, ours, files in identical:
        if lines >= SHORT and not ours:
            copied.update(files)
    rows: list[tuple] = [GRADES]
    for person in people:
        of, file = len(person.grades), person.submission.file
        percent = round(100 * person.points / of, 1) if of else 0.0
        rows.append((file, person.submission.name, person.passed, of, round(person.points, 2), percent,
                     person.quizzes, len(person.asked), len(person.looked), copied[file],
                     "; ".join(person.problems)))  # fmt: skip
    return rows


def _answers_table(people: Sequence[Person]) -> list[tuple]:
    rows = [("file", "chapter", "slot", "status", "credit", "right cases", "cases", "what is wrong")]
    for person in people:
        rows += [
            (
                person.submission.file,
                one.chapter,
                one.slot,
                one.status,
                round(one.credit, 3),
                one.right,
                one.cases,
                one.says,
            )
            for one in person.grades
        ]
    return rows


def _exercises_table(people: Sequence[Person]) -> list[tuple]:
    """For each exercise how many passed, and the mistake that most made."""
    rows = [
        ("chapter", "slot", "passed", "wrong", "missing", "how often the commonest", "the commonest mistake")
    ]
    by_slot = defaultdict(list)
    for person in people:
        for grade in person.grades:
            by_slot[grade.slot].append(grade)
    for slot, grades in by_slot.items():
        counts = Counter(grade.status for grade in grades)
        said = Counter(grade.says for grade in grades if grade.says).most_common(1) or [("", 0)]
        rows.append(
            (
                grades[0].chapter,
                slot,
                counts["passed"],
                counts["wrong"],
                counts["missing"],
                said[0][1],
                said[0][0],
            )
        )
    return rows


_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
article { border-left: 4px solid #7A869A; padding: .1rem 0 .1rem .8rem; margin: .8rem 0 }
h3 { font-size: 1rem; margin: .2rem 0 } p { margin: .2rem 0 }
pre { overflow-x: auto; background: #8882; padding: .6rem; border-radius: 4px; font-size: .85rem }
"""


def person_page(person: Person) -> str:
    """A person's page: what passed, and what is wrong with the rest. It loads nothing and runs nothing."""
    who = html.escape(person.submission.name or person.submission.file)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    of = len(person.grades)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{who}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{who}</h1><p>{person.points:.2f} of {of} points; {person.passed} of {of} answers passed.</p>",
        "<p>An answer that is right in some of its cases gets their share.</p>",
        *(f"<p><strong>{html.escape(problem)}</strong></p>" for problem in person.problems),
    ]
    chapter = None
    for grade in person.grades:
        if grade.chapter != chapter:
            chapter = grade.chapter
            parts.append(f"<h2>{html.escape(chapter)}</h2>")
        parts.append(_grade_html(grade, person.submission.answers.get(grade.slot, "")))
    return "\n".join([*parts, "</main></body></html>"])


def _grade_html(grade: Grade, text: str) -> str:
    kind = STATUS[grade.status]
    colour, sign = STATE_COLOURS[kind], SIGNS[kind]
    credit = f"{grade.credit:.2f} of 1" if grade.status != "passed" else "1 of 1"
    cases = f", right in {grade.right} of {grade.cases} cases" if grade.status == "wrong" else ""
    code = f"<details><summary>The answer</summary><pre>{html.escape(text)}</pre></details>" if text else ""
    says = f"<p>{html.escape(grade.says)}</p>" if grade.says else ""
    title = f"{sign} {html.escape(grade.slot)}: {grade.status}, {credit}{cases}"
    return f"<article style='border-color:{colour}'><h3>{title}</h3>{says}{code}</article>"
