"""What a training will need, by hand, for every recipe, and for LLaVA-1.5 as it was published."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from vlmcourse.families import estimating
from vlmcourse.families.estimating import (
    LLAVA,
    STAGES,
    blank_model,
    estimate_published,
    estimate_recipe,
    published_hours,
    reached,
    refuse_numbers,
    rows_of_step,
    step_flops,
    table_of_costs,
    with_examples,
)
from vlmcourse.recipes.book import RECIPES
from vlmcourse.training.memory import ALL, METHODS, PUBLISHED, Part, Tuned, in_gib

TRAINED = [name for name in RECIPES if name != "tokenizer"]


def test_operations_are_counted_as_by_hand():
    parts = with_examples(PUBLISHED["LLaVA-1.5-7B"], 1000)
    encoder, projector, language = (part.parameters for part in parts)
    only, frozen = (METHODS[name] for name in ("projector only", "frozen encoder"))
    fixed = 2 * encoder * 577 + 4 * projector * 576
    assert step_flops(parts, only) == fixed + 4 * language * 1000
    assert step_flops(parts, frozen) == fixed + 6 * language * 1000
    assert step_flops(parts, METHODS["full"]) == sum(6 * part.parameters * part.tokens for part in parts) - (
        2 * encoder * 577  # no gradient for the pixels
    )
    # through a layer with LoRA a gradient passes, but its own weights have none
    assert step_flops([Part("one", 10, tokens=3)], {"one": Tuned("lora", 1)}) == 4 * 10 * 3
    assert step_flops([Part("one", 10, tokens=3)], {"one": Tuned()}) == 2 * 10 * 3
    # nor those behind it that stay as they are, the second as little as the first
    three = [Part(name, 10, tokens=3) for name in ("learns", "next", "last")]
    assert step_flops(three, {"learns": ALL, "next": Tuned(), "last": Tuned()}) == 3 * 4 * 10 * 3


def test_the_published_stages_fit_their_cards_and_reach_a_share_that_is_usual():
    """github.com/haotian-liu/LLaVA, scripts/v1_5: 32 and 16 examples on each of eight GPUs, ZeRO 2 and 3."""
    pretrain, finetune = map(estimate_published, STAGES)
    assert [(one.batch, one.rate, one.sharded, one.hours) for one in STAGES] == [
        (256, 1e-3, 2, 3.5), (128, 2e-5, 3, 10.0)]  # fmt: skip
    assert [(one.examples, one.tokens, one.longest) for one in STAGES] == [
        (558_000, 620, 700), (665_000, 900, 2048)]  # fmt: skip
    assert (pretrain.rows, finetune.rows) == (32, 16)
    assert in_gib(pretrain.size) < 80e9 / 2**30 and in_gib(finetune.size) < 40e9 / 2**30
    for stage, cost in zip(STAGES, (pretrain, finetune), strict=True):
        assert 0.2 < reached(stage) < 0.5
        assert cost.hours(8, 312, 0.45) == pytest.approx(stage.hours * reached(stage) / 0.45)
    twice = estimate_published(STAGES[1], gpus=16)
    assert twice.hours(16, 312, 0.45) == pytest.approx(finetune.hours(8, 312, 0.45) / 2)
    assert twice.size < finetune.size and twice.operations == finetune.operations and twice.rows == 8
    equal_rows = estimate_published(replace(STAGES[1], batch=256), gpus=16)
    assert equal_rows.rows == finetune.rows and equal_rows.size < finetune.size  # weights are shared by more
    with pytest.raises(ValueError, match="pretrain: a batch of 256 cannot be shared equally by 3 GPUs"):
        estimate_published(STAGES[0], gpus=3)
    assert estimating.StageCost("one", 1, 0, 3.6e15).hours(2, 10, 0.5) == 0.1


@pytest.mark.parametrize("name", TRAINED)
def test_every_recipe_fits_a_t4(name):
    """13 of its 15 GiB, in fp16 with a scaler: rows of 512 tokens, all of them scored."""
    costs = estimate_recipe(RECIPES[name])
    assert [cost.stage for cost in costs] == [stage.name for stage in RECIPES[name].stages if stage.steps]
    for cost in costs:
        assert 0.05 < in_gib(cost.size) <= 13, cost.stage
        assert cost.operations > 1e12


def test_the_table_of_the_largest_ones():
    """So that a recipe that grows is noticed: GiB at most."""
    largest = {name: max(in_gib(cost.size) for cost in estimate_recipe(RECIPES[name])) for name in TRAINED}
    top = sorted(largest, key=largest.__getitem__, reverse=True)[:3]
    assert {name: round(largest[name], 1) for name in top} == {
        "smollm-openmoji": 4.4, "smollm-scenes": 2.5, "nano-native": 1.8}  # fmt: skip


def test_the_table_says_of_llava_what_eight_gpus_need_and_what_was_published():
    rows = [
        ["llava-1.5-7b", "pretrain", "8", "32", "27.32", "9,547.30", "2.36"],
        ["llava-1.5-7b", "finetune", "8", "16", "31.96", "24,462.71", "6.05"],
    ]
    assert table_of_costs(LLAVA, None, 312, 0.45) == rows == table_of_costs("", None, 312, 0.45)[-2:]
    assert table_of_costs(LLAVA, 16, 312, 0.45)[0][2:4] == ["16", "16"]
    lines = [
        "llava-1.5-7b, pretrain: published 3.5 hours on 8 A100, 30% of their peak",
        "llava-1.5-7b, finetune: published 10 hours on 8 A100, 27% of their peak",
    ]
    assert published_hours(LLAVA) == lines == published_hours("") and published_hours("nano-vlm") == []
    with pytest.raises(ValueError, match="there is no 'nano-vml'"):
        published_hours("nano-vml")


def test_hours_that_are_hardly_any_are_not_told_in_six_digits():
    [row] = table_of_costs("lm-captions", None, 312, 0.45)
    assert row[2] == "1" and row[-1] == "< 0.01"
    assert table_of_costs("lm-captions", None, 1, 0.45)[0][-1] == "0.05"
    assert [estimating._briefly(hours) for hours in (0.0099, 0.01)] == ["< 0.01", "0.01"]


def test_two_gpus_share_a_recipe_in_the_table():
    [one], [two] = (table_of_costs("lm-captions", gpus, 1, 0.45) for gpus in (1, 2))
    assert two[2] == "2" and int(two[3]) * 2 == int(one[3]) and two[5] == one[5]
    assert float(two[-1]) == pytest.approx(float(one[-1]) / 2, abs=0.006)


def test_without_a_name_the_table_has_all():
    assert {row[0] for row in table_of_costs("", None, 312, 0.45)} == {*TRAINED, LLAVA}


def test_the_models_are_those_of_the_recipes():
    assert blank_model(RECIPES["tokenizer"]) is None and estimate_recipe(RECIPES["tokenizer"]) == []
    for name in TRAINED:
        model = blank_model(RECIPES[name])
        assert all(weight.is_meta for weight in model.parameters())
    smollm = blank_model(RECIPES["smollm-scenes"]).language
    assert sum(weight.numel() for weight in smollm.parameters()) == 134_515_008


@pytest.mark.parametrize("name, stage, rows", [
    ("nano-vlm", "vlm", 16), ("clip-scenes", "contrast", 256), ("nano-video", "changes", 3 * 9),
    ("nano-video", "sentences", 4), ("smollm-scenes", "words", 512), ("nano-blip2-t5", "lists", 16),
])  # fmt: skip
def test_rows_of_a_step(name, stage, rows):
    assert rows_of_step(RECIPES[name], RECIPES[name].stage(stage)) == rows


def test_operations_of_a_stage_are_those_of_all_its_rows():
    for name, stage, rows in (("clip-scenes", "contrast", 2 * 128), ("nano-video", "frames", 24)):
        recipe = RECIPES[name]
        model = blank_model(recipe)
        parts, method = estimating._learning(recipe, recipe.stage(stage), model, estimating.ROW)
        [cost] = [one for one in estimate_recipe(recipe) if one.stage == stage]
        assert cost.operations == recipe.stage(stage).steps * rows * step_flops(parts, method)


def test_every_page_counts_as_the_largest_one():
    assert estimating.LARGEST_PAGE == 128 * 256 // 8**2 == 512
    recipe = RECIPES["nano-native"]
    parts, _ = estimating._learning(recipe, recipe.stages[0], blank_model(recipe), estimating.ROW)
    assert {part.name: part.tokens for part in parts}["vision"] == 513  # and one as of a class token


def test_gpus_share_the_rows_and_the_hours():
    one, two = (estimate_recipe(RECIPES["lm-captions"], gpus)[0] for gpus in (1, 2))
    assert two.rows == 24 and one.rows == 48 and two.size < one.size and two.operations == one.operations
    with pytest.raises(ValueError, match="captions: a batch of 48 cannot be shared equally by 5 GPUs"):
        estimate_recipe(RECIPES["lm-captions"], 5)
    small, large = (estimate_recipe(RECIPES["nano-vlm"], tokens=count)[3] for count in (128, 512))
    assert small.size < large.size and small.operations < large.operations
    assert estimate_recipe(RECIPES["nano-vlm"], precision="fp32")[3].size > large.size
    with pytest.raises(ValueError, match="rows of 0 tokens"):
        estimate_recipe(RECIPES["nano-vlm"], tokens=0)
    with pytest.raises(ValueError, match="no precision 'int3'"):
        estimate_recipe(RECIPES["nano-vlm"], precision="int3")


def test_smollm_itself_never_learns():
    """135 million numbers with AdamW alone are 2 GiB; LoRA from block 15 on leaves the weights' 0.5."""
    costs = {cost.stage: cost for cost in estimate_recipe(RECIPES["smollm-scenes"], tokens=32)}
    assert in_gib(costs["answers"].size) < 1.2 and in_gib(costs["words"].size) < 0.2
    language = 134_515_008 * 4 * 32
    assert costs["answers"].operations == pytest.approx(90 * 4 * language, rel=0.05)


