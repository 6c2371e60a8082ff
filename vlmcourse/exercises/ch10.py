"""Exercises of chapter 10: partners and strangers, the slow copy and its queue, words to write, a filter."""

import torch
from torch import Tensor

from vlmcourse.exercises.base import chapter
from vlmcourse.models import blip
from vlmcourse.training import capfilt, matching

exercise, quiz = chapter("10_blip")


def _dice(count: int) -> Tensor:
    """Uniform numbers, the first of them 0 and the last all but 1."""
    return torch.cat([torch.zeros(1), torch.rand(count - 2), torch.tensor([0.9999])])


_LATE = (
    "the own text lost its chance after the softmax, so the others no longer sum to 1; take it out before."
)

exercise(blip.hard_negatives,
    cases=lambda: [
        (2 * torch.randn(6, 9), _dice(6)),
        (torch.zeros(4, 5), torch.tensor([0.0, 0.6, 0.3, 0.99])),
        (9 * torch.eye(7, 8) + torch.randn(7, 8), _dice(7)),
        (torch.randn(2, 3), torch.tensor([0.0, 0.9])),
    ],
    slips=[
        (".masked_fill(own, -torch.inf)", "", "a pair's own text can be drawn as its negative: "
         "give it the similarity -inf before the softmax."),
        ("(own, -torch.inf)", "(own, 0.0)", "the own text is set to similarity 0, which is a chance like "
         "others; -inf is none."),
        ("(own, -torch.inf)", "(own, -1.0)",
         "the own text is set to similarity -1, which leaves it a chance; -inf leaves it none."),
        ("masked_fill(own, -torch.inf).softmax(dim=1)", "softmax(dim=1).masked_fill(own, 1.0)",
         "the own text keeps a chance after the softmax; it must have none."),
        ("similarity.masked_fill(own, -torch.inf)", "(-similarity).masked_fill(own, -torch.inf)",
         "the *least* similar texts are drawn most often; hard negatives are the most similar ones."),
        ("similarity.masked_fill(own, -torch.inf)", "(0 * similarity).masked_fill(own, -torch.inf)",
         "all texts are drawn equally often: these are random negatives; "
         "their chances are the softmax of the similarities."),
        ("return (line / line[:, -1:] <= dice[:, None]).sum(dim=1)", "return chances.argmax(dim=1)",
         "always the most similar text is taken; draw it, with the chances and the dice."),
        ("similarity.masked_fill", "similarity.T.masked_fill",
         "rows and columns are swapped: for every *image*, a row, a text is drawn."),
        ("softmax(dim=1)", "softmax(dim=0)",
         "the chances of an image must sum to 1 over the texts: softmax over dim=1."),
        ("<= dice", "> dice", "the wrong end of the line is counted: "
         "the number of ends that are not beyond the dice is the place."),
        (("masked_fill(own, -torch.inf).softmax(dim=1)", "softmax(dim=1).masked_fill(own, 0.0)"),
         ("line / line[:, -1:]", "line"), _LATE),
        (("masked_fill(own, -torch.inf).softmax(dim=1)", "softmax(dim=1).masked_fill(own, 0.0)"),
         ("line / line[:, -1:]", "line"), (".sum(dim=1)", ".sum(dim=1).clamp(max=similarity.shape[1] - 1)"),
         _LATE),
        ("<= dice", "< dice", "an end that equals the dice is not passed, so a dice of 0 draws a text "
         "that has no chance."),
        (("return (", "place = ("), (".sum(dim=1)", ".sum(dim=1)\n"
         "    return place - (place > torch.arange(len(place))).long()"),
         "with the own text taken out, those behind it moved up by one place; count it again."),
        ((".masked_fill(own, -torch.inf)", ""), ("return (", "place = ("),
         (".sum(dim=1)", ".sum(dim=1)\n    mine = place == torch.arange(len(place))\n"
          "    return torch.where(mine, (place + 1) % similarity.shape[1], place)"),
         "where the own text is drawn the next one is taken, which gets its chance on top; "
         "take the own text out before."),
        ((".softmax(dim=1)", ".softmax(dim=1)\n    chances, order = chances.sort(dim=1, descending=True)"),
         ("return (", "place = ("),
         (".sum(dim=1)", ".sum(dim=1, keepdim=True)\n    return order.gather(1, place)[:, 0]"),
         "the chances are laid on the line by their size; lay them in the order of the texts."),
        ("own = ", "similarity = similarity[:, : len(similarity)]\n    own = ",
         "the texts beyond the images are left out; they can be drawn, too."),
        ((".softmax(dim=1)", ".exp()"), ("line / line[:, -1:]", "line"),
         "these chances do not sum to 1: softmax divides them by their sum."),
        ((".softmax(dim=1)", ".exp()"), ("line / line[:, -1:]", "line"),
         (".sum(dim=1)", ".sum(dim=1).clamp(max=similarity.shape[1] - 1)"),
         "these chances do not sum to 1: softmax divides them by their sum."),
    ],
    hints=["What must a text's chance be if it is the image's own? "
           "Then lay the chances end to end: on which does the dice fall?",
           "`similarity.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf).softmax(dim=1)`, "
           "then `cumsum(dim=1)`; the text is the number of ends that are `<= dice[:, None]`."],
)

