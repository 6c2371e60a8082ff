"""Captions that name one of two things: twins bind falsely, what fits is known, and a model learns them."""

import numpy as np
import torch

from vlmcourse.families import naming
from vlmcourse.families.naming import (
    ALL_NAMES,
    fitting,
    name_things,
    spell_names,
    swap_some,
    trade_names,
    two_things,
)
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
    assert (pairs.shown[:, 0] == pairs.said).all()


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
    assert set(naming.twins_told(model, pairs, pairs.said.roll(1))) == {"ITM", "ITC"}
    assert 0 <= naming.names_found(model, pairs) <= 1
    assert len(naming.write_names(model, pairs.features[:3])) == 3
