"""Plans are read strictly: what is wrong is named with its line, the key and what is allowed."""

import pytest

from vlmcourse.models.blip2 import Blip2Config
from vlmcourse.models.flamingo import FlamingoConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.recipes.plan import EXAMPLES, PlanError, example, plan_of, read_plan, recipe_of

ANSWER = 'trains = ["connector"]\ndata = "questions"'
WRONG = {  # old text, new text, line, words of the message
    "key": ("seed = 0", "sede = 0", 4, "no key 'sede'; did you mean 'seed'?"),
    "eye": ('vision = "nano-vlm" ', 'vision = "resnet" ', 5, "expected one of nano-vlm, clip-scenes"),
    "kind": ('kind = "mlp"', 'kind = "magic"', 9, "one of linear, mlp, resampler, q-former"),
    "number of another kind": ("shuffle = 1", "latents = 64", 10, "of kind mlp has no key 'latents'"),
    "not tiling": ("shuffle = 1", "shuffle = 3", 10, "shuffle is one of 1, 2, 4, 8"),
    "steps": ("steps = 350", "steps = -1", 29, "a whole number from 1 to 1,000,000"),
    "whole": ("steps = 150", "steps = 1.5", 38, "steps of stage 3 is 1.5"),
    "true": ("steps = 150", "steps = true", 38, "steps of stage 3 is True"),
    "part": (ANSWER, ANSWER.replace("connector", "eye"), 27, "connector, language"),
    "missing": ("steps = 350\n", "", 25, "stage 2 lacks 'steps'"),
    "budget": ("gpu = 10.0", "tpu = 10.0", 14, "the budget has no key 'tpu'"),
    "twice": ('name = "polish"', 'name = "align"', 35, "two stages are called align"),
    "name of the course": ('name = "my-llava"', 'name = "nano-vlm"', 3, "a model of the course"),
    "path": ('name = "my-llava"', 'name = "../x"', 3, "small letters, digits"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_with_its_line(what, tmp_path):
    old, new, line, words = WRONG[what]
    text = example("llava").read_text()
    assert text.count(old) == 1
    file = tmp_path / "vlm.toml"
    file.write_text(text.replace(old, new))
    with pytest.raises(PlanError) as error:
        read_plan(file)
    assert f"line {line}:" in str(error.value) and words in str(error.value)


def test_a_connector_that_no_stage_trains_is_refused():
    table = read_plan(example("llava")).table()
    for stage in table["stages"]:
        stage["trains"] = ["language"]
    with pytest.raises(PlanError, match="no stage trains the connector"):
        plan_of(table)


def test_a_missing_file_says_where_examples_are(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"copy one of .*llava.toml"):
        read_plan(tmp_path / "vlm.toml")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_plan_is_its_table(name):
    plan = read_plan(example(name))
    assert plan_of(plan.table()) == plan and plan.name == f"my-{name}"


def test_the_three_examples_differ_in_their_connector_alone():
    llava, flamingo, blip2 = (read_plan(example(name)) for name in EXAMPLES)
    assert [llava.kind, flamingo.kind, blip2.kind] == ["mlp", "resampler", "q-former"]
    for other in (flamingo, blip2):
        assert (other.vision, other.language, other.seed) == (llava.vision, llava.language, llava.seed)
        for mine, theirs in zip(llava.stages, other.stages, strict=True):
            rates = ("muon", "adamw")
            assert {k: v for k, v in mine.items() if k not in rates} == {
                k: v for k, v in theirs.items() if k not in rates
            }
    kinds = [type(recipe_of(plan).model) for plan in (llava, flamingo, blip2)]
    assert kinds == [LlavaConfig, FlamingoConfig, Blip2Config]


def test_numbers_of_a_plan_reach_the_recipe():
    table = read_plan(example("flamingo")).table()
    table["connector"] |= dict(latents=7, depth=3, every=2)
    table["budget"] = dict(cpu=0.5, gpu=4)
    table["stages"][1] |= dict(muon=0.5, adamw=0.25, flat=0.1, grey=0.5, scenes=99, slow_connector=0.125)
    plan = plan_of(table)
    recipe = recipe_of(plan)
    assert (recipe.model.latents, recipe.model.resampler_depth, recipe.model.every) == (7, 3, 2)
    assert [stage.steps for stage in recipe.stages] == [50, 175, 75]
    assert [stage.steps for stage in recipe_of(plan, "cuda").stages] == [400, 1400, 600]
    stage = recipe.stages[1]
    assert (
        stage.rates == dict(muon=0.5, adamw=0.25)
        and stage.flat == 0.1
        and stage.factors == {"connector": 0.125}
    )
    assert stage.data["scenes"] == 99 and stage.data["grey"] == 0.5 and stage.data["draw"] == 1
    assert recipe.stages[0].data["described"] == 1.0 and recipe.start == dict(
        vision="nano-vlm", language="nano-vlm"
    )


def test_linear_is_one_layer_and_clip_eyes_are_read_before_their_last_layer():
    table = read_plan(example("llava")).table() | dict(
        vision="clip-scenes", connector=dict(kind="linear", shuffle=2)
    )
    config = recipe_of(plan_of(table)).model
    assert (config.hidden, config.shuffle, config.layer) == (0, 2, -2)
