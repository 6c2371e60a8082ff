"""Exercises of chapter 04, part three: what the features are worth, and how far apart the two clouds lie."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.diagnostics import gap
from vlmcourse.evaluation import retrieval
from vlmcourse.exercises.base import Slip, chapter

exercise, _ = chapter("04_clip")

# ------------------------------------------------------------------------------------------- recall at k


def _tables() -> list[tuple]:
    """Queries with none, one and several right candidates."""
    return [(torch.randn(29, 9), torch.rand(29, 9) < 0.2, 3), (torch.randn(8, 5), torch.rand(8, 5) < 0.3, 2)]


def _hits(similarity: Tensor, right: Tensor, k: int, largest: bool = True) -> Tensor:
    return right.gather(1, similarity.topk(k, dim=1, largest=largest).indices)


def _diagonal(similarity, right, k):
    best = similarity.topk(k, dim=1).indices
    return (best == torch.arange(len(best))[:, None]).any(1).float().mean().item()


def _true_recall(similarity, right, k):
    return (_hits(similarity, right, k).sum(1) / right.sum(1).clamp(min=1)).mean().item()


def _answerable(similarity, right, k):
    has = right.any(1)
    return _hits(similarity[has], right[has], k).any(1).float().mean().item()


exercise(
    retrieval.recall_at_k,
    cases=_tables,
    slips=[
        Slip(_diagonal,
             "only candidate i counts as right for query i. Two pictures with the same caption are both "
             "right: ask the table `right`."),
        Slip(lambda s, r, k: _hits(s, r, k).float().mean().item(),
             "this is precision: the share of the k places that are right. Recall@K asks whether at least "
             "one is."),
        Slip(_true_recall,
             "this divides by the number of right candidates, as a textbook's recall does. In retrieval "
             "one hit is enough: 0 or 1 per query."),
        Slip(lambda s, r, k: _hits(s, r, k).sum(1).float().mean().item(),
             "this is the mean number of hits; several hits of one query count once."),
        Slip(lambda s, r, k: _hits(s, r, k, largest=False).any(1).float().mean().item(),
             "these are the least similar candidates; take the k largest."),
        Slip(lambda s, r, k: _hits(s, r, 1).any(1).float().mean().item(),
             "only the first place is looked at, whatever k is."),
        Slip(lambda s, r, k: _hits(s, r, k)[:, -1].float().mean().item(),
             "only place k is looked at; the places before it count too."),
        Slip(lambda s, r, k: r.gather(0, s.topk(k, dim=0).indices).any(0).float().mean().item(),
             "the candidates look for queries here; each query, a row, ranks the candidates: dim=1."),
        Slip(lambda s, r, k: _hits(s, r, k).any(1).float().sum().item(),
             "this is the number of queries that hit; divide by how many there are."),
        Slip(lambda s, r, k: 100 * _hits(s, r, k).any(1).float().mean().item(),
             "this is a percentage; return a share between 0 and 1."),
        Slip(lambda s, r, k: _hits(s, r, k).any(1).float().mean(),
             "the number is right, but it is still a tensor; hand out a plain number with .item()."),
        Slip(_answerable, "queries without any right candidate are left out; they count as misses."),
    ],
    hints=[
        "For each query: which k candidates come first, and is one of them right?",
        "`similarity.topk(k, dim=1).indices` is (query, k); `right.gather(1, best)` looks those cells up.",
        "`.any(dim=1)` says whether a query hit; `.float().mean().item()` makes the share, as a number.",
    ],
)

# ------------------------------------------------------------------------------------------ modality gap


def _clouds(images: int, texts: int, width: int) -> tuple[Tensor, Tensor]:
    """Two clouds with different middles, of vectors with different lengths."""
    lengths = 0.3 + 3 * torch.rand(images, 1)
    return lengths * (torch.randn(images, width) + 0.8), torch.randn(texts, width) - 0.3


def _middle(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1).mean(0)


def _measured(gap_vector: Tensor) -> tuple[Tensor, Tensor]:
    return gap_vector, gap_vector.norm()


def _between_all(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    image_, text_ = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    return image_.mean(0) - text_.mean(0), (image_[:, None] - text_[None]).norm(dim=-1).mean()


def _to_one(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    vector = _middle(image) - _middle(text)
    return vector / vector.norm(), vector.norm()


def _mean_of_squares(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    vector = _middle(image) - _middle(text)
    return vector, vector.pow(2).sum()


exercise(
    gap.modality_gap,
    cases=lambda: [_clouds(7, 5, 3), _clouds(4, 9, 6)],
    slips=[
        Slip(lambda i, t: _measured(i.mean(0) - t.mean(0)),
             "the features are not normalised, so long vectors decide. In CLIP's space only directions "
             "matter."),
        Slip(lambda i, t: _measured(F.normalize(i.mean(0), dim=0) - F.normalize(t.mean(0), dim=0)),
             "the means are normalised, not the features: normalise each vector first, then average."),
        Slip(lambda i, t: _measured(_middle(t) - _middle(i)),
             "the vector points from images to texts; it must point from texts to images: image − text."),
        Slip(_mean_of_squares, "the length is squared; take the root, or use norm()."),
        Slip(_between_all,
             "the second number is the mean distance between points; the gap is the distance between the "
             "two middles."),
        Slip(_to_one,
             "the gap vector is stretched to length 1; return it as it is, and its length beside it."),
        Slip(lambda i, t: _measured(F.normalize(i, dim=-1).sum(0) - F.normalize(t, dim=-1).sum(0)),
             "these are sums; with more images than texts the larger cloud would win. Take means."),
        Slip(lambda i, t: (_middle(i) - _middle(t)).norm(),
             "the vector is missing: return both, (gap, length)."),
        Slip(lambda i, t: _measured(_middle(i) - _middle(t))[::-1],
             "vector and length are swapped: return (gap, length)."),
    ],
    hints=[
        "Where is the middle of the image cloud, and where that of the texts, once all vectors have length "
        "1?",
        "`normalise(image).mean(dim=0) - normalise(text).mean(dim=0)`, and the norm of that.",
    ],
    gradient=("image", "text"),
)
