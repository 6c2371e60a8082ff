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
