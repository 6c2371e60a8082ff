"""Intervals hold what they promise, also where questions belong together; tests of two models are exact."""

import pytest
import torch

from vlmcourse.evaluation import intervals
from vlmcourse.evaluation.intervals import (
    bootstrap_interval,
    discordant,
    flipped_means,
    mcnemar_exact,
    paired_interval,
    percentile_interval,
    permutation_p,
    resampled_means,
    sign_flip_test,
)


def test_resampled_means_weigh_questions_not_images():
    scores, groups = torch.tensor([1.0, 0.0, 0.0, 0.5]), torch.tensor([0, 1, 1, 2])
    draws = torch.tensor([[0, 1, 2], [0, 0, 1], [2, 2, 2], [1, 1, 0]])
    means = resampled_means(scores, groups, draws)
    torch.testing.assert_close(means, torch.tensor([1.5 / 4, 2 / 4, 0.5, 1 / 5]))
    torch.testing.assert_close(resampled_means(scores, groups, draws[:, :1]), torch.tensor([1.0, 1, 0.5, 0]))


def test_percentiles_leave_half_of_the_rest_on_either_side():
    values = torch.arange(101.0)[torch.randperm(101)]
    assert percentile_interval(values, 0.9) == pytest.approx((5, 95))
    assert percentile_interval(values, 0.5) == pytest.approx((25, 75))
    assert percentile_interval(torch.tensor([0.0, 1.0]), 0.8) == pytest.approx((0.1, 0.9))


def test_an_interval_is_about_as_wide_as_theory_says():
    scores = [1.0] * 60 + [0.0] * 40
    interval = bootstrap_interval(scores)
    assert interval.mean == pytest.approx(0.6)
    half = 1.96 * (0.6 * 0.4 / 100) ** 0.5
    assert interval.low == pytest.approx(0.6 - half, abs=0.015)
    assert interval.high == pytest.approx(0.6 + half, abs=0.015)
    assert bootstrap_interval(scores, level=0.5).high == pytest.approx(0.6 + 0.674 / 1.96 * half, abs=0.015)


def test_95_percent_of_intervals_hold_the_truth():
    dice = torch.Generator().manual_seed(0)
    samples = (torch.rand(150, 80, generator=dice) < 0.7).double()
    intervals = [bootstrap_interval(sample, seed=n) for n, sample in enumerate(samples)]
    share = sum(interval.low <= 0.7 <= interval.high for interval in intervals) / 150
    assert 0.9 <= share <= 0.99


def test_questions_about_one_image_are_no_new_images():
    """Each question asked four times teaches nothing, yet halves an interval that does not know."""
    dice = torch.Generator().manual_seed(1)
    once = (torch.rand(100, generator=dice) < 0.5).double()
    often, images = once.repeat_interleave(4), torch.arange(100).repeat_interleave(4)
    widths = [
        interval.high - interval.low
        for interval in (
            bootstrap_interval(once),
            bootstrap_interval(often, images),
            bootstrap_interval(often),
        )
    ]
    assert widths[1] == pytest.approx(widths[0])
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.15)


def test_without_a_mistake_an_interval_has_no_width():
    assert bootstrap_interval([1.0] * 20) == (1, 1, 1)


def test_images_may_have_any_names():
    scores = [1, 0, 0, 1, 1]
    named = bootstrap_interval(scores, ["b.png", "a.png", "a.png", "b.png", "c.png"])
    assert named == bootstrap_interval(scores, torch.tensor([7, 3, 3, 7, 1]))
    assert named != bootstrap_interval(scores)


def test_an_interval_follows_its_seed():
    scores = torch.rand(30, generator=torch.Generator().manual_seed(2))
    assert bootstrap_interval(scores) == bootstrap_interval(scores) != bootstrap_interval(scores, seed=1)


