"""What a training will need, before it is run: memory, operations, hours (`vlmcourse estimate`).

    table_of_costs       both of these as a table, by name
    published_hours      what LLaVA's authors say that they needed
    estimate_recipe      each stage of a recipe: at most so much memory, as if all of the model learned
    estimate_published   LLaVA-1.5-7B's two stages, on so many GPUs
    refuse_numbers       of a GPU that cannot be

Memory comes from the ledger of notebook 15 (training/memory.py). Hours are operations divided by what GPUs
do: ``peak`` in teraFLOP/s (of a data sheet: A100 312 and H100 989 in bf16, L4 121, T4 65 in fp16), times
``mfu``, the share of it that trainings reach. The course's small models reach less than large ones.

Published: github.com/haotian-liu/LLaVA, README, section "Train", and scripts/v1_5/pretrain.sh, finetune.sh.
Scripts and table are written for 13B; the paper (Liu et al. 2023, arXiv:2310.03744, appendix) has one set of
hyperparameters for LLaVA-1.5. Pretraining with 558 thousand captions: batches of 256 (32 on each of eight
A100 of 80 GB), rate 1e-3, ZeRO 2, about 3.5 hours for 7B. Tuning with 665 thousand conversations: 128 (16
each), rate 2e-5, ZeRO 3, about 10 hours for 7B on eight A100 of 40 GB. Both: one epoch, bf16, texts of 2,048
tokens at most, every block computed again on the way back. Tokens of an example are not published: those
below are assumed, 576 of them the image's, and operations are proportional to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from vlmcourse.data.text import EOS
from vlmcourse.families.clips import TEXT_LENGTH
from vlmcourse.models.blip import Blip, BlipConfig
from vlmcourse.models.blip2 import Blip2, Blip2Config, Blip2T5
from vlmcourse.models.clip import CLIP, CLIPConfig, TextConfig
from vlmcourse.models.flamingo import Flamingo, FlamingoConfig
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.native_llava import NativeConfig, NativeLlava
from vlmcourse.models.qformer import Matcher, MatcherConfig
from vlmcourse.models.t5 import T5Config
from vlmcourse.models.video import VideoConfig, VideoLlava
from vlmcourse.models.vit import ViTConfig
from vlmcourse.recipes.book import RECIPES
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage
from vlmcourse.training.memory import (
    ALL,
    LANGUAGE,
    METHODS,
    PUBLISHED,
    REST,
    Part,
    Setting,
    Tuned,
    in_gib,
    ledger,
)
from vlmcourse.training.parts import parts_of_model
from vlmcourse.world.pages import PAGE_SIZES

TERA, PETA, HOUR = 1e12, 1e15, 3600.0
ROW = 512  # tokens; rows of the course are shorter
SMOLLM2_SHAPE = LlamaConfig(49_152, 576, 30, 9, 3, 1536, 1e5, tied=True)
_MODELS = {
    LlavaConfig: Llava, VideoConfig: VideoLlava, FlamingoConfig: Flamingo, BlipConfig: Blip,
    MatcherConfig: Matcher, LlamaConfig: Llama, NativeConfig: NativeLlava,
}  # fmt: skip
LARGEST_PAGE = max(high * wide for high, wide in PAGE_SIZES) // NANO_VLM.model.vision.patch_size**2  # patches
_DINOV2 = ViTConfig(224, 14, width=384, depth=12, heads=6)


class StageCost(NamedTuple):
    """What a stage needs."""

    stage: str
    rows: int  # of a step, on each GPU
    size: float  # bytes, at most, at the peak of a step
    operations: float  # additions and multiplications of all steps

    def hours(self, gpus: int, peak: float, mfu: float) -> float:
        return self.operations / (gpus * peak * TERA * mfu * HOUR)


def refuse_numbers(gpus: int, peak: float, mfu: float) -> None:
    """Raises ValueError: if there is no GPU, or it does nothing, or more than it can."""
    if gpus < 1:
        raise ValueError(f"{gpus} GPUs; an estimate needs one at least")
    if not peak > 0:
        raise ValueError(f"a peak of {peak} teraFLOP/s; it stands in the GPU's data sheet, such as 312")
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu = {mfu}; it is the share of the peak that is reached, above 0 and at most 1")


def _unequal(stage: str, batch: int, gpus: int) -> str:
    return f"{stage}: a batch of {batch} cannot be shared equally by {gpus} GPUs"


def blank_model(recipe: Recipe) -> nn.Module | None:
    """The model of a recipe without numbers, on the device "meta"; None where none is trained."""
    with torch.device("meta"):
        return _model(recipe.family, recipe.model)


def _model(family: str, config: Any) -> nn.Module | None:
    if family == "tokenizing":
        return None
    if family == "clips":
        width = config["width"]
        eye = ViTConfig(64, config["patch"], width=width, depth=4, heads=4, epsilon=1e-5)
        return CLIP(CLIPConfig(eye, TextConfig(1024, EOS, TEXT_LENGTH, width, depth=2, heads=4), width))
    if family == "redrawn":
        return Llava(LlavaConfig(_DINOV2, SMOLLM2_SHAPE, 0, hidden=config["hidden"]))
    if isinstance(config, Mapping):  # SmolLM2 with an eye of the course
        return Llava(
            LlavaConfig(NANO_VLM.model.vision, SMOLLM2_SHAPE, 0, config["layer"], **config["projector"])
        )
    if isinstance(config, Blip2Config):
        return (Blip2T5 if isinstance(config.language, T5Config) else Blip2)(config)
    return _MODELS[type(config)](config)


def rows_of_step(recipe: Recipe, stage: Stage) -> int:
    """How many texts or images a step reads: of groups all their rows, of pairs of CLIP both."""
    group = (
        sum(stage.data.get(kind, 0) for kind in ("pictures", "pairs", "clips"))
        if "groups" in stage.data
        else 1
    )
    both = 2 if recipe.family == "clips" else 1
    return stage.size * group * both


def estimate_recipe(
    recipe: Recipe, gpus: int = 1, precision: str = "fp16", tokens: int = ROW
) -> list[StageCost]:
    """What each stage of a recipe needs at most: every row has so many tokens, all of which are scored.

    Each of several GPUs holds the whole model, and its share of the rows.

    All of a model is counted as learning, but of SmolLM2, which never does: there the projector learns, and
    in the stage "answers" LoRA beside it; where images only meet words it does not run.

    Raises:
        ValueError: if there is no such precision, or no token; or the GPUs cannot share a batch equally.
    """
    if tokens < 1:
        raise ValueError(f"rows of {tokens} tokens; at least one is needed")
    model, costs = blank_model(recipe), []
    for stage in recipe.stages if model is not None else ():
        if not stage.steps:
            continue
        if stage.size % gpus:
            raise ValueError(_unequal(stage.name, stage.size, gpus))
        parts, method = _learning(recipe, stage, model, tokens)
        rows = rows_of_step(recipe, stage)
        held = ledger(parts, method, Setting(rows // gpus, precision))
        operations = stage.steps * rows * step_flops(parts, method)
        costs.append(StageCost(stage.name, rows // gpus, held.peak, operations))
    return costs


def _learning(
    recipe: Recipe, stage: Stage, model: nn.Module, tokens: int
) -> tuple[list[Part], dict[str, Tuned]]:
    """The parts that run in a stage, and what learns in each."""
    # as if every page were the largest one
    seen = dict(vision=LARGEST_PAGE + 1) if isinstance(model, NativeLlava) else {}
    parts = parts_of_model(model, tokens, tokens, seen)
    if recipe.family not in ("real", "drawings", "redrawn"):
        return parts, {part.name: ALL for part in parts}
    if stage.name == "words":
        return [part for part in parts if part.name == "projector"], {"projector": ALL}
    lora = Tuned("lora", recipe.model["rank"], first=recipe.model["lora_from_block"])
    return parts, {"vision": REST, "projector": ALL, "language": lora}


# ---- LLaVA-1.5 as it was published -------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedStage:
    """One stage as it was run."""

    name: str
    method: str  # of METHODS
    examples: int
    batch: int  # over all GPUs
    rate: float
    tokens: int  # of an example, on average; assumed
    longest: int  # tokens for which memory must do
    sharded: int  # stage of ZeRO
    hours: float  # as published, on eight A100


LLAVA = "llava-1.5-7b"
STAGES = (
    PublishedStage("pretrain", "projector only", 558_000, 256, 1e-3, 620, 700, 2, 3.5),
    PublishedStage("finetune", "frozen encoder", 665_000, 128, 2e-5, 900, 2048, 3, 10.0),
)


def with_examples(parts: tuple[Part, ...], tokens: int) -> list[Part]:
    """The parts with examples of so many tokens, all of them predicted at most."""
    return [replace(p, tokens=tokens, predicted=tokens) if p.name == LANGUAGE else p for p in parts]


def step_flops(parts: list[Part], method: Mapping[str, Tuned]) -> float:
    """Additions and multiplications for one example: 2 for each weight and token forwards, 2 for the gradient
    of what a weight read where something before it learns, and 2 for its own where it learns itself."""
    total, passes = 0.0, False
    for part in parts:
        what = method[part.name].what
        total += (2 + 2 * (passes or what == "lora") + 2 * (what == "all")) * part.parameters * part.tokens
        passes = passes or what != "nothing"
    return total


def estimate_published(stage: PublishedStage, gpus: int = 8) -> StageCost:
    """A stage of LLaVA-1.5-7B on so many GPUs; memory is that of each.

    Raises:
        ValueError: if the batch cannot be shared equally.
    """
    if stage.batch % gpus:
        raise ValueError(_unequal(stage.name, stage.batch, gpus))
    parts, method, rows = PUBLISHED["LLaVA-1.5-7B"], METHODS[stage.method], stage.batch // gpus
    setting = Setting(rows, "bf16 weights", recompute=True, gpus=gpus, sharded=stage.sharded)
    held = ledger(with_examples(parts, stage.longest), method, setting)
    operations = stage.examples * step_flops(with_examples(parts, stage.tokens), method)
    return StageCost(stage.name, rows, held.peak, operations)


def reached(stage: PublishedStage) -> float:
    """Which share of eight A100's peak the published hours are."""
    return estimate_published(stage).hours(8, 312.0, 1.0) / stage.hours


