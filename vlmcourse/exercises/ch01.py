"""Exercises of chapter 01: statistics of two clouds, joining them, and two tests of a model that does not look."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.diagnostics import gap, looks
from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text, Unaffected
from vlmcourse.models import naive

CHAPTER = "01_the_problem"

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


Exercise(
    slot=gap.feature_statistics,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.randn(7, 4) * torch.tensor([1.0, 2.0, 0.5, 3.0]) + torch.tensor([0.5, -1.0, 2.0, 0.0]),),
        (torch.randn(5, 3),),
    ],
    axes={"features": "feature width", "return": ("", "width", "width", "")},
    slips=[
        Slip(lambda x: _statistics(x, cone=_cosines(x).mean()), Text(
            "the cone counts each feature's cosine with itself, which is always 1; leave the diagonal out.",
            "錐の値に自分自身とのコサイン（常に 1）が入っています。対角成分を除いてください。")),
        Slip(lambda x: _statistics(x, cone=(_cosines(x).sum() - len(x)) / len(x) ** 2), Text(
            "the diagonal has left the sum, but is still counted: n features have n·(n − 1) different pairs, not n².",
            "和から対角成分を除いていますが、割る数に残っています。異なる組は n² でなく n·(n − 1) 個です。")),
        Slip(lambda x: _statistics(x, cone=_different(x @ x.T)), Text(
            "the cone holds dot products of raw features; scale each feature to length 1 first.",
            "生の特徴の内積になっています。先に各特徴を長さ 1 にしてください。")),
        Slip(lambda x: _statistics(x, cone=_different(_cosines(x).abs())), Text(
            "opposite directions count as equal here; a cosine keeps its sign.",
            "逆向きが同じ向きとして数えられています。コサインの符号を残してください。")),
        Slip(lambda x: _statistics(x, cone=_different(_cosines(x - x.mean(0)))), Text(
            "the mean is taken off before the cosines; but the offset is just what makes a cone narrow.",
            "コサインの前に平均を引いています。錐を狭くしているのはその偏りです。")),
        Slip(lambda x: _statistics(x, norm=x.mean(0).norm()), Text(
            "this is the length of the mean feature; wanted is the mean of the lengths.",
            "平均特徴の長さになっています。求めるのは長さの平均です。")),
        Slip(lambda x: _statistics(x, norm=x.norm()), Text(
            "this is one length of the whole table; take the length of each feature, over the last axis.",
            "表全体の長さになっています。最後の軸で特徴ごとの長さを求めてください。")),
        Slip(lambda x: _statistics(x, std=x.var(0)), Text(
            "this is the variance; the standard deviation is its root.",
            "分散になっています。標準偏差はその平方根です。")),
        Slip(lambda x: _statistics(x, std=x.std(0, correction=0)), Text(
            "this spread divides by n; torch's std(dim=0) divides by n − 1, and the course does the same.",
            "n で割った標準偏差です。torch の std(dim=0) は n − 1 で割り、この教材もそれに合わせます。")),
        Slip(lambda x: _statistics(x, mean=x.mean(1), std=x.std(1)), Text(
            "mean and std run over the width of each feature; let them run over the features, axis 0.",
            "平均と標準偏差が幅の方向です。特徴の方向（軸 0）で求めてください。")),
    ],
    hints=[
        Text("Three of the four are one call each: norm(dim=-1), mean(dim=0), std(dim=0). Which one needs a mean more?",
             "4 つのうち 3 つは 1 回の呼び出しです：norm(dim=-1)、mean(dim=0)、std(dim=0)。"
             "さらに平均が要るのはどれですか。"),
        Text("For the cone, scale every feature to length 1 with F.normalize; then `unit @ unit.T` holds all cosines.",
             "錐では F.normalize で各特徴を長さ 1 にします。`unit @ unit.T` に全コサインが並びます。"),
        Text("n features have n·(n − 1) ordered pairs of different ones: (sum of the table − n) / (n·(n − 1)).",
             "n 個の特徴には異なる組が n·(n − 1) 個あります：（表の和 − n）/ (n·(n − 1))。"),
    ],
)  # fmt: skip

# -------------------------------------------------------------------------------------------------- join


def _padding_changed(case: tuple) -> tuple:
    image, text, mask = case
    return image, text.masked_fill(~mask[..., None], 9.0), mask


Exercise(
    slot=naive.join,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.randn(2, 4, 5), torch.randn(2, 3, 5), torch.tensor([[True, True, False], [True, True, True]])),
        (torch.randn(3, 2, 7), torch.randn(3, 4, 7), torch.arange(4) < torch.tensor([[2], [4], [1]])),
    ],
    axes={"image": "batch patch width", "text": "batch token width", "mask": "batch token",
          "return": ("batch both width", "batch both")},
    slips=[
        Slip(lambda i, t, m: (torch.cat([t, i], 1), torch.cat([m, m.new_ones(i.shape[:2])], 1)), Text(
            "the words come first; put the image in front, so that every word can look back at it.",
            "単語が先になっています。どの単語からも見えるよう、画像を前に置きます。")),
        Slip(lambda i, t, m: (torch.cat([i, t], 1), torch.cat([m, m.new_ones(i.shape[:2])], 1)), Text(
            "the features stand in front, but their part of the mask stands behind; use the same order for both.",
            "特徴は前なのにマスクは後ろです。同じ順序にしてください。")),
        Slip(lambda i, t, m: (torch.cat([i, t], 1), torch.cat([m.new_zeros(i.shape[:2]), m], 1)), Text(
            "the mask is False for the image, so nobody could look at it; image features are real: True.",
            "画像のマスクが False なので誰も見られません。画像の特徴は本物なので True です。")),
        Slip(lambda i, t, m: (torch.cat([i, t], 1), m.new_ones(len(m), i.shape[1] + m.shape[1])), Text(
            "the mask is True everywhere, also for padding; keep the words' own mask behind the image's.",
            "パディングまで True です。単語のマスクは元のまま後ろに置いてください。")),
        Slip(lambda i, t, m: (torch.cat([i, t], 1), m), Text(
            "the sequence grew, but the mask did not; add one True for every image feature.",
            "列は伸びましたがマスクは元のままです。画像の特徴ごとに True を足してください。")),
    ],
    hints=[
        Text("Two concatenations along the token axis, in the same order: one of vectors, one of truth values.",
             "トークンの軸で 2 回つなぎます。ベクトルと真偽値を、同じ順序で。"),
        Text("`mask.new_ones(batch, patch)` makes Trues of the right dtype on the right device; then torch.cat, dim=1.",
             "`mask.new_ones(batch, patch)` で型とデバイスの合った True ができます。あとは torch.cat、dim=1。"),
    ],
    unaffected=[Unaffected(
        Text("the image's part changes with what stands in the padding; copy the features as they are.",
             "パディングの値で画像の部分が変わります。特徴はそのまま写してください。"),
        _padding_changed, keep=lambda output: output[1])],
)  # fmt: skip

# ------------------------------------------------------------------------------------------ answer prior


def _counts(asked: Tensor, answers: Tensor, kinds: int) -> Tensor:
    return F.one_hot(asked, kinds).T @ F.one_hot(answers)


def _by_kind(asked: Tensor, answers: Tensor, kinds: int, choose) -> Tensor:
    """`choose` among the answers of each kind; among all where there are none."""
    groups = [answers[asked == kind] for kind in range(kinds)]
    return torch.stack([choose(group if len(group) else answers) for group in groups])


Exercise(
    slot=looks.answer_prior,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.tensor([0, 0, 2, 0, 2, 2, 0, 2, 2]), torch.tensor([4, 1, 3, 1, 3, 2, 1, 0, 3]), 4),
        (torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1]), torch.tensor([2, 0, 5, 2, 4, 2, 1, 4, 0, 4, 0]), 3),
    ],
    axes={"asked": "question", "answers": "question", "return": "kind"},
    slips=[
        Slip(lambda q, a, n: a.bincount().argmax().expand(n).clone(), Text(
            "every kind gets the answer most frequent over all questions; count for each kind apart.",
            "全質問で最多の答えを全種類に使っています。種類ごとに数えてください。")),
        Slip(lambda q, a, n: _counts(q, a, n).argmax(1), Text(
            "a kind that was never asked gets answer 0; it should get the answer most frequent over all questions.",
            "一度も出なかった種類が答え 0 になっています。全質問で最多の答えにします。")),
        Slip(lambda q, a, n: _by_kind(q, a, n, lambda x: x[0] if len(x) < len(a) else x.mode().values), Text(
            "this takes the first answer seen for each kind; take the most frequent one.",
            "種類ごとに最初に見た答えです。最も頻度の高い答えを選びます。")),
        Slip(lambda q, a, n: _by_kind(q, a, n, lambda x: x.max() if len(x) < len(a) else x.mode().values), Text(
            "this is the answer with the largest number; answers are names, their size means nothing. Count them.",
            "番号が最大の答えです。答えの番号に大小の意味はありません。数えてください。")),
        Slip(lambda q, a, n: _by_kind(q, a, n, lambda x: x.float().mean().round().long()), Text(
            "this averages the answers; but between \"red\" and \"blue\" there is no mean. Count them.",
            "答えを平均しています。「赤」と「青」の平均はありません。数えてください。")),
    ],
    hints=[
        Text("Make a table of counts, one row per kind and one column per answer. What is the best column of a row?",
             "種類が行、答えが列の度数表を作ります。各行で最大の列はどれですか。"),
        Text("`counts.index_put_((asked, answers), ones, accumulate=True)` fills it; so do two F.one_hot tables, "
             "multiplied. Then argmax over answers.",
             "`counts.index_put_((asked, answers), ones, accumulate=True)` か、F.one_hot の表 2 つの積で数えます。"
             "次に答えの軸で argmax です。"),
        Text("A row of zeros is a kind that was never asked: there, take argmax of `counts.sum(dim=0)` "
             "with torch.where.",
             "0 だけの行は出なかった種類です。torch.where で `counts.sum(dim=0)` の argmax を使います。"),
    ],
)  # fmt: skip

# ----------------------------------------------------------------------------------------- twin accuracy


def _twins(guesses: Tensor, answers: Tensor, *, accuracy=None, both=None) -> tuple[Tensor, Tensor]:
    right = looks.twin_accuracy.reference(guesses, answers)
    return right[0] if accuracy is None else accuracy, right[1] if both is None else both


def _right(guesses: Tensor, answers: Tensor) -> Tensor:
    return (guesses == answers).float()


Exercise(
    slot=looks.twin_accuracy,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.tensor([[1, 1], [2, 0], [3, 3], [0, 1], [2, 2], [4, 3], [1, 0]]),
         torch.tensor([[1, 2], [2, 0], [0, 3], [1, 0], [2, 3], [4, 3], [1, 2]])),
        (torch.tensor([[0, 1], [1, 1], [2, 2], [0, 3], [1, 0]]),
         torch.tensor([[0, 1], [0, 1], [1, 2], [0, 3], [1, 3]])),
    ],
    axes={"guesses": "pair two", "answers": "pair two", "return": ("", "")},
    slips=[
        Slip(lambda g, a: _twins(g, a, both=_right(g, a).amax(1).mean()), Text(
            "the second number counts pairs with at least one right answer; both must be right.",
            "2 つ目が「少なくとも一方が正解」になっています。両方の正解が必要です。")),
        Slip(lambda g, a: _twins(g, a, both=_right(g, a)[:, 0].mean() * _right(g, a)[:, 1].mean()), Text(
            "this multiplies two averages, as if twins were independent; look at each pair before you average.",
            "2 つの平均の積では、双子が独立であることになります。平均する前に組ごとに判定します。")),
        Slip(lambda g, a: _twins(g, a, both=(g[:, 0] != g[:, 1]).float().mean()), Text(
            "this only asks whether the two guesses differ; they must also be right.",
            "2 つの答えが違うかだけを見ています。正しいことも必要です。")),
        Slip(lambda g, a: _twins(g, a, accuracy=_right(g, a)[:, 0].mean()), Text(
            "the accuracy covers the first pictures only; habit does well there. Count both twins.",
            "正解率が 1 枚目だけです。そこは習慣でも当たります。双子の両方を数えてください。")),
        Slip(lambda g, a: (_right(g, a).sum(), _right(g, a).prod(1).sum()), Text(
            "these are numbers of right answers; divide by how many there are to get shares.",
            "正解の個数になっています。総数で割って割合にしてください。")),
    ],
    hints=[
        Text("One comparison gives a (pair, two) table of right and wrong. Both numbers are read from it.",
             "1 回の比較で (pair, two) の正誤表ができます。2 つの数はどちらもこの表から読めます。"),
        Text("Its mean is the accuracy. `right.all(dim=1)` is True for pairs with both right.",
             "表の平均が正解率です。`right.all(dim=1)` は両方正解の組で True になります。"),
    ],
)  # fmt: skip

# -------------------------------------------------------------------------------------------------- quiz

Quiz(
    "01_the_problem/1",
    Text("Why is there no embedding table for patches?", "パッチに埋め込み表がないのはなぜですか。"),
    [
        (Text("Patches are larger than words.", "パッチは単語より大きいから。"), False,
         Text("Size is not the reason: a table row may be as wide as you like.",
              "大きさは理由ではありません。表の行の幅は自由です。")),
        (Text("A table needs entries that come again, and a patch hardly ever does.",
              "表には再び現れる項目が要るが、同じパッチはほとんど現れないから。"), True,
         Text("Words are drawn from a list. Patches are continuous, so a function must map them.",
              "単語は一覧から選ばれます。パッチは連続なので、関数で写すしかありません。")),
        (Text("A table would have no gradient.", "表には勾配がないから。"), False,
         Text("Embedding tables are trained by gradients every day.", "埋め込み表はいつも勾配で学習されています。")),
    ],
)  # fmt: skip
Quiz(
    "01_the_problem/2",
    Text("You shift and scale image features until their mean and spread equal those of the words. The language "
         "model is frozen. What have you gained?",
         "画像特徴の平均とばらつきを単語に合わせました。言語モデルは凍結しています。何が得られましたか。"),
    [
        (Text("It now understands the image.", "画像を理解するようになった。"), False,
         Text("You measured it: no better than asking blind. Nobody told it what a direction means.",
              "測ったとおり、見ないときより良くなりません。方向の意味を誰も教えていません。")),
        (Text("The features lie where words lie, but still mean nothing there.",
              "特徴は単語のある場所に来たが、まだ意味を持たない。"), True,
         Text("Meaning must be learned, from pairs of images and words. That is alignment.",
              "意味は画像と言葉の組から学ぶしかありません。それがアライメントです。")),
        (Text("Nothing changes, because norms inside the model undo it.",
              "モデル内の正規化が打ち消すので何も変わらない。"), False,
         Text("They undo a scale, but neither a shift nor a turn; the loss changed a lot.",
              "打ち消すのは尺度だけで、ずれや向きは残ります。損失は大きく変わりました。")),
    ],
)  # fmt: skip
Quiz(
    "01_the_problem/3",
    Text("A VLM has 92 % on its test set and 51 % on twins, with 3 % of the pairs both right. What is it doing?",
         "ある VLM はテストで 92 %、双子で 51 %、両方正解の組は 3 % でした。何が起きていますか。"),
    [
        (Text("It looks, and makes mistakes on half of the hard pictures.",
              "見ているが、難しい画像の半分で間違える。"), False,
         Text("Then some pairs would be right as a whole; about a quarter, if mistakes fell at random.",
              "それなら両方正解の組がもっとあるはずです。誤りが無作為なら約 4 分の 1 です。")),
        (Text("It answers by habit and hardly looks.", "習慣で答え、ほとんど見ていない。"), True,
         Text("One guess for both twins: half right, and almost never both.",
              "双子に同じ答えを出すので半分だけ当たり、両方はほぼ当たりません。")),
        (Text("It was trained too long.", "学習しすぎた。"), False,
         Text("More training on the same biased questions would only polish the habit.",
              "同じ偏った質問で続けても、習慣が磨かれるだけです。")),
    ],
)  # fmt: skip
