"""What a notebook calls around its exercises: begin, budget, quiz, progress."""

import json
import logging
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch

from vlmcourse.data.assets import written_beside
from vlmcourse.exercises.base import all_exercises, all_quizzes
from vlmcourse.slots import REGISTRY
from vlmcourse.workbook import engine, portfolio
from vlmcourse.workbook.card import Card, number_of
from vlmcourse.workbook.chapters import CHAPTERS
from vlmcourse.workbook.drive import brought_back
from vlmcourse.workbook.figures import plot_style

LANGUAGES = ("en", "ja")


def begin(chapter: str, lang: str = "en", reference: bool | None = None) -> None:
    """Set up a chapter: language, seed, plot style, the checker, and the functions you passed before.

    Args:
        reference: whether the course's functions stand in for exercises that are open. If not, those of
            earlier chapters stop whatever calls them, and this chapter's do from their cell on. By default
            they do, unless $VLMCOURSE_REFERENCE is 0, as ``vlmcourse lab --no-reference`` sets it.

    Raises:
        ValueError: for a chapter or language the course does not have.
    """
    names = [c.name for c in CHAPTERS]
    if chapter not in names:
        raise ValueError(f"no chapter {chapter!r}; the chapters are {', '.join(names)}")
    if lang not in LANGUAGES:
        raise ValueError(f"no edition in {lang!r}; there is {' and '.join(LANGUAGES)}")
    engine.checker.start()
    engine.language = lang
    engine.references = os.environ.get("VLMCOURSE_REFERENCE") != "0" if reference is None else reference
    torch.manual_seed(0)
    plot_style()
    _hush_libraries()
    try:
        lines = brought_back()
        installed, complaints = engine.reinstall()
        others = portfolio.strangers()
    except OSError as error:
        lines, installed, complaints, others = [], [], [str(error)], []
    _leave_open_before(chapter)
    engine.checker.ready()  # so that the first check is as quick as all others
    lines.insert(0, engine.tell("runs_on", device=device_words()))
    if installed:
        lines.append(engine.tell("your_code", slots=", ".join(installed)))
    if not engine.references:
        lines.append(engine.tell("no_references"))
    if others:
        complaints.append(engine.tell("left_alone", files=", ".join(others)))
    Card("plain", engine.tell("ready", chapter=chapter), lines + complaints).show()


def _leave_open_before(chapter: str) -> None:
    """Where references do not stand in: let open exercises of earlier chapters stop what calls them."""
    for slot in REGISTRY.values():
        if getattr(slot.active, "left_open", False):
            slot.reset()  # which an earlier begin() left so
    names = [c.name for c in CHAPTERS]
    for task in all_exercises().values() if not engine.references else ():  # whose import takes seconds
        if names.index(task.chapter) < names.index(chapter):
            engine.leave_open(task.slot, task.chapter)


def _hush_libraries() -> None:
    """Keep out of the pages what libraries say to their own authors, and a learner can do nothing about."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # of kernels it could load from elsewhere
    warnings.filterwarnings("ignore", r".*is_gradient_checkpointing", FutureWarning)  # peft asks for it


def device() -> str:
    """The device training runs on: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_words() -> str:
    kind = device()
    if kind == "cuda":
        return torch.cuda.get_device_name()
    return "Apple GPU" if kind == "mps" else f"CPU, {number_of(torch.get_num_threads(), 'thread')}"


def budget(cpu: dict, gpu: dict) -> SimpleNamespace:
    """Pick the sizes of a training run by device and say which.

        budget(cpu=dict(steps=300), gpu=dict(steps=3000)).steps

    Raises:
        ValueError: if both do not name the same sizes.
    """
    if set(cpu) != set(gpu):
        differ = ", ".join(sorted(set(cpu) ^ set(gpu)))
        raise ValueError(f"cpu and gpu must name the same sizes, but differ in {differ}")
    chosen = cpu if device() == "cpu" else gpu
    sizes = ", ".join(f"{name} = {value:,}" for name, value in chosen.items())
    print(f"Budget for {device_words()}: {sizes}")
    return SimpleNamespace(**chosen)


