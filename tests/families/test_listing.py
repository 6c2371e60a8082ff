"""What a perfect eye hands over, and that a T5 learns from it and nothing else does."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from vlmcourse.families import connectors, listing
from vlmcourse.recipes.book import RECIPES
from vlmcourse.world.scenes import COLOURS, SHAPES, SIZES, sample


def test_fields_by_hand():
    batch = sample("test", 8, objects=(2, 2))
    seen = listing.perfect_eye(batch)
    assert seen.shape == (8, 4, len(SIZES) + len(COLOURS) + len(SHAPES) + 32) and seen.dtype == torch.float32
    assert not seen[:, 2:].any()
    for number in range(8):
        for thing in range(2):
            size, colour, shape, across, down = seen[number, thing].split([3, 7, 5, 16, 16])
            for column, part in ((batch.size, size), (batch.colour, colour), (batch.shape, shape)):
                assert part.tolist() == [n == column[number, thing] for n in range(len(part))]
            for axis, part in ((batch.x, across), (batch.y, down)):
                place = int(axis[number, thing])
                assert part.argmax() == round(place / 4.2)  # 16 marks, 4.2 pixels apart, from 0 to 63
                assert part[0] == pytest.approx(np.exp(-((place / 6) ** 2)), abs=1e-6)
                assert part[15] == pytest.approx(np.exp(-(((63 - place) / 6) ** 2)), abs=1e-6)


@pytest.fixture(scope="module")
def recipe():
    whole = RECIPES["nano-blip2-t5"]
    stage = whole.stage("lists")
    return replace(whole.vary("lists", steps=2, data=dict(stage.data) | dict(scenes=40)), seed=5)


def test_only_the_t5_learns(recipe, monkeypatch):
    model = connectors.new_model(recipe)
    before, noted = copy.deepcopy(model.state_dict()), []
    tune = listing.Speaker.tune

    def noting(speaker, features, rows, **options):
        words = speaker.model.language
        noted.append((features, speaker.model.tokens_per_image, words.encoder_bias.unit, options["steps"]))
        return tune(speaker, features, rows, **options)

    monkeypatch.setattr(listing.Speaker, "tune", noting)
    connectors.make_connected(recipe, recipe.stage("lists"), model, precision="no")
    ((features, things, unit, steps),) = noted
    assert torch.equal(features, listing.perfect_eye(sample("train", 40, seed=7, objects=(2, 2)))[:, :2])
    assert (things, unit, steps) == (2, 20, 2)  # paced while it learns
    after = model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"language"} and model.language.encoder_bias.unit == 1
    assert set(before) == set(after)


def test_a_reader_shares_the_t5_and_reads_its_list(recipe):
    model = connectors.new_model(recipe)
    reader = listing.ListReader(model, things=3)
    assert reader.language is model.language and reader.tokens_per_image == 3
    features = torch.randn(2, 3, listing.THING_FIELDS)
    assert torch.equal(reader.connect(features), features @ reader.projector.weight.T)
    assert reader.connect(features).shape == (2, 3, 128)
    assert abs(reader.projector.weight.std() - 0.5) < 0.02  # 6,016 numbers
