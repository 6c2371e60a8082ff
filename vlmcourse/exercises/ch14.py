"""Exercises of chapter 14: swaps, labels, attention on images, and maps of evidence."""

import torch
from torch import Tensor

from vlmcourse.diagnostics import audit, relevance, share, swaps
from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models.language import IGNORED

exercise, quiz = chapter("14_debugging")

exercise(swaps.swap_rates,
    cases=lambda: [
        (torch.tensor([[1, 2, 0, 3, 1], [1, 0, 0, 2, 1], [3, 2, 1, 1, 0]]), torch.tensor([1, 2, 2, 3, 0])),
        (torch.tensor([[4, 4, 1, 0, 2, 3, 1], [4, 4, 4, 4, 4, 4, 4]]), torch.tensor([4, 0, 1, 0, 2, 3, 3])),
        (torch.randint(0, 3, (4, 9)), torch.randint(0, 3, (9,))),
    ],
    slips=[
        ("given != given[0]", "given == given[0]",
         "the second number counts answers that stayed; those that changed are asked for."),
        ("given != given[0]", "given != answers",
         "the second number counts wrong answers; a change is one against condition 0, right or wrong."),
        ("given != given[0]", "(given != given[0]) & (given != answers)",
         "only changes to a wrong answer are counted; any other answer than before is a change."),
        ("given != given[0]", "(given != given[0]) & (given[0] == answers)",
         "only right answers that changed are counted; a wrong one may change, too."),
        ("given != given[0]", "given != given[-1]",
         "the answers are compared with the last condition; condition 0 shows the right image."),
        ("given != given[0]", "given != given.roll(1, 0)",
         "each condition is compared with the one before it; compare with condition 0."),
        ("return accuracy, (given != given[0]).float().mean(dim=1)",
         "return accuracy, accuracy[0] - accuracy",
         "the second number is the fall of accuracy; an answer can change and be as wrong as before."),
        ("accuracy = (given == answers).float().mean(dim=1)",
         "accuracy = (given == answers).float().mean(dim=1)\n    accuracy = accuracy[0].expand(len(given))",
         "the accuracy is that of condition 0 everywhere; each condition has its own."),
        ("accuracy = (given == answers)", "accuracy = (given == given[0])",
         "answers are compared with those of condition 0; accuracy compares them with the right ones."),
        (("(given == answers).float().mean(dim=1)", "(given == answers).float().sum(dim=1)"),
         ("(given != given[0]).float().mean(dim=1)", "(given != given[0]).float().sum(dim=1)"),
         "these are counts; a share is a count over all questions."),
        ("return accuracy, (given != given[0]).float().mean(dim=1)",
         "return (given != given[0]).float().mean(dim=1), accuracy",
         "the two are exchanged; accuracy comes first."),
        (("(given == answers).float()", "(given == answers)"),
         ("(given != given[0]).float()", "(given != given[0])"),
         "torch takes no mean of True and False; make floats of them first."),
        (("(given == answers).float().mean(dim=1)", "(given == answers).sum(dim=1) / len(given)"),
         ("(given != given[0]).float().mean(dim=1)", "(given != given[0]).sum(dim=1) / len(given)"),
         "the counts are divided by the number of conditions; divide by that of the questions."),
    ],
    hints=["Two comparisons: with the right answers, and with what the model said under condition 0.",
           "`(given == answers).float().mean(dim=1)`; the second one compares with `given[0]`."],
)


def _labelled(places: list[list[int]], token: int, offset: int) -> tuple[Tensor, Tensor]:
    """Rows of different ids, and labels of those at some places, moved."""
    row = len(places)
    ids = torch.stack([torch.randperm(40)[:token] + 5 for _ in range(row)])
    labels = torch.full((row, token), IGNORED)
    for number, own in enumerate(places):
        for place in own:
            if 0 <= place + offset < token:
                labels[number, place + offset] = ids[number, place]
    return ids, labels


def _mixed() -> tuple[Tensor, Tensor]:
    """Most labels are one place too early, some stand right."""
    ids, labels = _labelled([[3, 4, 6], [2, 7, 8]], 11, -1)
    labels[0, 9], labels[1, 4] = ids[0, 9], ids[1, 4]
    return ids, labels


def _unlike_rows() -> tuple[Tensor, Tensor]:
    """The outer rows say 1, the one between, with more labels, −1."""
    rows = [_labelled([[3]], 9, 1), _labelled([[2, 5, 7, 8]], 9, -1), _labelled([[6]], 9, 1)]
    return torch.cat([ids for ids, _ in rows]), torch.cat([labels for _, labels in rows])


