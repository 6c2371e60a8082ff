"""Wrong answers to the exercises of chapter 04."""

import math

import torch
from torch.nn import functional as F

from tests.workbook.wrong import wrong


@wrong("clip.pool_at_eos", "(ids == ids.max())")
def the_highest_id(hidden, ids, eos):
    """It looks for the highest id of the batch, not for eos."""
    where = (ids == ids.max()).float().argmax(dim=-1)
    return torch.stack([h[i] for h, i in zip(hidden, where, strict=True)])


@wrong("clip.pool_at_eos", "depends on tokens behind the first EOS")
def the_token_behind(hidden, ids, eos):
    """Off by one: it takes the token behind the end."""
    out = []
    for h, row in zip(hidden, ids, strict=True):
        k = row.tolist().index(eos)
        out.append(h[min(k + 1, len(h) - 1)])
    return torch.stack(out)


@wrong("clip.pool_at_eos", "this takes the last EOS")
def the_last_end(hidden, ids, eos):
    """It takes the last eos of each text, not the first."""
    n, t = ids.shape
    pos = torch.arange(t).expand(n, t).masked_fill(ids != eos, -1)
    last = pos.amax(dim=1)
    return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.size(2)))[:, 0]


@wrong("clip.pool_at_eos", "only the shape is not")
def keeps_the_token_axis(hidden, ids, eos):
    """The token axis is left in."""
    idx = (ids == eos).long().argmax(1)
    return hidden.gather(1, idx.view(-1, 1, 1).expand(-1, 1, hidden.shape[-1]))


@wrong("clip.normalise", "the square root is missing")
def squared_length(features):
    """It divides by the squared length."""
    sq = (features**2).sum(-1, keepdim=True)
    return features / sq


@wrong("clip.normalise", "`features / (length + 0.01)`: with")
def epsilon_is_large(features):
    """A large epsilon stands beside the length."""
    length = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    return features / (length + 1e-2)


@wrong("clip.normalise", "changes its input features in place")
def in_place(features):
    """It divides in place and changes its input."""
    features /= features.pow(2).sum(-1, keepdim=True).sqrt()
    return features


@wrong("clip.normalise", "the gradient of features is not")
def length_is_detached(features):
    """The length is detached, so the gradient is wrong."""
    n = features.detach().norm(dim=-1, keepdim=True)
    return features / n


@wrong("clip.zero_shot_classifier", "the mean of unit vectors is shorter than 1")
def no_last_normalisation(prompts):
    """The mean is not normalised again."""
    unit = prompts / prompts.norm(dim=2, keepdim=True)
    n = prompts.size(1)
    total = unit[:, 0]
    for i in range(1, n):
        total = total + unit[:, i]
    return total / n


@wrong("clip.zero_shot_classifier", "the first normalisation runs over the prompts (axis 1")
def normalised_along_the_prompts(prompts):
    """The prompts are normalised along the wrong axis first."""
    unit = F.normalize(prompts, dim=1)
    return F.normalize(unit.mean(1), dim=-1)


@wrong("clip.zero_shot_classifier", "`unit.median(dim=1)[0]`: with")
def the_median_prompt(prompts):
    """The median of the prompts, not their mean."""
    unit = F.normalize(prompts, dim=-1)
    middle = unit.median(dim=1)[0]
    return F.normalize(middle, dim=-1)


@wrong("clip.info_nce", "`scale + sim`: with `scale * sim`")
def scale_added(image, text, scale):
    """The scale is added to the cosines, not multiplied."""
    sim = torch.einsum("id,td->it", image, text)
    logits = scale + sim
    target = torch.arange(image.size(0))
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target))


@wrong("clip.info_nce", "`torch.arange(n - 1, -1, -1)`: with")
def partners_reversed(image, text, scale):
    """The labels run backwards."""
    logits = scale * image.matmul(text.t())
    n = logits.shape[0]
    labels = torch.arange(n - 1, -1, -1)
    a = F.cross_entropy(logits, labels)
    b = F.cross_entropy(logits.t(), labels)
    return (a + b) / 2


@wrong("clip.info_nce", "only one direction")
def softmax_along_columns_twice(image, text, scale):
    """Both softmaxes run over the images."""
    logits = image @ text.T * scale
    p = F.log_softmax(logits, dim=0)
    q = F.log_softmax(logits, dim=0)
    return -(p.diagonal().mean() + q.diagonal().mean()) / 2


@wrong("clip.info_nce", "`s.masked_fill(torch.eye(n, dtype=torch.bool), float('-inf'))`: with")
def partner_not_in_the_sum(image, text, scale):
    """The partner is left out of the sum below the fraction."""
    s = scale * image @ text.T
    n = len(s)
    others = s.masked_fill(torch.eye(n, dtype=torch.bool), float("-inf"))
    rows = others.logsumexp(1) - s.diagonal()
    cols = others.logsumexp(0) - s.diagonal()
    return (rows.mean() + cols.mean()) / 2


