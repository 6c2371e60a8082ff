"""A model card: the README.md of an exported folder, in the form that the hub reads (notebook 18).

Every number in it comes from a report (``vlmcourse evaluate --json``); without one it says that nothing was
measured. Source of the form: huggingface.co/docs/hub/model-cards, and Mitchell et al. 2019, arXiv:1810.03993,
for what belongs in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vlmcourse.evaluation.claims import Claim, lines_of, said_of, unproved
from vlmcourse.evaluation.report import Report

FROM_SMOLLM = ("real", "drawings")  # families whose language model is SmolLM2, Apache 2.0
_SCENES = "rendered scenes of up to four coloured shapes, with captions, questions and answers"
_UNSEEN = (
    "It knows the pictures it learned from. About others, photographs above all, it answers by habit, "
    "with the same confidence."
)
HABITS = ("by habit alone", "an empty image", "another image")


def model_card(
    name: str, card: Mapping[str, Any], report: Report | None = None, claims: Sequence[Claim] = ()
) -> str:
    """The text of a README.md.

    Args:
        card: what stands beside the weights: recipe, seconds, and for a planned model whose code ran.
        report: what was measured.
        claims: what the card is to claim beyond the table, see evaluation/claims.py.

    Raises:
        ValueError: if a claim is not borne out by the report; names them all.
    """
    lines = lines_of(report) if report else {}
    if wrong := unproved(claims, lines):
        listed = "; ".join(map(said_of, wrong))
        raise ValueError(f"the report does not bear out: {listed}. Take them out, or measure again")
    parts = [_head(name, card, report), f"# {name}", _opening(card), _how_it_came(card)]
    parts += [_measures(report), _claims(claims), _limits(report), _use()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _family(card: Mapping[str, Any]) -> str:
    recipe = card.get("recipe")
    return recipe.get("family", "") if isinstance(recipe, Mapping) else ""


def _head(name: str, card: Mapping[str, Any], report: Report | None) -> str:
    """The YAML between two lines of ---."""
    head: dict[str, Any] = {
        "license": "apache-2.0" if _family(card) in FROM_SMOLLM else "mit",
        "language": "en",
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["vision-language-model", "llava"],
    }
    if report:
        shares = [
            (line.name, line.value) for line in report.lines if line.unit == "%" and line.low is not None
        ]
        metrics = [dict(type="accuracy", name=what, value=round(100 * value, 1)) for what, value in shares]
        data = dict(type="synthetic", name=report.data)
        task = dict(type="visual-question-answering")
        head["model-index"] = [dict(name=name, results=[dict(task=task, dataset=data, metrics=metrics)])]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"


def _opening(card: Mapping[str, Any]) -> str:
    made = "made in a course, from parts that are small enough to be understood"
    return (
        f"A vision-language model, {made}. It reads one picture and an instruction, and answers in English."
    )


def _how_it_came(card: Mapping[str, Any]) -> str:
    rows = ["## How it was trained", ""]
    recipe = card.get("recipe") if isinstance(card.get("recipe"), Mapping) else {}
    if plan := recipe.get("plan"):
        kind, seed = plan["connector"]["kind"], plan["seed"]
        eye = f"Vision encoder of `{plan['vision']}`, frozen; language model of `{plan['language']}`"
        rows.append(f"{eye}; between them a connector of kind {kind}. Seed {seed}.")
        rows += ["", "| stage | learns | from | steps | images a step |", "|---|---|---|---|---|"]
        for stage in plan["stages"]:
            cells = stage["name"], ", ".join(stage["trains"]), stage["data"], stage["steps"], stage["size"]
            rows.append("| " + " | ".join(map(str, cells)) + " |")
        if (times := plan["budget"]["gpu"]) != 1:
            rows += ["", f"Steps are those of the plan on a CPU; on a GPU they are multiplied by {times:g}."]
    elif recipe:
        named = ", ".join(str(stage.get("name")) for stage in recipe.get("stages", ()))
        rows.append(f"By the recipe `{recipe.get('name')}`, whose stages are: {named}.")
    own = "own" in card or any(stage.get("folder") for stage in (plan or {}).get("stages", ()))
    if own:
        rows += ["", f"Data: {_SCENES}; and pictures of its owner's, which are not described here: say whose "
                 "they are, what they show, and under which license they may be used."]  # fmt: skip
    elif _family(card) not in FROM_SMOLLM:
        rows += ["", f"Data: {_SCENES}; no person's data is in them."]
    if seconds := card.get("seconds"):
        rows += ["", f"It took {seconds:,} seconds."]
    if (mine := card.get("code")) is not None:
        rows += [
            "",
            f"{len(mine)} of its functions {'was' if len(mine) == 1 else 'were'} written by its owner in the "
            "course, not taken from it.",
        ]
    return "\n".join(rows)


def _measures(report: Report | None) -> str:
    if report is None:
        return "## What was measured\n\nNothing yet. `vlmcourse evaluate` measures it."
    rows = ["## What was measured", "", f"On {report.data}.", ""]
    rows += ["| measure | value | 95 % interval | |", "|---|---|---|---|"]
    for line in report.lines:
        if line.part != "price":
            rows.append(f"| {line.name} | {line.shown(line.value)} | {line.interval} | {line.says} |")
    return "\n".join(rows)


def _claims(claims: Sequence[Claim]) -> str:
    if not claims:
        return ""
    return "\n".join(
        ["In short, and borne out by that table:", "", *(f"- {said_of(claim)}" for claim in claims)]
    )


def _limits(report: Report | None) -> str:
    rows = ["## Limits", "", f"- {_UNSEEN}", "- It was made to learn from, not to be relied on."]
    for line in report.lines if report else ():
        if line.name in HABITS:
            rows.append(f"- Right without the right picture ({line.name}): {line.shown(line.value)}. "
                        "An accuracy means what it has beyond that.")  # fmt: skip
    return "\n".join(rows)


def _use() -> str:
    return """## Use

```python
from transformers import AutoProcessor, LlavaForConditionalGeneration

model = LlavaForConditionalGeneration.from_pretrained("FOLDER")
processor = AutoProcessor.from_pretrained("FOLDER")
```"""