def _other_rows() -> tuple[Tensor, Tensor]:
    """The first row says 1, all labels together, and both other rows, −1."""
    rows = [_labelled([[3]], 9, 1), _labelled([[2, 5, 7, 8]], 9, -1), _labelled([[6]], 9, -1)]
    return torch.cat([ids for ids, _ in rows]), torch.cat([labels for _, labels in rows])


def _both_sides() -> tuple[Tensor, Tensor]:
    """As many labels one place too early as one too late."""
    rows = [_labelled([[3]], 7, 1), _labelled([[3]], 7, -1)]
    return torch.cat([ids for ids, _ in rows]), torch.cat([labels for _, labels in rows])


def _round_the_edge(edge: int) -> tuple[Tensor, Tensor]:
    """One label stands right, and at the edge two of the other end, which are no neighbours."""
    ids, labels = _labelled([[3], []], 7, 0)
    labels[:, edge] = ids[:, -1 - edge]
    return ids, labels


def _over_the_rows() -> tuple[Tensor, Tensor]:
    """One label stands right, and each row begins with what ends the row before it."""
    ids, labels = _labelled([[3], [], []], 8, 0)
    labels[1:, 0] = ids[:-1, -1]
    return ids, labels


def _tied(offset: int) -> tuple[Tensor, Tensor]:
    """As many labels at their place as beside it."""
    ids, labels = _labelled([[2, 5]], 9, offset)
    labels[0, 7], labels[0, 0] = ids[0, 7], ids[0, 0]
    return ids, labels


def _at_the_edge(offset: int, token: int = 6) -> tuple[Tensor, Tensor]:
    """Labels that are right where they can be, and at the edges what a ring would make of them."""
    ids, labels = _labelled([[1, 4], [2]], token, offset)
    wrapped = 1 if offset < 0 else -1
    edge = 0 if offset < 0 else token - 1
    for row in range(2):
        labels[row, edge] = ids[row, (edge + 2 * wrapped * -1) % token]
    return ids, labels


def _rows_vote(ids: Tensor, labels: Tensor) -> int:
    """The offset that most rows have by themselves."""
    found = [audit.label_offset.reference(row[None], own[None]) for row, own in zip(ids, labels, strict=True)]
    return max((0, -1, 1, -2, 2), key=found.count)