@wrong("clip.info_nce", "`(image * scale, text * scale)`: with")
def root_of_the_scale(image, text, scale):
    """Image and text are both scaled, so the scale counts twice."""
    i, t = image * scale, text * scale
    logits = i @ t.T
    y = torch.arange(len(i))
    return torch.stack([F.cross_entropy(logits, y), F.cross_entropy(logits.T, y)]).mean()


@wrong("clip.info_nce", "no gradient reaches scale")
def scale_to_a_number(image, text, scale):
    """The scale is made a number with float(), so it does not learn."""
    logits = float(scale) * (image @ text.T)
    y = torch.arange(len(logits))
    return (F.cross_entropy(logits, y) + F.cross_entropy(logits.T, y)) / 2


@wrong("clip.siglip_loss", "`torch.ones(n, n) + torch.eye(n)`: with")
def mean_over_the_batch_only_of_partners(image, text, scale, bias):
    """Strangers get the sign of partners: it is 1 + eye in place of 2 · eye - 1."""
    logits = scale * (image @ text.t()) + bias
    n = logits.size(0)
    labels = torch.ones(n, n) + torch.eye(n)
    return -F.logsigmoid(labels * logits).sum() / n


@wrong("clip.siglip_loss", "this is the mean over all batch² meetings")
def binary_cross_entropy_mean(image, text, scale, bias):
    """The binary cross-entropy is averaged over all meetings; it must be divided by the batch only."""
    logits = image.mm(text.T) * scale + bias
    target = torch.eye(len(image))
    return F.binary_cross_entropy_with_logits(logits, target)


@wrong("clip.siglip_loss", "`1 - torch.eye(len(image))`: with")
def targets_inverted(image, text, scale, bias):
    """The targets are inverted: strangers count as partners."""
    logits = image.mm(text.T) * scale + bias
    target = 1 - torch.eye(len(image))
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return loss / len(image)


@wrong("clip.siglip_loss", "`range(n - 1)`: with")
def a_loop_over_rows_only(image, text, scale, bias):
    """The loop leaves out the last image."""
    total = 0.0
    n = image.shape[0]
    for i in range(n - 1):
        for j in range(n):
            z = scale * (image[i] * text[j]).sum() + bias
            total = total - F.logsigmoid(z if i == j else -z)
    return total / n


@wrong("retrieval.recall_at_k", "`hits.all(dim=-1).float().mean().item()`: with")
def all_of_the_k(similarity, right, k):
    """All of the k must be right; one is enough."""
    _, idx = torch.topk(similarity, k, dim=-1)
    hits = torch.gather(right, 1, idx)
    return hits.all(dim=-1).float().mean().item()


@wrong("retrieval.recall_at_k", "these are the least similar candidates")
def sorted_ascending(similarity, right, k):
    """It sorts ascending, so the least similar come first."""
    order = similarity.argsort(dim=1)[:, :k]
    hit = 0
    for i in range(similarity.shape[0]):
        hit += bool(right[i, order[i]].any())
    return hit / similarity.shape[0]


@wrong("retrieval.recall_at_k", "one candidate too many is looked at")
def one_too_many(similarity, right, k):
    """It looks at k + 1 candidates."""
    order = similarity.argsort(dim=1, descending=True)
    hits = [right[i, order[i, : k + 1]].any().item() for i in range(len(order))]
    return sum(hits) / len(hits)


@wrong("retrieval.recall_at_k", "`(found.sum() / similarity.size(1)).item()`: with")
def divided_by_candidates(similarity, right, k):
    """It divides by the number of candidates, not of queries."""
    best = similarity.sort(dim=1, descending=True).indices[:, :k]
    found = right.gather(1, best).sum(1).clamp(max=1)
    return (found.sum() / similarity.size(1)).item()


@wrong("gap.modality_gap", "`F.normalize(image, dim=0)`, `F.normalize(text, dim=0)`: with")
def gap_is_normalised_along_the_cloud(image, text):
    """The features are normalised along axis 0."""
    i = F.normalize(image, dim=0)
    t = F.normalize(text, dim=0)
    d = i.mean(0) - t.mean(0)
    return d, d.norm()


@wrong("gap.modality_gap", "`(delta, delta.pow(2).mean().sqrt())`: with")
def mean_square_in_place_of_length(image, text):
    """The length is the root of the mean square, not of the sum."""

    def unit(x):
        return x / x.norm(dim=1, keepdim=True)

    delta = unit(image).mean(0) - unit(text).mean(0)
    return delta, delta.pow(2).mean().sqrt()


@wrong("gap.modality_gap", "`image.mean(dim=0) - t.mean(dim=0)`: with")
def only_texts_are_normalised(image, text):
    """The images are not normalised."""
    t = text / torch.linalg.norm(text, dim=-1, keepdim=True)
    m = image.mean(dim=0) - t.mean(dim=0)
    return m, torch.linalg.norm(m)


@wrong("gap.modality_gap", "the gradient of image is not")
def length_through_math(image, text):
    """The length goes through math.sqrt and becomes a number without a gradient."""
    g = F.normalize(image, dim=-1).mean(0) - F.normalize(text, dim=-1).mean(0)
    return g, torch.tensor(math.sqrt((g * g).sum()))
