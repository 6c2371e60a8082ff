"""Carrying out a recipe, or a person's plan, from its first stage to the stored weights: ``vlmcourse train``.

carry_out     a recipe; what was broken off goes on
train_plan    the plan in my_vlm/vlm.toml, or in a file
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlmcourse.families.assembled import recipe_card
from vlmcourse.families.making import run, store
from vlmcourse.families.mine import own_mistakes, plan_file, rehearse, said_of_code, trained_file
from vlmcourse.recipes.plan import read_plan, recipe_of
from vlmcourse.recipes.recipe import Recipe
from vlmcourse.workbook.lesson import device

Tell = Callable[[str], object]


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

    def options(stage, model) -> dict:
        place = folder / stage.name if len(recipe.stages) > 1 else folder
        given = dict(checkpoint=place, resume=True, origin=dict(recipe=recipe.name, **asdict(stage)))
        return given | (dict(fastest=True) if fastest else {})

    for made in run(recipe, options):
        if made.history is not None:
            if first:
                tell(f"{made.stage.name}: {made.history}")
            seconds += made.history.seconds
    if not first:
        return None
    return store(made, runs / f"{recipe.name}.safetensors", dict(recipe=card, seconds=round(seconds), **more))


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
