"""Every recipe on two processes gives the loss curve of one, whether each holds the whole model or a part."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.processes import spawn
from vlmcourse.families import making, real, redrawn
from vlmcourse.families.redrawn import LAYER
from vlmcourse.interop import hub
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.recipes.book import RECIPES, find_recipe
from vlmcourse.recipes.recipe import Recipe

FEW = dict(scenes=24, pairs=24, calibrated_on=16, own_texts=6, relations=2, comparisons=1, orders=1,
           groups=8, rounds=2)  # fmt: skip
# what a step is given: pictures, which two processes share, and groups of clips however many; questions so
# many that of one of them some answers are right, some wrong, else nothing but rounding moves the model
SIZES = dict(real=64, rewarded=12)
# stages with loss, optimizer and parts of one before
ALIKE = ("last", "sharp", "whole", "pairs", "polished", *(f"round {number}" for number in range(3, 30)))
NAMES = [name for name in RECIPES if name != "tokenizer"]  # which takes no steps


def shrunk(recipe: Recipe) -> Recipe:
    """The same stages, losses and optimizers, two steps each, on few scenes."""
    stages = []
    for stage in recipe.stages:
        if stage.name not in ALIKE:
            data = {name: FEW.get(name, value) for name, value in stage.data.items()}
            steps, size = min(stage.steps, 2), min(stage.size, SIZES.get(recipe.family, 4))
            stages.append(replace(stage, steps=steps, size=size, data=data))
    return replace(recipe, stages=tuple(stages))


def small_smollm2() -> tuple[Llama, PreTrainedTokenizerFast]:
    """A language model of 4 shallow blocks in SmolLM2's place; the same in every process."""
    words = ["<unk>", "<|im_start|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz.,?! "]
    spelled = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "<unk>"))
    spelled.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    special = dict(
        eos_token="<|im_end|>", pad_token="<|im_end|>", bos_token="<|im_start|>", unk_token="<unk>"
    )
    torch.manual_seed(3)
    model = Llama(LlamaConfig(len(words), width=64, depth=4, heads=2, groups=1, hidden=64, tied=True))
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelled, chat_template=template, **special)
    return model.eval(), tokenizer


def small_dinov2(image_size: int) -> ViT:
    """An eye of eight narrow blocks and few patches in DINOv2's place; the same in every process."""
    torch.manual_seed(4)
    return ViT(ViTConfig(16, 8, width=8, depth=LAYER, heads=2))


def train_all(names: list[str], file: Path, rank: int) -> None:
    """In a process of its own: carry out small variants of recipes, and write down what each step gave."""
    hub.load_smollm2, real.FIRST = small_smollm2, 2
    # smollm-dinov2 goes on from a LoRA that is shipped and fits the whole SmolLM2 only; none of it learns
    real.load_real = lambda name: (*real.assemble(find_recipe(name).model), {})
    some = redrawn.people()[:12]
    hub.load_dinov2, redrawn.people, redrawn.cache_folder = small_dinov2, lambda: some, lambda: file.parent
    curves = {}
    for name in names:
        torch.manual_seed(7)
        for made in making.run(shrunk(find_recipe(name)), lambda *_: dict(precision="no")):
            if made.history is not None:
                curve = made.history.losses, made.history.gradient_norms
                curves[f"{name}, {made.stage.name}"] = curve
    if rank == 0:
        file.write_text(json.dumps(curves))


def curves_of(kind: str, folder: Path) -> dict[str, tuple[list[float], list[float]]]:
    assert set(spawn(train_all, NAMES, folder / kind, kind=kind)) == {0}
    return json.loads((folder / kind).read_text())


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return curves_of("one", tmp_path_factory.mktemp("one"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_every_recipe_learns_on_two_processes_as_on_one(kind, one_process, tmp_path):
    two = curves_of(kind, tmp_path)
    assert two.keys() == one_process.keys() and {key.split(",")[0] for key in two} == set(NAMES)
    for stage, (losses, norms) in one_process.items():
        assert two[stage][0] == pytest.approx(losses, abs=1e-4), stage
        assert two[stage][1] == pytest.approx(norms, rel=1e-4), stage
        assert len(losses) == 2 and losses[0] != losses[1] and min(norms) > 1e-3, stage
