"""Captions and their twins, in which two things changed places: what is learned from them, and told apart."""

import pytest
import torch

from vlmcourse.data.text import BOS, EOS, load_tokenizer
from vlmcourse.families import connectors, relating
from vlmcourse.recipes.book import RECIPES
from vlmcourse.speak import Speaker
from vlmcourse.world import scenes
from vlmcourse.world.render import render


@pytest.fixture
def model():
    return connectors.new_model(RECIPES["nano-blip"])


def spelled(ids, mask):
    return load_tokenizer().decode([row[real].tolist()[1:-1] for row, real in zip(ids, mask, strict=True)])


def test_a_twin_has_the_words_of_its_caption_and_is_false(model):
    batch, true, twin = relating.relations("validation", 30, seed=2)
    assert batch.split == "validation" and (batch.count == 2).all()
    for n, (right, wrong) in enumerate(zip(true, twin, strict=True)):
        assert sorted(right.split()) == sorted(wrong.split()) and right != wrong
        place = scenes.relation(batch)[n]
        assert f" {scenes.RELATIONS[place]} " in right and f" {scenes.RELATIONS[place]} " in wrong
    assert relating.relations("validation", 30, seed=3)[1] != true


def test_pairs_are_images_their_captions_and_their_twins(model):
    pairs = relating.show_relations(model, "test", 12)
    batch, true, twin = relating.relations("test", 12)
    assert spelled(pairs.ids, pairs.mask) == true and spelled(pairs.twin_ids, pairs.twin_mask) == twin
    assert (pairs.ids[:, 0] == BOS).all() and (pairs.twin_ids == EOS).sum() == len(true)
    expected = Speaker(model).features(render(batch), dtype=torch.bfloat16)
    assert torch.equal(pairs.features, expected)


def test_what_is_told_is_how_often_the_caption_beats_its_twin(model, monkeypatch):
    pairs = relating.show_relations(model, "test", 4)
    belongs = iter([torch.tensor([3.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 3.0, 0.0, 1.0])])
    shown = []

    def scores(features, ids, mask):
        shown.append(ids)
        return torch.stack([torch.ones(4), next(belongs)], dim=1)

    monkeypatch.setattr(model, "match_scores", scores)
    assert relating.relations_told(model, pairs) == 0.5  # of equal scores neither wins
    assert torch.equal(shown[0], pairs.ids) and torch.equal(shown[1], pairs.twin_ids)


def test_encoder_and_matching_learn_and_nothing_else(model):
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    pairs = relating.show_relations(model, "train", 40)
    loss = torch.nn.functional.cross_entropy
    seen = []

    def note(scores, labels):
        seen.append(labels.tolist())
        return loss(scores, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relating.F, "cross_entropy", note)
        history = relating.learn_relations(model, pairs, steps=3, size=5)
    assert history.steps == 3 and seen[0] == [1] * 5 + [0] * 5
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert {name.split(".")[0] for name in moved} == {"encoder", "match"}


@pytest.mark.slow
def test_who_answered_questions_learns_relations_and_who_begins_does_not(model):
    trained, _ = connectors.load_connected("nano-blip")
    told = {}
    for name, each in (("new", model), ("nano-blip", trained)):
        pairs = relating.show_relations(each, "train", 4000)
        relating.learn_relations(each, pairs, steps=250)
        told[name] = relating.relations_told(each, relating.show_relations(each, "test", 400))
    assert told["nano-blip"] > 0.95 and told["new"] < 0.6
