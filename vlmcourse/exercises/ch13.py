"""Exercises of chapter 13: agreement with people, captions, invention, pointing, and how sure a score is."""

import torch

from vlmcourse.evaluation import boxes, captioning, hallucination, intervals, vqa
from vlmcourse.exercises.base import chapter

exercise, quiz = chapter("13_evaluation")


def _agreeing(count: int) -> tuple[str, list[str]]:
    """Ten people, of whom so many say red."""
    return "red", ["red"] * count + ["blue"] * (10 - count)


exercise(vqa.vqa_accuracy,
    cases=lambda: [
        *map(_agreeing, (0, 1, 2, 3, 4, 7)),
        ("Yes", ["yes"] * 10),
        ("Yes", ["yes", "yes "] * 5),
        ("red ", ["red"] * 10),
        ("red", [" red"] * 10),
        ("two ", ["2"] * 5 + ["The two"] * 5),
        ("red", ["Red.", "blue", "pink", "a red", "Red."]),
        ("2", ["two"] * 10),
        ("blue", ["red", "blue", "blue", "red", "pink"]),
        ("red", ["dark red"] * 3 + ["red"] + ["blue"] * 6),
        ("dark red", ["red"] * 4 + ["dark red"] * 2),
    ],
    slips=[
        ("people[:left_out] + people[left_out + 1 :]", "people",
         "three of ten give 1 here, officially 0.9: each person is left out once, and the mean counts."),
        ("min(1, others.count(answer) / ENOUGH)", "others.count(answer) / ENOUGH",
         "more than three that agree are worth no more than 1; take the minimum."),
        ("min(1, others.count(answer) / ENOUGH)", "others.count(answer) / len(others)",
         "this is the share of people that agree; three of the others are enough for 1."),
        ("min(1, others.count(answer) / ENOUGH)", "float(answer in others)",
         "one person that agrees is worth a third, not 1."),
        ("min(1, others.count(answer) / ENOUGH)", "float(others.count(answer) >= ENOUGH)",
         "one or two that agree are worth a third each, not nothing."),
        ("if len(set(people)) > 1:", "if True:",
         "where all people gave one answer nothing is normalised: Yes is not yes there."),
        ("if len(set(people)) > 1:", "if False:",
         "nothing is normalised; where people disagree, both sides are."),
        ("[normalise_answer(person) for person in people]", "people",
         "people's answers stay as they are; where they disagree, theirs are normalised as well."),
        ("answer, people = normalise_answer(answer), [", "people = [",
         "the model's answer stays as it is; where people disagree, it is normalised as well."),
        ("return sum(scores) / len(scores)", "return scores[0]",
         "only the first person is left out; everybody is, once, and the mean counts."),
        ("others.count(answer)", "sum(answer in person for person in others)",
         "an answer counts that only holds the model's words; dark red is not red."),
        ("[_one_line(person) for person in people]", "list(people)",
         "people's answers keep the spaces at their ends, so yes and \"yes \" are two answers; strip them."),
        ("answer, people = _one_line(answer), [", "people = [",
         "the model's answer keeps the spaces at its ends; strip it as well."),
        (("answer, people = _one_line(answer)", "several = len(set(people)) > 1\n    answer, people = "
          "_one_line(answer)"), ("if len(set(people)) > 1:", "if several:"),
         "whether people agree is asked before they are stripped; yes and \"yes \" are one answer."),
        ("if len(set(people)) > 1:",
         "people = [normalise_answer(person) for person in people]\n    if len(set(people)) > 1:",
         "people's answers are normalised before it is asked whether they agree; ask first."),
        ("people[:left_out] + people[left_out + 1 :]", "[one for one in people if one != people[left_out]]",
         "with a person all go who said the same; leave out that one alone."),
    ],
    hints=["Ten scores, one for each person who is left out. What does one of them count?",
           "`others = people[:i] + people[i + 1:]`, then `min(1, others.count(answer) / 3)`; "
           "the mean over i. Strip first; normalise if `len(set(people)) > 1`."],
)

def _words(text: str) -> list[str]:
    return text.split()


