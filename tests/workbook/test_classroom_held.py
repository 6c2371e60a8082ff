"""A class is graded whatever lies in its folder, and all that is known of a submission is said of it."""

from concurrent.futures import Future
from typing import ClassVar

import pytest

from vlmcourse.exercises.base import all_quizzes
from vlmcourse.workbook import classroom
from vlmcourse.workbook.classroom import Person, grade_folder
from vlmcourse.workbook.grading import Grade
from vlmcourse.workbook.submission import BadSubmission, Submission

SLOTS = ["attention.split_heads", "attention.merge_heads"]


class Pool:
    """Grades here, and at once: each answer passes, but for one that is called wrong."""

    asked: ClassVar[list] = []

    def __init__(self, most, **settings):
        assert most >= 1, "as a pool of processes asks"
        Pool.asked.append((most, settings["initargs"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, work, answers, slots):
        assert work is classroom._grade_answers and type(answers) is dict
        done, given = Future(), {name: answers.get(name, "missing") for name in slots}
        status = {name: text if text in ("wrong", "missing") else "passed" for name, text in given.items()}
        done.set_result(
            [Grade(name, "05", one, float(one == "passed"), 2, 2) for name, one in status.items()]
        )
        return done


@pytest.fixture
def graded(tmp_path, monkeypatch):
    """Grades a folder of submissions: by file, what is read of it, or the error that reading it raises."""
    monkeypatch.setattr(classroom, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(classroom, "FORKS", True)
    Pool.asked = []

    def grade(files, slots=SLOTS, **more):
        def read(path):
            if isinstance(files[path.name], Exception):
                raise files[path.name]
            return files[path.name]

        monkeypatch.setattr(classroom, "read_submission", read)
        for file in files:
            (tmp_path / file).touch()
        return grade_folder(tmp_path, 5, slots, **more)

    return grade


def handed_in(file, name="", answers=(), problems=(), diary=()):
    return Submission(file, name, dict(answers), list(diary), {}, 1.0, tuple(problems))


def test_every_zip_is_graded_in_the_order_of_names_and_nothing_else(graded, tmp_path):
    (tmp_path / "notes.txt").touch()
    people = graded({file: handed_in(file, file) for file in ("c.ZIP", "b.zip", "a.zip", "d.Zip")})
    assert [person.submission.file for person in people] == ["a.zip", "b.zip", "c.ZIP", "d.Zip"]


def test_what_is_known_of_a_submission_is_said_in_order(graded):
    changed, same = "an answer is not as it was", "handed in under the same name as {}"
    people = graded({
        "a.zip": handed_in("a.zip", "Ada", problems=[changed]),
        "b.zip": handed_in("b.zip", "ada"),
        "c.zip": BadSubmission("it is no whole zip"),
        "d.zip": RuntimeError("anything" * 100),
    })  # fmt: skip
    assert people[0].problems == (changed, same.format("b.zip"))
    assert people[1].problems == (same.format("a.zip"),)
    assert people[2].problems == ("it is no whole zip",) and people[2].grades == ()
    (says,) = people[3].problems
    assert says.startswith("it cannot be read: RuntimeError('anything") and len(says) < 230
    assert people[3].submission.file == "d.zip" and people[3].grades == ()


def test_a_class_of_which_nothing_can_be_read_is_a_class(graded):
    (person,) = graded({"a.zip": BadSubmission("it is no whole zip")}, tell=pytest.fail)
    assert (person.points, person.passed, person.problems) == (0, 0, ("it is no whole zip",))


@pytest.mark.parametrize(("asked", "used"), [(0, 1), (-1, 1), (1, 1), (2, 2), (9, 3)])
def test_no_more_processes_than_submissions_and_one_at_least(graded, asked, used):
    files = {f"{number}.zip": handed_in(f"{number}.zip") for number in range(3)}
    graded(files | {"x.zip": BadSubmission("broken")}, processes=asked, seconds=7)
    assert Pool.asked == [(used, (5, 7))]


def test_each_submission_is_told_on_a_line_and_a_name_steers_no_terminal(graded):
    said, file = [], "\x1b[2J\n.zip"
    answers = {SLOTS[0]: "right", SLOTS[1]: "wrong"}
    people = graded({"a.zip": handed_in("a.zip"), file: handed_in(file, answers=answers)}, tell=said.append)
    assert {line[:11] for line in said} == {"   1 of 2  ", "   2 of 2  "}
    assert {line[11:] for line in said} == {r"\x1b[2J\n.zip: 1 of 2 passed", "a.zip: 0 of 2 passed"}
    assert {person.submission.file: (person.passed, person.points) for person in people} == {
        "a.zip": (0, 0), file: (1, 1.0),
    }  # fmt: skip


def test_all_exercises_count_where_none_is_named(graded):
    (person,) = graded({"a.zip": handed_in("a.zip")}, slots=None)
    assert [grade.slot for grade in person.grades] == list(classroom.all_exercises())


def test_a_person_keeps_which_exercises_were_chosen(graded):
    people = graded({"a.zip": handed_in("a.zip"), "b.zip": BadSubmission("it is no whole zip")})
    assert [person.slots for person in people] == [tuple(SLOTS)] * 2


def test_a_system_that_cannot_run_answers_apart_grades_nothing(graded, monkeypatch):
    monkeypatch.setattr(classroom, "FORKS", False)
    with pytest.raises(ValueError, match="forks of a process, which Windows lacks"):
        graded({"a.zip": handed_in("a.zip")})


def test_a_diary_counts_right_answers_once_and_solutions_that_were_shown():
    first, second = list(all_quizzes())[:2]
    diary = [
        {"quiz": first, "right": True}, {"quiz": first, "right": True}, {"quiz": second, "right": False},
        {"quiz": "none of the course", "right": True}, {"right": True}, {},
        {"slot": SLOTS[0], "solution": True}, {"slot": SLOTS[1], "solution": False},
        {"slot": SLOTS[1], "status": "passed"}, {"solution": True},
    ]  # fmt: skip
    person = Person(handed_in("a.zip", diary=diary), (), ())
    assert (person.quizzes, person.looked) == (1, {SLOTS[0]})
