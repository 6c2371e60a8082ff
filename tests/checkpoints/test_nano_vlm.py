"""The shipped nano VLM: its card states what it reaches, and measuring again says the same."""

import json

import pytest

from vlmcourse import nano
from vlmcourse.data.assets import shipped
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.world import captions, scenes


@pytest.fixture(scope="module")
def final():
    return nano.load_vlm("nano-vlm")


@pytest.mark.slow
def test_the_card_tells_the_truth(final):
    model, card = final
    assert nano.measure(model) == pytest.approx(card["metrics"], abs=0.01)


def test_it_sees(final):
    """Shares of right answers on scenes never seen in training."""
    found = final[1]["metrics"]
    assert found["answers"] >= 0.97 and found["answers, new combinations"] >= 0.92
    kinds = ("colour", "shape", "size", "position", "count", "existence", "relation")
    assert min(found[f"answers: {kind}"] for kind in kinds) >= 0.95 and found["answers: comparison"] >= 0.9
    assert found["answers without the image"] <= found["answer prior"]
    assert found["twins, both right"] >= 0.88 and found["captions, true statements"] >= 0.94


def test_it_is_small(final):
    model, _ = final
    assert sum(parameter.numel() for parameter in model.parameters()) <= 6_000_000
    assert (
        sum(path.stat().st_size for path in shipped("nano-vlm.safetensors").parent.glob("nano-*"))
        <= 12_000_000
    )


def test_the_cards_hold_what_repeats_the_training():
    for name in ("nano-words", "nano-aligned", "nano-vlm"):
        card = json.loads(shipped(f"{name}.json").read_text())
        assert card["seed"] == NANO_VLM.seed == 0
    assert card["curve"][-1][1] > card["curve"][0][1] and card["curve"][-1][0] <= card["cpu_seconds"] + 60
    assert len(card["tried"]) >= 3


def test_the_stages_before_it_say_what_their_cards_say():
    model, card = nano.load_vlm("nano-words")
    texts = captions.captions(scenes.sample("validation", 1000), "full")
    told = card["metrics"]["caption perplexity, no image"]
    assert nano.caption_perplexity(model, texts) == pytest.approx(told, abs=0.01)
