"""Captions that name one of two things: twins bind falsely, what fits is known, and a model learns them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vlmcourse.data.text import BOS, EOS
from vlmcourse.families import naming, nano
from vlmcourse.families.naming import (
    ALL_NAMES,
    fitting,
    name_things,
    spell_names,
    swap_some,
    trade_names,
    two_things,
)
from vlmcourse.training.matching import matching_loss
from vlmcourse.world import captions

BATCH = two_things("test", 60)


def test_two_things_differ_in_both_attributes():
    assert len(BATCH) == 60 and (BATCH.count == 2).all()
    assert (BATCH.shape[:, 0] != BATCH.shape[:, 1]).all() and (BATCH.colour[:, 0] != BATCH.colour[:, 1]).all()


def test_a_twin_has_words_of_the_image_and_names_nothing_in_it():
    first, second = name_things(BATCH), name_things(BATCH, 1)
    for what in ("colour", "shape"):
        twin = trade_names(BATCH, what)
        assert (twin != first).all() and (twin != second).all()
        for true, other, false in zip(first.tolist(), second.tolist(), twin.tolist(), strict=True):
            _, colour, shape = ALL_NAMES[false].split()
            both = f"{ALL_NAMES[true]} {ALL_NAMES[other]}".split()
            assert colour in both and shape in both
            assert (shape if what == "colour" else colour) in ALL_NAMES[true]


def test_a_name_is_what_a_number_says():
    texts = captions.captions(BATCH, "short")
    pairs = zip(texts, name_things(BATCH).tolist(), name_things(BATCH, 1).tolist(), strict=True)
    assert all(
        text.startswith(ALL_NAMES[first]) and text.endswith(ALL_NAMES[last]) for text, first, last in pairs
    )
    ids, mask = spell_names(torch.tensor([3, 0]))
    assert ids.shape == mask.shape == (2, 5) and mask.all()


def test_what_fits_is_a_thing_of_the_image():
    shown, said = torch.tensor([[4, 9], [2, 4]]), torch.tensor([4, 2])
    assert fitting(shown, said).tolist() == [[True, False], [True, True]]


def test_pairs_hold_the_eyes_features_and_the_mean_in_front():
    model = naming.new_blip(depth=1)
    pairs = naming.show_pairs(model, BATCH[:5])
    plain = naming.show_pairs(model, BATCH[:5], average=False)
    assert pairs.features.shape == (5, 65, 96)
    assert torch.equal(pairs.features[:, 1:], plain.features[:, 1:])
    mean = plain.features[:, 1:].float().mean(dim=1)
    assert torch.allclose(pairs.features[:, 0].float(), mean, atol=0.02)
    assert torch.equal(pairs.said, name_things(BATCH[:5]))
    assert torch.equal(pairs.shown, torch.stack([pairs.said, name_things(BATCH[:5], 1)], dim=1))
    assert torch.equal(pairs.ids, spell_names(pairs.said)[0]) and pairs.features.dtype == torch.bfloat16


def test_swapped_captions_are_other_images_and_as_many_as_wanted():
    said = torch.arange(30)
    pairs = naming.NamedPairs(torch.zeros(30, 1, 1), *spell_names(said), said, said[:, None].repeat(1, 2))
    noisy = swap_some(pairs, 0.4, seed=1)
    assert (noisy.said != said).sum() == 12 and sorted(noisy.said.tolist()) == said.tolist()
    assert torch.equal(noisy.ids, spell_names(noisy.said)[0]) and torch.equal(pairs.said, said)


def test_a_model_learns_to_name_and_its_eye_stays():
    model = naming.new_blip(depth=1)
    before = {name: weight.clone() for name, weight in model.vision.state_dict().items()}
    pairs = naming.show_pairs(model, two_things("train", 96))
    history = naming.learn_names(model, pairs, steps=12, size=24)
    assert np.mean(history.losses[-3:]) < 0.9 * history.losses[0]
    assert all(torch.equal(before[name], weight) for name, weight in model.vision.state_dict().items())


def test_a_new_blip_has_the_eye_of_nano_vlm_and_as_many_blocks_as_wanted():
    model, eye = naming.new_blip(), nano.load_vlm("nano-vlm")[0].vision.state_dict()
    assert all(torch.equal(weight, eye[name]) for name, weight in model.vision.state_dict().items())
    assert len(model.encoder.blocks) == 2 and len(naming.new_blip(depth=1).encoder.blocks) == 1


def test_a_training_depends_on_its_seed_alone():
    pairs, losses = some_pairs(range(6), [[0, 1]] * 6, torch.randn(6, 65, 96)), []
    for before, seed in ((1, 5), (2, 5), (1, 6)):
        model = naming.new_blip(depth=1)
        torch.manual_seed(before)
        losses.append(naming.learn_names(model, pairs, steps=2, size=4, seed=seed, known=False).losses)
    assert losses[0] == losses[1] != losses[2]


def some_pairs(said: list[int], shown: list[list[int]], features: torch.Tensor) -> naming.NamedPairs:
    said = torch.tensor([*said])
    return naming.NamedPairs(features.bfloat16(), *spell_names(said), said, torch.tensor(shown))


@pytest.mark.parametrize("known", [True, False])
def test_the_losses_know_what_else_fits_only_if_they_may(monkeypatch, known):
    given = []

    def noted(model, features, ids, mask, **options):
        given.append((ids, options))
        return matching_loss(model, features, ids, mask, **options)

    monkeypatch.setattr(naming, "matching_loss", noted)
    pairs = some_pairs([3, 4, 5], [[3, 4], [4, 0], [5, 3]], torch.randn(3, 65, 96))
    options = dict(known=known, kinds=("contrast",), hard=False)
    history = naming.learn_names(naming.new_blip(depth=1), pairs, steps=2, size=3, **options)
    assert history.steps == 2
    for ids, options in given:
        assert options["kinds"] == ("contrast",) and options["hard"] is False
        order = [pairs.ids.tolist().index(row) for row in ids.tolist()]
        fits = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)[order][:, order]
        assert torch.equal(options["fits"], fits) if known else options["fits"] is None


class Judge:
    """ITM says of each text what a table says; an image's vector is its features, a text's its number."""

    def __init__(self, table: list[list[float]]):
        self.table = torch.tensor(table)

    def numbers(self, ids):
        known = spell_names(torch.arange(len(ALL_NAMES)))[0].tolist()
        return torch.tensor([known.index(row) for row in ids.tolist()])

    def match_scores(self, features, ids, mask):
        return self.table[self.numbers(ids)]

    def text_vectors(self, ids, mask):
        return torch.eye(len(ALL_NAMES))[self.numbers(ids)]

    def image_vectors(self, features):
        return features[:, 0]


def test_a_twin_is_told_if_the_true_caption_has_more():
    # ITM's "does" less its "does not" is 1, 1, 2 and 0 of the true ones, 0, 2, 1 and 0 of the twins
    judge = Judge([[0, 1], [4, 5], [-2, 0], [1, 1], [5, 5], [0, 2], [8, 9], [0, 0]])
    likeness = torch.zeros(4, 1, len(ALL_NAMES))
    likeness[0, 0, 0] = likeness[1, 0, 1] = likeness[2, 0, 2] = 1.0
    likeness[3, 0, 7], likeness[2, 0, 5] = 0.5, 2.0  # more than any, of a text that is nobody's twin
    pairs = some_pairs([0, 1, 2, 3], [[0, 1]] * 4, likeness)
    assert naming.twins_told(judge, pairs, torch.tensor([4, 5, 6, 7])) == {"ITM": 0.5, "ITC": 0.75}


def test_the_nearest_of_all_names_counts():
    likeness = torch.zeros(4, 1, len(ALL_NAMES))
    for image, (best, second) in enumerate([(5, 1), (len(ALL_NAMES) - 1, 5), (2, 6), (1, 3)]):
        likeness[image, 0, best], likeness[image, 0, second] = 1.0, 0.5
    pairs = some_pairs([1, 5, 2, 3], [[1, 5], [5, len(ALL_NAMES) - 1], [2, 9], [3, 4]], likeness)
    assert naming.names_found(Judge([]), pairs) == 0.75


class Writer:
    """Writes the names whose numbers stand in the features, token by token, and goes on behind the end."""

    start, end = BOS, EOS

    def write_scores(self, features, ids):
        assert features.dtype == torch.float32 and (ids[:, 0] == BOS).all()
        whole = F.pad(spell_names(features[:, 0, 0].long())[0], (0, 9), value=7)
        assert torch.equal(ids, whole[:, : ids.shape[1]])  # it reads what it wrote
        return F.one_hot(whole[:, 1 : ids.shape[1] + 1], 1024).float()


def test_what_is_written_ends_at_the_end():
    numbers = torch.tensor([3.0, 0.0, 12.0]).bfloat16()[:, None, None]
    assert naming.write_names(Writer(), numbers) == [ALL_NAMES[3], ALL_NAMES[0], ALL_NAMES[12]]
    assert naming.write_names(Writer(), numbers, steps=2) == [
        ALL_NAMES[number].rsplit(" ", 1)[0] for number in (3, 0, 12)
    ]
