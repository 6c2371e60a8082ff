"""What a recipe is: everything that decides how a shipped model comes about, as data.

To try something else, make a variant: ``recipe.vary("vlm", steps=300)``, or ``dataclasses.replace``.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from torch import nn

from vlmcourse.training.history import History


@dataclass(frozen=True)
class Stage:
    """One training."""

    name: str
    steps: int  # of the optimizer
    size: int  # images, pairs, texts or tokens per step, as the data say
    rates: Mapping[str, float]  # learning rates, by optimizer: muon, adamw
    data: Mapping[str, Any]  # what it learns from, and how that is varied
    factors: Mapping[str, float] = field(default_factory=dict)  # of the rates, for parts of the model
    flat: float | None = None  # share of the steps at the full rate, see warmup_linear; None: warmup_cosine
    weight_decay: float = 0.0
    ships: str | None = None  # name of the checkpoint that is stored behind it


@dataclass(frozen=True)
class Recipe:
    """A model and its stages."""

    name: str
    family: str  # the module that carries it out, see families/making.py
    model: Any  # its configuration
    stages: tuple[Stage, ...]
    start: Mapping[str, Any] = field(default_factory=dict)  # scale of new weights, or whose it goes on from
    needs: tuple[str, ...] = ()  # checkpoints that must be there before
    seed: int = 0

    def stage(self, name: str) -> Stage:
        """The stage of this name.

        Raises:
            ValueError: if there is none; names those that there are.
        """
        there = {stage.name: stage for stage in self.stages}
        if name not in there:
            raise ValueError(f"{self.name} has the stages {', '.join(there)}, not {name!r}")
        return there[name]

    def vary(self, name: str, **changes: Any) -> "Recipe":
        """The same recipe with another stage of this name."""
        other = replace(self.stage(name), **changes)
        return replace(self, stages=tuple(other if stage.name == name else stage for stage in self.stages))

    def until(self, name: str) -> "Recipe":
        """The same recipe, ending with the stage of this name."""
        return replace(self, stages=self.stages[: self.stages.index(self.stage(name)) + 1])

    def since(self, name: str) -> "Recipe":
        """The same recipe from the stage of this name on: it goes on from what the stage before ships.

        Raises:
            ValueError: if there is no such stage, or nothing is shipped before it.
        """
        number = self.stages.index(self.stage(name))
        if not number or self.stages[number - 1].ships is None:
            raise ValueError(f"nothing is shipped before {name}, the stage to begin with; train all of them")
        start = {**self.start, "shipped": self.stages[number - 1].ships}
        return replace(self, stages=self.stages[number:], start=start)

    def short(self, steps: int) -> "Recipe":
        """The same recipe with so many steps in every stage that takes steps, for a trial."""
        return replace(self, stages=tuple(replace(s, steps=min(s.steps, 1) * steps) for s in self.stages))

    def card(self) -> dict[str, Any]:
        """The recipe as it stands on a card: plain data, as JSON keeps them."""
        return json.loads(json.dumps(asdict(self)))


# for a stage and the model: further arguments of training.loop.train, such as checkpoint
Options = Callable[[Stage, Any], dict[str, Any]]


class Made(NamedTuple):
    """What a stage left."""

    stage: Stage
    stored: nn.Module | Any  # whose weights are stored; a tokenizer stores itself
    history: History | None  # None where nothing was trained in steps
    measure: Callable[[], dict[str, float]]  # metrics of its card, with the weights ``stored`` has by then