exercise(audit.label_offset,
    cases=lambda: [
        *[_labelled([[3, 4, 6], [2, 7]], 10, offset) for offset in (0, -1, 1, -2, 2)],
        _mixed(), _unlike_rows(), _other_rows(),
        _tied(1), _tied(-2), _both_sides(), _round_the_edge(0), _round_the_edge(-1),
        _over_the_rows(), _labelled([[3, 4, 6], [1, 5]], 10, 3), _labelled([[4, 5, 7], [5, 8]], 10, -3),
        _at_the_edge(-1), _at_the_edge(1),
        (torch.tensor([[5, 6, 7, 8]]), torch.full((1, 4), IGNORED)),
        (torch.tensor([[0, 0, 5, 6, 7]]), torch.tensor([[IGNORED, IGNORED, IGNORED, 5, IGNORED]])),
        (torch.tensor([[7, 7, 7, 7, 9]]), torch.tensor([[IGNORED, 7, 7, IGNORED, 9]])),
    ],
    slips=[
        ("return next(offset", "return next(-offset",
         "the sign is turned: a label that stands one place too early is at −1."),
        ("(0, -1, 1, -2, 2)", "(0, -1, 1)", "offsets of −2 and 2 are not tried."),
        ("(0, -1, 1, -2, 2)", "(-2, -1, 0, 1, 2)",
         "where two fit equally well, the one further left wins; the smaller one counts, and 0 first."),
        ("(0, -1, 1, -2, 2)", "(0, 1, 2)",
         "labels that stand too early are not looked for; −1 and −2 are possible."),
        ("return next(offset for fit, offset in fits if fit == most)", "return most",
         "this is how many labels fit; asked is at which offset they do."),
        ("== ids).sum()", "== ids).any()",
         "one label that fits decides here; most of them have to."),
        ("== ids).sum()", "== ids)[0].sum()", "only the first row is looked at; all rows count."),
        ("most = max(", "most = min(", "the offset that fits least is chosen."),
        ("return next(offset for fit, offset in fits if fit == most)",
         "return next(offset for fit, offset in fits[::-1] if fit == most)",
         "where two fit equally well the larger offset wins; the smaller one counts, and 0 first."),
        ("return next(offset for fit, offset in fits if fit == most)",
         "return abs(next(offset for fit, offset in fits if fit == most))",
         "the direction is lost; too early is negative."),
        ("(0, -1, 1, -2, 2)", "(0, 1, -1, 2, -2)",
         "where −1 and 1 fit equally well, 1 wins; the smaller one counts."),
        ("padded[:, 2 + offset :][:, : ids.shape[1]]", "labels.roll(-offset, 1)",
         "labels that leave at one end come in at the other; over the edge there is none."),
        (("F.pad(labels, (2, 2)", "F.pad(ids, (2, 2)"), ("2 + offset", "2 - offset"),
         ("== ids)", "== labels)"),
         "the ids are padded with −100, so places without a label fit there; move the labels."),
        ("return next(offset for fit, offset in fits if fit == most)",
         "return [fit for fit, _ in fits].index(most)",
         "this is the place of the offset in the list of those tried; the offset itself is asked for."),
        ("int((moved == ids).sum())", "int((moved == ids).sum()) / (ids.shape[1] - abs(offset))",
         "what fits is divided by the number of places, of which a larger offset has fewer; compare counts."),
        (("F.pad(labels, (2, 2)", "F.pad(labels.flatten()[None], (2, 2)"),
         (": ids.shape[1]]", ": ids.numel()].view(ids.shape)"),
         "rows are joined, so the end of one meets the beginning of the next; each row ends by itself."),
        (("F.pad(labels, (2, 2)", "F.pad(labels, (0, 0, 2, 2)"),
         ("padded[:, 2 + offset :][:, : ids.shape[1]]", "padded[2 + offset :][: len(ids)]"),
         "labels are moved from row to row; move them along their row."),
        (("(labels, (2, 2)", "(labels, (4, 4)"), ("2 + offset", "4 + offset"),
         ("(0, -1, 1, -2, 2)", "(0, -1, 1, -2, 2, -3, 3)"),
         "offsets beyond 2 are tried; they go from −2 to 2."),
        Slip(_rows_vote,
             "each row decides for an offset, and the rows vote; the labels of all rows count together."),
    ],
    hints=["Move the labels by each offset, and count where they are then equal to the ids.",
           "Pad the labels with two −100 on both sides, then labels at offset k are "
           "`padded[:, 2 + k :][:, :token]`. Try 0 first, and keep the best count."],
)


_SOME = [[IGNORED, 9, IGNORED, 4, 5, IGNORED], [IGNORED, IGNORED, 9, 9, IGNORED, 3]]

exercise(audit.trained_images,
    cases=lambda: [
        (torch.tensor([[1, 9, 9, 4, 5, 0], [1, 9, 9, 6, 7, 3]]), torch.tensor(_SOME), 9),
        (torch.tensor([[9, 2, 9, 9, 9], [9, 9, 4, 5, 6], [1, 9, 9, 3, 0]]),
         torch.tensor([[9, 2, 7, 9, IGNORED], [IGNORED, 3, 9, 5, 6], [IGNORED, 9, 8, 3, IGNORED]]), 9),
        (torch.tensor([[1, 8, 8, 5], [8, 4, 5, 6]]),
         torch.tensor([[IGNORED, IGNORED, IGNORED, 5], [IGNORED, 4, 5, 6]]), 8),
        (torch.tensor([[3, 9, 5], [3, 6, 8]]), torch.tensor([[IGNORED, 9, 7], [7, 6, 8]]), 7),
        (torch.tensor([[7, 7, 5], [7, 6, 5]]), torch.tensor([[4, IGNORED, IGNORED], [2, 6, 5]]), 7),
        (torch.tensor([[8, 8, 3, 8, 8], [2, 8, 1, 8, 0]]),
         torch.tensor([[0, IGNORED, 8, 12, IGNORED], [8, 5, IGNORED, 8, 0]]), 8),
    ],
    slips=[
        ("(labels == image) | ", "",
         "labels of the placeholder at other places are missed, as they stand where labels were moved."),
        ("((labels == image) | ((ids == image) & (labels != IGNORED)))", "(labels == image)",
         "other labels at placeholders are missed; nothing is to be learned there at all."),
        ("((labels == image) | ((ids == image) & (labels != IGNORED)))", "(ids == image)",
         "this counts all placeholders; only those with a label are trained."),
        ("(ids == image) & (labels != IGNORED)", "(ids == image) & (labels == IGNORED)",
         "placeholders without a label are counted; those are right."),
        ("(labels == image) | ((ids == image) & (labels != IGNORED))",
         "(labels == image) & (ids == image)",
         "only a placeholder labelled as one is counted; either alone is wrong already."),
        ("((labels == image) | ((ids == image) & (labels != IGNORED)))",
         "(labels == image).sum() + ((ids == image) & (labels != IGNORED))",
         "a placeholder that is its own label is counted twice."),
        ("labels != IGNORED", "labels > 0", "0 is an id like others; only −100 is no label."),
        ("(labels == image) | ((ids == image) & (labels != IGNORED))",
         "labels == image | ((ids == image) & (labels != IGNORED))",
         "| binds more tightly than ==; put brackets round each comparison."),
        (".sum()", ".any(dim=1).sum()", "rows are counted; count places."),
        (".sum()", ".float().mean()", "this is a share; a count is asked for."),
    ],
    hints=["Two ways to be wrong: the label is the placeholder, or it stands at one.",
           "`(labels == image) | ((ids == image) & (labels != -100))`, and count the True."],
)