exercise(captioning.clipped_matches,
    cases=lambda: [
        (_words("red red red blue"), [["red"], ["red"]], 1),
        (["red"] * 4, [_words("red circle red"), _words("a red"), ["red"] * 3], 1),
        (_words("a red a red"), [_words("a red"), _words("red a red")], 2),
        (_words("a b c"), [_words("a b"), ["c"]], 1),
        (_words("a b c d e"), [_words("b c d"), _words("c d e f")], 3),
        (["a"], [_words("a b")], 2),
        (_words("a b c d"), [["d"], _words("a b"), _words("x y z")], 1),
        (_words("a red b"), [_words("red a"), _words("red b a")], 2),
        (["a"], [_words("a b c")], 3),
    ],
    slips=[
        ("most |= count_ngrams", "most += count_ngrams",
         "counts of several references are added; the reference that has an n-gram most often decides."),
        ("most |= count_ngrams", "most = count_ngrams", "only the last reference counts."),
        ("most |= count_ngrams(reference, n)", "most = most or count_ngrams(reference, n)",
         "only the first reference counts."),
        ("matched = counts & most", "matched = counts",
         "everything matches; only what stands in a reference does."),
        ("matched = counts & most",
         "matched = Counter({gram: count for gram, count in counts.items() if gram in most})",
         "nothing is clipped: red red red finds one red as often as it says it."),
        ("matched = counts & most", "matched = Counter(set(counts) & set(most))",
         "each n-gram that matches is counted once; it counts as often as both have it."),
        ("matched.total(), counts.total()", "matched.total(), most.total()",
         "the second number is what the references have, which makes recall; "
         "precision needs what the caption has."),
        ("matched.total(), counts.total()", "len(matched), len(counts)",
         "different n-grams are counted; how often each occurs counts, too."),
        ("matched = counts & most",
         "matched = max((counts & count_ngrams(one, n) for one in references), key=Counter.total)",
         "the reference that fits best is taken for all n-grams; each n-gram has a best one of its own."),
        ("most |= count_ngrams(reference, n)", "most = count_ngrams(max(references, key=len), n)",
         "only the longest reference counts."),
        ("matched = counts & most",
         "matched = counts\n    for reference in references:\n        matched &= count_ngrams(reference, n)",
         "an n-gram must stand in every reference here; one that has it is enough."),
        ("matched = counts & most",
         "matched = sum((counts & count_ngrams(one, n) for one in references), Counter())",
         "what matches each reference is added up; an n-gram counts for the one that has it most often."),
        ("matched.total(), counts.total()", "matched.total(), max(1, counts.total())",
         "a caption of fewer than n words has 0 n-grams, not 1; nothing is divided here."),
        ("matched.total(), counts.total()", "matched.total(), len(candidate) - n + 1",
         "a caption of fewer than n words has 0 n-grams; len - n + 1 can be below 0."),
        ("matched.total(), counts.total()", "counts.total(), matched.total()",
         "the two numbers are exchanged; what matches comes first."),
        (("counts = count_ngrams(candidate, n)",
          "loose = lambda words: Counter(tuple(sorted(words[k:k + n])) for k in range(len(words) - n + 1))\n"
          "    counts = loose(candidate)"),
         ("most |= count_ngrams(reference, n)", "most |= loose(reference)"),
         "the words of an n-gram may stand in any order here; their order counts."),
    ],
    hints=["Three Counters: of the caption, the most of any reference, and the smaller of the two.",
           "For Counters `a | b` takes the larger count of each n-gram and `a & b` the smaller; "
           "`.total()` is the sum."],
)

exercise(captioning.tf_idf,
    cases=lambda: [
        ({("a",): 3, ("red",): 2, ("new",): 1}, {("a",): 8, ("red",): 2}, 8),
        ({("x", "y"): 2}, {("x", "y"): 3}, 5),
        ({("a",): 2, ("red",): 1}, {("a",): 1, ("red",): 1}, 1),
    ],
    slips=[
        ("count * math", "math", "how often the caption says it is forgotten; it is a factor."),
        ("images / max(1, frequency.get(ngram, 0))", "max(1, frequency.get(ngram, 0)) / images",
         "the quotient is upside down, so what is rare weighs least."),
        ("math.log(images / max(1, frequency.get(ngram, 0)))", "images / max(1, frequency.get(ngram, 0))",
         "the logarithm is missing; without it what stands at every image weighs 1, not 0."),
        ("max(1, frequency.get(ngram, 0))", "(1 + frequency.get(ngram, 0))",
         "one image is added to every frequency; only what no reference has counts as one image."),
        ("math.log(", "(1 + math.log(images / max(1, frequency.get(ngram, 0)))) + 0 * math.log(",
         "1 is added to the logarithm; what stands at every image weighs 0 here."),
        ("math.log(", "math.log2(", "the logarithm is that to base 2; the natural one is asked for."),
        ("count * ", "count / sum(counts.values()) * ",
         "the count is divided by the caption's length; the paper does that, the authors' code does not."),
        ("count * math.log(images", "math.log(count * images",
         "the count stands inside the logarithm; it is a factor before it."),
        ("return weights", "return {ngram: weight for ngram, weight in weights.items() if weight}",
         "n-grams that weigh 0 are left out; they stay, with 0."),
    ],
    hints=["What is said at every image tells nothing. Which function is 0 at images / frequency = 1?",
           "`count * math.log(images / max(1, frequency.get(ngram, 0)))` for each n-gram."],
)

