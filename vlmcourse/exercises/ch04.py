"""Exercises of chapter 04: vectors of texts and classes, two losses, and what the features are worth."""

import torch
from torch import Tensor

from vlmcourse.diagnostics import gap
from vlmcourse.evaluation import retrieval
from vlmcourse.exercises.base import Unaffected, chapter
from vlmcourse.models import clip

exercise, quiz = chapter("04_clip")


def _texts(hidden: Tensor, eos: int, places: list[list[int]]) -> tuple[Tensor, Tensor, int]:
    """Ids below and above ``eos`` everywhere, and ``eos`` itself at the places given for each text."""
    ids = torch.randint(0, 30, hidden.shape[:2])
    ids[ids == eos] += 1
    ids[0, 1] = 31  # the highest of the batch stands in no text's first place
    for row, several in enumerate(places):
        ids[row, several] = eos
    return hidden, ids, eos


def _noise_behind(case: tuple) -> tuple:
    hidden, ids, eos = case
    behind = torch.arange(ids.shape[1])[None] > (ids == eos).int().argmax(1)[:, None]
    return hidden.masked_fill(behind[..., None], 9.0), ids, eos


exercise(clip.pool_at_eos, gradient=("hidden",),
    cases=lambda: [
        _texts(torch.randn(3, 7, 5), 12, [[4], [2, 3, 6], [5, 6]]),
        _texts(torch.randn(2, 6, 9), 20, [[3, 5], [1]]),
    ],
    slips=[
        ("torch.arange(len(ids), device=ids.device), first", ":, -1",
         "this takes the last token, which is padding in every text that is shorter than the longest."),
        ("torch.arange(len(ids), device=ids.device), first", ":, 0", "this takes token 0. "
         "In a ViT that token reads everything; in a causal tower it has read only itself."),
        ("(ids == eos).int().argmax", "ids.argmax", "this takes the token with the highest id. "
         "OpenAI's code did so because its EOS is the last id of the vocabulary; compare with eos instead."),
        ("(ids == eos).int()", "ids.shape[1] - 1 - (ids == eos).int().flip(1)",
         "this takes the last EOS; when texts are padded with EOS, that is padding. Take the first."),
        ("argmax(dim=1)", "argmax(dim=1) - 1",
         "this takes the token before EOS; only EOS itself was trained to sum up the text."),
        ("torch.arange(len(ids), device=ids.device), first", "ids == eos",
         "hidden[ids == eos] gives one vector per EOS, so a text with two of them gives two. "
         "Find the first place in each row."),
        ("torch.arange(len(ids), device=ids.device)", ":",
         "hidden[:, place] takes every text's place in every text. "
         "Pair row 0 with place 0, row 1 with place 1: hidden[arange(batch), place]."),
        ("hidden[torch.arange(len(ids), device=ids.device), first]", "hidden.mean(dim=1)",
         "this is the mean over all tokens, padding included; CLIP reads one token, the first EOS."),
    ],
    hints=["Two steps: where is the first EOS of each text, and how do you take one row from each text?",
           "(ids == eos).int() holds 0 and 1; argmax(dim=1) gives the place of the first 1.",
           "`hidden[torch.arange(batch, device=ids.device), place]` pairs each text with its own place."],
    unaffected=[Unaffected(
        "the result depends on tokens behind the first EOS; those are padding.", _noise_behind)],
)