def _weights(layer: int, batch: int, head: int, query: int, key: int) -> Tensor:
    return (2 * torch.randn(layer, batch, head, query, key)).softmax(dim=-1)


exercise(share.image_share, picture=lambda output: output[:, 0],
    cases=lambda: [
        (_weights(2, 3, 4, 5, 6), torch.rand(3, 6) > 0.5),
        (_weights(4, 2, 5, 3, 7), torch.rand(2, 7) > 0.7),
        (_weights(3, 2, 4, 6, 5), torch.tensor([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]) > 0),
    ],
    slips=[
        ("places[:, None, None]", "~places[:, None, None]",
         "this is what falls on words; the image's share is asked for."),
        ("sum(dim=-1)", "mean(dim=-1)",
         "the mean over the keys makes it smaller the longer the text is; a share is a sum of weights."),
        ("sum(dim=-1)", "sum(dim=-2)",
         "weights are summed over the queries, which says what each key receives; sum over the keys."),
        ("mean(dim=2)", "sum(dim=2)", "heads are added up; their mean keeps the share between 0 and 1."),
        ("mean(dim=2)", "amax(dim=2)", "the head that looks most is taken; the mean over the heads counts."),
        ("mean(dim=2)", "select(2, 0)", "only the first head is taken; the mean over the heads counts."),
        ("weights * places[:, None, None]",
         "weights.where(places[:, None, None], 0)[:, :1].expand_as(weights)",
         "the first text's shares stand for all texts; each has its own."),
        ("weights * places[:, None, None]", "weights * places[:1, None, None]",
         "the first text says where the images of all texts are; each has its own places."),
        ("return on_image.sum(dim=-1).mean(dim=2)",
         "return on_image.sum(dim=-1).mean(dim=2) / places.float().mean(dim=1)[:, None].clamp(min=1e-9)",
         "the share is divided by that of the image among the tokens; that compares, "
         "but it is no share any more."),
        ("return on_image.sum(dim=-1).mean(dim=2)",
         "return on_image.sum(dim=-1).mean(dim=2).mean(dim=0, keepdim=True).expand(len(weights), -1, -1)",
         "layers are averaged; each keeps its own share."),
    ],
    hints=["What falls on words counts 0. Which axis is the sum over, and which the mean?",
           "`weights * places[:, None, None]`, the sum over the last axis, "
           "the mean over the heads (axis 2)."],
)

exercise(relevance.weigh_by_gradient, picture=lambda output: output,
    cases=lambda: [
        (_weights(1, 1, 3, 4, 5)[0, 0], torch.randn(3, 4, 5)),
        (_weights(1, 1, 2, 6, 7)[0, 0], torch.randn(2, 6, 7)),
        (_weights(1, 1, 4, 3, 2)[0, 0], 30 * torch.randn(4, 3, 2) - 1),
    ],
    slips=[
        ("gradient * attention", "attention",
         "the gradient is not used: attention says where it looked, the gradient whether that helped."),
        ("gradient * attention", "gradient",
         "the attention is not used: where nobody looked, nothing came in."),
        (".clamp(min=0)", "", "what lowers the score is subtracted; it counts as 0."),
        (".clamp(min=0)", ".abs()",
         "what lowers the score counts as if it raised it; it counts as 0."),
        (".clamp(min=0)", ".clamp(max=0)", "only what lowers the score is left; what raises it counts."),
        (".clamp(min=0).mean(dim=0)", ".mean(dim=0).clamp(min=0)",
         "the mean is taken first, so heads cancel each other; each head is clamped, then the mean."),
        ("gradient * attention", "gradient + attention",
         "attention and gradient are added; they are multiplied."),
        ("mean(dim=0)", "sum(dim=0)", "heads are added up; take their mean."),
        ("mean(dim=0)", "amax(dim=0)", "the strongest head is taken; the mean counts."),
        ("gradient * attention", "gradient.mean(dim=(1, 2), keepdim=True) * attention",
         "each head has one weight here, as in Grad-CAM; every entry has its own gradient."),
        ("(gradient * attention).clamp(min=0).mean(dim=0)",
         "gradient.mean(dim=0).clamp(min=0) * attention.mean(dim=0)",
         "the means over heads are multiplied; multiply within each head first."),
    ],
    hints=["Where does a weight raise the score? Where its gradient is positive.",
           "`gradient * attention`, negatives to 0 with `clamp(min=0)`, then the mean over axis 0."],
)