_ANSWERS = (
    ([1, 1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 1, 0]),
    ([0, 0, 0], [1, 0, 0]),
    ([1, 1], [0, 1]),
    ([0], [0]),
    ([1, 1, 1], [0, 0, 0]),
    ([1, 0, 0, 0, 0], [1, 1, 1, 0, 0]),
    ([1, 1, 1, 1, 0], [1, 1, 1, 0, 1]),
    ([1, 0, 1, 1, 0, 1, 0], [0, 1, 1, 0, 1, 0, 0]),
)

exercise(hallucination.pope_scores,
    cases=lambda: [([*map(bool, yes)], [*map(bool, right)]) for yes, right in _ANSWERS],
    slips=[
        ("hits / max(hits + false_alarms, 1)", "hits / max(hits + misses, 1)",
         "precision is recall here; it is the share of yes that is right."),
        ("hits / max(hits + misses, 1)", "hits / len(yes)",
         "recall is a share of all questions; it is one of the objects that are there."),
        ("pairs[True, False], pairs[False, True]", "pairs[False, True], pairs[True, False]",
         "false alarms and misses are exchanged; a false alarm is a yes to what is not there."),
        ("(hits + pairs[False, False])", "hits", "accuracy counts only yes; a right no counts as well."),
        ("2 * precision * recall / (precision + recall)", "(precision + recall) / 2",
         "F1 is the arithmetic mean here; the harmonic one is asked for."),
        ("2 * precision", "precision", "the 2 of the harmonic mean is missing."),
        ("yes=(hits + false_alarms)", "yes=(hits + misses)",
         "the last number is the share of objects that are there; count the yes that was said."),
        ("2 * precision * recall / (precision + recall)", "(precision * recall) ** 0.5",
         "F1 is the geometric mean here; the harmonic one is asked for."),
        ("/ (precision + recall)", "/ max(precision + recall, 1)",
         "precision + recall below the line is taken for 1 at least; it often is less."),
        ("(hits + pairs[False, False]) / len(yes)",
         "(recall + pairs[False, False] / max(pairs[False, False] + false_alarms, 1)) / 2",
         "this is the mean over the two kinds of questions (balanced accuracy); all questions count alike."),
        (("hits / max(hits + false_alarms, 1)", "pairs[False, False] / max(pairs[False, False] + misses, 1)"),
         ("hits / max(hits + misses, 1)", "pairs[False, False] / max(pairs[False, False] + false_alarms, 1)"),
         ("if hits else", "if pairs[False, False] else"),
         "precision, recall and F1 are those of no here; they are asked for yes."),
    ],
    hints=["Count the pairs (said yes, yes is right) first: hits, false alarms, misses, right noes.",
           "precision is hits / (hits + false alarms), recall hits / (hits + misses); "
           "`max(…, 1)` below the line makes 0 of 0 / 0."],
)


def _edges() -> tuple:
    """Points at the edges of one box, inside and outside, so that its ends show."""
    points = torch.tensor([[2, 3], [4, 6], [5, 4], [4, 7], [1, 4], [3, 2], [3, 9], [2, 5], [4, 3]])
    return points, torch.tensor([[2, 3, 5, 7]]).expand(9, 1, 4).clone()


def _between() -> tuple:
    """Points between pixels: in two boxes at once, in one's columns and another's rows, just beside."""
    points = torch.tensor([[2.5, 2.5], [6.5, 1.5], [4.75, 3.0], [2.75, 5.0], [0.0, 0.0], [1.75, 8.5]])
    nothing, one, other = [0.0, 0, 0, 0], [1.5, 1.0, 5.0, 4.0], [2.0, 2.0, 7.0, 6.0]
    rows = [[one, other, nothing], [nothing, one, [6.0, 3, 8, 5]], [one, nothing, nothing],
            [[2.5, 4, 4, 6], nothing, nothing], [nothing] * 3, [[1, 8, 1.5, 9], nothing, one]]  # fmt: skip
    return points, torch.tensor(rows)