exercise(clip.normalise, gradient=("features",),
    axes={"features": "class prompt width", "return": "class prompt width"},
    cases=lambda: [(2 * torch.randn(2, 3, 5),), (torch.randn(3, 2, 7) + 1,), (torch.randn(4, 6),)],
    slips=[
        ("dim=-1, keepdim=True", "", "all vectors are divided by one number, "
         "the length of everything together; each has its own length: dim=-1, keepdim=True."),
        ("dim=-1", "dim=1",
         "the length runs along axis 1 (also F.normalize's default). The width is the last axis: dim=-1."),
        ("dim=-1", "dim=0",
         "the length runs along axis 0, over different vectors. The width is the last axis: dim=-1."),
        ("features.norm(dim=-1, keepdim=True)", "features.square().mean(dim=-1, keepdim=True).sqrt()",
         "the squares are averaged; a length sums them. Your vectors have length √width, not 1."),
        ("norm(", "square().sum(", "the square root is missing: the length is √(sum of squares)."),
        ("norm(", "abs().sum(", "the absolute values sum to 1 now; for cosines the squares must."),
        ("features / features.norm(dim=-1, keepdim=True)", "features.softmax(dim=-1)",
         "a softmax makes probabilities and loses the signs; "
         "only the length must change, not the direction."),
        ("features / features.norm(", "(features - features.mean(dim=-1, keepdim=True)) / (features - "
         "features.mean(dim=-1, keepdim=True)).norm(",
         "the mean is subtracted first, which turns the vector. Only its length must change."),
        ("features / features.norm(dim=-1, keepdim=True)", "F.layer_norm(features, features.shape[-1:])",
         "this also subtracts the mean, as a layer norm does, and turns the vector. "
         "Only its length must change."),
    ],
    hints=["A vector divided by its own length has length 1. Which axis holds the numbers of one vector?",
           "`features.norm(dim=-1, keepdim=True)` has a last axis of size 1, so the division broadcasts."],
)

exercise(clip.zero_shot_classifier, gradient=("prompts",),
    cases=lambda: [  # prompts whose vectors have quite different lengths
        (torch.randn(4, 3, 6) * torch.rand(4, 3, 1).mul(3).add(0.3),),
        (torch.randn(2, 5, 7) * torch.rand(2, 5, 1).mul(3).add(0.3),),
    ],
    slips=[
        ("normalise(normalise(prompts).mean(dim=1))", "normalise(prompts).mean(dim=1)",
         "the mean of unit vectors is shorter than 1, and shorter for classes whose prompts disagree: "
         "normalise it again, or those classes lose."),
        ("normalise(prompts)", "prompts", "the prompts are averaged as they come, "
         "so one with a long vector outweighs the others. Normalise before the mean, too."),
        ("normalise(normalise(prompts).mean(dim=1))", "prompts.mean(dim=1)",
         "nothing is normalised: normalise each prompt, average, normalise each class."),
        ("dim=1", "dim=0", "this averages over the classes; "
         "average over the prompts, axis 1, so that one vector per class is left."),
        ("normalise(prompts).mean(dim=1)", "prompts[:, 0]",
         "only the first prompt of each class is used; the mean over all of them is steadier."),
        ("normalise(prompts)", "F.normalize(prompts)",
         "the first normalisation runs over the prompts (axis 1, F.normalize's default). "
         "The width is the last axis: dim=-1."),
        ("normalise(normalise(prompts).mean(dim=1))", "normalise(prompts).flatten(0, 1)",
         "this keeps one row per prompt; average the prompts of a class, so that one row per class is left."),
        ("mean(", "amax(",
         "this takes the largest number per coordinate; the direction between the prompts is their mean."),
    ],
    hints=["Each prompt is a direction. Which direction lies in the middle of all prompts of a class?",
           "Three steps: length 1 for every prompt, mean over axis 1, length 1 again. "
           "You have written normalise."],
)


def _pairs(batch: int, width: int, scale: float, size: float, *more: float) -> tuple:
    image, text = size * torch.randn(2, batch, width)
    return image, text, torch.tensor(scale), *map(torch.tensor, more)


