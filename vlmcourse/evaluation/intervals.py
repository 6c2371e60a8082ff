"""How sure is a score? Intervals and tests that respect which questions belong together (notebook 13).

    resampled_means, percentile_interval, bootstrap_interval    how far a score would move with other images
    by_rule_of_three                                            where all answers are right, or all wrong
    paired_interval                                             the same of the difference of two models
    flipped_means, permutation_p, sign_flip_test                whether the difference may be chance
    discordant, mcnemar_exact                                   the same for right and wrong

Questions about one image share its luck, so whole images are drawn, or flipped: `groups` numbers the image of
each question from 0.  Two models are compared on the same questions, question by question.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from vlmcourse.slots import slot

RESAMPLES, FLIPS, BLOCK = 2000, 10_000, 500  # BLOCK: resamples held in memory at once
PerQuestion = Sequence[float] | Shaped[Tensor, "question"]


class Interval(NamedTuple):
    """A mean, and between which numbers it would lie for most other samples of images."""

    mean: float
    low: float
    high: float


@slot
def resampled_means(
    scores: Float[Tensor, "question"], groups: Int[Tensor, "question"], draws: Int[Tensor, "resample draw"]
) -> Float[Tensor, "resample"]:
    """The mean score of each resample: of all questions about the images drawn, each as often as drawn.

    Args:
        groups: the image of each question, numbers from 0.
        draws: which images were drawn, with repetitions.

    Source: Efron 1979, "Bootstrap methods"; whole clusters as in Davison and Hinkley 1997, section 3.8.
    """
    images = int(groups.max()) + 1
    sums = scores.new_zeros(images).index_add(0, groups, scores)
    sizes = scores.new_zeros(images).index_add(0, groups, torch.ones_like(scores))
    return sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)


@slot
def percentile_interval(values: Float[Tensor, "resample"], level: float) -> tuple[float, float]:
    """Between which two values the middle `level` of all lie: 95 % leave 2.5 % below and 2.5 % above.

    Args:
        level: such as 0.95; between two values a straight line is drawn.

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    tail = (1 - level) / 2
    return values.quantile(tail).item(), values.quantile(1 - tail).item()


