"""The shipped CLIPs do what their cards say, and what the course promises of them."""

import math

import numpy as np
import pytest
import torch

from vlmcourse.data import openmoji
from vlmcourse.families import clips


@pytest.fixture(scope="module")
def laboratory():
    return clips.load_clip("clip-scenes")


@pytest.fixture(scope="module")
def drawings():
    return clips.load_clip("clip-openmoji")


@pytest.mark.slow
def test_scenes_card_is_measured_again(laboratory):
    model, card = laboratory
    assert clips.measure_scenes(model) == pytest.approx(card["metrics"], abs=0.01)


@pytest.mark.slow
def test_openmoji_card_is_measured_again(drawings):
    model, card = drawings
    assert clips.measure_emoji(model) == pytest.approx(card["metrics"], abs=0.01)


@pytest.mark.parametrize("name", ["clip-scenes", "clip-order"])
def test_twenty_scenes_are_named_without_training_on_names(name):
    model = clips.load_clip(name)[0]
    assert (
        clips.zero_shot(model, "test", "colour", 20) >= 0.95
        and clips.zero_shot(model, "test", "shape", 20) >= 0.95
    )


def test_twenty_drawings_find_their_names(drawings):
    some = openmoji.load("heldout")[np.arange(0, 400, 20)]
    similar = (
        clips.image_features(drawings[0], some.images) @ clips.text_features(drawings[0], some.captions).T
    )
    assert (similar.argmax(1) == torch.arange(20)).sum() >= 17 and (
        similar.argmax(0) == torch.arange(20)
    ).sum() >= 17


def test_scenes_reach_what_chapter_04_claims(laboratory):
    metrics = laboratory[1]["metrics"]
    assert min(metrics["zero-shot colour"], metrics["zero-shot shape"]) >= 0.95
    assert metrics["zero-shot colour, new combinations"] >= 0.95
    assert min(metrics[f"zero-shot {what}, new combinations"] for what in ("shape", "both")) >= 0.80
    assert min(metrics["image→text R@1"], metrics["text→image R@1"]) >= 0.60


def test_openmoji_reaches_what_chapter_04_claims(drawings):
    card = drawings[1]
    assert min(card["metrics"]["image→text R@1"], card["metrics"]["text→image R@1"]) >= 0.60
    assert min(card["metrics"]["image→text R@5"], card["metrics"]["text→image R@5"]) >= 0.95


@pytest.mark.slow
def test_order_card_is_measured_again():
    model, card = clips.load_clip("clip-order")
    assert clips.measure_scenes(model) == pytest.approx(card["metrics"], abs=0.01)


def test_hard_negatives_teach_the_order_of_words(laboratory):
    before, after = (clips.load_clip(name)[1]["metrics"] for name in ("clip-scenes", "clip-order"))
    assert abs(before["word order"] - 0.5) < 0.05 and after["word order"] >= 0.90


@pytest.mark.parametrize("name", ["clip-scenes", "clip-openmoji"])
def test_training_started_at_ln_batch(name):
    card = clips.load_clip(name)[1]
    assert card["first_loss"] == pytest.approx(math.log(card["recipe"]["stages"][0]["size"]), rel=0.05)


def test_there_is_no_other_clip():
    with pytest.raises(ValueError, match="there is no recipe 'clip-photos'"):
        clips.load_clip("clip-photos")