exercise(matching.matched_pairs,
    cases=lambda: [
        (torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])),
        (torch.tensor([3, 2, 3, 1, 0]), torch.tensor([4, 0, 4, 2, 1])),
    ],
    slips=[
        ("torch.cat([own, own, wrong_image]), torch.cat([own, wrong_text, own])",
         "torch.cat([own, wrong_image, own]), torch.cat([own, own, wrong_text])",
         "the three groups stand in another order: "
         "true pairs, then images with wrong texts, then texts with wrong images."),
        ("torch.cat([own, own, wrong_image]), torch.cat([own, wrong_text, own])",
         "torch.cat([own, own, wrong_text]), torch.cat([own, wrong_image, own])",
         "`wrong_text` and `wrong_image` changed places: `wrong_text[i]` is the number of a text."),
        (("[own, own, wrong_image]", "[own, wrong_text, wrong_image]"),
         ("[own, wrong_text, own]", "[own, own, own]"),
         "the second group takes wrong texts' numbers as images; it is image i with text wrong_text[i]."),
        ("[own, wrong_text, own]", "[own, wrong_text, wrong_text]",
         "wrong images meet wrong texts in the third group; it is text i with image wrong_image[i]."),
        (("[own, own, wrong_image]", "[own, wrong_image, wrong_image]"),
         ("[own, wrong_text, own]", "[own, wrong_text, wrong_text]"),
         "wrong images meet wrong texts; in a group of wrong pairs one of the two counts 0, 1, 2 and so on."),
        (("[own, own, wrong_image]", "[own, wrong_image]"), ("[own, wrong_text, own]", "[wrong_text, own]"),
         ("< len(own)", "< 0"), "the true pairs are missing; they come first."),
        (("torch.cat([own, own, wrong_image]), torch.cat([own, wrong_text, own])",
          "torch.cat([own, own]), torch.cat([own, wrong_text])"),
         "every text meets a wrong image, too: three groups of pairs, not two."),
        (("[own, own, wrong_image]", "[own, own, own]"),
         ("[own, wrong_text, own]", "[own, wrong_text, wrong_image]"),
         "the third group takes images in order with the wrong *numbers as texts*; "
         "it is text i with image wrong_image[i]."),
        ("< len(own)).long()", "< len(own))",
         "the labels must be whole numbers, 1 and 0, for cross_entropy."),
        ("< len(own)", ">= len(own)", "the labels are inverted: 1 belongs to pairs that belong together."),
        ("< len(own)", "< 2 * len(own)", "the second group is labelled as true; only the first is."),
        ("< len(own)", "% (2 * len(own)) < len(own)",
         "the third group is labelled as true; only the first is."),
        ("(torch.arange(len(images), device=own.device) < len(own)).long()",
         "torch.arange(len(images)) // len(own)",
         "the labels number the groups; a label is 1 where a pair belongs together, else 0."),
        (", (torch.arange(len(images), device=own.device) < len(own)).long()", "",
         "the labels are missing; they come last."),
        ("return images, texts, ", "return texts, images, ", "images and texts are swapped in the output."),
        ("return images, texts, (torch.arange(len(images), device=own.device) < len(own)).long()",
         "turn = torch.arange(len(images)).view(3, -1).T.flatten()\n"
         "    return images[turn], texts[turn], (turn < len(own)).long()",
         "the groups are interleaved, pair by pair; first all true pairs, then each group of wrong ones."),
        (("[own, own, wrong_image]", "[own, wrong_image, own]"),
         ("[own, wrong_text, own]", "[wrong_text, own, own]"), ("< len(own)", ">= 2 * len(own)"),
         "the true pairs stand last; they come first."),
    ],
    hints=["Write down for two pairs which image meets which text: three groups of two.",
           "`own = torch.arange(n)`; images are own, own, wrong_image; texts are own, wrong_text, own; "
           "the first n labels are 1."],
)