exercise(clip.info_nce, gradient=("image", "text", "scale"),
    cases=lambda: [_pairs(5, 7, 3.0, 0.6), _pairs(4, 9, 2.0, 0.5), _pairs(3, 8, 4.0, 9.0)],
    slips=[
        ("logits.T", "logits", "only one direction: each image looks for its text, twice if you averaged. "
         "The texts must look for their images too, with logits.T."),
        ("(logits, partner)", "(logits.T, partner)",
         "only one direction: each text looks for its image. The images must look for their texts too."),
        (" / 2", "", "the two directions are added; "
         "CLIP takes their mean, so that an untrained model starts at ln(batch)."),
        ("scale * ", "", "the scale is missing. "
         "Cosines lie between −1 and 1, and a softmax over such small numbers stays flat."),
        ("scale * image @ text.T", "image @ text.T / scale",
         "you divide by scale. It is one over the temperature already, so multiply."),
        ("scale * ", "scale.exp() * ", "the exponential is taken twice: scale is already exp(logit_scale)."),
        (("scale * ", ""), ("(logits, partner)", "(scale * logits, partner)"),
         "only one direction is scaled: multiply the logits first, then use them and their transpose."),
        ("partner = ", "partner = 0 * ", "all labels are 0, so everybody is told to pick pair 0. "
         "Row i belongs to column i: torch.arange(batch)."),
        ("scale * image @ text.T", "(scale * image @ text.T).softmax(dim=1)",
         "cross_entropy takes the softmax itself; give it the logits, not probabilities."),
        (("(logits, partner)", "(logits.softmax(dim=1), partner)"),
         ("(logits.T, partner)", "(logits.T.softmax(dim=1), partner)"),
         "cross_entropy takes the softmax itself; give it the logits, not probabilities."),
        (("(logits, partner)", '(logits, partner, reduction="sum")'),
         ("(logits.T, partner)", '(logits.T, partner, reduction="sum")'),
         "the losses are summed over the batch; take the mean, or a larger batch means larger steps."),
        ("(F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2",
         "-logits.diag().mean()",
         "this only pulls partners together. Without negatives all features may collapse to one point."),
        ("return ", "return -",
         "the sign is wrong: this grows when the model improves, and training minimises."),
        ("image @ text.T", "normalise(image) @ normalise(text).T",
         "the features are normalised a second time. That is normalise's job; here they come ready."),
        ("(F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2",
         "-(logits.softmax(dim=1).diag().log() + logits.softmax(dim=0).diag().log()).mean() / 2",
         "log(softmax) is −∞ when a pair is badly wrong, because its probability rounds to 0. "
         "F.cross_entropy computes both in one safe step."),
    ],
    hints=["Fill a batch × batch table with scale · image · text. Where in row i is the right answer?",
           "Each row is a classification with `batch` classes: F.cross_entropy(logits, torch.arange(batch)). "
           "What do the columns say?",
           "`logits = scale * image @ text.T`; "
           "the mean of cross_entropy(logits, partner) and cross_entropy(logits.T, partner)."],
)