def test_a_paired_interval_sees_what_two_intervals_hide():
    """The second model is right wherever the first is, and at five of a hundred more."""
    first, second = [1.0] * 55 + [0.0] * 45, [1.0] * 60 + [0.0] * 40
    own, other, paired = bootstrap_interval(first), bootstrap_interval(second), paired_interval(second, first)
    assert own.high > other.mean  # the two overlap
    assert paired.mean == pytest.approx(0.05)
    assert 0 < paired.low < 0.03 and 0.08 < paired.high < 0.12
    assert paired_interval(first, second).mean == pytest.approx(-0.05)
    assert paired_interval(first, second, seed=1) != paired_interval(first, second)
    assert paired_interval(first, second) == paired_interval(first, second, seed=0)
    grouped = paired_interval(second, first, [n // 50 for n in range(100)])
    assert (grouped.low, grouped.high) == (0, pytest.approx(0.1))  # two images: none or both of the better


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match=f"share such as 0.95, got {level}"):
        bootstrap_interval([0, 1], level=level)


@pytest.mark.parametrize(
    "measure", [bootstrap_interval, lambda s, g=None: sign_flip_test(s, [0.0] * len(s), g)]
)
def test_what_gives_no_interval_is_refused(measure):
    with pytest.raises(ValueError, match="fewer than two images"):
        measure([1.0, 0.0], ["one.png", "one.png"])
    with pytest.raises(ValueError, match="fewer than two images"):
        measure([])
    with pytest.raises(ValueError, match="2 scores and images of 3 questions"):
        measure([1.0, 0.0], [1, 2, 3])
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure([1.0, float("nan")])


@pytest.mark.parametrize("compare", [paired_interval, sign_flip_test, discordant])
def test_models_are_compared_on_the_same_questions(compare):
    with pytest.raises(ValueError, match="2 and 3 "):
        compare([1.0, 0.0], [1.0, 0.0, 1.0])


def test_flips_turn_whole_images_round():
    differences, groups = torch.tensor([1.0, 2.0, -4.0]), torch.tensor([0, 1, 0])
    signs = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
    torch.testing.assert_close(
        flipped_means(differences, groups, signs), torch.tensor([-1 / 3, 5 / 3, -5 / 3])
    )


def test_p_counts_what_was_observed_and_both_directions():
    by_chance = torch.tensor([0.3, -0.3, 0.1, 0.0, -0.5, 0.3 - 1e-14, 0.2])
    assert permutation_p(0.3, by_chance) == permutation_p(-0.3, by_chance) == 5 / 8
    assert permutation_p(0.6, by_chance) == 1 / 8
    assert permutation_p(0.0, by_chance) == 1


def test_six_images_all_better_are_one_chance_in_32():
    assert sign_flip_test([1] * 6, [0] * 6) == sign_flip_test([0] * 6, [1] * 6) == 2 / 64
    assert sign_flip_test([1] * 6, [0] * 6, [1, 1, 2, 2, 3, 3]) == 2 / 8  # only three images
    assert sign_flip_test([1, 0, 1], [1, 0, 1]) == 1


def test_many_images_are_flipped_by_chance():
    first = [1.0] * 12 + [0.0] * 5 + [1.0] * 20
    second = [0.0] * 12 + [1.0] * 5 + [1.0] * 20
    exact = mcnemar_exact(12, 5)  # for right and wrong both tests ask the same
    assert exact == pytest.approx(0.1435, abs=1e-4)
    assert sign_flip_test(first, second) == pytest.approx(exact, abs=0.015)
    assert sign_flip_test(first, second) != sign_flip_test(first, second, seed=1)
    assert sign_flip_test([1] * 30, [0] * 30) == 1 / 10_001


def test_only_questions_that_one_model_got_right_count():
    first, second = [True, True, False, False, True, True], [True, False, True, False, False, False]
    assert discordant(first, second) == (3, 1)
    assert discordant(torch.tensor(first), torch.tensor(second)) == (3, 1)


@pytest.mark.parametrize("one, other, p", [(0, 0, 1), (1, 0, 1), (5, 0, 2 / 32), (0, 6, 2 / 64),
                                           (3, 1, 10 / 16), (4, 4, 1), (2, 8, 2 * 56 / 1024)])  # fmt: skip
def test_mcnemar_by_hand(one, other, p):
    assert mcnemar_exact(one, other) == pytest.approx(p)


def test_all_right_is_no_certainty():
    assert intervals.by_rule_of_three(intervals.Interval(1, 1, 1), 10) == (1, 0.7, 1)
    assert intervals.by_rule_of_three(intervals.Interval(0, 0, 0), 30) == (0, 0, 0.1)
    assert intervals.by_rule_of_three(intervals.Interval(1, 1, 1), 2) == (1, 0, 1)
    other = intervals.Interval(0.9, 0.7, 1)
    assert intervals.by_rule_of_three(other, 10) == other
