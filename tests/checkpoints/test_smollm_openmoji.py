"""The shipped SmolLM2 that looks at OpenMoji does what its card says, on combinations it never saw."""

import json

import numpy as np
import pytest

from tests.checkpoints.photos import photo_crops
from vlmcourse.data import openmoji
from vlmcourse.data.assets import shipped
from vlmcourse.diagnostics.familiar import read_familiar
from vlmcourse.evaluation.answers import grade_sentences
from vlmcourse.families import drawings, real
from vlmcourse.families.making import FAMILIAR
from vlmcourse.interop import distillation
from vlmcourse.world.render import to_tensor

COUNT = 100  # of the 400 drawings on the card


@pytest.fixture(scope="module")
def model(load_real):
    return load_real("smollm-openmoji")


def test_it_knows_drawings_from_photos():
    """At least 95 % right, by its eye alone."""
    eye, layer = real.load_eye("clip-openmoji")
    familiar = read_familiar(shipped(f"smollm-openmoji{FAMILIAR}"), eye)
    inside, photos = (
        familiar.foreign(eye.patches(to_tensor(images), layer)).float().mean()
        for images in (openmoji.load("heldout").images, photo_crops())
    )
    assert inside <= 0.05 and photos >= 0.95


@pytest.mark.slow
def test_the_card_is_measured_again(model):
    vlm, tokenizer, card = model
    found = drawings.measure(real.speaker(vlm, tokenizer), COUNT)
    told = {name: card["metrics"][name] for name in found if "frequent" not in name}
    assert {name: found[name] for name in told} == pytest.approx(
        told, abs=0.12
    )  # nearly three standard errors
    again = distillation.perplexity(vlm.language, tokenizer)
    assert again == pytest.approx(card["metrics"]["perplexity of plain sentences"], rel=0.02)


@pytest.mark.slow
def test_it_looks_and_still_reads(model):
    vlm, tokenizer, card = model
    metrics = card["metrics"]
    more = dict(role=0.75, gender=0.5, tone=0.4, full=0.45)
    for kind in drawings.DRAWING_KINDS:
        assert metrics[kind] > metrics[f"{kind}, another image"] + more[kind]
    assert metrics["sentences"] > metrics["sentences, another image"] + 0.55
    assert metrics["perplexity of plain sentences"] < 1.3 * metrics["perplexity of plain sentences, before"]
    some = openmoji.load("heldout")[:2]
    said = real.speaker(vlm, tokenizer).answer(some.images, [drawings.QUESTIONS["gender"]] * 2, steps=10)
    assert all(text.startswith("This is a") for text in said)


def test_it_tells_women_from_men_in_twenty_drawings_never_seen(model):
    vlm, tokenizer, _ = model
    some, speaker = openmoji.load("heldout")[np.arange(0, 400, 20)], real.speaker(vlm, tokenizer)
    rows = [[asked for asked in row if asked.kind == "gender"] for row in drawings.drawing_questions(some)]
    right = grade_sentences(speaker, speaker.features(some.images), rows).exact
    assert len(right) == 20 and right.mean() >= 0.85


def test_what_is_shipped_is_small_and_cost_less_than_ten_minutes_of_two_cores():
    assert shipped("smollm-openmoji.safetensors").stat().st_size < 7.5e6
    assert json.loads(shipped("smollm-openmoji.json").read_text())["seconds"] < 2 * 600