exercise(boxes.points_inside,
    cases=lambda: [
        _edges(),
        (torch.tensor([[6.0, 6], [0, 0], [7, 1]]),
         torch.tensor([[[0.0, 0, 2, 2], [5, 5, 9, 9], [1, 1, 2, 2], [0, 0, 0, 0], [3, 0, 4, 8]],
                       [[5.0, 5, 9, 9], [0, 0, 0, 0], [1, 1, 2, 2], [3, 3, 4, 4], [2, 0, 4, 8]],
                       [[6.0, 0, 9, 2], [0, 0, 0, 0], [0, 6, 3, 9], [3, 3, 4, 4], [2, 0, 4, 8]]])),
        _between(),
    ],
    slips=[
        ("(x < right)", "(x <= right)", "the right end belongs to the box here; it is exclusive."),
        ("(y < bottom)", "(y <= bottom)", "the bottom end belongs to the box here; it is exclusive."),
        ("(left <= x)", "(left < x)", "the first column is left out; it belongs to the box."),
        ("(top <= y)", "(top < y)", "the first row is left out; it belongs to the box."),
        ("points[:, :1], points[:, 1:]", "points[:, 1:], points[:, :1]", "x and y are exchanged."),
        ("left, top, right, bottom = boxes.unbind(dim=-1)",
         "left, top, right, bottom = boxes.unbind(dim=-1)\n    right, bottom = left + right, top + bottom",
         "a box is read as x, y, width, height; it is left, top, right, bottom."),
        (".any(dim=1)", ".all(dim=1)", "the point must lie in all boxes here; one of them is enough."),
        (".any(dim=1)", "[:, 0]", "only the first box is looked at; any of them will do."),
        ("return inside.any(dim=1)", "return inside.sum(dim=1) == 1",
         "a point in two boxes counts as outside here; one box is enough, and more are as good."),
        (("return inside.any(dim=1)", "return ((left <= x) & (x < right)).any(dim=1) "
          "& ((top <= y) & (y < bottom)).any(dim=1)"),
         "the columns of one box and the rows of another are enough here; one box must hold both x and y."),
        ("left, top, right, bottom = boxes", "left, right, top, bottom = boxes",
         "a box is read as left, right, top, bottom; it is left, top, right, bottom."),
        ("boxes.unbind(dim=-1)", "boxes.flatten(0, 1)[None].unbind(dim=-1)",
         "each point is looked for in the boxes of all questions; its own question's count."),
        ("boxes.unbind(dim=-1)", "boxes[:1].unbind(dim=-1)",
         "the boxes of the first question stand for all; each question has its own."),
        ("x, y = points[:, :1]", "points = points.long()\n    x, y = points[:, :1]",
         "points are cut to whole numbers; they may lie between pixels."),
        (("(x < right)", "(x <= right - 1)"), ("(y < bottom)", "(y <= bottom - 1)"),
         "points between the last pixel and the box's end are lost; compare with < instead of <= end - 1."),
        ("(left <= x) & (x < right) & (top <= y) & (y < bottom)",
         "(left <= x < right) & (top <= y < bottom)",
         "a comparison of three, or `and`, asks for one truth value; compare two at a time, join them by &."),
    ],
    hints=["Four comparisons, joined by &; then: is it in any of its boxes?",
           "`left, top, right, bottom = boxes.unbind(-1)`, each (question, box); `points[:, :1]` is x as "
           "(question, 1), so that it meets every box. "
           "Left and top belong to the box, right and bottom not."],
)

