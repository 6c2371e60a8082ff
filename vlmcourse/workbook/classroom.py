"""Grade a folder of submissions (``vlmcourse grade``); gradebook.py writes down what came out.

No submission can change what another one gets: all are read before anything runs, each answer runs as
grading.py says, and whatever ends a grader ends it for one submission only.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from vlmcourse.exercises.base import all_exercises, all_quizzes
from vlmcourse.workbook.copies import FORKS
from vlmcourse.workbook.grading import Grade, Grader
from vlmcourse.workbook.submission import BadSubmission, Submission, read_submission
from vlmcourse.workbook.worker import TIME_LIMIT

TWINS = str.maketrans(
    "АВЕЅІЈКМНОРСТУХҮаеѕіјорсухһԁԛԝ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρ",
    "ABESIJKMHOPCTYXYaesijopcyxhdqw" + "ABEZHIKMNOPTYXovp",
)
"""Letters of the Cyrillic and the Greek alphabet that look like a Latin one, to that one."""


@dataclass(frozen=True)
class Person:
    """What came out for one submission; ``grades`` is empty if it cannot be read.

    Attributes:
        slots: the exercises that count, and with them the quizzes of their chapters; all if none is named.
    """

    submission: Submission
    grades: tuple[Grade, ...]
    problems: tuple[str, ...]
    slots: tuple[str, ...] = ()

    @property
    def points(self) -> float:
        """The sum of all credits."""
        return sum(grade.credit for grade in self.grades)

    @property
    def passed(self) -> int:
        """How many answers passed."""
        return sum(grade.status == "passed" for grade in self.grades)

    @property
    def answers(self) -> dict[str, str]:
        """The answers that count, by slot."""
        counting = self._counting
        return {slot: text for slot, text in self.submission.answers.items() if slot in counting}

    @property
    def asked(self) -> set[str]:
        """The quiz questions that count."""
        tasks = all_exercises()
        chapters = {tasks[slot].chapter for slot in self._counting}
        return {name for name in all_quizzes() if name.partition("/")[0] in chapters}

    @property
    def quizzes(self) -> int:
        """How many of them were answered rightly, as the diary says, which its owner can edit."""
        right = {event.get("quiz") for event in self.submission.diary if event.get("right")}
        return len(right & self.asked)

    @property
    def looked(self) -> set[str]:
        """Slots that count whose solution was shown, as the diary says."""
        shown = {event.get("slot") for event in self.submission.diary if event.get("solution")}
        return shown & self._counting

    @property
    def _counting(self) -> set[str]:
        return set(self.slots or all_exercises())


def slots_of_chapters(chapters: Iterable[str]) -> list[str]:
    """The exercises of some chapters, or of all if none is named; a chapter is named by its beginning.

    Raises:
        ValueError: if no chapter begins so.
    """
    tasks, chosen = all_exercises(), list(chapters)
    there = dict.fromkeys(task.chapter for task in tasks.values())
    for begin in chosen:
        if not any(chapter.startswith(begin) for chapter in there):
            raise ValueError(f"no chapter with exercises begins with {begin!r}; there are {', '.join(there)}")
    return [name for name, task in tasks.items() if not chosen or task.chapter.startswith(tuple(chosen))]


def grade_folder(
    folder: str | Path,
    seed: int,
    slots: Sequence[str] | None = None,
    processes: int = 2,
    seconds: float = TIME_LIMIT,
    tell: Callable[[str], None] = print,
) -> list[Person]:
    """Grade every .zip in a folder, in the order of their names.

    Args:
        seed: of the cases, see Grader.
        slots: which exercises count; all by default.
        processes: how many submissions are graded at the same time.
        seconds: of CPU time that an answer may use.
        tell: is called with a line for each submission.

    Raises:
        ValueError: if the folder holds no .zip, or this system cannot run answers apart.
        NotADirectoryError: if it is no folder.
    """
    if not FORKS:
        raise ValueError(
            "answers are run in forks of a process, which Windows lacks: use Linux, macOS or WSL"
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; name the one that holds the submissions")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".zip")
    if not files:
        raise ValueError(f"{folder} holds no .zip; `vlmcourse submit` makes one for each person")
    slots = list(slots or all_exercises())
    read = [_read(path) for path in files]
    doubled = _doubled([one for one, _ in read])
    graded = _graded([one for one, refused in read if not refused], slots, seed, seconds, processes, tell)
    people = []
    for submission, refused in read:
        grades, ended = graded.get(submission.file, ((), ()))
        problems = (*refused, *submission.problems, *doubled.get(submission.file, ()), *ended)
        people.append(Person(submission, grades, problems, tuple(slots)))
    return people


def _read(path: Path) -> tuple[Submission, tuple[str, ...]]:
    try:
        return read_submission(path), ()
    except BadSubmission as error:
        return Submission(path.name, "", {}, [], {}), (str(error),)
    except Exception as error:  # of whatever kind: one submission never ends the class
        return Submission(path.name, "", {}, [], {}), (f"it cannot be read: {error!r:.200}",)


def _doubled(submissions: Sequence[Submission]) -> dict[str, tuple[str, ...]]:
    """By file, what to say where another one has the same name or one that looks so; each keeps its grade."""
    read, seen = defaultdict(set), defaultdict(set)
    for one in submissions:
        read[_plain(one.name)].add(one.file)
        seen[_plain(one.name.translate(TWINS))].add(one.file)
    found = {}
    for one in submissions:
        if not _plain(one.name):
            continue
        same = read[_plain(one.name)] - {one.file}
        alike = seen[_plain(one.name.translate(TWINS))] - same - {one.file}
        told = [f"handed in under the same name as {', '.join(sorted(same))}"] if same else []
        if alike:
            twins = "with letters of another alphabet"
            told.append(f"handed in under a name that looks like that of {', '.join(sorted(alike))}, {twins}")
        if told:
            found[one.file] = tuple(told)
    return found


def _plain(name: str) -> str:
    """A name without what tells nobody apart: case, spaces, full width, ligatures, what has no width."""
    seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen).casefold().split())


_grader: Grader | None = None  # of this process, if it is one of the pool


def _begin(seed: int, seconds: float) -> None:
    global _grader
    _grader = Grader(seed, seconds)


def _grade_answers(answers: dict[str, str], slots: list[str]) -> list[Grade]:
    return _grader.grade(answers, slots)


_Graded = dict[str, tuple[tuple[Grade, ...], tuple[str, ...]]]


def _graded(
    submissions: Sequence[Submission],
    slots: list[str],
    seed: int,
    seconds: float,
    processes: int,
    tell: Callable[[str], None],
) -> _Graded:
    """By file: (grades, problems) of submissions."""
    waiting = {one.file: one for one in submissions}
    graded: _Graded = {}

    def take(file: str, future: Future) -> None:
        grades = tuple(future.result())
        graded[file] = grades, ()
        passed = sum(grade.status == "passed" for grade in grades)
        tell(f"{len(graded):>4} of {len(submissions)}  {repr(file)[1:-1]}: {passed} of {len(grades)} passed")

    def run(some: list[Submission], at_once: int) -> None:
        settings = dict(mp_context=get_context("spawn"), initializer=_begin, initargs=(seed, seconds))
        with ProcessPoolExecutor(at_once, **settings) as pool:
            futures = {pool.submit(_grade_answers, dict(one.answers), slots): one.file for one in some}
            for future in as_completed(futures):
                take(futures[future], future)

    try:
        run(list(waiting.values()), max(1, min(processes, len(waiting))))
    except BrokenProcessPool:  # one of those under way did it: each of the rest gets a grader of its own
        for file in waiting.keys() - graded.keys():
            try:
                run([waiting[file]], 1)
            except BrokenProcessPool:
                graded[file] = (), ("grading it ended the grader twice; look at it by hand",)
    return graded
