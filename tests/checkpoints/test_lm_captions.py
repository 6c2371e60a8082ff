"""The shipped caption writer: its card states what it reaches, and measuring again says the same."""

import math

import pytest
import torch

from vlmcourse.data.text import BOS, EOS, load_tokenizer
from vlmcourse.evaluation.statements import stated
from vlmcourse.families import captioner
from vlmcourse.models.generation import generate
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


def test_it_reads_twenty_captions_as_its_card_says_and_wonders_about_shuffled_ones():
    model, card = captioner.load_captioner()
    assert card["seconds"] <= 150
    texts = captions.captions(scenes.sample("validation", 20), "full")
    ids, mask = load_tokenizer().encode(texts, bos=True)
    mixed = ids.clone()
    mixed[:, 1:] = ids[:, 1:].flip(0).roll(3, 1)
    with torch.inference_mode():
        perplexity, wondering = (math.exp(captioner.loss_of(model, (each, mask))) for each in (ids, mixed))
    assert (
        perplexity == pytest.approx(card["metrics"]["full_perplexity"], rel=0.06)
        and wondering > 5 * perplexity
    )


def test_it_writes_captions_of_the_world():
    model, _ = captioner.load_captioner()
    starts = torch.full((20, 1), BOS)
    written = generate(model, starts, steps=40, temperature=1.0, eos=EOS, seed=0)
    texts = load_tokenizer().decode(written)
    assert sum(bool(stated(text)) for text in texts) >= 19 and len(set(texts)) > 15


def test_the_bound_on_full_captions_is_the_same_for_counts_of_other_scenes(counted):
    """Were 300,000 scenes too few to count places, counted scenes would surprise less than others."""
    own = captioner.full_surprise(counted[:20_000], counted).mean()
    other = captioner.full_surprise(scenes.sample("train", 20_000), counted).mean()
    assert own == pytest.approx(other, abs=0.15)  # nats per caption, of about 17


def test_a_lone_object_stands_anywhere(counted):
    """With one object nothing keeps its distance: four places, almost equally likely."""
    one = scenes.sample("validation", 2_000, objects=(1, 1))
    assert captioner.place_surprise(one, counted).mean() == pytest.approx(math.log(4), abs=0.01)
    assert len(set(captions.captions(one, "full"))) > 200