def bootstrap_interval(
    scores: PerQuestion, groups: Sequence[Hashable] | None = None, level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean score with its percentile bootstrap interval, from RESAMPLES draws of as many images.

    Where every score is the same the interval has no width, and that is no certainty: after n questions
    without a mistake, one in n / 3 may still go wrong, see by_rule_of_three.

    Args:
        scores: one per question, such as 0 or 1, or a vqa_accuracy.
        groups: the image of each question; None if each has its own.

    Raises:
        ValueError: if there are fewer than two images, not one image per question, a score is no number, or
            the level is not between 0 and 1.
    """
    scores, groups = _checked(scores, groups)
    if not 0 < level < 1:
        raise ValueError(f"the level is a share such as 0.95, got {level}")
    images, means = int(groups.max()) + 1, []
    dice = torch.Generator().manual_seed(seed)
    for _ in range(0, RESAMPLES, BLOCK):
        draws = torch.randint(images, (BLOCK, images), generator=dice)
        means.append(resampled_means(scores, groups, draws))
    return Interval(scores.mean().item(), *percentile_interval(torch.cat(means), level))


def by_rule_of_three(interval: Interval, images: int) -> Interval:
    """The interval, but 3 / images wide where all scores are 0 or all are 1, so that all draws are alike.

    Source: Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?"
    """
    mean, low, high = interval
    if low == high == 1:
        low = max(0.0, 1 - 3 / images)
    if low == high == 0:
        high = min(1.0, 3 / images)
    return Interval(mean, low, high)


def paired_interval(
    first: PerQuestion,
    second: PerQuestion,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """bootstrap_interval of how much better the first model is, question by question.

    Much narrower than the two models' own intervals suggest: what is hard for one is hard for the other.

    Raises:
        ValueError: if they were not asked equally many questions; else as bootstrap_interval.
    """
    return bootstrap_interval(_differences(first, second), groups, level, seed)


def _differences(first: PerQuestion, second: PerQuestion) -> Tensor:
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} and {len(second)} scores; two models are compared on the same questions"
        )
    return torch.as_tensor(first, dtype=torch.double) - torch.as_tensor(second, dtype=torch.double)


def _checked(scores: PerQuestion, groups: Sequence[Hashable] | None) -> tuple[Tensor, Tensor]:
    """PerQuestion as doubles, and groups numbered from 0 in the order in which they come."""
    scores = torch.as_tensor(scores, dtype=torch.double)
    groups = range(len(scores)) if groups is None else groups
    if len(groups) != len(scores):
        raise ValueError(f"{len(scores)} scores and images of {len(groups)} questions; give one for each")
    if not scores.isfinite().all():
        raise ValueError("a score is NaN or infinite; leave out questions without a score before you measure")
    keys = groups.tolist() if isinstance(groups, Tensor) else groups
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    if len(number) < 2:
        raise ValueError("fewer than two images: nothing says how much another image would change")
    return scores, torch.tensor([number[key] for key in keys])


@slot
def flipped_means(
    differences: Float[Tensor, "question"],
    groups: Int[Tensor, "question"],
    signs: Float[Tensor, "flip image"],
) -> Float[Tensor, "flip"]:
    """The mean difference after the two models have been exchanged at some images.

    Args:
        differences: the first model's score minus the second's.
        groups: the image of each question, numbers from 0.
        signs: 1 to leave an image's differences, -1 to turn them round.

    Source: Fisher 1935, "The design of experiments", section 21.
    """
    sums = differences.new_zeros(signs.shape[1]).index_add(0, groups, differences)
    return signs @ sums / len(differences)


@slot
def permutation_p(observed: float, by_chance: Float[Tensor, "flip"]) -> float:
    """How rarely chance alone gives a difference as far from 0 as the observed one: (1 + as far) / (1 + all).

    What was observed counts as one of the outcomes that chance could give, so p is never 0.

    Args:
        by_chance: mean differences after exchanging models by chance. As far as to 1e-12 is as far.

    Source: Phipson and Smyth 2010, arXiv:1603.05766, section 3.
    """
    as_far = (by_chance.abs() >= abs(observed) - 1e-12).sum().item()
    return (1 + as_far) / (1 + len(by_chance))


def sign_flip_test(
    first: PerQuestion, second: PerQuestion, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> float:
    """p of the difference of two models on the same questions, if nothing but chance decides which is which.

    Up to 13 images every way to exchange the models is tried, else FLIPS of them by chance.

    Raises:
        ValueError: as paired_interval.
    """
    differences, groups = _checked(_differences(first, second), groups)
    images = int(groups.max()) + 1
    if 2**images <= FLIPS:
        numbers = torch.arange(1, 2**images)  # 0 would exchange nothing, which is what was observed
        exchanged = (numbers[:, None] >> torch.arange(images)) & 1
        means = flipped_means(differences, groups, 1.0 - 2.0 * exchanged.double())
        return permutation_p(differences.mean().item(), means)
    dice, means = torch.Generator().manual_seed(seed), []
    for _ in range(0, FLIPS, BLOCK):
        exchanged = torch.randint(2, (BLOCK, images), generator=dice)
        means.append(flipped_means(differences, groups, 1.0 - 2.0 * exchanged.double()))
    return permutation_p(differences.mean().item(), torch.cat(means))


def discordant(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int]:
    """How many questions only the first model got right, and how many only the second.

    Raises:
        ValueError: if they were not asked equally many questions.
    """
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} and {len(second)} answers; two models are compared on the same questions"
        )
    pairs = [(bool(one), bool(other)) for one, other in zip(first, second, strict=True)]
    return pairs.count((True, False)), pairs.count((False, True))


@slot
def mcnemar_exact(only_first: int, only_second: int) -> float:
    """p of so uneven a split of the questions that exactly one model got right, if each were a fair coin's.

    What both got right, or both wrong, says nothing about which is better. Twice the probability of the
    smaller number or fewer heads, at most 1.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions", with
        the binomial distribution in place of its approximation.
    """
    throws = only_first + only_second
    ways = sum(math.comb(throws, heads) for heads in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * ways / 2**throws)
