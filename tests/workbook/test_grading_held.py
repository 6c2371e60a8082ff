"""What a grader promises about time, about what it gives up first, and about whatever is sent to it."""

import functools
import importlib.util
import inspect
import json
import linecache
from pathlib import Path
from types import SimpleNamespace

import pytest

from vlmcourse.exercises.base import all_exercises
from vlmcourse.slots import REGISTRY
from vlmcourse.workbook import grading, portfolio, search
from vlmcourse.workbook.copies import FORKS
from vlmcourse.workbook.grading import Grade, Grader
from vlmcourse.workbook.outcomes import Outcome
from vlmcourse.workbook.plain import as_data
from vlmcourse.workbook.say import phrase

SLOT = "attention.merge_heads"
RIGHT = [as_data(Outcome(value=1)), as_data(Outcome(value=2))]
PASSES = {"status": "passed", "says": ""}


@pytest.fixture
def grader():
    """A grader of one exercise, the right outputs of which are 1 and 2."""
    one = Grader.__new__(Grader)
    one.seed, one.seconds, one.known = 77, 3, {}
    one.exercises, one.expected = {SLOT: all_exercises()[SLOT]}, {SLOT: RIGHT}
    return one


def graded(grader, monkeypatch, values, verdict):
    """The grade of an answer whose copies send this."""
    messages = iter([values, verdict])

    def said(work, seconds):
        message = next(messages)
        return message if hasattr(message, "en") else json.dumps(message).encode()

    monkeypatch.setattr(grader, "_in_a_copy", said)
    return grader.grade_one(SLOT, "", 3)


def test_right_values_and_a_passed_check_are_a_pass_and_neither_is_alone(grader, monkeypatch):
    one = graded(grader, monkeypatch, RIGHT, PASSES)
    assert one[2:] == ("passed", 1.0, 2, 2, "", False)
    grader.known = {}
    one = graded(grader, monkeypatch, RIGHT, {"status": "wrong", "says": "no gradient"})
    assert one[2:] == ("wrong", pytest.approx(2 / 3), 2, 2, "no gradient", False)


@pytest.mark.parametrize("values", [RIGHT[:1], [*RIGHT, RIGHT[0]], RIGHT[::-1], [], {"problem": "its own"}])
def test_who_passes_the_check_without_all_right_values_does_not_pass(grader, monkeypatch, values):
    one = graded(grader, monkeypatch, values, PASSES)
    assert one.status == "wrong" and one.credit < 1
    own = "It passes its own check only: run by itself, it gives other outputs."
    assert one.says == ("its own" if isinstance(values, dict) else own)


def test_who_passes_the_check_and_sends_no_values_is_told_how_that_ended(grader, monkeypatch):
    crashed = phrase("crashed", code=3)
    assert graded(grader, monkeypatch, crashed, PASSES)[2:] == ("wrong", 0, 0, 2, crashed.en, False)


def test_an_answer_that_uses_up_its_time_in_the_check_counts_as_stopped(grader, monkeypatch):
    late = phrase("too_slow", seconds=3)
    one = graded(grader, monkeypatch, RIGHT, late)
    assert one[2:] == ("wrong", pytest.approx(2 / 3), 2, 2, late.en, True)


VERDICTS = [
    5,
    None,
    [],
    "passed",
    {},
    {"status": 5, "says": ""},
    {"says": 5},
    {"says": None},
    {"status": "passed", "says": []},
]


@pytest.mark.parametrize("sent", VERDICTS)
def test_whatever_a_check_is_made_to_send_is_read(grader, monkeypatch, sent):
    one = graded(grader, monkeypatch, RIGHT, sent)
    assert (one.status, one.right) == ("wrong", 2) and isinstance(one.says, str)


def test_an_answer_is_run_again_only_where_it_has_another_time(grader, monkeypatch):
    """Who is stopped early in one submission may need, and have, the whole time in another."""
    times = []

    def noted(name, text, seconds):
        times.append(seconds)
        return Grade(name, "x", "wrong", 0.0, 0, 2)

    monkeypatch.setattr(grader, "_grade_text", noted)
    for seconds in (0.6, 3, 3, 0.6):
        grader.grade_one(SLOT, "text", seconds)
    assert times == [0.6, 3]


def test_libraries_are_imported_before_a_copy_is_made_and_only_where_a_word_names_them(grader, monkeypatch):
    asked = []
    monkeypatch.setattr(grading.importlib, "import_module", asked.append)
    grading.import_libraries("recompiled = precompile + timmy")
    assert asked == []
    monkeypatch.setattr(grader, "_in_a_copy", lambda *_: asked.append("a copy") or b"")
    grader.grade_one(SLOT, "import matplotlib.pyplot as plt\nf = torch.compile(f)", 3)
    assert asked == ["matplotlib.pyplot", "torch._dynamo", "a copy", "a copy"]


def test_a_library_that_fails_to_import_ends_no_grader(monkeypatch):
    def fails(name):
        raise RuntimeError(f"{name} was built for another torch")

    monkeypatch.setattr(grading.importlib, "import_module", fails)
    grading.import_libraries("import timm, torchvision")


