"""Carrying out a recipe, or a person's plan, from its first stage to the stored weights: ``vlmcourse train``.

carry_out         a recipe; what was broken off goes on
train_plan        the plan in my_vlm/vlm.toml, or in a file
told_if_stopped   what is kept of a training that Ctrl-C stops
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from vlmcourse.families.assembled import recipe_card
from vlmcourse.families.making import run, store
from vlmcourse.families.mine import own_mistakes, plan_file, rehearse, said_of_code, trained_file
from vlmcourse.recipes.plan import read_plan, recipe_of
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.training.checkpoints import list_checkpoints, newest_checkpoint
from vlmcourse.training.reading import CheckpointError, read_json
from vlmcourse.workbook.lesson import device

Tell = Callable[[str], object]


class Stopped(KeyboardInterrupt):
    """Ctrl-C during a training; its text says what is kept."""


def carry_out(
    recipe: Recipe,
    runs: Path,
    fresh: bool,
    card: dict[str, Any],
    tell: Tell = print,
    fastest: bool = False,
    **more: Any,
) -> Path | None:
    """Run a recipe, or go on with it, and store what came out: runs/NAME.safetensors and its card.

    Args:
        fresh: throw away the checkpoints of earlier runs.
        card: what its card says of the recipe; ``more`` stands beside it.
        tell: takes a line for each stage.
        fastest: see training.loop.train.

    Returns:
        the file; None in all of several processes but the first, which writes.

    Raises:
        CheckpointError: see training.loop.train.
    """
    folder, seconds, first = runs / recipe.name, 0.0, os.environ.get("RANK", "0") == "0"
    if fresh and first:
        shutil.rmtree(folder, ignore_errors=True)
    tell = tell if first else _silent
    places = {_place(recipe, stage, folder): _origin(recipe, stage) for stage in recipe.stages}

    def options(stage, model) -> dict:
        given = dict(checkpoint=_place(recipe, stage, folder), resume=True, origin=_origin(recipe, stage))
        return given | (dict(fastest=True) if fastest else {})

    with told_if_stopped(places, fresh):
        for made in _announced(recipe, options, tell):
            if made.history is not None:
                tell(f"{made.stage.name}: {made.history}")
                seconds += made.history.seconds
        if not first:
            return None
        return store(
            made, runs / f"{recipe.name}.safetensors", dict(recipe=card, seconds=round(seconds), **more)
        )


def _place(recipe: Recipe, stage: Stage, folder: Path) -> Path:
    """Where the checkpoints of a stage are."""
    return folder / stage.name if len(recipe.stages) > 1 else folder


def _origin(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """What a stage begins from, see training.loop.train."""
    return dict(recipe=recipe.name, **asdict(stage))


def _silent(line: str) -> None:
    """Of several processes the first one speaks."""


def _announced(recipe: Recipe, options: Options, tell: Tell) -> Iterator[Made]:
    """What run gives; a line comes before the data of a stage are made, which may take minutes."""
    names = [stage.name for stage in recipe.stages]
    after = dict(pairwise(names))
    tell(data_line(names[0]))
    for made in run(recipe, options):
        yield made
        if made.stage.name in after:
            tell(data_line(after[made.stage.name]))


def data_line(stage: str) -> str:
    """What is told before the data of a stage are made."""
    return f"making the data of {stage} ..."


@contextmanager
def told_if_stopped(places: Mapping[Path, Mapping[str, Any]], fresh: bool) -> Iterator[None]:
    """A block in which Ctrl-C becomes Stopped.

    Args:
        places: the folders of the stages' checkpoints, in order, with what each stage begins from.
        fresh: whether the same command would throw the checkpoints away.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(_said_of_stop(places, fresh)) from stop


def _said_of_stop(places: Mapping[Path, Mapping[str, Any]], fresh: bool) -> str:
    """What is kept of a training, and what the same command would do; arguments as of told_if_stopped."""
    for place, origin in reversed(places.items()):
        if step := _kept_step(place, origin):
            command = "the same command without --fresh" if fresh else "the same command"
            stage = origin.get("name", origin["recipe"])
            return f"stopped; step {step} of {stage} is kept, and {command} goes on from there"
    if any(place.is_dir() for place in places):  # a stage makes its folder just before its first step
        return "stopped before its first checkpoint; the same command begins anew"
    return "stopped before its first step; nothing is lost"


def _kept_step(place: Path, origin: Mapping[str, Any]) -> int:
    """The step of the newest whole checkpoint of a stage that begins from this; 0 if there is none."""
    if not list_checkpoints(place):
        return 0
    try:
        with warnings.catch_warnings(action="ignore"):  # damaged ones are told when the training goes on
            newest = newest_checkpoint(place)
        there = read_json(newest / "state.json").get("origin") or {}
    except CheckpointError:
        return 0
    wanted = json.loads(json.dumps(origin))
    fits = all(there.get(name) == value for name, value in wanted.items())
    return int(newest.name.removeprefix("step-")) if fits else 0


def train_plan(
    config: Path | None = None,
    runs: Path = Path("runs"),
    until: str = "",
    steps: int = 0,
    fresh: bool = False,
    tell: Tell = print,
    fastest: bool = False,
) -> Path | None:
    """Train the model that a plan describes; see carry_out. Its card also names the learner's functions.

    First all of it is rehearsed, as small as can be, so that what would stop it stops it at once.

    Args:
        config: a file; my_vlm/vlm.toml if not given.
        runs: below the workspace.
        until: the last stage, if not all.
        steps: of each stage, for a trial; 0 for those of the plan on this device.
        fastest: see training.loop.train.

    Raises:
        FileNotFoundError, PlanError: if there is no plan, or a wrong one.
        ValueError: if it has no such stage, or a function of the learner's stops it.
    """
    plan = read_plan(config or plan_file())
    recipe = recipe_of(plan, device())
    recipe = recipe.until(until) if until else recipe
    recipe = recipe.short(steps) if steps else recipe
    rows = rehearse(plan)
    tell(said_of_code(rows))
    code = sorted(row.slot for row in rows if row.mine)
    place = trained_file(plan.name, runs).parent
    with own_mistakes():
        return carry_out(recipe, place, fresh, recipe_card(plan), tell, fastest, code=code)