COSTS = ["model", "stage", "GPUs", "rows on each", "GiB on each, at most", "petaFLOP", "hours"]


def table_of_costs(name: str, gpus: int | None, peak: float, mfu: float) -> list[list[str]]:
    """Cells below COSTS.

    Args:
        name: of a recipe, or LLAVA; all of them if it is empty.
        gpus: None for as many as each was trained on: one for recipes, eight for LLAVA.

    Raises:
        ValueError: if there is no such model; see also refuse_numbers, estimate_recipe, estimate_published.
    """
    refuse_numbers(1 if gpus is None else gpus, peak, mfu)
    cells = []
    for one in _named(name):
        if one == LLAVA:
            count = 8 if gpus is None else gpus
            costs = [estimate_published(stage, count) for stage in STAGES]
        else:
            count = 1 if gpus is None else gpus
            costs = estimate_recipe(RECIPES[one], count)
        for cost in costs:
            operations = f"{cost.operations / PETA:,.2f}"
            hours = _briefly(cost.hours(count, peak, mfu))
            size = f"{in_gib(cost.size):.2f}"
            cells.append([one, cost.stage, f"{count}", f"{cost.rows}", size, operations, hours])
    return cells


def _named(name: str) -> list[str]:
    everything = [*RECIPES, LLAVA]
    if name and name not in everything:
        raise ValueError(f"there is no {name!r}; there are {', '.join(everything)}")
    return [name] if name else everything


def _briefly(hours: float) -> str:
    return "< 0.01" if hours < 0.01 else f"{hours:.2f}"


def published_hours(name: str) -> list[str]:
    """A line for each stage of which hours were published; none for recipes, see table_of_costs for names."""
    if LLAVA not in _named(name):
        return []
    lines = []
    for stage in STAGES:
        hours = f"published {stage.hours:g} hours on 8 A100"
        lines.append(f"{LLAVA}, {stage.name}: {hours}, {reached(stage):.0%} of their peak")
    return lines