def test_nothing_is_left_of_a_function_that_is_forgotten(tmp_path):
    file = tmp_path / "taught.py"
    file.write_text("def own(x):\n    return x + 1\n")
    spec = importlib.util.spec_from_file_location("taught", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    @functools.wraps(module.own)
    def wrapped(x):
        return module.own(x)

    assert linecache.getlines(str(file))
    task = SimpleNamespace(slot=SimpleNamespace(reference=wrapped), slips=["one"])
    hidden = grading.forget(task)
    assert task.slips == [] and str(file) not in linecache.cache
    assert hidden == (str(file), str(tmp_path / "__pycache__" / "taught."))
    for function in (module.own, wrapped):
        with pytest.raises(PermissionError, match=f"^{grading.OURS}$"):
            function(1)


def test_every_function_of_the_course_can_be_forgotten():
    """Of a closure the code cannot be exchanged for one that refuses; it would stay within reach."""
    all_exercises()
    functions = {name: inspect.unwrap(slot.reference) for name, slot in REGISTRY.items()}
    closures = [name for name, one in functions.items() if one.__code__.co_freevars]
    assert len(functions) >= 111 and closures == []
    folder = Path(grading.vlmcourse.__file__).parent
    assert all(Path(inspect.getfile(one)).is_relative_to(folder) for one in functions.values())


def installed(folder, module):
    """A folder as pip fills it, with one module."""
    (folder / f"{module}-1.dist-info").mkdir(parents=True)
    (folder / f"{module}.py").write_text("HEADS = 2\n")
    return folder


def test_folders_of_installed_packages_are_read_and_no_other_of_the_path(tmp_path, monkeypatch):
    """Neither where a teacher works, nor a checkout, nor another copy of the course is a library."""
    names = ["user", "here", "work", "copy", "python"]
    for name in names:
        installed(tmp_path / name, "late")
    for inner in ("here/class", "work/my_vlm", "copy/vlmcourse", "checkout/build"):
        (tmp_path / inner).mkdir(parents=True)
    installed(tmp_path / "user/nested", "later")
    (tmp_path / "zip").write_text("no folder")
    monkeypatch.chdir(tmp_path / "here/class")
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path / "work"))
    names += ["user/nested", "checkout", "zip", "nowhere"]
    entries = ["", *(str(tmp_path / name) for name in names), str(grading.COURSE.parent)]
    assert grading.library_folders(entries, [tmp_path / "python"]) == (tmp_path / "user",)


def test_a_course_that_is_installed_beside_other_packages_is_a_library(tmp_path, monkeypatch):
    """As `pip install --user` leaves it; of its modules `forget` names those that stay hidden."""
    monkeypatch.setattr(grading, "COURSE", tmp_path / "user/vlmcourse")
    installed(tmp_path / "user", "late")
    (tmp_path / "user/vlmcourse").mkdir()
    places = [tmp_path / "user/vlmcourse"]
    assert grading.library_folders([str(tmp_path / "user")], places) == (tmp_path / "user",)


@pytest.mark.skipif(not FORKS, reason="needs os.fork")
def test_an_answer_imports_what_lies_outside_of_the_environment(grader, tmp_path, monkeypatch):
    """And reads neither the course's own function nor what lies beside the library."""
    library = installed(tmp_path / "user", "late_library_of_a_user")
    (tmp_path / "other.txt").write_text("another's")
    monkeypatch.syspath_prepend(library)
    task, source = grader.exercises[SLOT], Path(inspect.getfile(inspect.unwrap(REGISTRY[SLOT].reference)))

    def values(line):
        text = f"{line}\ndef merge_heads(parts):\n    return parts.transpose(1, 2).flatten(2)\n"
        work = functools.partial(grader._values, task, portfolio.Saved(Path("x.py"), text), 3)
        return json.loads(grader._in_a_copy(work, 3))

    line = "from late_library_of_a_user import HEADS"
    assert "No module named 'late_library_of_a_user'" in values(line)["problem"]
    folders = grading.library_folders([str(library)], grading.PYTHONS)
    monkeypatch.setattr(grading, "READABLE", (*grading.PYTHONS, *folders))
    assert isinstance(values(line), list) and len(values(line)) == 2
    for hidden in (source, tmp_path / "other.txt"):
        assert f"an answer may not open '{hidden}'" in values(f"open({str(hidden)!r})")["problem"]


@pytest.mark.skipif(not FORKS, reason="needs os.fork")
def test_the_check_runs_confined_on_the_graders_seed_and_knows_no_other_answer(grader, monkeypatch):
    resource = pytest.importorskip("resource")

    def verdict_on(task, saved, seed):
        try:
            Path("/etc/hostname").read_bytes()
        except PermissionError:
            opened = False
        limit = resource.getrlimit(resource.RLIMIT_CPU)[0]
        says = f"{opened} {limit} {search.SEARCH} {seed} {grader.known} {grader.expected}"
        return SimpleNamespace(status="wrong", says=SimpleNamespace(en=says))

    monkeypatch.setattr(grading, "verdict_on", verdict_on)
    grader.known = {("slot", "another's answer", 3): None}
    task = grader.exercises[SLOT]
    sent = grader._in_a_copy(functools.partial(grader._verdict, task, None, 3), 3)
    assert json.loads(sent) == {"status": "wrong", "says": "False 8 0.5 77 {} {}"}
