"""Exercises of chapter 04, part three: what the features are worth, and how far apart the two clouds lie."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.diagnostics import gap
from vlmcourse.evaluation import retrieval
from vlmcourse.exercises.base import Exercise, Slip, Text

CHAPTER = "04_clip"

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


Exercise(
    slot=retrieval.recall_at_k,
    chapter=CHAPTER,
    cases=_tables,
    axes={"similarity": "query candidate", "right": "query candidate", "return": ""},
    slips=[
        Slip(_diagonal, Text(
            "only candidate i counts as right for query i. Two pictures with the same caption are both right: ask "
            "the table `right`.",
            "i 番目の候補だけを正解にしています。同じキャプションの画像はどちらも正解です。表 right を見てください。")),
        Slip(lambda s, r, k: _hits(s, r, k).float().mean().item(), Text(
            "this is precision: the share of the k places that are right. Recall@K asks whether at least one is.",
            "これは適合率（k 個のうち正解の割合）です。Recall@K は 1 つでも当たったかを問います。")),
        Slip(_true_recall, Text(
            "this divides by the number of right candidates, as a textbook's recall does. In retrieval one hit is "
            "enough: 0 or 1 per query.",
            "正解の総数で割る教科書の再現率です。検索では 1 つ当たれば十分で、各クエリは 0 か 1 です。")),
        Slip(lambda s, r, k: _hits(s, r, k).sum(1).float().mean().item(), Text(
            "this is the mean number of hits; several hits of one query count once.",
            "当たりの平均個数です。1 つのクエリで何個当たっても 1 回と数えます。")),
        Slip(lambda s, r, k: _hits(s, r, k, largest=False).any(1).float().mean().item(), Text(
            "these are the least similar candidates; take the k largest.",
            "最も似ていない候補を取っています。大きいほうから k 個です。")),
        Slip(lambda s, r, k: _hits(s, r, 1).any(1).float().mean().item(), Text(
            "only the first place is looked at, whatever k is.",
            "k にかかわらず 1 位しか見ていません。")),
        Slip(lambda s, r, k: _hits(s, r, k)[:, -1].float().mean().item(), Text(
            "only place k is looked at; the places before it count too.",
            "k 位だけを見ています。それより上の順位も数えます。")),
        Slip(lambda s, r, k: r.gather(0, s.topk(k, dim=0).indices).any(0).float().mean().item(), Text(
            "the candidates look for queries here; each query, a row, ranks the candidates: dim=1.",
            "候補がクエリを探しています。行であるクエリが候補を並べます：dim=1。")),
        Slip(lambda s, r, k: _hits(s, r, k).any(1).float().sum().item(), Text(
            "this is the number of queries that hit; divide by how many there are.",
            "当たったクエリの数です。クエリの総数で割ります。")),
        Slip(lambda s, r, k: 100 * _hits(s, r, k).any(1).float().mean().item(), Text(
            "this is a percentage; return a share between 0 and 1.",
            "百分率になっています。0…1 の割合を返します。")),
        Slip(lambda s, r, k: _hits(s, r, k).any(1).float().mean(), Text(
            "the number is right, but it is still a tensor; hand out a plain number with .item().",
            "値は正しいですがテンソルのままです。.item() で数値にして返します。")),
        Slip(_answerable, Text(
            "queries without any right candidate are left out; they count as misses.",
            "正解のないクエリを除いています。それらは外れとして数えます。")),
    ],
    hints=[
        Text("For each query: which k candidates come first, and is one of them right?",
             "クエリごとに、上位 k 個はどれか。その中に正解はあるか。"),
        Text("`similarity.topk(k, dim=1).indices` is (query, k); `right.gather(1, best)` looks those cells up.",
             "`similarity.topk(k, dim=1).indices` は (query, k)。`right.gather(1, best)` でその値を引きます。"),
        Text("`.any(dim=1)` says whether a query hit; `.float().mean().item()` makes the share, as a number.",
             "`.any(dim=1)` で当たりかどうか、`.float().mean().item()` で割合の数値になります。"),
    ],
)  # fmt: skip

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


Exercise(
    slot=gap.modality_gap,
    chapter=CHAPTER,
    cases=lambda: [_clouds(7, 5, 3), _clouds(4, 9, 6)],
    axes={"image": "image width", "text": "text width", "return": ("width", "")},
    slips=[
        Slip(lambda i, t: _measured(i.mean(0) - t.mean(0)), Text(
            "the features are not normalised, so long vectors decide. In CLIP's space only directions matter.",
            "正規化していないので長いベクトルが支配します。CLIP の空間では向きだけが意味を持ちます。")),
        Slip(lambda i, t: _measured(F.normalize(i.mean(0), dim=0) - F.normalize(t.mean(0), dim=0)), Text(
            "the means are normalised, not the features: normalise each vector first, then average.",
            "平均のほうを正規化しています。先に各ベクトルを正規化し、それから平均します。")),
        Slip(lambda i, t: _measured(_middle(t) - _middle(i)), Text(
            "the vector points from images to texts; it must point from texts to images: image − text.",
            "向きが逆です。テキストから画像へ、つまり image − text です。")),
        Slip(_mean_of_squares, Text(
            "the length is squared; take the root, or use norm().",
            "長さが 2 乗のままです。平方根を取るか norm() を使います。")),
        Slip(_between_all, Text(
            "the second number is the mean distance between points; the gap is the distance between the two middles.",
            "2 つ目が点どうしの平均距離です。ギャップは 2 つの中心の距離です。")),
        Slip(_to_one, Text(
            "the gap vector is stretched to length 1; return it as it is, and its length beside it.",
            "ギャップのベクトルを長さ 1 にしています。そのまま返し、長さは別に返します。")),
        Slip(lambda i, t: _measured(F.normalize(i, dim=-1).sum(0) - F.normalize(t, dim=-1).sum(0)), Text(
            "these are sums; with more images than texts the larger cloud would win. Take means.",
            "和になっています。数の多いほうに引かれます。平均を取ります。")),
        Slip(lambda i, t: (_middle(i) - _middle(t)).norm(), Text(
            "the vector is missing: return both, (gap, length).",
            "ベクトルがありません。(gap, length) の両方を返します。")),
        Slip(lambda i, t: _measured(_middle(i) - _middle(t))[::-1], Text(
            "vector and length are swapped: return (gap, length).", "順序が逆です。(gap, length) で返します。")),
    ],
    hints=[
        Text("Where is the middle of the image cloud, and where that of the texts, once all vectors have length 1?",
             "全ベクトルを長さ 1 にしたとき、画像の中心とテキストの中心はどこですか。"),
        Text("`normalise(image).mean(dim=0) - normalise(text).mean(dim=0)`, and the norm of that.",
             "`normalise(image).mean(dim=0) - normalise(text).mean(dim=0)` と、その norm です。"),
    ],
    gradient=("image", "text"),
)  # fmt: skip
