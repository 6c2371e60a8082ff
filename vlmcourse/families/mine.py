"""The learner's own model: whose code runs in it, their code as one file, its plan (notebook 18).

plan_file, trained_file   my_vlm/vlm.toml, and the weights that it becomes
use_my_code               install what is saved in my_vlm/ and unchanged since it passed
slots_of                  which slots a planned model calls, from training to answer
whose_code                of these, which run the learner's code
left_to_solve             of these, which do not, by chapter
rehearse                  carry a plan out as small as can be, before minutes are spent on it
own_mistakes              a block in which an error inside a saved function names it
gather_code               my_vlm/my_vlm.py
without_references        a block in which no reference may run
"""

import functools
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from vlmcourse.data.assets import written_beside
from vlmcourse.exercises.base import all_exercises
from vlmcourse.families import assembled
from vlmcourse.recipes.plan import Plan, read_plan, recipe_of
from vlmcourse.slots import REGISTRY, calls_counted, raising
from vlmcourse.speak import Speaker
from vlmcourse.workbook import engine, portfolio
from vlmcourse.workbook.gathering import gather, section_of
from vlmcourse.world.questions import ask
from vlmcourse.world.render import render
from vlmcourse.world.scenes import sample

MINE = "my_vlm"  # how the command line calls the learner's model


def plan_file() -> Path:
    """Where the learner's plan stands, or will."""
    return portfolio.workspace() / MINE / "vlm.toml"


def trained_file(name: str, runs: Path = Path("runs")) -> Path:
    """Where the weights of a plan of this name stand, or will."""
    return portfolio.workspace() / runs / f"{name}.safetensors"


def use_my_code() -> tuple[list[str], list[str]]:
    """Install every saved function that is as it was when it passed.

    Returns:
        (installed, complaints): names of slots, and a sentence for each file that is not used.
    """
    all_exercises()
    passed = {(event.get("slot"), str(event.get("file"))) for event in portfolio.diary()}
    installed, complaints = [], []
    for name, saved in portfolio.saved(REGISTRY).items():
        if isinstance(saved, Exception):
            complaints.append(f"{portfolio.file_of(name)} cannot be read: {saved}")
        elif (name, saved.fingerprint()) not in passed:
            again = f"run the cell of {name} in its chapter, which checks it again"
            complaints.append(f"{saved.path} is not as it was when it passed; {again}")
        else:
            try:
                REGISTRY[name].install(engine.quietly(saved, REGISTRY[name]))
                installed.append(name)
            except Exception as error:  # such as a library that was there when it passed
                says = f"{saved.path} does not load any more ({type(error).__name__}: {error})"
                complaints.append(f"{says}; the course's {name} runs")
    return installed, complaints


def try_plan(plan: Plan, steps: int = 1) -> list[str]:
    """Carry out a plan as small as can be, and answer three questions: every function it needs runs."""
    recipe = recipe_of(plan).short(steps)
    small = [replace(stage, size=2, data={**stage.data, "scenes": 4}) for stage in recipe.stages]
    recipe = replace(recipe, stages=tuple(small))
    model = assembled.new_assembled(recipe)
    for stage in recipe.stages:
        assembled.make_assembled(stage, model, recipe.seed, precision="no")
    batch = sample("test", 3)
    return Speaker(model).answer(render(batch), [one.text for one in ask(batch, "count")], steps=4)


def slots_of(plan: Plan) -> list[str]:
    """The slots that a planned model calls while it learns and answers, in the order of their first calls.

    Those that some chapter teaches; another slot is the package's.
    """
    taught = all_exercises()
    with calls_counted() as counts:
        try_plan(plan)
    return [name for name in counts if name in taught]


class WhoseCode(NamedTuple):
    """One slot of a model."""

    part: str  # of the model
    slot: str
    chapter: str  # that teaches it; "" if none does
    mine: bool  # whether the learner's function runs


