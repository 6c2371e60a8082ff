"""Plans are read strictly: what is wrong is named with its line, the key and what is allowed."""

import pytest
import torch

from vlmcourse.data.text import IMAGE
from vlmcourse.models.blip2 import Blip2, Blip2Config
from vlmcourse.models.flamingo import Flamingo, FlamingoConfig
from vlmcourse.models.llava import Llava, LlavaConfig
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
    "letters": ('name = "my-llava"', 'name = "mein-lama-ß"', 3, "small letters, digits"),
    "too long": ('name = "my-llava"', f'name = "{"a" * 41}"', 3, "at most 40"),
    "no name": ('name = "my-llava"\n', "", 1, "the plan lacks 'name', small letters"),
    "no language": ('language = "nano-vlm"', 'langauge = "nano-vlm"', 6, "did you mean 'language'?"),
    "date": ("seed = 0", "seed = 2026-11-29", 4, "seed of the plan is datetime.date(2026, 11, 29)"),
    "negative seed": ("seed = 0", "seed = -1", 4, "a whole number from 0 to 1,000,000"),
    "text for number": ("steps = 350", 'steps = "350"', 29, "steps of stage 2 is '350'"),
    "negative rate": ("muon = 0.006", "muon = -0.006", 40, "muon of stage 3 is -0.006, expected a number"),
    "rate that is none": ("muon = 0.006", "muon = nan", 40, "expected a number from 0 to 1"),
    "rate without end": ("adamw = 8e-4", "adamw = inf", 41, "expected a number from 0 to 1"),
    "no kind": ('kind = "mlp" ', '# kind = "mlp" ', 8, "the connector has no kind; it is one of"),
    "kind is a number": ('kind = "mlp" ', "kind = 3 ", 9, "the connector's kind is 3, expected one of"),
    "connector is text": ("[connector]\nkind =", "connector =", 8,
                          "is 'mlp', expected a table, such as [connector]"),
    "no budget at all": ("cpu = 1.0", "cpu = 0", 13, "cpu of the budget is 0, expected a number from 0.001"),
    "one part as text": (ANSWER, ANSWER.replace('["connector"]', '"connector"'), 27,
                         "expected a list of one or more"),
    "no part": (ANSWER, ANSWER.replace('["connector"]', "[]"), 27, "expected a list of one or more"),
    "unknown data": ('data = "captions"', 'data = "photos"', 19, "captions, questions, pairs, mixed, own"),
    "own without folder": ('data = "captions"', 'data = "own"', 19, "needs a folder of yours"),
    "folder without own": ('data = "captions"', 'data = "captions"\nfolder = "."', 19, "a folder needs data"),
    "size beyond scenes": ('data = "captions"', 'data = "captions"\nscenes = 4', 22, "draws only 4 scenes"),
    "key of the plan in a table": ("[budget]", "[budget]\nseeds = 3\nvision = 1", 13, "has no key 'seeds'."),
    "key below a table": ("cpu = 1.0", 'vision = "nano-vlm"', 13, "it belongs above the first [table]"),
    "language first": ('trains = ["connector"]    # connector, language, or both',
                       'trains = ["language"]', 18, "the first stage trains the language model alone"),
}  # fmt: skip
NO_TOML = {  # text, words of the message
    "not quoted": ("steps = 350", "steps = abc", "line 29"),
    "twice": ("steps = 350", "steps = 350\nsteps = 3", "line 30"),
    "table twice": ("[budget]", "[connector]", "line 12"),
    "open bracket": ("[budget]", "[budget", "line 12"),
    "endless number": ("steps = 350", f"steps = {'9' * 5000}", "limit"),
    "nested too deep": ("seed = 0", f"seed = {'[' * 9999}", "recursion"),
    "python": ('name = "my-llava"', "name: my-llava", "line 3"),
}


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


@pytest.mark.parametrize("what", NO_TOML)
def test_what_is_no_toml_says_where_and_how_it_is_written(what, tmp_path):
    old, new, words = NO_TOML[what]
    file = tmp_path / "vlm.toml"
    file.write_text(example("llava").read_text().replace(old, new))
    before = file.read_bytes()
    with pytest.raises(PlanError) as error:
        read_plan(file)
    assert f"{file} is no TOML: " in str(error.value) and words in str(error.value)
    assert str(error.value).endswith("the course's examples show the form") and file.read_bytes() == before


