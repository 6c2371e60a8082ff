"""The shipped caption writer: its card states what it reaches, and measuring again says the same."""

import json
import math

import pytest

from vlmcourse import captioner
from vlmcourse.data.assets import shipped
from vlmcourse.recipes.captions import LM_CAPTIONS
from vlmcourse.world import captions, scenes


@pytest.fixture(scope="module")
def counted():
    return captioner.count_scenes()


@pytest.mark.slow
def test_the_card_tells_the_truth_and_both_styles_are_near_their_bound(counted):
    model, card = captioner.load_captioner()
    measured = captioner.measure(model, counted)
    assert measured == pytest.approx(card["metrics"], rel=2e-3)
    for style in ("short", "full"):
        assert 1 < measured[f"{style}_perplexity"] / measured[f"{style}_bound"] < 1.05


def test_the_card_holds_what_repeats_the_training():
    card = json.loads(shipped("lm-captions.json").read_text())
    assert card["seed"] == LM_CAPTIONS.seed
    assert card["seconds"] <= 150


def test_the_bound_on_full_captions_is_the_same_for_counts_of_other_scenes(counted):
    """Were 300,000 scenes too few to count places, scenes that were counted would seem less surprising than others."""
    own = captioner.full_surprise(counted[:20_000], counted).mean()
    other = captioner.full_surprise(scenes.sample("train", 20_000), counted).mean()
    assert own == pytest.approx(other, abs=0.15)  # nats per caption, of about 17


def test_a_lone_object_stands_anywhere(counted):
    """With one object nothing keeps its distance: four places, almost equally likely."""
    one = scenes.sample("validation", 2_000, objects=(1, 1))
    assert captioner.place_surprise(one, counted).mean() == pytest.approx(math.log(4), abs=0.01)
    assert len(set(captions.captions(one, "full"))) > 200
