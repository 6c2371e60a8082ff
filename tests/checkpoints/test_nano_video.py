"""The shipped nano-video: what it sees of pairs and clips, what the controls say, and what it forgot."""

import json

import pytest

from vlmcourse.data.assets import shipped
from vlmcourse.families import nano, video, watching
from vlmcourse.world import changes, motion, scenes

CHANCE = 0.08  # a 95 % interval about a quarter or a half, of 200 clips, and a little more


@pytest.fixture(scope="module")
def final():
    return video.load_video()


@pytest.fixture(scope="module")
def told(final):
    return final[1]["metrics"]


def test_it_tells_which_picture_by_its_number(told):
    assert told["which picture: first picture"] >= 0.9 and told["which picture: second picture"] >= 0.9
    assert told["which picture: swapped"] >= 0.9


def test_it_tells_what_changed(told):
    """Word for word, in either order; what vanished is named least often, and is nowhere in its picture."""
    assert told["what changed: right"] >= 0.9 and told["what changed: swapped"] >= 0.85
    assert min(told[f"what changed: {kind}"] for kind in changes.CHANGES) >= 0.6
    assert told["what changed: position"] >= 0.9 and told["new combinations: what changed"] >= 0.65


def test_it_says_nothing_that_was_true_before_and_sees_nothing_in_blank_pictures(told):
    for control in ("still right when swapped", "same picture twice", "blank"):
        assert told[f"what changed: {control}"] <= 0.05
    assert told["which picture: first picture, blank"] <= 0.6


@pytest.mark.parametrize("path", motion.PATHS)
def test_it_tells_directions_and_falls_to_chance_without_order(told, path):
    name = f"direction, {path}"
    assert told[f"{name}: right"] >= 0.9
    assert told[f"{name}: single frame"] <= 0.25 + CHANCE and told[f"{name}: blank"] <= 0.25 + CHANCE
    assert told[f"{name}: shuffled"] <= (0.5 if path == "straight" else 0.25) + CHANCE


def test_it_points(told):
    assert told["pointing: told: mean IoU"] >= 0.6 > 5 * told["pointing: mean box: mean IoU"]
    assert told["pointing: told: IoU over 0.5"] >= 0.8 and told["pointing: blank: mean IoU"] <= 0.1


def test_it_forgot_little_of_single_pictures(told):
    before = json.loads(shipped("nano-vlm.json").read_text())["metrics"]["answers"]
    assert told["one picture, as nano-vlm"] >= before - 0.03


def test_it_is_small(final):
    assert shipped("nano-video.safetensors").stat().st_size <= 2_050_000
    old, _ = nano.load_vlm()
    eye = final[0].model.vision.state_dict()
    assert all((weight == eye[name]).all() for name, weight in old.vision.state_dict().items())


def test_measuring_again_says_what_the_card_says(final, told):
    """A part of it, as measuring all takes minutes."""
    speaker, count = final[0], 200
    pairs = changes.sample_changes("test", count)
    assert watching.about_pairs(pairs).score(speaker) == pytest.approx(told["what changed: right"], abs=0.01)
    clips = motion.sample_clips("test", count, path="round")
    exam = watching.about_clips(clips)
    assert exam.score(speaker) == pytest.approx(told["direction, round: right"], abs=0.01)
    shuffled = exam.shown(clips.shuffled()).score(speaker)
    assert shuffled == pytest.approx(told["direction, round: shuffled"], abs=0.01)
    found = watching.pointing_scores(speaker, scenes.sample("test", count))
    assert found["told: mean IoU"] == pytest.approx(told["pointing: told: mean IoU"], abs=0.01)
