"""The model card has the hub's form, and claims nothing that the report does not bear out."""

import pytest
import yaml
from huggingface_hub import ModelCard

from vlmcourse.evaluation.report import Report, ReportLine
from vlmcourse.families.assembled import recipe_card
from vlmcourse.interop.modelcard import model_card
from vlmcourse.recipes.plan import example, read_plan

REPORT = Report("my-llava", "200 test scenes", (
    ReportLine("answers", "all kinds", 0.953, 0.94, 0.966),
    ReportLine("does it look", "an empty image", 0.25, 0.2, 0.3, says="from words alone"),
    ReportLine("price", "an answer", 12.0, unit="ms"),
))  # fmt: skip
CARD = dict(
    recipe=recipe_card(read_plan(example("llava"))), seconds=61, code=["vit.patchify", "projector.project"]
)


def test_the_hub_reads_its_head():
    text = model_card("my-llava", CARD, REPORT, [("all kinds", "at least", 0.94)])
    head = ModelCard(text).data.to_dict()
    assert head["license"] == "mit" and head["pipeline_tag"] == "image-text-to-text"
    result = ModelCard(text).data.eval_results[0]
    assert (result.metric_name, result.metric_value) == ("all kinds", 95.3)
    assert yaml.safe_load(text.split("---")[1])["model-index"][0]["name"] == "my-llava"


def test_it_says_how_it_came_what_was_measured_and_what_not():
    text = model_card("my-llava", CARD, REPORT, [("all kinds", "at least", 0.94)])
    assert (
        "| align | connector | captions | 100 | 8 |" in text
        and "61 seconds" in text
        and "2 of its functions" in text
    )
    assert "| all kinds | 95.3% | 94.0% to 96.6% |" in text and "- all kinds: at least 94.0%" in text
    assert (
        "(an empty image): 25.0%" in text and "12" not in text.split("## What was measured")[1].split("##")[0]
    )
    assert "Nothing yet" in model_card("my-llava", CARD)
    assert "on a GPU they are multiplied by 10." in text and "functions were written" in text
    plan = CARD["recipe"]["plan"] | dict(budget=dict(cpu=1.0, gpu=1.0))
    brief = model_card(
        "my-llava", CARD | dict(recipe=CARD["recipe"] | dict(plan=plan), code=["vit.patchify"])
    )
    assert "multiplied" not in brief and "1 of its functions was written" in brief
    smollm = model_card(
        "smollm-scenes", {"recipe": {"family": "real", "name": "smollm-scenes", "stages": []}}
    )
    assert "license: apache-2.0" in smollm and "coloured shapes" not in smollm


def test_what_the_report_does_not_bear_out_is_refused():
    wrong = [("all kinds", "at least", 0.95), ("all kinds", "is", 0.953), ("twins", "is", 0.9)]
    with pytest.raises(ValueError, match=r"at least 95\.0%; twins: 90\.0%"):
        model_card("my-llava", CARD, REPORT, wrong)
    with pytest.raises(ValueError, match="does not bear out"):
        model_card("my-llava", CARD, None, wrong[1:2])


def test_its_head_word_by_word():
    report = Report("m", "9 scenes", (
        ReportLine("answers", "all kinds", 0.9534, 0.94, 0.966), ReportLine("answers", "alone", 0.5),
        ReportLine("price", "an answer", 12.0, 11.0, 13.0, unit="ms"),
    ))  # fmt: skip
    head = yaml.safe_load(model_card("m", CARD, report).split("---")[1])
    assert {key: head[key] for key in head if key != "model-index"} == dict(
        license="mit", language="en", library_name="transformers", pipeline_tag="image-text-to-text",
        tags=["vision-language-model", "llava"],
    )  # fmt: skip
    (result,) = head["model-index"][0]["results"]
    assert result["task"] == {"type": "visual-question-answering"}
    assert result["dataset"] == {"type": "synthetic", "name": "9 scenes"}
    assert result["metrics"] == [{"type": "accuracy", "name": "all kinds", "value": 95.3}]
    assert "model-index" not in yaml.safe_load(model_card("m", CARD).split("---")[1])


def test_its_sentences_word_by_word():
    recipe = dict(name="nano-vlm", family="nano", stages=[dict(name="eye"), dict(name="words")])
    text = model_card("m", dict(recipe=recipe, seconds=12345))
    assert "By the recipe `nano-vlm`, whose stages are: eye, words." in text
    assert "It took 12,345 seconds." in text and "functions" not in text and "In short" not in text
    assert "It took" not in model_card("m", dict(recipe=recipe)) and "# m\n\nA vision-language" in text
    assert "license: apache-2.0" in model_card("m", dict(recipe=recipe | dict(family="drawings")))
    planned = model_card("m", CARD)
    assert "Vision encoder of `nano-vlm`, frozen; language model of `nano-vlm`; between them a" in planned
    assert "connector of kind mlp. Seed 0." in planned
    assert "| stage | learns | from | steps | images a step |\n|---|---|---|---|---|\n| align |" in planned
    assert "no person's data is in them" in planned and planned.endswith("```\n")
    own = model_card("m", dict(recipe=recipe, own=dict(pictures=3)))
    assert "pictures of its owner's" in own and "no person's data" not in own
    assert model_card("m", {}).count("## ") == 4 and "By the recipe" not in model_card("m", {})


@pytest.mark.parametrize("habit", ["by habit alone", "an empty image", "another image"])
def test_what_is_right_without_the_picture_is_a_limit(habit):
    report = Report("m", "9 scenes", (ReportLine("does it look", habit, 0.375), ReportLine("a", "b", 0.5)))
    limits = model_card("m", CARD, report).split("## Limits")[1].split("##")[0]
    assert f"- Right without the right picture ({habit}): 37.5%. An accuracy means" in limits
    assert limits.count("Right without") == 1


def test_a_recipe_that_names_no_stages_is_still_described():
    assert "By the recipe `mine`, whose stages are: ." in model_card("mine", {"recipe": {"name": "mine"}})
