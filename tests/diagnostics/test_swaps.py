"""Swapped images: nobody keeps their own, and rates are counted right."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlmcourse.diagnostics.swaps import blank, deranged, paper_of, swap_rates, swap_test
from vlmcourse.world import scenes
from vlmcourse.world.render import PAPER, render


@pytest.mark.parametrize("count", [2, 3, 7, 50])
def test_everybody_gets_another_one_and_everything_is_used_once(count):
    for seed in range(20):
        order = deranged(count, seed)
        assert sorted(order.tolist()) == list(range(count))
        assert (order != torch.arange(count)).all()


def test_the_order_is_random_and_the_same_for_a_seed():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    orders = [tuple(deranged(7, seed).tolist()) for seed in range(30)]
    assert len(set(orders)) > 25 and orders[3] == tuple(deranged(7, 3).tolist())
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="1 images cannot be exchanged; give two"):
        deranged(1, 0)


def test_rates_are_counted_against_the_truth_and_against_the_right_image():
    given = torch.tensor([[1, 2, 3, 4], [1, 0, 3, 0], [2, 2, 0, 4]])
    accuracy, changed = swap_rates(given, torch.tensor([1, 2, 0, 0]))
    assert accuracy.tolist() == [0.5, 0.5, 0.5] and changed.tolist() == [0, 0.5, 0.5]
    accuracy, changed = swap_rates(given[:2], torch.tensor([1, 2, 3, 4]))
    assert accuracy.tolist() == [1, 0.5] and changed.tolist() == [0, 0.5]


def test_paper_is_what_most_of_the_border_shows():
    batch = scenes.sample("validation", 40)
    images = render(batch)
    for image, light in zip(images, batch.light, strict=True):
        assert (paper_of(image) == PAPER[light]).all()
    assert (blank(images) == PAPER[batch.light][:, None, None]).all() and blank(images).dtype == np.uint8
    framed = np.zeros((6, 8, 3), np.uint8)
    framed[0], framed[-1], framed[:, 0], framed[:, -1] = (9, 1, 1), (9, 1, 1), (9, 1, 1), (2, 7, 7)
    assert paper_of(framed).tolist() == [9, 1, 1]
    framed[1:-1, 1:-1] = 200
    assert paper_of(framed).tolist() == [9, 1, 1]


@pytest.mark.parametrize("side", [np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]])
def test_every_side_of_the_border_counts(side):
    image = np.zeros((9, 9, 3), np.uint8)
    image[:, :, 0] = np.arange(81).reshape(9, 9)
    image[side] = 200
    assert paper_of(image).tolist() == [200, 200, 200]


def speaker_that(says):
    return SimpleNamespace(
        answer=lambda images, asked: [says(*pair) for pair in zip(images, asked, strict=True)]
    )


IMAGES = np.stack([np.full((4, 4, 3), 10 * number, np.uint8) for number in range(6)])
IMAGES[:, 1, 1] = [[number, 0, 0] for number in range(100, 106)]
ANSWERS = [f"Value {number}" for number in range(100, 106)]


def test_a_model_that_looks_fails_without_its_image():
    tested = swap_test(speaker_that(lambda image, _: f" value {image[1, 1, 0]} "), IMAGES, ["?"] * 6, ANSWERS)
    assert tested == (1, 0, 0, 1, 1)


def test_a_model_that_does_not_look_changes_nothing():
    tested = swap_test(
        speaker_that(lambda image, asked: asked), IMAGES, ["value 100"] * 3 + ["x"] * 3, ANSWERS
    )
    assert tested == pytest.approx((1 / 6, 1 / 6, 1 / 6, 0, 0))


def test_blank_and_foreign_images_are_told_apart():
    def says(image, asked):
        return "blank" if (image == image[0, 0]).all() else "full"

    tested = swap_test(speaker_that(says), IMAGES, ["?"] * 6, ["full"] * 5 + ["blank"])
    assert tested == pytest.approx((5 / 6, 1 / 6, 5 / 6, 1, 0))


def test_the_seed_decides_whose_image_is_shown():
    shown = []
    for seed in (0, 1):
        swap_test(
            speaker_that(lambda image, _: shown.append(image[1, 1, 0]) or ""),
            IMAGES,
            ["?"] * 6,
            ANSWERS,
            seed,
        )
    foreign = torch.from_numpy(np.array(shown).reshape(2, 3, 6)[:, 2] - 100).long()
    assert foreign.tolist() == [deranged(6, 0).tolist(), deranged(6, 1).tolist()]


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="6 images, 5 instructions and 6 answers; give one of each"):
        swap_test(None, IMAGES, ["?"] * 5, ANSWERS)
    with pytest.raises(ValueError, match="6 images, 6 instructions and 5 answers"):
        swap_test(None, IMAGES, ["?"] * 6, ANSWERS[:5])
