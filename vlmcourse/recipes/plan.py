"""A plan is what a person writes to have a vision-language model of their own: one TOML file (notebook 18).

read_plan, plan_of    a Plan of a file, or of a table; whatever is wrong is named with its line
recipe_of             the Recipe that carries it out, like any other of the course
EXAMPLES              LLaVA, Flamingo and BLIP-2 as three plans of the same parts

name = "my-llava"
vision = "nano-vlm"          # whose eye
language = "nano-chat"       # whose language model
[connector]
kind = "mlp"
[[stages]]
name = "answer"
trains = ["connector", "language"]
data = "questions"
steps = 100
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from vlmcourse.data.assets import assets_folder
from vlmcourse.data.text import IMAGE
from vlmcourse.models.blip2 import Blip2Config
from vlmcourse.models.flamingo import FlamingoConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.recipes.clip import SCENES as CLIP_EYE
from vlmcourse.recipes.connectors import NANO_BLIP2
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage
from vlmcourse.world.scenes import SIDE

EYES = {
    "nano-vlm": NANO_VLM.model.vision,
    "clip-scenes": ViTConfig(
        SIDE, CLIP_EYE["patch"], width=CLIP_EYE["width"], depth=4, heads=4, epsilon=1e-5
    ),
}
_LAYERS = {"nano-vlm": -1, "clip-scenes": -2}  # which residual stream a LLaVA reads
_LANGUAGES = ("nano-words", "nano-chat", "nano-vlm")  # knows captions; conversations; and how images read
TRAINABLE = ("connector", "language")
OWN = "own"  # pictures of the learner's, in a folder
DATA = {  # of a stage: arguments of families.nano.lessons
    "captions": dict(described=1.0),
    "questions": {},
    "pairs": dict(relations=5),
    "mixed": dict(described=0.0),
    OWN: dict(described=0.0),  # of the scenes that come again beside them
}
FAMILY = "assembled"  # the module of families/ that carries plans out
EXAMPLES = ("llava", "flamingo", "blip2")


class PlanError(ValueError):
    """A plan is wrong; says where, what, and what is allowed."""


class Rule(NamedTuple):
    """What a key may hold."""

    words: str
    allows: Callable[[Any], bool]


def _one_of(*names: str) -> Rule:
    return Rule("one of " + ", ".join(names), lambda value: isinstance(value, str) and value in names)


def _whole(low: int, high: int) -> Rule:
    words = f"a whole number from {low:,} to {high:,}"
    return Rule(words, lambda value: type(value) is int and low <= value <= high)


def _number(low: float, high: float) -> Rule:
    words = f"a number from {low:g} to {high:g}"
    return Rule(words, lambda value: type(value) in (int, float) and low <= value <= high)


def _some_of(*names: str) -> Rule:
    def allows(value: Any) -> bool:
        return isinstance(value, list | tuple) and bool(value) and all(name in names for name in value)

    return Rule(f"a list of one or more of {', '.join(names)}", allows)


NAME = Rule(
    "small letters, digits and -, at most 40, beginning with a letter",
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"[a-z][a-z0-9-]{0,39}", value)),
)
TABLE = Rule("a table, such as [connector] begins", lambda value: isinstance(value, Mapping))
PLAN = {
    "name": NAME,
    "seed": _whole(0, 10**6),
    "vision": _one_of(*EYES),
    "language": _one_of(*_LANGUAGES),
    "connector": TABLE,
    "budget": TABLE,
    "stages": Rule(
        "one or more tables [[stages]]", lambda value: isinstance(value, list | tuple) and bool(value)
    ),
}
CONNECTORS = {
    "linear": {"shuffle": _whole(1, 8)},
    "mlp": {"shuffle": _whole(1, 8)},
    "resampler": {"latents": _whole(1, 256), "depth": _whole(1, 4), "every": _whole(1, 4)},
    "q-former": {"queries": _whole(1, 256), "depth": _whole(2, 8)},
}
USUAL = dict(shuffle=1, latents=64, depth=1, every=1, queries=32)  # of a connector, where the plan is silent
BUDGET = {"cpu": _number(0.001, 100), "gpu": _number(0.001, 100)}
_STAGE = {
    "name": NAME,
    "trains": _some_of(*TRAINABLE),
    "data": _one_of(*DATA),
    "steps": _whole(1, 10**6),
    "size": _whole(1, 1024),
    "scenes": _whole(1, 10**6),
    "muon": _number(0, 1),
    "adamw": _number(0, 1),
    "flat": _number(0, 0.99),
    "grey": _number(0, 1),
    "slow_connector": _number(0, 1),
    "folder": Rule("the path of a folder, in quotes", lambda value: isinstance(value, str)),
}
_STAGE_USUAL = dict(
    size=16, scenes=8000, muon=0.01, adamw=2e-3, flat=0.4, grey=0.25, slow_connector=1.0, folder=""
)


@dataclass(frozen=True)
class Plan:
    """What a plan says, with everything it leaves out filled in.

    Attributes:
        connector: its kind, and the numbers of that kind.
        budget: by device, what the steps of every stage are multiplied by.
        stages: in their order; rates are muon (matrices inside blocks) and adamw (all else).
    """

    name: str
    vision: str
    language: str
    connector: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    budget: Mapping[str, float]
    seed: int = 0

    def table(self) -> dict[str, Any]:
        """Plain data, which plan_of reads back."""
        parts = dict(connector=dict(self.connector), budget=dict(self.budget))
        stages = [dict(stage, trains=list(stage["trains"])) for stage in self.stages]
        return vars(self) | parts | dict(stages=stages)

    @property
    def kind(self) -> str:
        """Of the connector."""
        return self.connector["kind"]

    @property
    def own_pictures(self) -> bool:
        """Whether some stage learns from pictures of the learner's."""
        return any(stage["data"] == OWN for stage in self.stages)

    def steps(self, device: str = "cpu") -> list[int]:
        """Of each stage, on a device of this kind."""
        factor = self.budget["cpu" if device in ("cpu", "mps") else "gpu"]
        return [max(1, round(stage["steps"] * factor)) for stage in self.stages]


