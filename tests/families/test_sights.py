"""A page seen in a way is planned, shown and asked about as the model reads it."""

import numpy as np
import pytest
import torch

from vlmcourse.data.coordinates import spell_box
from vlmcourse.evaluation.answers import chances_of_features
from vlmcourse.families import native, sights
from vlmcourse.models.tiles import PicturePlan
from vlmcourse.speak import Speaker
from vlmcourse.world import pages

WAYS = [("native", 512), ("native", 16), ("squash", 16), ("tiles", 128)]


@pytest.fixture(scope="module")
def speaker():
    return Speaker(native.new_native())


@pytest.fixture(scope="module")
def batch():
    return pages.sample_pages("test", 6)


@pytest.mark.parametrize(
    ("way", "budget", "plan"),
    [
        ("native", 64, ((64, 256), (1, 1), 64)),
        ("native", 63, ((64, 240), (1, 1), 60)),
        ("native", 16, ((32, 128), (1, 1), 16)),
        ("squash", 40, ((96, 96), (1, 1), 36)),
        ("tiles", 16, ((64, 64), (1, 1), 16)),
        ("tiles", 128, ((64, 256), (1, 4), 5 * 16)),  # tiles.plan_picture adds 4 separators
    ],
)
def test_a_plan_is_what_the_model_reads(speaker, way, budget, plan):
    assert sights.plan_page((64, 256), way, budget) == PicturePlan(way, *plan)
    page = pages.sample_pages("test", 1, sizes=[(64, 256)]).pictures[0]
    seen = sights.collect_sights(speaker.model, [sights.show_page(page, way, budget)])
    assert seen.tokens().tolist() == [plan[2]]


def test_a_page_is_seen_as_it_is_with_at_most_256_tokens_if_nothing_else_is_said():
    assert sights.plan_page((256, 256)) == PicturePlan("native", (256, 256), (1, 1), 256)
    page = pages.sample_pages("test", 1, sizes=[(256, 256)]).pictures[0]
    assert sights.show_page(page).shape == (1, 3, 256, 256)


def test_bytes_of_a_page_stay_as_they_are(speaker):
    page = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3).copy()
    kept = sights.collect_sights(speaker.model, [sights.show_page(page)])
    assert kept.pixels.vectors.sum() == page.astype(int).sum()
    assert sorted(kept.pixels.vectors.flatten().tolist()) == sorted(page.flatten().tolist())


def test_padding_of_tiles_costs_as_well():
    assert sights.plan_page((64, 192), "tiles", 64) == PicturePlan("tiles", (43, 128), (1, 2), 3 * 16)
    for budget, message in ((15, "holds no thumbnail"), (0, "holds no picture")):
        with pytest.raises(ValueError, match=message):
            sights.plan_page((64, 192), "tiles", budget)


def test_a_seen_page_can_be_looked_at(batch):
    page = batch.pictures[0]
    whole = sights.see_page(page)
    assert whole.square == 16 and whole.pieces.dtype == np.uint8 and np.array_equal(whole.pieces[0], page)
    small = sights.see_page(page, "tiles", 64)
    wanted = (sights.show_page(page, "tiles", 64) + 1) * 127.5
    assert np.abs(small.pieces - wanted.permute(0, 2, 3, 1).numpy()).max() <= 0.5001
    assert small.plan == sights.plan_page(page.shape[:2], "tiles", 64) and len(small.pieces) > 1


def test_an_answer_is_the_one_that_is_written_with_its_probability(speaker, batch):
    see, answer = sights.sights_for(speaker)
    assert see is sights.see_page
    for page, asked in zip(batch.pictures[:3], batch.asked, strict=False):
        text, chance = answer(page, asked[0].text, "native", 512)
        assert [text] == speaker.answer([page], [asked[0].text]) and 0 < chance <= 1


@pytest.mark.parametrize(("way", "budget"), WAYS)
def test_the_probability_is_that_of_grading_the_same_view(speaker, batch, way, budget):
    """As grade_sights reads it, tiles as pictures of their own; bytes and all."""
    page, question = batch.pictures[3], batch.asked[3][0].text
    text, chance = sights.answer_sight(speaker, page, question, way, budget)
    seen = sights.collect_sights(speaker.model, [sights.show_page(page, way, budget)])
    rows = speaker.encode([[(question, text)]], images=seen.pixels)
    with torch.no_grad():
        features = sights.sight_features(speaker.model, *seen)
    assert chance == pytest.approx(chances_of_features(speaker, features, rows, 1).item(), rel=1e-3)
    assert sights.grade_sights(speaker, seen, rows).tolist() == [True]


def test_many_pages_are_graded_in_parts_each_with_its_own_tiles(speaker, batch, monkeypatch):
    ways = [("tiles", 128), ("native", 64), ("tiles", 64), ("squash", 16), ("tiles", 128)]
    shown = [sights.show_page(page, *way) for page, way in zip(batch.pictures[:5], ways, strict=True)]
    about = []
    for number, (page, way) in enumerate(zip(batch.pictures[:5], ways, strict=True)):
        question = batch.asked[number][0].text
        said = sights.answer_sight(speaker, page, question, *way)[0]
        about.append([(question, said if number != 1 else said + " not")])
    seen = sights.collect_sights(speaker.model, shown)
    features = sights.sight_features(speaker.model, *seen)
    assert features.grids == seen.pixels.grids and len(features) == 5  # not a picture for every tile
    rows = speaker.encode(about, images=seen.pixels)
    for at_once in (50, 2):
        monkeypatch.setattr(sights, "AT_ONCE_SEEN", at_once)
        assert sights.grade_sights(speaker, seen, rows).tolist() == [True, False, True, True, True]


def test_every_thing_with_a_name_is_asked_for_with_its_box():
    batch = pages.sample_pages("test", 40)
    for questions, size in zip(batch.asked, batch.sizes, strict=True):
        for question in questions:
            placed = pages.place_of_answer(question, size)
            assert bool(placed) == (question.kind in ("where", "word", "cell", "height"))
            assert placed is None or placed[1] == spell_box(question.boxes[0], size)