def whose_code(slots: Iterable[str]) -> list[WhoseCode]:
    """Of each of these slots, whose code runs; in the order given."""
    tasks = all_exercises()
    rows = []
    for name in slots:
        chapter = tasks[name].chapter if name in tasks else ""
        slot = REGISTRY[name]
        rows.append(WhoseCode(section_of(name), name, chapter, slot.runs_mine))
    return rows


def left_to_solve(rows: Iterable[WhoseCode]) -> dict[str, list[str]]:
    """Of these slots, those that still run the course's code, by the chapters that teach them."""
    by_chapter: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.chapter):
        if not row.mine:
            by_chapter.setdefault(row.chapter, []).append(row.slot)
    return by_chapter


def said_of_code(rows: list[WhoseCode]) -> str:
    """How many functions of a model are the learner's, and what is left to solve where."""
    mine = sum(row.mine for row in rows)
    if mine == len(rows):
        return f"All {mine} functions that this plan calls are yours."
    left = [f"{chapter[:2]} ({', '.join(slots)})" for chapter, slots in left_to_solve(rows).items()]
    has = f"{mine} of the {len(rows)} functions that this plan calls are yours"
    return f"{has}; the course's stand in for the rest. Left to solve: chapter {', '.join(left)}"


class OwnCodeError(ValueError):
    """A function of the learner's stopped a model; says which, in which line, and what to do."""


@contextmanager
def own_mistakes() -> Iterator[None]:
    """A block in which an error from inside a saved function becomes an OwnCodeError that names its file."""
    try:
        yield
    except Exception as error:
        own = portfolio.workspace() / MINE
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == own
        ]
        if not frames or isinstance(error, OwnCodeError):
            raise
        last = frames[-1]
        place = f"{last.filename}, line {last.lineno}, `{last.line}`"
        says = f"your own function stopped it: {place} raised {type(error).__name__}: {error}"
        remedy = (
            "Mend it in its notebook and run that cell again, or take the file away: then the course's runs"
        )
        raise OwnCodeError(
            f"{says}. {remedy}. Checkpoints are whole, and the training goes on from them"
        ) from error


def rehearse(plan: Plan) -> list[WhoseCode]:
    """Carry a plan out as small as can be; whose code runs in it.

    Raises:
        OwnCodeError: if a function of the learner's stops it.
    """
    with own_mistakes():
        return whose_code(slots_of(plan))


def gather_code(order: Iterable[str] = ()) -> Path:
    """Write my_vlm/my_vlm.py: all saved functions as one file, see workbook/gathering.py.

    Raises:
        ValueError: if nothing is saved yet, or a saved file is no Python.
        OSError: if it cannot be written.
    """
    saved = portfolio.saved(all_exercises())
    answers = {name: one for name, one in saved.items() if not isinstance(one, Exception)}
    path = portfolio.folder() / portfolio.GATHERED
    with written_beside(path) as draft:
        draft.write_text(gather(answers, order), encoding="utf-8")
    return path


class ReferenceRan(AssertionError):
    """A reference of the course, that of ``slot``, ran where only the learner's code should."""

    def __init__(self, slot: str):
        super().__init__(f"the course's {slot} was called; yours is not installed")
        self.slot = slot


@contextmanager
def without_references(slots: Iterable[str]) -> Iterator[None]:
    """A block in which the references of these slots raise ReferenceRan when they are called."""
    before = {name: (REGISTRY[name].reference, REGISTRY[name].active) for name in slots}
    for name, (reference, active) in before.items():
        refusing = raising(reference, functools.partial(ReferenceRan, name))
        REGISTRY[name].reference = refusing
        if active is reference:
            REGISTRY[name].active = refusing
    try:
        yield
    finally:
        for name, (reference, active) in before.items():
            REGISTRY[name].reference = reference
            REGISTRY[name].active = active


def my_plan() -> Plan:
    """The learner's plan, as my_vlm/vlm.toml says."""
    return read_plan(plan_file())