def read_plan(path: str | Path) -> Plan:
    """The plan in a TOML file.

    Raises:
        FileNotFoundError: if there is none; says how to get one.
        PlanError: names the line, what is wrong there, and what is allowed.
    """
    path = Path(path)
    if path.is_dir():
        raise PlanError(f"{path} is a folder; name the plan in it, such as {path / 'vlm.toml'}")
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no plan {path}; copy one of {', '.join(str(example(one)) for one in EXAMPLES)} there"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors write a mark at its beginning
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PlanError(
            f"{path}, line {line}: this is no text in UTF-8; save it as plain text in UTF-8"
        ) from error
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        remedy = "write `key = value`, texts in quotes, each key once; the course's examples show the form"
        raise PlanError(f"{path} is no TOML: {error}; {remedy}") from error
    try:
        return plan_of(table)
    except _Wrong as error:
        raise PlanError(f"{path}, line {_line_of(text, error.place)}: {error}") from error


def example(name: str) -> Path:
    """The file of one of EXAMPLES."""
    return assets_folder() / "examples" / f"{name}.toml"


class _Wrong(PlanError):
    """A PlanError that knows its place: the keys and numbers that lead to it."""

    def __init__(self, says: str, *place: str | int):
        super().__init__(says)
        self.place = place


def plan_of(table: Mapping[str, Any]) -> Plan:
    """The plan that a table describes, as tomllib reads it or Plan.table writes it.

    Raises:
        PlanError: says what is wrong, and what is allowed.
    """
    _check(table, PLAN, ("name", "vision", "language", "connector", "stages"), "the plan")
    connector, budget = table["connector"], table.get("budget", {})
    kinds = _one_of(*CONNECTORS)
    if "kind" not in connector:
        raise _Wrong(f"the connector has no kind; it is {kinds.words}", "connector")
    kind = connector["kind"]
    _check_value(kind, kinds, "the connector's kind", "connector", "kind")
    rules = CONNECTORS[kind]
    _check(connector, {"kind": kinds, **rules}, (), f"a connector of kind {kind}", "connector")
    _check(budget, BUDGET, (), "the budget", "budget")
    for number, stage in enumerate(table["stages"]):
        _check_value(stage, TABLE, f"stage {number + 1}", "stages", number)
        needed = ("name", "trains", "data", "steps")
        _check(stage, _STAGE, needed, f"stage {number + 1}", "stages", number)
    whole = {"kind": kind} | {name: connector.get(name, USUAL[name]) for name in rules}
    stages = tuple(_STAGE_USUAL | dict(stage, trains=tuple(stage["trains"])) for stage in table["stages"])
    names = (table[part] for part in ("name", "vision", "language"))
    plan = Plan(*names, whole, stages, dict(cpu=1.0, gpu=10.0) | dict(budget), table.get("seed", 0))
    _refuse_unfit(plan)
    return plan


def _check(
    table: Mapping[str, Any], rules: Mapping[str, Rule], needed: tuple[str, ...], what: str, *place: str | int
) -> None:
    """_Wrong unless a table has the keys it needs, no others, and what each of them may hold."""
    for key, value in table.items():
        if key not in rules:
            raise _Wrong(
                f"{what} has no key {key!r}{_meant(key, rules)} It has {', '.join(rules)}", *place, key
            )
        _check_value(value, rules[key], f"{key} of {what}", *place, key)
    for key in needed:
        if key not in table:
            raise _Wrong(f"{what} lacks {key!r}, {rules[key].words}", *place)


def _meant(key: str, rules: Mapping[str, Rule]) -> str:
    """What somebody probably wanted who wrote a key that is not there."""
    if near := difflib.get_close_matches(key, rules, n=1):
        return f"; did you mean {near[0]!r}?"
    if key in PLAN and rules is not PLAN:
        return "; it belongs above the first [table]."
    return "."


def _check_value(value: Any, rule: Rule, what: str, *place: str | int) -> None:
    if not rule.allows(value):
        raise _Wrong(f"{what} is {value!r:.60}, expected {rule.words}", *place)