exercise(intervals.resampled_means,
    cases=lambda: [
        (torch.tensor([1.0, 0, 0, 0.5, 0.25]), torch.tensor([0, 1, 1, 2, 1]),
         torch.tensor([[0, 1, 2], [0, 0, 1], [2, 2, 2], [1, 1, 0]])),
        (torch.randn(7), torch.tensor([2, 0, 0, 1, 1, 1, 3]), torch.randint(4, (5, 4))),
        (torch.rand(5, dtype=torch.double), torch.tensor([1, 0, 1, 2, 1]),
         torch.tensor([[0, 1], [1, 1], [0, 0]])),
        (torch.randn(8), torch.tensor([4, 0, 3, 0, 1, 2, 2, 4]), torch.tensor([[4, 1], [0, 0], [3, 4]])),
    ],
    slips=[
        ("sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)", "(sums / sizes)[draws].mean(dim=1)",
         "images are averaged here; each question drawn counts once, so an image with more weighs more."),
        ("sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)", "sums[draws].sum(dim=1) / len(scores)",
         "the sum is divided by all questions; divide by those drawn, which are not always as many."),
        ("sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)", "scores[draws].mean(dim=1)",
         "questions are drawn; the draws are numbers of images, each with all its questions."),
        ("sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)", "sums[draws].mean(dim=1)",
         "the sums of images are averaged; divide by how many questions were drawn."),
        ("sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)",
         "(sums[draws].sum() / sizes[draws].sum()).expand(len(draws))",
         "all resamples become one; each has a mean of its own."),
        ("sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)",
         "torch.stack([sums[row.unique()].sum() / sizes[row.unique()].sum() for row in draws])",
         "an image that was drawn twice counts once; it counts as often as it was drawn."),
        ("int(groups.max()) + 1", "int(groups.max())",
         "images are numbered from 0, so there is one more than the largest number."),
        ("int(groups.max()) + 1", "int(draws.max()) + 1",
         "images are counted by what was drawn; one that was not drawn has questions, too."),
        ("int(groups.max()) + 1", "draws.shape[1]",
         "images are counted by the length of a draw; count them by `groups`."),
        (("index_add(0, groups, scores)", "index_put((groups,), scores)"),
         ("index_add(0, groups, torch.ones_like(scores))", "index_put((groups,), torch.ones_like(scores))"),
         "of an image with several questions one is left: writing to a place twice adds nothing; "
         "`index_add` adds."),
        ("sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)",
         "sums[groups[draws]].sum(dim=1) / sizes[groups[draws]].sum(dim=1)",
         "the draws are taken for numbers of questions; they are numbers of images."),
        ("sums[draws].sum(dim=1) / sizes[draws].sum(dim=1)", "sums[draws].sum(dim=1) / len(draws)",
         "the sum is divided by the number of resamples; divide by how many questions were drawn."),
    ],
    hints=["For each image two numbers: the sum of its scores, and how many questions it has. "
           "What is drawn are images.",
           "`torch.zeros(images).index_add(0, groups, scores)` sums by image; with ones it counts. "
           "Then `sums[draws].sum(1) / sizes[draws].sum(1)`, in the dtype of scores."],
)

quiz(1, "On the same questions model A has 71 % and model B 74 %, each with an interval "
        "of 3 points to either side. What do you know?", [
    ("The intervals overlap, so no difference is shown.", False,
     "Each says how far one model's score moves with other images. "
     "Both move together, since what is hard for one is hard for the other."),
    ("Not whether B is better: that needs the difference question by question.", True,
     "In section 5 such a pair had overlapping intervals, and a difference that stayed above 0."),
    ("B is better by 3 points, since both saw the same questions.", False,
     "Pairing makes the difference more certain, and does not make it certain; it has an interval, too."),
])
quiz(2, "A model captions 200 pictures. CHAIR finds that nothing it names is invented. "
        "Which number do you want beside it?", [
    ("How many of the objects that are there it names.", True,
     "CHAIR rewards silence: \"a picture\" invents nothing, and tells nothing."),
    ("POPE's accuracy, since it asks for single objects as well.", False,
     "A model can answer such questions nearly perfectly and still invent in captions, as in section 3."),
    ("BLEU-4, since it counts how much agrees with the references.", False,
     "A wrong colour costs little in BLEU; a true caption in another order cost more."),
])
quiz(3, "Without the images a model still answers 45 % of a benchmark. "
        "The language model it was made from answers 20 %. What did the 25 points come from?", [
    ("From the language model's knowledge of the world.", False,
     "That is in the 20 % already; the language model it was made from has the same knowledge."),
    ("From chance, which text-only models have as well.", False,
     "Then both would have it. What only the multimodal model has, it learned in its own training."),
    ("From its multimodal training: the form and the habits of such answers, or the test itself.", True,
     "MMStar calls it leakage. Which of these it was, duplicates between training and test can tell."),
])
