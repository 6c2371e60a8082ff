"""Exercises of chapter 01: statistics of clouds, joining, and two tests of a model that does not look."""

import torch

from vlmcourse.diagnostics import controls, gap
from vlmcourse.exercises.base import Unaffected, chapter
from vlmcourse.models import naive

exercise, quiz = chapter("01_the_problem")

exercise(gap.feature_statistics,
    cases=lambda: [
        (torch.randn(7, 4) * torch.tensor([1.0, 2.0, 0.5, 3.0]) + torch.tensor([0.5, -1.0, 2.0, 0.0]),),
        (torch.randn(5, 3),),
    ],
    slips=[
        ("square().sum() - count) / (count * (count - 1))", "square().sum()) / count**2",
         "the cone counts each feature's cosine with itself, which is always 1; leave the diagonal out."),
        ("(count * (count - 1))", "count**2", "the diagonal has left the sum, but is still counted: "
         "n features have n·(n − 1) different pairs, not n²."),
        ("(unit.sum(dim=0).square().sum() - count)",
         "(features.sum(dim=0).square().sum() - features.square().sum())",
         "the cone holds dot products of raw features; scale each feature to length 1 first."),
        ("unit.sum(dim=0).square().sum()", "(unit @ unit.T).abs().sum()",
         "opposite directions count as equal here; a cosine keeps its sign."),
        ("F.normalize(features, dim=-1)", "F.normalize(features - features.mean(dim=0), dim=-1)",
         "the mean is taken off before the cosines; but the offset is just what makes a cone narrow."),
        ("features.norm(dim=-1).mean()", "features.mean(dim=0).norm()",
         "this is the length of the mean feature; wanted is the mean of the lengths."),
        ("features.norm(dim=-1).mean()", "features.norm()",
         "this is one length of the whole table; take the length of each feature, over the last axis."),
        ("std(dim=0)", "var(dim=0)", "this is the variance; the standard deviation is its root."),
        ("std(dim=0)", "std(dim=0, correction=0)",
         "this spread divides by n; torch's std(dim=0) divides by n − 1, and the course does the same."),
        (("features.mean(dim=0)", "features.mean(dim=1)"), ("std(dim=0)", "std(dim=1)"),
         "mean and std run over the width of each feature; let them run over the features, axis 0."),
    ],
    hints=["Three of the four are one call each: norm(dim=-1), mean(dim=0), std(dim=0). "
           "Which one needs a mean more?",
           "For the cone, scale every feature to length 1 with F.normalize; "
           "then `unit @ unit.T` holds all cosines.",
           "n features have n·(n − 1) ordered pairs of different ones: "
           "(sum of the table − n) / (n·(n − 1))."],
)


def _padding_changed(case: tuple) -> tuple:
    image, text, mask = case
    return image, text.masked_fill(~mask[..., None], 9.0), mask


exercise(naive.join, gradient=("image", "text"),
    cases=lambda: [
        (torch.randn(2, 4, 5), torch.randn(2, 3, 5), torch.tensor([[True, True, False], [True, True, True]])),
        (torch.randn(3, 2, 7), torch.randn(3, 4, 7), torch.arange(4) < torch.tensor([[2], [4], [1]])),
    ],
    slips=[
        (("[image, text]", "[text, image]"),
         ("[mask.new_ones(batch, patch), mask]", "[mask, mask.new_ones(batch, patch)]"),
         "the words come first; put the image in front, so that every word can look back at it."),
        ("[mask.new_ones(batch, patch), mask]", "[mask, mask.new_ones(batch, patch)]",
         "the features stand in front, but their part of the mask stands behind; "
         "use the same order for both."),
        ("new_ones", "new_zeros",
         "the mask is False for the image, so nobody could look at it; image features are real: True."),
        ("torch.cat([mask.new_ones(batch, patch), mask], dim=1)",
         "mask.new_ones(batch, patch + text.shape[1])",
         "the mask is True everywhere, also for padding; keep the words' own mask behind the image's."),
        ("torch.cat([mask.new_ones(batch, patch), mask], dim=1)", "mask",
         "the sequence grew, but the mask did not; add one True for every image feature."),
    ],
    hints=["Two concatenations along the token axis, in the same order: one of vectors, one of truth values.",
           "`mask.new_ones(batch, patch)` makes Trues of the right dtype on the right device; "
           "then torch.cat, dim=1."],
    unaffected=[Unaffected(
        "the image's part changes with what stands in the padding; copy the features as they are.",
        _padding_changed, keep=lambda output: output[1])],
)