def test_what_is_no_plan_at_all_is_named(tmp_path):
    file = tmp_path / "vlm.toml"
    for data, line, words in (
        (b"", 1, "the plan lacks 'name'"),
        (b"# nothing\n\n", 1, "the plan lacks 'name'"),
        (b'name = "a"\n\xff\xfe\x00', 2, "no text in UTF-8; save it as plain text"),
        ('name = "a"\n'.encode("utf-16"), 1, "no text in UTF-8"),
        (b'name = "a"\nvision = "nano-vlm"\nlanguage = "nano-vlm"\n'
         b'connector = { kind = "mlp", shuffle = 9 }\nstages = [3]\n', 4, "of kind mlp is 9, expected"),
        (b'name = "a"\nvision = "nano-vlm"\nlanguage = "nano-vlm"\nconnector.kind = "mlp"\nstages = [3]\n',
         5, "stage 1 is 3, expected a table"),
        (b'name = "a"\nvision = "nano-vlm"\nlanguage = "nano-vlm"\nconnector.kind = "mpl"\nstages = [3]\n',
         4, "the connector's kind is 'mpl'"),
        (b'name = "a"\nvision = "nano-vlm"\nlanguage = "nano-vlm"\n[connector]\nkind = "mlp"\n[stages]\n',
         6, "expected one or more tables [[stages]]"),
    ):  # fmt: skip
        file.write_bytes(data)
        with pytest.raises(PlanError) as error:
            read_plan(file)
        assert f"line {line}: " in str(error.value) and words in str(error.value), str(error.value)
    with pytest.raises(PlanError, match=r"is a folder; name the plan in it, such as .*vlm.toml"):
        read_plan(tmp_path)


def test_a_mark_at_the_beginning_and_windows_line_ends_do_no_harm(tmp_path):
    file = tmp_path / "vlm.toml"
    file.write_bytes(example("llava").read_text().replace("\n", "\r\n").encode("utf-8-sig"))
    assert read_plan(file) == read_plan(example("llava"))


def test_a_folder_of_own_pictures_reaches_the_recipe():
    table = read_plan(example("llava")).table()
    assert not plan_of(table).own_pictures and "folder" not in recipe_of(plan_of(table)).stages[1].data
    table["stages"][1] |= dict(data="own", folder="holiday")
    plan = plan_of(table)
    assert plan.own_pictures and recipe_of(plan).stages[1].data["folder"] == "holiday"


@pytest.mark.parametrize(("kind", "numbers"), [
    ("linear", dict(shuffle=8)), ("mlp", dict(shuffle=4)), ("resampler", dict(latents=1, depth=4, every=4)),
    ("resampler", dict(latents=256, depth=1, every=1)), ("q-former", dict(queries=1, depth=8)),
    ("q-former", dict(queries=256, depth=2)), ("q-former", dict(queries=7, depth=3)),
])  # fmt: skip
def test_what_a_connector_may_hold_can_be_built(kind, numbers):
    table = read_plan(example("llava")).table() | dict(connector=dict(kind=kind, **numbers))
    config = recipe_of(plan_of(table)).model
    model = {LlavaConfig: Llava, FlamingoConfig: Flamingo, Blip2Config: Blip2}[type(config)](config).eval()
    with torch.no_grad():
        logits = model(torch.tensor([[IMAGE] * model.tokens_per_image + [5, 6]]), torch.zeros(1, 3, 64, 64))
    assert logits.shape[:2] == (1, model.tokens_per_image + 2) and logits.isfinite().all()


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


def test_what_a_plan_leaves_out_is_filled_in():
    table = read_plan(example("llava")).table()
    del table["seed"], table["connector"]["shuffle"]
    for stage in table["stages"]:
        for key in stage.keys() - {"name", "trains", "data", "steps"}:
            del stage[key]
    plan = plan_of(table)
    assert (plan.seed, plan.connector["shuffle"]) == (0, 1)
    usual = dict(
        size=16, scenes=8000, muon=0.01, adamw=2e-3, flat=0.4, grey=0.25, slow_connector=1.0, folder=""
    )
    for stage in plan.stages:
        assert {key: stage[key] for key in usual} == usual


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
    assert recipe_of(plan_of(table | dict(seed=7))).seed == 7 and recipe.seed == 0
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


def test_the_sentence_word_by_word(tmp_path):
    file = tmp_path / "vlm.toml"
    file.write_text(example("llava").read_text().replace("gpu = 10.0", "tpu = 10.0"))
    with pytest.raises(PlanError) as error:
        read_plan(file)
    assert (
        str(error.value)
        == f"{file}, line 14: the budget has no key 'tpu'; did you mean 'gpu'? It has cpu, gpu"
    )