def _refuse_unfit(plan: Plan) -> None:
    """_Wrong where each part is allowed, but not together."""
    from vlmcourse.recipes.book import RECIPES  # reads this folder

    shipped = {stage.ships for recipe in RECIPES.values() for stage in recipe.stages} | set(RECIPES)
    if plan.name in shipped:
        raise _Wrong(f"{plan.name} is a model of the course; give yours another name", "name")
    names = [stage["name"] for stage in plan.stages]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise _Wrong(f"two stages are called {name}; each needs its own", "stages", number, "name")
    if not any("connector" in stage["trains"] for stage in plan.stages):
        why = "it begins as random numbers, so nothing of the image would arrive"
        raise _Wrong(f"no stage trains the connector; {why}", "stages", 0, "trains")
    if "connector" not in plan.stages[0]["trains"]:
        why = "the connector begins as random numbers, and the language model would learn to pass over it"
        remedy = "let a stage before it train the connector, or this one both"
        raise _Wrong(
            f"the first stage trains the language model alone: {why}; {remedy}", "stages", 0, "trains"
        )
    for number, stage in enumerate(plan.stages):
        if stage["scenes"] < stage["size"]:
            says = f"a step takes {stage['size']} images, and the stage draws only {stage['scenes']} scenes"
            raise _Wrong(f"{says}; let size be smaller, or scenes larger", "stages", number, "size")
        if (stage["data"] == OWN) != bool(stage["folder"]):
            says = f'data = "{OWN}" needs a folder of yours, and a folder needs data = "{OWN}"'
            raise _Wrong(f"{says}: pictures and a .jsonl or .csv of rows", "stages", number, "data")
    side = EYES[plan.vision].grid[0]
    if (shuffle := plan.connector.get("shuffle", 1)) and side % shuffle:
        allowed = ", ".join(str(number) for number in range(1, side + 1) if side % number == 0)
        says = f"squares of {shuffle} × {shuffle} do not tile {side} × {side} patches; shuffle is one of"
        raise _Wrong(f"{says} {allowed}", "connector", "shuffle")


def _line_of(text: str, place: tuple[str | int, ...]) -> int:
    """The line of a TOML text where a key stands; where it is missing, that of its table, else the first."""
    keys = [part for part in place if isinstance(part, str)]
    number = next((part for part in place if isinstance(part, int)), 0)
    header = re.compile(r"\s*\[\[?\s*[\"']?([\w.-]+)[\"']?\s*\]\]?")
    table, seen, best = "", {}, 1
    for line, words in enumerate(text.splitlines(), start=1):
        if begins := header.match(words):
            table = begins[1]
            seen[table] = seen.get(table, -1) + 1
            if keys and table == keys[0] and seen[table] == number:
                best = line
        elif key := re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", words):
            here = [*([table] if table else []), *key[1].split(".")]  # connector.kind = ... is a table, too
            if here == keys and seen.get(table, 0) == number:
                return line
            if not table and here[:1] == keys[:1]:
                best = line
    return best


def model_config(plan: Plan) -> LlavaConfig | FlamingoConfig | Blip2Config:
    """What the model of a plan looks like."""
    eye, language, numbers = EYES[plan.vision], NANO_VLM.model.language, dict(plan.connector)
    kind = numbers.pop("kind")
    if kind == "resampler":
        depth = numbers.pop("depth")
        return FlamingoConfig(eye, language, IMAGE, resampler_depth=depth, **numbers)
    if kind == "q-former":
        text = replace(NANO_BLIP2.model.qformer.text, depth=numbers["depth"])
        asking = replace(NANO_BLIP2.model.qformer, text=text, queries=numbers["queries"],
                         context_width=eye.width)  # fmt: skip
        return Blip2Config(eye, asking, language, IMAGE)
    hidden = 0 if kind == "linear" else None
    return LlavaConfig(eye, language, IMAGE, _LAYERS[plan.vision], hidden, numbers["shuffle"])


def recipe_of(plan: Plan, device: str = "cpu") -> Recipe:
    """The recipe that carries out a plan; ``start`` names whose eye and language model it goes on from.

    Args:
        device: the kind that its budget is for, such as "cpu" or "cuda".
    """
    steps = plan.steps(device)
    stages = tuple(_stage(plan, number, count) for number, count in enumerate(steps))
    start = dict(vision=plan.vision, language=plan.language)
    return Recipe(
        plan.name, FAMILY, model_config(plan), stages, start, (plan.vision, plan.language), plan.seed
    )


def _stage(plan: Plan, number: int, steps: int) -> Stage:
    stage = plan.stages[number]
    data = dict(trains=stage["trains"], scenes=stage["scenes"], grey=stage["grey"], draw=number)
    if stage["folder"]:
        data["folder"] = stage["folder"]
    rates = dict(muon=stage["muon"], adamw=stage["adamw"])
    slow = stage["slow_connector"]
    return Stage(stage["name"], steps, stage["size"], rates, data | DATA[stage["data"]], dict(connector=slow),
                 stage["flat"], weight_decay=0.01)  # fmt: skip