exercise(relevance.grad_cam, picture=lambda output: output[0],
    cases=lambda: [
        (torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)),
        (20 * torch.randn(3, 5, 2, 4) + 6, torch.randn(3, 5, 2, 4)),
        (torch.randn(2, 4, 3, 6), torch.randn(2, 4, 3, 6) - 0.2),
    ],
    slips=[
        ("importance * activations", "gradients * activations",
         "every place has a weight of its own; a channel has one, the mean of its gradient."),
        ("importance * activations", "importance.abs() * activations",
         "the sign of the weight is lost; a channel that lowers the score counts against it."),
        ("importance * activations", "importance.clamp(min=0) * activations",
         "channels that lower the score are left out; only the sum is clamped."),
        ("importance * activations", "activations",
         "the gradient is not used: the maps are added as they are."),
        (".clamp(min=0)", "", "negatives stay; what speaks against the answer counts as 0."),
        (".clamp(min=0)", ".abs()", "what speaks against the answer counts as if it spoke for it."),
        ("(importance * activations).sum(dim=1).clamp(min=0)",
         "(importance * activations).clamp(min=0).sum(dim=1)",
         "each channel is clamped before the sum; channels may cancel, the sum is clamped."),
        ("sum(dim=1)", "mean(dim=1)", "this is the mean over the channels; the paper adds them."),
        ("gradients.mean(dim=(2, 3), keepdim=True)", "gradients.sum(dim=(2, 3), keepdim=True)",
         "gradients are added over all places; take their mean."),
        ("gradients.mean(dim=(2, 3), keepdim=True)", "gradients.amax(dim=(2, 3), keepdim=True)",
         "the largest gradient of a channel is taken; take the mean over all places."),
        ("gradients.mean(dim=(2, 3), keepdim=True)", "activations.mean(dim=(2, 3), keepdim=True)",
         "the weight is the mean activation; it is the mean gradient."),
        ("gradients.mean(dim=(2, 3), keepdim=True)", "gradients.mean(dim=(0, 2, 3), keepdim=True)",
         "images share their weights; each has its own."),
    ],
    hints=["One number for each channel first: how much the score would rise if all of its map rose.",
           "`gradients.mean(dim=(2, 3), keepdim=True) * activations`, summed over axis 1, negatives to 0."],
)

quiz(1, "The loss falls, answers are fluent, and with a stranger's image they are as often right. "
        "What do you know?", [
    ("The projector is broken.", False,
     "It may be. Two runs of this chapter had this symptom, and in neither was it the projector."),
    ("The image does not help its answers. Why, this does not say.", True,
     "It is a symptom with many causes: wrong pairs, cut rows, a projector without weights. "
     "Rows, then reach, then maps narrow it down."),
    ("It was trained too briefly.", False,
     "Training on rows that never needed the right image teaches habit, the longer the better."),
])
quiz(2, "Half of all attention falls on image tokens. Does the model use the image?", [
    ("Yes; nothing is read for nothing.", False,
     "With a projector drawn anew the share stayed as high, "
     "and the right image helped no more than another."),
    ("No; only the gradient can tell.", False,
     "The gradient too reached image vectors that carried nothing the model could read."),
    ("It can; change the image and count the answers that change.", True,
     "A high share shows only that it could be; whether answers change with the image decides."),
])
quiz(3, "A model writes nothing but the end, and every check of its image path is green. "
        "Where do you look next?", [
    ("Into the rows that it was trained on.", True,
     "The path of the image was whole; labels stood one place beside their ids. "
     "Only what the model was given shows that."),
    ("At Grad-CAM of an answer.", False,
     "There is no answer to explain, and where it looked is not in doubt."),
    ("At the length limit of what it writes.", False,
     "A limit cuts what is written; here the end is written at once, as it was taught."),
])
