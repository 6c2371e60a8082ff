"""The shipped nano-native: what it reads of pages of any size, what a budget costs, and where it points."""

import json

import pytest

from vlmcourse.data.assets import shipped
from vlmcourse.families import native, resolving
from vlmcourse.models.native_llava import NativeLlava
from vlmcourse.world import pages

COUNT = 400  # pages on the card


@pytest.fixture(scope="module")
def final():
    return native.load_native()


@pytest.fixture(scope="module")
def told(final):
    return final[1]["metrics"]


def test_it_is_of_its_family_and_small(final):
    assert isinstance(final[0].model, NativeLlava) and not final[0].model.training
    assert shipped("nano-native.safetensors").stat().st_size <= 2_850_000


def test_it_reads_pages_and_not_empty_ones(told):
    for kind in ("marks", "tables", "charts", "all"):
        assert told[f"pages: {kind}"] > told[f"pages: {kind}, blank"] + 0.4, kind


def test_more_tokens_buy_more(told):
    found = [told[f"native {budget}: all"] for budget in resolving.NATIVE_BUDGETS]
    assert found[0] < found[1] < found[2] < found[3] + 0.02 and found[-1] > found[0] + 0.2
    assert told["native 128: all"] > told["squash 16: all"] + 0.2


def test_letters_go_where_a_page_is_squashed(told):
    assert told["letters wrong: native"] < 0.7 * told["letters wrong: squash"]
    assert told["letters wrong: blank"] > 0.7


@pytest.mark.parametrize("kind", ["words", "tables", "charts"])
def test_it_points_better_than_the_mean_box_and_than_without_a_page(told, kind):
    shares = {who: told[f"boxes, {kind}: {who}: mean IoU"] for who in ("told", "blank", "mean box")}
    assert shares["told"] > 3 * shares["mean box"] and shares["told"] > shares["blank"] + 0.05
    assert told[f"boxes, {kind}: told: middle in the box"] > 0.15


def test_it_forgot_little_of_scenes(told):
    before = json.loads(shipped("nano-vlm.json").read_text())["metrics"]["answers"]
    assert told["scenes, as nano-vlm"] >= before - 0.06


def test_measuring_again_says_what_the_card_says(final, told):
    """A part of it, as measuring all takes minutes."""
    exam = resolving.about_pages(pages.sample_pages("test", COUNT))
    scores = resolving.page_scores(final[0], exam)
    assert scores["all"] == pytest.approx(told["pages: all"], abs=0.005)
    words = pages.sample_pages("test", COUNT, kind="words")
    errors = resolving.reading_errors(final[0], words)
    assert errors["native"] == pytest.approx(told["letters wrong: native"], abs=0.005)
    assert errors["squash"] == pytest.approx(told["letters wrong: squash"], abs=0.005)
    tables, known = (pages.sample_pages(split, COUNT, kind="tables") for split in ("test", "train"))
    for name, share in resolving.page_boxes(final[0], tables, known).items():
        assert share == pytest.approx(told[f"boxes, tables: {name}"], abs=0.01), name