def quiz(name: str):
    """Show a multiple-choice question by its name, such as "02_vit/1"; each choice has an explanation.

    Raises:
        LookupError: if there is no such question.
    """
    from vlmcourse.widgets.quiz import Quiz

    if name not in all_quizzes():
        raise LookupError(f"no quiz question {name!r}; there are {', '.join(all_quizzes())}")
    asked = all_quizzes()[name]
    choices = [(engine.pick(text), right, engine.pick(why)) for text, right, why in asked.choices]
    widget = Quiz(engine.pick(asked.question), choices)

    def note(change: dict) -> None:
        portfolio.note(chapter=name.split("/")[0], quiz=name, right=bool(widget.correct))

    widget.observe(note, "chosen")
    return widget


def progress() -> Card:
    """How far you are, from your diary: one row per chapter with a link to it, and one for all of them."""
    try:
        place = portfolio.workspace() / "my_vlm" / "diary.jsonl"
        diary, lines = portfolio.diary(), [engine.tell("from_diary", place=place)]
        if damaged := portfolio.damaged():
            numbers = ", ".join(map(str, damaged[:10])) + (", …" if len(damaged) > 10 else "")
            lines.append(engine.tell("damaged_lines", count=len(damaged), numbers=numbers))
    except OSError as error:
        diary, lines = [], [engine.tell("no_diary", error=error)]
    counted = achieved(diary)
    rows = []
    for chapter in CHAPTERS:
        if not chapter.ready:
            rows.append([chapter.name, engine.tell("to_come"), ""])
            continue
        done, of, right, asked = counted[chapter.name]
        rows.append([chapter.name, f"{'█' * done}{'░' * (of - done)} {done}/{of}", f"{right}/{asked}"])
    complete = sum(one.passed == one.exercises for one in counted.values())
    done, of, right, asked = map(sum, zip(*counted.values(), strict=True))
    rows.append([engine.tell("in_all"), f"{done}/{of}", f"{right}/{asked}"])
    numbers = {"passed": done, "exercises": of, "complete": complete}
    title = engine.tell("so_far", **numbers, chapters=sum(chapter.ready for chapter in CHAPTERS))
    header = [engine.tell(name) for name in ("chapter", "exercises_passed", "quizzes_right")]
    return Card("plain", title, lines, table=(header, rows), links=_addresses())


class Achieved(NamedTuple):
    """Of one chapter."""

    passed: int
    exercises: int
    right: int
    quizzes: int


def achieved(diary: list[dict]) -> dict[str, Achieved]:
    """By chapter that is ready: how many exercises passed, and quiz questions were answered rightly."""
    passed = {event.get("slot") for event in diary if event.get("status") == "passed"}
    right = {event.get("quiz") for event in diary if event.get("right")}
    tasks = [(task.chapter, name in passed) for name, task in all_exercises().items()]
    asked = [(name.split("/")[0], name in right) for name in all_quizzes()]
    counted = {}
    for chapter in CHAPTERS:
        if chapter.ready:
            done = [is_passed for place, is_passed in tasks if place == chapter.name]
            answered = [is_right for place, is_right in asked if place == chapter.name]
            counted[chapter.name] = Achieved(sum(done), len(done), sum(answered), len(answered))
    return counted


def export_progress(path: Path) -> Path:
    """Write what is achieved, by chapter, as JSON."""
    counted = {chapter: one._asdict() for chapter, one in achieved(portfolio.diary()).items()}
    with written_beside(path) as draft:
        draft.write_text(json.dumps(counted, indent=1), encoding="utf-8")
    return path


def _addresses() -> dict[str, str]:
    """The chapters' notebooks as seen from the one that runs; the Japanese edition lies one folder deeper."""
    addresses = {}
    for chapter in CHAPTERS:
        for address in (f"../{chapter.name}.ipynb", f"{chapter.name}.ipynb"):  # of two, the nearer
            if Path(address).is_file():
                addresses[chapter.name] = address
    return addresses
