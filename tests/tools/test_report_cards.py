"""The README's table of report cards is what was measured, and what was measured can be measured again."""

import json
import runpy
from pathlib import Path

import pytest

from vlmcourse.data.assets import shipped
from vlmcourse.data.own import open_pictures
from vlmcourse.families.making import can_be_asked
from vlmcourse.families.report_card import load_answering, report_on_scenes
from vlmcourse.recipes.book import RECIPES

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "report_cards.py"))
CARD = json.loads(shipped("report-cards.json").read_text(encoding="utf-8"))


def test_every_shipped_model_that_can_be_asked_has_a_card():
    asked = {s.ships for recipe in RECIPES.values() if can_be_asked(recipe) for s in recipe.stages if s.ships}
    assert set(CARD["cards"]) == set(TOOL["askable"]()) == asked
    assert CARD["command"] == "python tools/report_cards.py"


def test_the_readme_shows_what_was_measured():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(TOOL["START"])[1].split(TOOL["END"])[0]
    assert shown.strip() == TOOL["table"](CARD["cards"])
    lines = CARD["cards"]["nano-vlm"]["lines"]
    assert f"| `nano-vlm` | {lines['all kinds'][0]:.1%} ± " in shown


def test_the_table_has_a_row_for_each_model_that_saw_scenes_best_first():
    lines = {name: [0.5, 0.4, 0.7] for name in TOOL["COLUMNS"].values()} | {
        "occlusion in the box": [3.21, None, None],
        "attention in the box": [1.26, None, None],
    }
    better = {name: numbers for name, numbers in lines.items() if name != "CHAIR_i"} | {
        "all kinds": [0.6, 0.5, 0.7]
    }
    cards = {"worse": {"lines": lines}, "drawn": {"lines": {"ANLS": [1, 1, 1]}}, "better": {"lines": better}}
    rows = TOOL["table"](cards).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:4]] == ["| `better`", "| `worse`"]
    shares = " | ".join(["50.0%"] * 6)
    assert rows[3] == f"| `worse` | 50.0% ± 15.0% | {shares} | 3.2 x | 1.3 x | 50.0% |"
    assert rows[2].split(" | ")[6] == "-"


def test_below_the_table_stands_what_pages_of_any_size_say():
    shares = {
        "pages, as they are": 0.7,
        "pages, in 16 tokens": 0.4,
        "pages, empty": 0.2,
        "letters wrong": 0.11,
        "letters wrong, squashed": 0.9,
        "points into the box": 0.6,
        "always the mean box": 0.03,
    }
    lines = {name: [share, None, None] for name, share in shares.items()}
    _, said = TOOL["about_any_size"]({"nano-native": {"lines": lines}})
    pages, letters, boxes = said.split(". ")
    asked = "`nano-native`, asked about pages of twelve sizes"
    assert pages == f"{asked}: 70.0% right as they are, 40.0% in 16 tokens, 20.0% about empty pages"
    assert letters == "Letters wrong: 11.0%, on squashed pages 90.0%"
    assert boxes == "It points into the box of what is asked for in 60.0%, the mean box in 3.0%."
    assert TOOL["about_any_size"]({}) == []


def test_a_report_is_kept_without_the_time_of_this_machine():
    report = report_on_scenes(load_answering("nano-vlm"), "nano-vlm", 8)
    lines = TOOL["kept"](report)["lines"]
    assert "an answer" not in lines and lines["parameters"] == [1.354, None, None]
    assert lines["all kinds"][0] == round(report["all kinds"], 4)


def test_drawings_never_seen_become_a_folder_of_pictures(tmp_path):
    folder = TOOL["drawn_folder"](tmp_path, 3)
    own = open_pictures(folder)
    assert len({record.image for record in own.records}) == 3 and not own.skips
    assert all(
        record.turns[1][1].startswith(("This is", "These are", "The skin tone")) for record in own.records
    )


@pytest.mark.slow
def test_measuring_nano_vlm_again_says_what_its_card_says():
    report = report_on_scenes(load_answering("nano-vlm"), "nano-vlm")
    lines = CARD["cards"]["nano-vlm"]["lines"]
    for name in ("all kinds", "new combinations", "twins, both right", "an empty image", "POPE, adversarial"):
        assert report[name] == pytest.approx(lines[name][0], abs=0.01)