def test_what_cannot_be_is_refused():
    refuse_numbers(1, 65.0, 1.0)
    for numbers in ((0, 65.0, 0.5), (1, 0.0, 0.5), (1, 65.0, 0.0), (1, 65.0, 1.01)):
        with pytest.raises(ValueError):
            refuse_numbers(*numbers)
    with pytest.raises(ValueError, match=r"there is no 'llava'; there are tokenizer.*llava-1\.5-7b"):
        table_of_costs("llava", 1, 312, 0.45)


def test_budgets_of_notebooks_for_a_gpu_fit_a_t4():
    """Their batches, of rows of 512 tokens: of SmolLM2 in chapters 15 and 17, of small models elsewhere."""
    found = 0
    for path in sorted((Path(__file__).parents[2] / "notebooks" / "src").glob("*.py")):
        given = re.findall(r"gpu=dict\(([^)]*)\)", path.read_text(encoding="utf-8"))
        batches = [int(n) for one in given for n in re.findall(r"(?:batch|size|images)=(\d+)\b", one)]
        real = path.name[:2] in ("15", "17")
        for batch in batches:
            if not real and batch > 500:
                continue  # pictures that there are, not those of a step
            found += 1
            small = ("clip-scenes", "lm-captions", "nano-vlm", "nano-blip2", "nano-flamingo")
            for name in ("smollm-scenes", "smollm-openmoji") if real else small:
                stage = RECIPES[name].stages[-1].name
                cost = estimate_recipe(RECIPES[name].vary(stage, size=batch))[-1]
                assert in_gib(cost.size) <= 13, (path.name, name, batch)
    assert found >= 8
