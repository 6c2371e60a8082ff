"""Exercises of chapter 01: statistics of two clouds, joining them, and two tests of a model that does not look."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.diagnostics import gap, looks
from vlmcourse.exercises.base import Slip, Unaffected, chapter
from vlmcourse.models import naive

exercise, quiz = chapter("01_the_problem")

# ------------------------------------------------------------------------------------ feature statistics


def _statistics(features: Tensor, *, norm=None, mean=None, std=None, cone=None) -> tuple[Tensor, ...]:
    """The right four numbers, some of them replaced."""
    right = gap.feature_statistics.reference(features)
    return tuple(r if wrong is None else wrong for r, wrong in zip(right, (norm, mean, std, cone), strict=True))


def _cosines(features: Tensor) -> Tensor:
    unit = F.normalize(features, dim=-1)
    return unit @ unit.T


def _different(table: Tensor) -> Tensor:
    """Mean over different pairs of a feature × feature table."""
    count = len(table)
    return (table.sum() - table.diagonal().sum()) / (count * (count - 1))


exercise(
    gap.feature_statistics,
    cases=lambda: [
        (torch.randn(7, 4) * torch.tensor([1.0, 2.0, 0.5, 3.0]) + torch.tensor([0.5, -1.0, 2.0, 0.0]),),
        (torch.randn(5, 3),),
    ],
    slips=[
        Slip(lambda x: _statistics(x, cone=_cosines(x).mean()),
             "the cone counts each feature's cosine with itself, which is always 1; leave the diagonal out."),
        Slip(lambda x: _statistics(x, cone=(_cosines(x).sum() - len(x)) / len(x) ** 2),
             "the diagonal has left the sum, but is still counted: n features have n·(n − 1) different "
             "pairs, not n²."),
        Slip(lambda x: _statistics(x, cone=_different(x @ x.T)),
             "the cone holds dot products of raw features; scale each feature to length 1 first."),
        Slip(lambda x: _statistics(x, cone=_different(_cosines(x).abs())),
             "opposite directions count as equal here; a cosine keeps its sign."),
        Slip(lambda x: _statistics(x, cone=_different(_cosines(x - x.mean(0)))),
             "the mean is taken off before the cosines; but the offset is just what makes a cone narrow."),
        Slip(lambda x: _statistics(x, norm=x.mean(0).norm()),
             "this is the length of the mean feature; wanted is the mean of the lengths."),
        Slip(lambda x: _statistics(x, norm=x.norm()),
             "this is one length of the whole table; take the length of each feature, over the last axis."),
        Slip(lambda x: _statistics(x, std=x.var(0)),
             "this is the variance; the standard deviation is its root."),
        Slip(lambda x: _statistics(x, std=x.std(0, correction=0)),
             "this spread divides by n; torch's std(dim=0) divides by n − 1, and the course does the same."),
        Slip(lambda x: _statistics(x, mean=x.mean(1), std=x.std(1)),
             "mean and std run over the width of each feature; let them run over the features, axis 0."),
    ],
    hints=[
        "Three of the four are one call each: norm(dim=-1), mean(dim=0), std(dim=0). Which one needs a "
        "mean more?",
        "For the cone, scale every feature to length 1 with F.normalize; then `unit @ unit.T` holds all "
        "cosines.",
        "n features have n·(n − 1) ordered pairs of different ones: (sum of the table − n) / (n·(n − 1)).",
    ],
)

# -------------------------------------------------------------------------------------------------- join


def _padding_changed(case: tuple) -> tuple:
    image, text, mask = case
    return image, text.masked_fill(~mask[..., None], 9.0), mask


exercise(
    naive.join,
    cases=lambda: [
        (torch.randn(2, 4, 5), torch.randn(2, 3, 5), torch.tensor([[True, True, False], [True, True, True]])),
        (torch.randn(3, 2, 7), torch.randn(3, 4, 7), torch.arange(4) < torch.tensor([[2], [4], [1]])),
    ],
    slips=[
        Slip(lambda i, t, m: (torch.cat([t, i], 1), torch.cat([m, m.new_ones(i.shape[:2])], 1)),
             "the words come first; put the image in front, so that every word can look back at it."),
        Slip(lambda i, t, m: (torch.cat([i, t], 1), torch.cat([m, m.new_ones(i.shape[:2])], 1)),
             "the features stand in front, but their part of the mask stands behind; use the same order "
             "for both."),
        Slip(lambda i, t, m: (torch.cat([i, t], 1), torch.cat([m.new_zeros(i.shape[:2]), m], 1)),
             "the mask is False for the image, so nobody could look at it; image features are real: True."),
        Slip(lambda i, t, m: (torch.cat([i, t], 1), m.new_ones(len(m), i.shape[1] + m.shape[1])),
             "the mask is True everywhere, also for padding; keep the words' own mask behind the image's."),
        Slip(lambda i, t, m: (torch.cat([i, t], 1), m),
             "the sequence grew, but the mask did not; add one True for every image feature."),
    ],
    hints=[
        "Two concatenations along the token axis, in the same order: one of vectors, one of truth values.",
        "`mask.new_ones(batch, patch)` makes Trues of the right dtype on the right device; then torch.cat, "
        "dim=1.",
    ],
    unaffected=[Unaffected(
        "the image's part changes with what stands in the padding; copy the features as they are.",
        _padding_changed, keep=lambda output: output[1])],
)

# ------------------------------------------------------------------------------------------ answer prior


def _counts(asked: Tensor, answers: Tensor, kinds: int) -> Tensor:
    return F.one_hot(asked, kinds).T @ F.one_hot(answers)


def _by_kind(asked: Tensor, answers: Tensor, kinds: int, choose) -> Tensor:
    """`choose` among the answers of each kind; among all where there are none."""
    groups = [answers[asked == kind] for kind in range(kinds)]
    return torch.stack([choose(group if len(group) else answers) for group in groups])


exercise(
    looks.answer_prior,
    cases=lambda: [
        (torch.tensor([0, 0, 2, 0, 2, 2, 0, 2, 2]), torch.tensor([4, 1, 3, 1, 3, 2, 1, 0, 3]), 4),
        (torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1]), torch.tensor([2, 0, 5, 2, 4, 2, 1, 4, 0, 4, 0]), 3),
    ],
    slips=[
        Slip(lambda q, a, n: a.bincount().argmax().expand(n).clone(),
             "every kind gets the answer most frequent over all questions; count for each kind apart."),
        Slip(lambda q, a, n: _counts(q, a, n).argmax(1),
             "a kind that was never asked gets answer 0; it should get the answer most frequent over all "
             "questions."),
        Slip(lambda q, a, n: _by_kind(q, a, n, lambda x: x[0] if len(x) < len(a) else x.mode().values),
             "this takes the first answer seen for each kind; take the most frequent one."),
        Slip(lambda q, a, n: _by_kind(q, a, n, lambda x: x.max() if len(x) < len(a) else x.mode().values),
             "this is the answer with the largest number; answers are names, their size means nothing. "
             "Count them."),
        Slip(lambda q, a, n: _by_kind(q, a, n, lambda x: x.float().mean().round().long()),
             'this averages the answers; but between "red" and "blue" there is no mean. Count them.'),
    ],
    hints=[
        "Make a table of counts, one row per kind and one column per answer. What is the best column of a "
        "row?",
        "`counts.index_put_((asked, answers), ones, accumulate=True)` fills it; so do two F.one_hot "
        "tables, multiplied. Then argmax over answers.",
        "A row of zeros is a kind that was never asked: there, take argmax of `counts.sum(dim=0)` with "
        "torch.where.",
    ],
)

# ----------------------------------------------------------------------------------------- twin accuracy


def _twins(guesses: Tensor, answers: Tensor, *, accuracy=None, both=None) -> tuple[Tensor, Tensor]:
    right = looks.twin_accuracy.reference(guesses, answers)
    return right[0] if accuracy is None else accuracy, right[1] if both is None else both


def _right(guesses: Tensor, answers: Tensor) -> Tensor:
    return (guesses == answers).float()


exercise(
    looks.twin_accuracy,
    cases=lambda: [
        (torch.tensor([[1, 1], [2, 0], [3, 3], [0, 1], [2, 2], [4, 3], [1, 0]]),
         torch.tensor([[1, 2], [2, 0], [0, 3], [1, 0], [2, 3], [4, 3], [1, 2]])),
        (torch.tensor([[0, 1], [1, 1], [2, 2], [0, 3], [1, 0]]),
         torch.tensor([[0, 1], [0, 1], [1, 2], [0, 3], [1, 3]])),
    ],
    slips=[
        Slip(lambda g, a: _twins(g, a, both=_right(g, a).amax(1).mean()),
             "the second number counts pairs with at least one right answer; both must be right."),
        Slip(lambda g, a: _twins(g, a, both=_right(g, a)[:, 0].mean() * _right(g, a)[:, 1].mean()),
             "this multiplies two averages, as if twins were independent; look at each pair before you "
             "average."),
        Slip(lambda g, a: _twins(g, a, both=(g[:, 0] != g[:, 1]).float().mean()),
             "this only asks whether the two guesses differ; they must also be right."),
        Slip(lambda g, a: _twins(g, a, accuracy=_right(g, a)[:, 0].mean()),
             "the accuracy covers the first pictures only; habit does well there. Count both twins."),
        Slip(lambda g, a: (_right(g, a).sum(), _right(g, a).prod(1).sum()),
             "these are numbers of right answers; divide by how many there are to get shares."),
    ],
    hints=[
        "One comparison gives a (pair, two) table of right and wrong. Both numbers are read from it.",
        "Its mean is the accuracy. `right.all(dim=1)` is True for pairs with both right.",
    ],
)

# -------------------------------------------------------------------------------------------------- quiz

quiz(
    1,
    "Why is there no embedding table for patches?",
    [
        ("Patches are larger than words.", False,
         "Size is not the reason: a table row may be as wide as you like."),
        ("A table needs entries that come again, and a patch hardly ever does.", True,
         "Words are drawn from a list. Patches are continuous, so a function must map them."),
        ("A table would have no gradient.", False, "Embedding tables are trained by gradients every day."),
    ],
)
quiz(
    2,
    "You shift and scale image features until their mean and spread equal those of the words. The language "
    "model is frozen. What have you gained?",
    [
        ("It now understands the image.", False,
         "You measured it: no better than asking blind. Nobody told it what a direction means."),
        ("The features lie where words lie, but still mean nothing there.", True,
         "Meaning must be learned, from pairs of images and words. That is alignment."),
        ("Nothing changes, because norms inside the model undo it.", False,
         "They undo a scale, but neither a shift nor a turn; the loss changed a lot."),
    ],
)
quiz(
    3,
    "A VLM has 92 % on its test set and 51 % on twins, with 3 % of the pairs both right. What is it doing?",
    [
        ("It looks, and makes mistakes on half of the hard pictures.", False,
         "Then some pairs would be right as a whole; about a quarter, if mistakes fell at random."),
        ("It answers by habit and hardly looks.", True,
         "One guess for both twins: half right, and almost never both."),
        ("It was trained too long.", False,
         "More training on the same biased questions would only polish the habit."),
    ],
)
