"""The shipped nano VLM: its card states what it reaches, and measuring again says the same."""

import json

import numpy as np
import pytest

from tests.checkpoints.photos import photo_crops
from vlmcourse.data.assets import shipped
from vlmcourse.data.pixels import in_grey
from vlmcourse.evaluation.statements import stated, true_share
from vlmcourse.families import nano
from vlmcourse.families.making import load_speaker
from vlmcourse.speak import Speaker
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.instructions import FULL
from vlmcourse.world.render import render


@pytest.fixture(scope="module")
def final():
    return nano.load_vlm("nano-vlm")


def test_it_sees(final):
    """Shares of right answers on scenes never seen in training."""
    found = final[1]["metrics"]
    assert found["answers"] >= 0.98 and found["answers, new combinations"] >= 0.94
    kinds = ("colour", "shape", "size", "position", "count", "existence", "relation")
    assert min(found[f"answers: {kind}"] for kind in kinds) >= 0.95 and found["answers: comparison"] >= 0.95
    assert found["answers without the image"] <= found["answer prior"]
    assert found["twins, both right"] >= 0.91 and found["captions, true statements"] >= 0.97
    assert found["captions, all true and complete"] >= 0.92


def test_it_answers_twenty_questions_and_hardly_any_about_other_pictures(final):
    batch = scenes.sample("test", 24, start=900)
    asked = [question for question in questions.ask(batch, "colour") if question][:20]
    rows = [number for number, question in enumerate(questions.ask(batch, "colour")) if question][:20]
    images, texts = render(batch[np.array(rows)]), [question.text for question in asked]
    right = [question.answer for question in asked]
    answers, elsewhere = (
        Speaker(final[0]).answer(pictures, texts) for pictures in (images, np.roll(images, 1, 0))
    )
    assert sum(map(str.__eq__, answers, right)) >= 18 > 10 >= sum(map(str.__eq__, elsewhere, right))


def test_an_aligned_model_describes_what_it_sees_and_one_that_only_knows_words_does_not():
    batch = scenes.sample("test", 20, start=300)
    shares = {}
    for name in ("nano-aligned", "nano-words"):
        model, _ = nano.load_vlm(name)
        texts = Speaker(model).answer(render(batch), [FULL] * 20)
        shares[name] = true_share(texts, batch) if any(map(stated, texts)) else 0.0
    assert abs(shares["nano-aligned"] - 0.54) < 0.12 and shares["nano-aligned"] > shares["nano-words"] + 0.1


def test_it_knows_scenes_from_photos():
    """At least 95 % right; where its eye is new, `python tools/ship.py --familiar` measures anew."""
    speaker, _ = load_speaker("nano-vlm")
    assert speaker.familiar is not None, "its eye is another one than was measured"
    inside = render(scenes.sample("test", 300, start=2000))
    assert speaker.foreign(inside).float().mean() <= 0.05
    assert speaker.foreign(in_grey(inside)).float().mean() <= 0.05
    assert speaker.foreign(photo_crops()).float().mean() >= 0.95


def test_it_is_small(final):
    model, _ = final
    assert sum(parameter.numel() for parameter in model.parameters()) <= 6_000_000
    folder = shipped("nano-vlm.safetensors").parent
    stages = ("nano-words", "nano-aligned", "nano-vlm")
    sizes = [path.stat().st_size for name in stages for path in folder.glob(f"{name}.*")]
    assert len(sizes) == 9 and sum(sizes) <= 12_000_000
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 40_000_000


def test_the_card_shows_how_it_came_about():
    card = json.loads(shipped("nano-vlm.json").read_text())
    assert card["curve"][-1][1] > card["curve"][0][1] and card["curve"][-1][0] <= card["cpu_seconds"] + 60
    assert len(card["tried"]) >= 3


def test_the_stages_before_it_say_what_their_cards_say():
    model, card = nano.load_vlm("nano-words")
    texts = captions.captions(scenes.sample("validation", 1000), "full")
    told = card["metrics"]["caption perplexity, no image"]
    assert nano.caption_perplexity(model, texts) == pytest.approx(told, abs=0.01)
