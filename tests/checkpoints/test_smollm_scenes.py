"""The shipped SmolLM2 with an eye does what its card says: it looks, and it still reads plain English."""

import json

import numpy as np
import pytest

from vlmcourse.data.assets import shipped
from vlmcourse.evaluation.answers import grade_sentences
from vlmcourse.families import real
from vlmcourse.interop import distillation
from vlmcourse.world import scenes
from vlmcourse.world.render import render


@pytest.fixture(scope="module")
def model(load_real):
    return load_real("smollm-scenes")


@pytest.mark.slow
def test_the_card_is_measured_again(model):
    vlm, tokenizer, card = model
    found = real.measure(real.speaker(vlm, tokenizer))
    found["perplexity of plain sentences"] = distillation.perplexity(vlm.language, tokenizer)
    told = {name: card["metrics"][name] for name in found}
    assert found == pytest.approx(told, abs=0.03, rel=0.02)


@pytest.mark.slow
def test_it_looks_and_still_reads(model):
    metrics = model[2]["metrics"]
    assert metrics["named"] > metrics["named, another image"] + 0.3
    assert metrics["sentences"] > metrics["sentences, another image"] + 0.2
    assert metrics["perplexity of plain sentences"] < 1.3 * metrics["perplexity of plain sentences, before"]
    speaker = real.speaker(model[0], model[1])
    said = speaker.answer(np.zeros((1, 64, 64, 3), np.uint8), ["What do you see?"], steps=8)
    assert said[0].strip()


def test_it_names_the_colours_of_twenty_scenes_and_not_those_of_others(model):
    vlm, tokenizer, _ = model
    batch = scenes.sample("test", 20, start=700, objects=(1, 1))
    speaker = real.speaker(vlm, tokenizer)
    images, about = speaker.features(render(batch)), real.scene_questions(batch, kinds=("colour",))
    rows = [row[:1] for row in about]  # without the captions
    named, elsewhere = (
        grade_sentences(speaker, given, rows).named.mean() for given in (images, images.roll(1, 0))
    )
    assert named >= 0.8 and elsewhere <= 0.5


def test_what_is_shipped_is_small_and_cost_less_than_ten_minutes_of_two_cores():
    assert shipped("smollm-scenes.safetensors").stat().st_size < 4.2e6
    assert json.loads(shipped("smollm-scenes.json").read_text())["seconds"] < 2 * 600