exercise(controls.answer_prior,
    cases=lambda: [  # in the second, two answers are equally frequent: to kind 0, and over all
        (torch.tensor([0, 0, 2, 0, 2, 2, 0, 2, 2]), torch.tensor([4, 1, 3, 1, 3, 2, 1, 0, 3]), 4),
        (torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1]), torch.tensor([2, 4, 5, 2, 0, 2, 1, 4, 0, 1, 0]), 3),
    ],
    slips=[
        ("counts.sum(dim=1) == 0", "counts.sum(dim=1) >= 0",
         "every kind gets the answer most frequent over all questions; count for each kind apart."),
        ("torch.where(unasked, counts.sum(dim=0).argmax(), counts.argmax(dim=1))", "counts.argmax(dim=1)",
         "a kind that was never asked gets answer 0; "
         "it should get the answer most frequent over all questions."),
        ("counts.argmax(dim=1)", "answers[(asked == torch.arange(kinds)[:, None]).int().argmax(dim=1)]",
         "this takes the first answer seen for each kind; take the most frequent one."),
        ("counts.argmax(dim=1)", "(counts > 0).cumsum(dim=1).argmax(dim=1)",
         "this is the answer with the largest number; answers are names, their size means nothing. "
         "Count them."),
        ("counts.argmax(dim=1)",
         "((counts * torch.arange(counts.shape[1])).sum(dim=1) / counts.sum(dim=1)).round().long()",
         'this averages the answers; but between "red" and "blue" there is no mean. Count them.'),
    ],
    hints=["Make a table of counts, one row per kind and one column per answer. "
           "What is the best column of a row?",
           "`counts.index_put_((asked, answers), ones, accumulate=True)` fills it; "
           "so do two F.one_hot tables, multiplied. Then argmax over answers.",
           "A row of zeros is a kind that was never asked: "
           "there, take argmax of `counts.sum(dim=0)` with torch.where."],
)

exercise(controls.twin_accuracy,
    cases=lambda: [
        (torch.tensor([[1, 1], [2, 0], [3, 3], [0, 1], [2, 2], [4, 3], [1, 0]]),
         torch.tensor([[1, 2], [2, 0], [0, 3], [1, 0], [2, 3], [4, 3], [1, 2]])),
        (torch.tensor([[0, 1], [1, 1], [2, 2], [0, 3], [1, 0]]),
         torch.tensor([[0, 1], [0, 1], [1, 2], [0, 3], [1, 3]])),
    ],
    slips=[
        ("all(dim=1)", "any(dim=1)",
         "the second number counts pairs with at least one right answer; both must be right."),
        ("right.all(dim=1).float().mean()", "right.float().mean(dim=0).prod()",
         "this multiplies two averages, as if twins were independent; look at each pair before you average."),
        ("right.all(dim=1)", "(guesses[:, 0] != guesses[:, 1])",
         "this only asks whether the two guesses differ; they must also be right."),
        ("right.float()", "right[:, 0].float()",
         "the accuracy covers the first pictures only; habit does well there. Count both twins."),
        (("right.float().mean()", "right.sum().float()"),
         ("all(dim=1).float().mean()", "all(dim=1).sum().float()"),
         "these are numbers of right answers; divide by how many there are to get shares."),
    ],
    hints=["One comparison gives a (pair, two) table of right and wrong. Both numbers are read from it.",
           "Its mean is the accuracy. `right.all(dim=1)` is True for pairs with both right."],
)

quiz(1, "Why is there no embedding table for patches?", [
    ("Neighbouring patches depend on each other.", False,
     "So do neighbouring words, and they have a table; attention takes care of that."),
    ("A table needs entries that come again, and a patch hardly ever does.", True,
     "Words are drawn from a list. Patches are continuous, so a function must map them."),
    ("A picture has more patches than a sentence has words.", False,
     "A table is indifferent to how many of its rows one input uses. What counts is that rows come again."),
])
quiz(2, "You shift and scale image features until their mean and spread equal those of the words. "
        "The language model is frozen. What have you gained?", [
    ("It now understands the image.", False,
     "You measured it: no better than asking blind. Nobody told it what a direction means."),
    ("The features lie where words lie, but still mean nothing there.", True,
     "Meaning must be learned, from pairs of images and words. That is alignment."),
    ("Nothing changes, because norms inside the model undo it.", False,
     "They undo a scale, but neither a shift nor a turn; the loss changed a lot."),
])
quiz(3, "A VLM has 92 % on its test set and 51 % on twins, with 3 % of the pairs both right. "
        "What is it doing?", [
    ("It looks, and makes mistakes on half of the hard pictures.", False,
     "Then some pairs would be right as a whole; about a quarter, if mistakes fell at random."),
    ("It answers by habit and hardly looks.", True,
     "One guess for both twins: half right, and almost never both."),
    ("It sees about half of what it needs; the test set was just easier than the twins.", False,
     "One guess for both twins also gives one half. If it saw half, more whole pairs would be right."),
])