exercise(clip.siglip_loss, gradient=("image", "text", "scale", "bias"),
    cases=lambda: [_pairs(5, 7, 3.0, 0.6, -2.0), _pairs(4, 9, 2.0, 0.5, -1.5), _pairs(3, 8, 4.0, 9.0, -1.0)],
    slips=[
        ("/ len(logits)", "/ len(logits) ** 2",
         "this is the mean over all batch² meetings; SigLIP divides the sum by batch only."),
        (" / len(logits)", "", "the sum is not divided by batch."),
        (" + bias", "",
         'the bias is missing. Almost every meeting is a "no", and the bias says so from the start.'),
        ("+ bias", "- bias", "the bias is subtracted; add it, it is negative itself."),
        ("image @ text.T + bias", "(image @ text.T + bias)",
         "the bias is scaled too; scale multiplies only the cosines."),
        ("scale * image @ text.T", "image @ text.T / scale",
         "you divide by scale; it is one over the temperature already, so multiply."),
        ("scale * ", "", "the scale is missing: the cosines are multiplied with it."),
        ("scale * ", "scale.exp() * ", "the exponential is taken twice: scale is already exp(logit_scale)."),
        ("sign * logits", "logits", "every meeting counts as a match; strangers need the sign −1."),
        ("sign * logits", "(sign + 1) / 2 * logits",
         "strangers have the sign 0, and σ(0) = ½ whatever the logit, so they teach nothing. Use −1."),
        ("sign * logits", "sign * (logits - bias) + bias",
         "the sign turns only the cosine. It must turn the whole logit, bias included."),
        ("sign * logits", "logits.diag()",
         'only partners are judged; without the "no" answers all features may collapse to one point.'),
        ("-F.logsigmoid(sign * logits).sum() / len(logits)", "info_nce(image, text, scale)",
         "this is InfoNCE: a softmax over the batch, in which the bias cancels. "
         "SigLIP judges each meeting alone."),
        ("return -", "return ",
         "the minus in front is missing: log σ is negative, and a loss must shrink as the model improves."),
        ("image @ text.T", "normalise(image) @ normalise(text).T",
         "the features are normalised a second time. That is normalise's job; here they come ready."),
        ("F.logsigmoid(sign * logits)", "(sign * F.logsigmoid(logits))",
         "the sign stands outside of log σ; inside it turns the question: σ(−logit) is how sure the no is."),
        ("F.logsigmoid(sign * logits)", "torch.sigmoid(sign * logits).log()",
         "the loss is infinite for a meeting judged badly wrong: σ rounds to 0, or exp overflows. "
         "F.logsigmoid is safe."),
    ],
    hints=["The table of logits is InfoNCE's plus a bias. But now each cell is its own yes-or-no question.",
           "sign = 2 · eye − 1 is +1 for partners and −1 for strangers; "
           "σ(sign · logit) is how right the answer is.",
           "`-F.logsigmoid(sign * logits).sum() / batch`; give torch.eye the device of the logits."],
)

exercise(retrieval.recall_at_k,
    cases=lambda: [  # queries with none, one and several right candidates
        (torch.randn(29, 9), torch.rand(29, 9) < 0.2, 3),
        (torch.randn(13, 5), torch.rand(13, 5) < 0.2, 2),
    ],
    slips=[
        ("right.gather(1, best)", "(best == torch.arange(len(best))[:, None])",
         "only candidate i counts as right for query i. Two pictures with the same caption are both right: "
         "ask the table `right`."),
        (".any(dim=1)", "", "this is precision: the share of the k places that are right. "
         "Recall@K asks whether at least one is."),
        ("any(dim=1).float().mean()", "sum(dim=1).div(right.sum(dim=1).clamp(min=1)).mean()",
         "this divides by the number of right candidates, as a textbook's recall does. "
         "In retrieval one hit is enough: 0 or 1 per query."),
        ("any(", "sum(", "this is the mean number of hits; several hits of one query count once."),
        ("topk(k, dim=1)", "topk(k, dim=1, largest=False)",
         "these are the least similar candidates; take the k largest."),
        ("topk(k", "topk(k + 1", "one candidate too many is looked at: the first k are places 0 to k - 1."),
        ("topk(k", "topk(1", "only the first place is looked at, whatever k is."),
        (".any(dim=1)", "[:, -1]", "only place k is looked at; the places before it count too."),
        (("topk(k, dim=1)", "topk(k, dim=0)"), ("gather(1", "gather(0"), ("any(dim=1)", "any(dim=0)"),
         "the candidates look for queries here; each query, a row, ranks the candidates: dim=1."),
        ("mean()", "sum()", "this is the number of queries that hit; divide by how many there are."),
        ("float().mean()", "sum()", "this is the number of queries that hit; divide by how many there are."),
        ("return ", "return 100 * ", "this is a percentage; return a share between 0 and 1."),
        (".item()", "",
         "the number is right, but it is still a tensor; hand out a plain number with .item()."),
        ("    best",
         "    similarity, right = similarity[right.any(dim=1)], right[right.any(dim=1)]\n    best",
         "queries without any right candidate are left out; they count as misses."),
    ],
    hints=["For each query: which k candidates come first, and is one of them right?",
           "`similarity.topk(k, dim=1).indices` is (query, k); `right.gather(1, best)` looks those cells up.",
           "`.any(dim=1)` says whether a query hit; `.float().mean().item()` makes the share, as a number."],
)