def _texts(batch: int, token: int, vocabulary: int, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, ids (some of them 0, as padding is) and mask of texts of these lengths."""
    ids = torch.randint(0, vocabulary, (batch, token))
    mask = torch.arange(token) < torch.tensor(lengths)[:, None]
    return 2 * torch.randn(batch, token, vocabulary), ids, mask


_MEAN = "return F.cross_entropy(scores[:, :-1][asked], ids[:, 1:][asked], label_smoothing=smoothing)"
_EACH = (
    "(asked * F.cross_entropy(scores[:, :-1].transpose(1, 2), ids[:, 1:], "
    'label_smoothing=smoothing, reduction="none"))'
)
_JOINED = "the texts are joined before the shift, so the last word of one is asked for the first of the next."

exercise(matching.next_words_loss, gradient=("scores",),
    cases=lambda: [
        (*_texts(3, 6, 7, [6, 2, 4]), 0.0),
        (*_texts(2, 5, 11, [3, 5]), 0.1),
        (*_texts(4, 3, 5, [3, 3, 2, 3]), 0.4),
    ],
    slips=[
        (", label_smoothing=smoothing", "", "`smoothing` is not used: a share of the target is spread "
         "evenly over all words; cross_entropy has `label_smoothing`."),
        (("scores[:, :-1][asked]", "scores[:, 1:][asked]"),
         "each place is asked for its own word; a place predicts the *next* word."),
        (("asked = mask[:, 1:]", "asked = mask[:, :-1]"),
         "it is asked which words are *read*; ask which words are predicted: mask[:, 1:]."),
        (("asked = mask[:, 1:]", "asked = torch.ones_like(mask[:, 1:])"),
         "padding is asked for, too; only real words are predicted."),
        (("asked = mask[:, 1:]", "asked = torch.ones_like(mask[:, 1:])"),
         ("ids[:, 1:]", "(ids * mask)[:, 1:]"),
         "padding is asked for, too; only real words are predicted."),
        (("asked = mask[:, 1:]", "asked = torch.ones_like(mask[:, 1:])"),
         ("scores[:, :-1]", "(scores * mask[..., None])[:, :-1]"),
         "padding is asked for, too; only real words are predicted."),
        (("asked = mask[:, 1:]", "asked = ids[:, 1:] != 0"),
         "it is asked which ids are 0; a real word may have that number. The mask tells."),
        ("label_smoothing=smoothing)", 'label_smoothing=smoothing, reduction="sum")',
         "the loss is a sum; it is the mean over all real words that are predicted."),
        ((_MEAN, "texts = [F.cross_entropy(row[one], word[one], label_smoothing=smoothing) "
          "for row, word, one in zip(scores[:, :-1], ids[:, 1:], asked)]\n"
          "    return torch.stack(texts).mean()"),
         "the mean is taken text by text, so words of short texts count more; take it over all words."),
        (("mask[:, 1:]", "mask"), ("scores[:, :-1]", "scores"), ("ids[:, 1:]", "ids"),
         "nothing is shifted: each place is scored by its own word; a place predicts the *next* one."),
        (("scores[:, :-1]", "scores[:, 1:]"), ("ids[:, 1:]", "ids[:, :-1]"),
         "it is shifted the wrong way: each place is asked for the word before it."),
        (("return F", "words = scores.shape[2]\n    return F"),
         ("label_smoothing=smoothing", "label_smoothing=smoothing * words / (words - 1)"),
         "the share is spread over the other words alone; it goes to the whole vocabulary, "
         "the right word included."),
        ((_MEAN, f"return {_EACH}.mean()"),
         "padding costs nothing here, but counts in the mean; divide by the number of words asked for."),
        ((_MEAN, f"return {_EACH}.sum() / mask.sum()"),
         "the first words count in the mean, though nothing is asked of them; "
         "divide by the number of words asked for."),
        ((_MEAN, f"return {_EACH}.sum() / len(ids)"),
         "the sum is divided by the number of texts; divide by the number of words asked for."),
        (("scores[:, :-1][asked]", "scores[mask]"), ("ids[:, 1:][asked]", "ids.roll(-1, 1)[mask]"),
         "the last word of each text is asked as well, though no word follows it; leave out its score."),
        (("mask[:, 1:]", "mask[1:]"), ("scores[:, :-1]", "scores[:-1]"), ("ids[:, 1:]", "ids[1:]"),
         "the shift is along the texts of the batch; it belongs to the tokens, axis 1."),
        ("label_smoothing=smoothing)", "label_smoothing=smoothing).exp()",
         "this is the perplexity, exp of the loss; the mean cross-entropy itself is wanted."),
        (("return F", "return (1 - smoothing) * F"), (", label_smoothing=smoothing", ""),
         "the right word gives up its share, and no word gets it; it is spread over the whole vocabulary."),
        (("scores[:, :-1][asked]", "scores[mask][:-1]"), ("ids[:, 1:][asked]", "ids[mask][1:]"), _JOINED),
        (("scores[:, :-1][asked]", "scores.flatten(0, 1)[:-1][mask.flatten()[1:]]"),
         ("ids[:, 1:][asked]", "ids.flatten()[1:][mask.flatten()[1:]]"), _JOINED),
    ],
    hints=["Place t has read words 0 to t. Which word does it predict, and is it a real one?",
           "Leave out the last score and the first id, pick both with `mask[:, 1:]`, "
           "and hand them to `F.cross_entropy(..., label_smoothing=smoothing)`."],
)

exercise(matching.soft_contrast, gradient=("similarity",),
    cases=lambda: [
        (3 * torch.randn(4, 5), 3 * torch.randn(4, 5), 0.0),
        (3 * torch.randn(3, 8), 3 * torch.randn(3, 8), 0.4),
        (2 * torch.randn(5, 7), 2 * torch.randn(5, 7), 0.7),
    ],
    slips=[
        ("slow.softmax", "similarity.softmax", "the share is given by the model itself; "
         "its slow copy decides: softmax of `slow`."),
        (("(1 - share) * partner + share * slow", "share * partner + (1 - share) * slow"),
         "the shares are swapped: the slow copy has `share`, the partner 1 - share."),
        (("(1 - share) * partner", "partner"), "the targets of a row sum to more than 1; "
         "the partner gives up the share: (1 - share)."),
        (("target = (1 - share) * partner + share * slow.softmax(dim=1)", "target = partner"),
         "`slow` and `share` are not used: this is the hard contrast."),
        (("slow.softmax(dim=1)", "torch.full_like(slow, 1 / slow.shape[1])"),
         "the share is spread evenly over all candidates; the slow copy knows better: its softmax."),
        ("slow.softmax(dim=1)", "slow",
         "similarities are no shares: the slow copy's softmax is."),
        ("return -(", "return (", "the sign is wrong: a loss falls as the right candidates get likelier."),
        ("sum(dim=1).mean()", "mean(dim=1).mean()",
         "it is averaged over the candidates; sum over them, and average over the rows."),
        ("sum(dim=1).mean()", "sum(dim=1).sum()", "the rows are summed; their mean is the loss."),
        (("similarity.log_softmax(dim=1)", "similarity.log_softmax(dim=0)"),
         "the softmax runs over the rows; a row's candidates compete: dim=1."),
        ("return -(", "candidates = len(similarity)\n    similarity = similarity[:, :candidates]\n"
         "    target = (1 - share) * partner[:, :candidates] + share * slow[:, :candidates].softmax(dim=1)\n"
         "    return -(", "the candidates of the queue are left out; they compete as well."),
        (("target = (1 - share) * partner + share * slow.softmax(dim=1)", "target = slow.softmax(dim=1)"),
         "`share` is not used: the slow copy decides all; the partner keeps 1 - share."),
        (("return -(target * similarity.log_softmax(dim=1))",
          "return (torch.xlogy(target, target) - target * similarity.log_softmax(dim=1))"),
         "this is the KL divergence, which takes off the target's entropy; the cross-entropy is wanted."),
        ("slow.softmax(dim=1)", "slow.softmax(dim=0)",
         "the slow copy's softmax runs over the rows; a row's candidates share: dim=1."),
        ("slow.softmax(dim=1)", "torch.eye(slow.shape[1])[slow.argmax(dim=1)]",
         "the slow copy gives its whole share to one candidate; its softmax deals it out."),
        ("log_softmax", "softmax", "the log is missing: a cross-entropy takes the log of the softmax."),
        ("similarity.log_softmax(dim=1)).sum(dim=1)", "similarity.softmax(dim=1)).sum(dim=1).log()",
         "the log is taken of the sum; each candidate's probability has its own."),
        ("similarity.log_softmax(dim=1)", "similarity",
         "similarities are no log-probabilities; log_softmax makes them so."),
        (("return -(", "mixed = (1 - share) * similarity + share * slow\n    return -("),
         ("(target *", "(partner *"), ("similarity.log_softmax", "mixed.log_softmax"),
         "the similarities are mixed; it is the targets that are shared out."),
        ("return -(target * similarity.log_softmax(dim=1))",
         "mixed = (1 - share) * similarity.softmax(dim=1) + share * slow.softmax(dim=1)\n"
         "    return -(partner * mixed.log())",
         "the two softmaxes are mixed and judged; the model is judged alone, and the targets are mixed."),
        (("share * slow.softmax", "share * similarity.softmax"),
         ("similarity.log_softmax", "slow.log_softmax"),
         "`similarity` and `slow` changed places: the slow copy makes the targets, the model is judged."),
        (("return -(target * similarity.log_softmax(dim=1)).sum(dim=1).mean()",
          "return torch.nn.functional.binary_cross_entropy_with_logits(similarity, target)"),
         "every candidate is judged by itself, yes or no; a row's candidates compete in one softmax."),
    ],
    hints=["Without the slow copy, what is the target of row i? Now give a share of it away.",
           "`target = (1 - share) * one_hot + share * slow.softmax(dim=1)`; "
           "the loss is `-(target * similarity.log_softmax(dim=1)).sum(dim=1).mean()`."],
)


def _weights(*shapes: tuple[int, ...], names: str) -> dict[str, Tensor]:
    return {name: torch.randn(shape) for name, shape in zip(names.split(), shapes, strict=True)}


def _slow_and_fast() -> list[tuple]:
    """Weights whose names stand in another order; a model that knows more than its copy."""
    first = _weights((3, 2), (3,), names="project.weight project.bias")
    second = _weights((3,), (3, 2), names="project.bias project.weight")
    more = _weights((4,), (2, 5), (2, 3, 4), names="scale match.weight words")
    less = _weights((2, 3, 4), (4,), names="words scale")
    return [(first, second, 0.75), (less, more, 0.9), (first, second, 0.0)]


exercise(blip.move_average, ordered=True,
    cases=_slow_and_fast,
    slips=[
        (("momentum * old + (1 - momentum) * model[name]", "(1 - momentum) * old + momentum * model[name]"),
         "the copy runs after the model at once: old weights keep `momentum`, new ones give 1 - momentum."),
        (("momentum * old + (1 - momentum) * model[name]", "momentum * old + model[name]"),
         "the weights grow with every step; the model gives only 1 - momentum."),
        ("momentum * old", "old",
         "the old weights stay in full and the model's share comes on top; they keep only `momentum` of it."),
        ("(1 - momentum) * model", "momentum * model",
         "old and new weights count alike: `momentum` is for the old ones, 1 - momentum for the new."),
        ("(1 - momentum) * model", "1 - momentum * model",
         "1 - momentum needs parentheses: the product is computed before the difference."),
        (("momentum * old + (1 - momentum) * model[name]", "model[name]"),
         "this copies the model; the average moves only a little towards it."),
        (("momentum * old + (1 - momentum) * model[name]", "(old + model[name]) / 2"),
         "`momentum` is not used: old weights count `momentum`, new ones 1 - momentum."),
        (("for name, old in average.items()", "for (name, old), new in zip(average.items(), model.values())"),
         ("model[name]", "new"),
         "weights are paired by their order; pair them by their names."),
        (("momentum * old + (1 - momentum) * model[name] for name, old in average.items()",
          "momentum * average[name] + (1 - momentum) * new for name, new in model.items()"),
         "it goes through the model's names, which may be more; go through those of `average`."),
        (("momentum * old + (1 - momentum) * model[name] for name, old in average.items()",
          "momentum * average[name] + (1 - momentum) * new if name in average else new "
          "for name, new in model.items()"),
         "it goes through the model's names, which may be more; go through those of `average`."),
    ],
    hints=["What is the new weight if momentum is 1, and what if it is 0?",
           "`{name: momentum * old + (1 - momentum) * model[name] for name, old in average.items()}`, "
           "a new dictionary."],
)

exercise(blip.enqueue,
    cases=lambda: [
        (torch.randn(7, 3), torch.randn(2, 3)),
        (torch.randn(6, 4), torch.randn(5, 4)),
        (torch.randn(5, 2), torch.randn(3, 2)),
    ],
    slips=[
        (("[queue, new]", "[new, queue]"), ("[-len(queue) :]", "[: len(queue)]"),
         "the new vectors stand in front; they belong behind the old ones."),
        ("[-len(queue) :]", "",
         "the queue grows with every step; as many old vectors leave as new ones come."),
        ("[-len(queue) :]", "[: len(queue)]",
         "the new vectors are thrown out again; the oldest stand in front and leave."),
        ("torch.cat([queue, new])[-len(queue) :]", "torch.cat([queue[: -len(new)], new])",
         "the last vectors of the queue leave, which are its newest; the oldest stand in front."),
        ("[queue, new])[-len(queue) :]", "[new, queue[len(new) :]])",
         "the new vectors overwrite the oldest in place; move the others up and put the new ones last."),
        ("torch.cat([queue, new])[-len(queue) :]", "queue.roll(-len(new), 0)",
         "the oldest go to the end instead of leaving; the new vectors belong there."),
        ("torch.cat([queue, new])[-len(queue) :]", "queue[: len(new)]",
         "these are the vectors that leave; the queue that stays is wanted."),
    ],
    hints=["First in, first out: which vectors are the oldest, and how many have to leave?",
           "`torch.cat([queue, new])`, and of that the last `len(queue)`."],
)

_EACH_ALONE = "an image's captions stay or go together; each is judged by its own probability."

exercise(capfilt.keep_captions,
    cases=lambda: [
        (torch.randn(5, 3, 2).round(), 0.5),  # some are as likely as not
        (2 * torch.randn(4, 3, 2), 0.8),
        (torch.randn(7, 4, 2), 0.3),
        (torch.randn(3, 5, 2), 0.6),
    ],
    slips=[
        ("[:, :, 1]", "[:, :, 0]", "the captions that do *not* belong are kept: "
         "the second score, number 1, speaks for a pair."),
        ("> least", "< least", "the captions that ITM does not believe are kept; keep the others."),
        (("scores.softmax(dim=2)", "scores"),
         "scores are compared with a probability; the softmax of the two scores is one."),
        (("scores.softmax(dim=2)", "scores.sigmoid()"),
         "the sigmoid of one score forgets the other; the softmax over both is the probability."),
        (("scores.softmax(dim=2)", "scores.softmax(dim=1)"),
         "captions of an image compete with each other; each is judged alone, "
         "by the softmax of its two scores."),
        ("> least", "> 0.5", "0.5 is the border here; the probability must be greater than `least`."),
        ("> least", ">= least", "a probability equal to `least` is enough here; it must be greater."),
        ("> least", "> 1 - least",
         "the border is 1 - least here; the probability must be greater than `least`."),
        ("scores.softmax(dim=2)[:, :, 1]", "scores[:, :, 1] - scores[:, :, 0]",
         "a difference of scores is compared with a probability; its sigmoid is one."),
        ("return images, sources", "return sources, images", "images and sources are swapped."),
        (("torch.nonzero(belongs > least, as_tuple=True)",
          "torch.nonzero((belongs > least) & (belongs == belongs.amax(1, True)), as_tuple=True)"),
         "only the best caption of an image is kept; all that ITM believes are."),
        (("images, sources = torch.nonzero(belongs > least, as_tuple=True)",
          "sources, images = torch.nonzero(belongs.T > least, as_tuple=True)"),
         "they stand source by source; the order is image by image."),
        ("torch.nonzero(belongs > least, as_tuple=True)",
         "torch.nonzero((belongs > least) & (torch.arange(belongs.shape[1]) == belongs.argmax(1, True)), "
         "as_tuple=True)", "only the best caption of an image is kept; all that ITM believes are."),
        ("belongs > least", "(belongs > least).any(1, True).expand_as(belongs)", _EACH_ALONE),
        ("belongs > least", "(belongs > least).all(1, True).expand_as(belongs)", _EACH_ALONE),
        ("return images, sources", "flat = images * belongs.shape[1] + sources\n"
         "    return flat // len(scores), flat % len(scores)",
         "flat numbers are divided by the number of images; a row is as long as there are sources."),
    ],
    hints=["How likely does a caption belong to its image? ITM gives two scores for that.",
           "`scores.softmax(dim=2)[:, :, 1] > least` says which stay; "
           "`torch.nonzero(..., as_tuple=True)` gives their numbers, image by image."],
)

quiz(1, "ITM's training loss falls to nearly 0, yet it cannot tell “red circle, blue square” from "
        "“blue circle, red square”. Where do you look first?", [
    ("At its negatives: if none of them differs so little from the truth, nothing asks it to look closely.",
     True, "Random partners differ in many words, and one of them is enough to tell. "
           "Hard negatives ask for the rest, if the batch holds any."),
    ("At the learning rate: the loss is low, but not low enough.", False,
     "A loss near 0 leaves no gradient. Other pairs give one."),
    ("At the head: two scores are too few for so many captions.", False,
     "One question, belongs or not, needs two scores. "
     "What is asked decides, not how many answers there are."),
])
quiz(2, "Why may the encoder's words see each other in both directions, "
        "but the decoder's only those before?", [
    ("A decoder is trained to predict the next word; one that sees it learns to copy.", True,
     "Same weights for the rest; the mask makes the difference between reading and writing."),
    ("The decoder also looks at the image, and must not see more than the encoder's ITM does.", False,
     "Image and words are apart: in ITM all words see each other *and* all patches."),
    ("Because the encoder has no cross-attention.", False,
     "It has: beside an image it reads for ITM. Without an image the same weights read for ITC."),
])
quiz(3, "CapFilt throws away four of ten web captions. "
        "Why is what is left the better training set?", [
    ("It is smaller, so each pair is seen more often.", False,
     "All arms took the same number of steps, and with the captioner's captions the set had even grown."),
    ("A wrong caption is not nothing: it pushes an image to a text that is false.", True,
     "In the contrast it pulls towards a stranger, and it pushes away the texts that fit."),
    ("The filter corrects the wrong captions before they are learned.", False,
     "It only keeps or throws away. New captions come from the captioner, and the filter judges those too."),
])