def _clouds(images: int, texts: int, width: int) -> tuple[Tensor, Tensor]:
    """Two clouds with different middles, of vectors with different lengths."""
    lengths = 0.3 + 3 * torch.rand(images, 1)
    return lengths * (torch.randn(images, width) + 0.8), torch.randn(texts, width) - 0.3


exercise(gap.modality_gap, gradient=("image", "text"),
    cases=lambda: [_clouds(7, 5, 3), _clouds(4, 9, 6)],
    slips=[
        (("normalise(image)", "image"), ("normalise(text)", "text"),
         "the features are not normalised, so long vectors decide. In CLIP's space only directions matter."),
        (("normalise(image).mean(dim=0)", "normalise(image.mean(dim=0))"),
         ("normalise(text).mean(dim=0)", "normalise(text.mean(dim=0))"),
         "the means are normalised, not the features: normalise each vector first, then average."),
        ("return gap", "return -gap",
         "the vector points from images to texts; it must point from texts to images: image − text."),
        ("gap.norm()", "gap.square().sum()", "the length is squared; take the root, or use norm()."),
        ("gap.norm()", "(normalise(image)[:, None] - normalise(text)).norm(dim=-1).mean()",
         "the second number is the mean distance between points; "
         "the gap is the distance between the two middles."),
        ("return gap", "return gap / gap.norm()",
         "the gap vector is stretched to length 1; return it as it is, and its length beside it."),
        (("normalise(image).mean", "normalise(image).sum"), ("normalise(text).mean", "normalise(text).sum"),
         "these are sums; with more images than texts the larger cloud would win. Take means."),
        ("gap, gap.norm()", "gap.norm()", "the vector is missing: return both, (gap, length)."),
        ("gap, gap.norm()", "gap.norm(), gap", "vector and length are swapped: return (gap, length)."),
    ],
    hints=["Where is the middle of the image cloud, and where that of the texts, "
           "once all vectors have length 1?",
           "`normalise(image).mean(dim=0) - normalise(text).mean(dim=0)`, and the norm of that."],
)

quiz(1, "You double the batch from 64 to 128. The first loss, before any training, rises from 4.16 to 4.85. "
        "Why?", [
    ("The larger batch needs a smaller learning rate.", False,
     "No step has been made yet, so the learning rate has changed nothing."),
    ("There are twice as many candidates: ln 128 = ln 64 + 0.69.", True,
     "Guessing among B candidates costs ln B. Losses of different batch sizes cannot be compared."),
    ("The features are not normalised.", False,
     "Both runs would suffer from that. What differs between them is among how many a pair is sought."),
])
quiz(2, "Your zero-shot classifier knows 10 animals. It shall also know the zebra. What do you do?", [
    ("Train on labelled pictures of zebras.", False,
     "That is what zero-shot spares you: classes are texts, and the text tower is there already."),
    ('Encode prompts such as "a photo of a zebra" and append one row.', True,
     "One more unit vector in the table of class weights; no weight of the model changes."),
    ("Replace the last layer by one with 11 outputs.", False,
     "There is no such layer: the outputs are cosines with the texts you choose."),
])
quiz(3, 'A CLIP scores "red left of blue" and "blue left of red" almost alike. What explains it best?', [
    ("The text tower cannot know the order of words.", False,
     "It has positions and a causal mask; it could know. The question is who asks it to."),
    ("The scale is too small.", False,
     "A scale stretches a difference, but a ranking of two scores stays as it was."),
    ("A batch rarely holds the swapped text, so the loss rarely asks for order.", True,
     "Naming the right things wins the batch. Hard negatives, swapped on purpose, make order pay."),
])
