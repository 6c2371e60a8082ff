"""Exercises of chapter 04, part one: vectors of texts and classes (ch04_losses.py and ch04_measures.py follow)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text, Unaffected
from vlmcourse.models import clip

CHAPTER = "04_clip"

# ------------------------------------------------------------------------------------------- pool at EOS


def _texts(hidden: Tensor, eos: int, places: list[list[int]]) -> tuple[Tensor, Tensor, int]:
    """Ids below and above ``eos`` everywhere, and ``eos`` itself at the places given for each text."""
    ids = torch.randint(0, 30, hidden.shape[:2])
    ids[ids == eos] += 1
    for row, several in enumerate(places):
        ids[row, several] = eos
    return hidden, ids, eos


def _row(hidden: Tensor, place: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


def _last_eos(hidden, ids, eos):
    return _row(hidden, ids.shape[1] - 1 - (ids == eos).int().flip(1).argmax(1))


def _noise_behind(case: tuple) -> tuple:
    hidden, ids, eos = case
    behind = torch.arange(ids.shape[1])[None] > (ids == eos).int().argmax(1)[:, None]
    return hidden.masked_fill(behind[..., None], 9.0), ids, eos


Exercise(
    slot=clip.pool_at_eos,
    chapter=CHAPTER,
    cases=lambda: [
        _texts(torch.randn(3, 7, 5), 12, [[4], [2, 3, 6], [5, 6]]),
        _texts(torch.randn(2, 6, 9), 20, [[3, 5], [1]]),
    ],
    axes={"hidden": "batch token width", "ids": "batch token", "return": "batch width"},
    slips=[
        Slip(lambda hidden, ids, eos: hidden[:, -1], Text(
            "this takes the last token, which is padding in every text that is shorter than the longest.",
            "最後のトークンを取っています。最長でないテキストでは、それはパディングです。")),
        Slip(lambda hidden, ids, eos: hidden[:, 0], Text(
            "this takes token 0. In a ViT that token reads everything; in a causal tower it has read only itself.",
            "トークン 0 を取っています。ViT と違い、因果的なタワーでは自分自身しか読んでいません。")),
        Slip(lambda hidden, ids, eos: _row(hidden, ids.argmax(1)), Text(
            "this takes the token with the highest id. OpenAI's code did so because its EOS is the last id of the "
            "vocabulary; compare with eos instead.",
            "id が最大のトークンを取っています。OpenAI のコードは EOS が語彙の最後の id なのでそれで済みました。"
            "eos と比べてください。")),
        Slip(_last_eos, Text(
            "this takes the last EOS; when texts are padded with EOS, that is padding. Take the first.",
            "最後の EOS を取っています。EOS で埋めたテキストではパディングです。最初の EOS を取ります。")),
        Slip(lambda hidden, ids, eos: _row(hidden, (ids == eos).int().argmax(1) - 1), Text(
            "this takes the token before EOS; only EOS itself was trained to sum up the text.",
            "EOS の 1 つ前を取っています。テキストを要約するのは EOS 自身です。")),
        Slip(lambda hidden, ids, eos: hidden[ids == eos], Text(
            "hidden[ids == eos] gives one vector per EOS, so a text with two of them gives two. Find the first place "
            "in each row.",
            "hidden[ids == eos] は EOS の数だけ行を返します。2 つあるテキストは 2 行になります。"
            "各行の最初の場所を求めてください。")),
        Slip(lambda hidden, ids, eos: hidden[:, (ids == eos).int().argmax(1)], Text(
            "hidden[:, place] takes every text's place in every text. Pair row 0 with place 0, row 1 with place 1: "
            "hidden[arange(batch), place].",
            "hidden[:, place] では全テキストの場所を全テキストから取ります。"
            "hidden[arange(batch), place] で行と場所を組にします。")),
        Slip(lambda hidden, ids, eos: hidden.mean(1), Text(
            "this is the mean over all tokens, padding included; CLIP reads one token, the first EOS.",
            "パディングも含む全トークンの平均です。CLIP が読むのは最初の EOS だけです。")),
    ],
    hints=[
        Text("Two steps: where is the first EOS of each text, and how do you take one row from each text?",
             "2 段階です。各テキストの最初の EOS はどこか。テキストごとに 1 行を取るにはどうするか。"),
        Text("(ids == eos).int() holds 0 and 1; argmax(dim=1) gives the place of the first 1.",
             "(ids == eos).int() は 0 と 1 です。argmax(dim=1) が最初の 1 の場所を返します。"),
        Text("`hidden[torch.arange(batch, device=ids.device), place]` pairs each text with its own place.",
             "`hidden[torch.arange(batch, device=ids.device), place]` で各テキストとその場所が組になります。"),
    ],
    gradient=("hidden",),
    unaffected=[Unaffected(
        Text("the result depends on tokens behind the first EOS; those are padding.",
             "最初の EOS より後ろに左右されています。そこはパディングです。"), _noise_behind)],
)  # fmt: skip

# --------------------------------------------------------------------------------------------- normalise

Exercise(
    slot=clip.normalise,
    chapter=CHAPTER,
    cases=lambda: [(2 * torch.randn(2, 3, 5),), (torch.randn(3, 2, 7) + 1,)],
    axes={"features": "class prompt width", "return": "class prompt width"},
    slips=[
        Slip(lambda x: x / x.norm(), Text(
            "all vectors are divided by one number, the length of everything together; each has its own length: "
            "dim=-1, keepdim=True.",
            "全体の長さ 1 つで割っています。ベクトルごとの長さで割ります：dim=-1、keepdim=True。")),
        Slip(lambda x: x / x.norm(dim=1, keepdim=True), Text(
            "the length runs along axis 1 (also F.normalize's default). The width is the last axis: dim=-1.",
            "軸 1 に沿った長さです（F.normalize の既定値も同じ）。width は最後の軸です：dim=-1。")),
        Slip(lambda x: x / x.norm(dim=0, keepdim=True), Text(
            "the length runs along axis 0, over different vectors. The width is the last axis: dim=-1.",
            "軸 0 に沿って別々のベクトルにまたがっています。width は最後の軸です：dim=-1。")),
        Slip(lambda x: x / x.pow(2).mean(-1, keepdim=True).sqrt(), Text(
            "the squares are averaged; a length sums them. Your vectors have length √width, not 1.",
            "2 乗の平均になっています。長さは和です。今のベクトルの長さは 1 でなく √width です。")),
        Slip(lambda x: x / x.pow(2).sum(-1, keepdim=True), Text(
            "the square root is missing: the length is √(sum of squares).",
            "平方根がありません。長さは √(2 乗の和) です。")),
        Slip(lambda x: x / x.abs().sum(-1, keepdim=True), Text(
            "the absolute values sum to 1 now; for cosines the squares must.",
            "絶対値の和が 1 になっています。コサインには 2 乗の和を 1 にします。")),
        Slip(lambda x: x.softmax(-1), Text(
            "a softmax makes probabilities and loses the signs; only the length must change, not the direction.",
            "softmax は確率を作り符号を失います。変えるのは長さだけで、向きは変えません。")),
        Slip(lambda x: F.layer_norm(x, x.shape[-1:]), Text(
            "this also subtracts the mean, as a layer norm does, and turns the vector. Only its length must change.",
            "layer norm のように平均も引いており、向きが変わります。変えるのは長さだけです。")),
    ],
    hints=[
        Text("A vector divided by its own length has length 1. Which axis holds the numbers of one vector?",
             "自分の長さで割れば長さは 1 になります。1 つのベクトルの数が並ぶのはどの軸ですか。"),
        Text("`features.norm(dim=-1, keepdim=True)` has a last axis of size 1, so the division broadcasts.",
             "`features.norm(dim=-1, keepdim=True)` は最後の軸が 1 なので、そのまま割り算できます。"),
    ],
    gradient=("features",),
)  # fmt: skip

# ----------------------------------------------------------------------------------- zero-shot classifier


def _long_and_short() -> list[tuple]:
    """Prompts whose vectors have quite different lengths."""
    shapes = [(4, 3, 6), (2, 5, 7)]
    return [(torch.randn(shape) * torch.rand(*shape[:2], 1).mul(3).add(0.3),) for shape in shapes]


def _unit(x: Tensor, axis: int = -1) -> Tensor:
    return F.normalize(x, dim=axis)


Exercise(
    slot=clip.zero_shot_classifier,
    chapter=CHAPTER,
    cases=_long_and_short,
    axes={"prompts": "class prompt width", "return": "class width"},
    slips=[
        Slip(lambda x: _unit(x).mean(1), Text(
            "the mean of unit vectors is shorter than 1, and shorter for classes whose prompts disagree: normalise it "
            "again, or those classes lose.",
            "単位ベクトルの平均は長さが 1 未満で、プロンプトがばらつくクラスほど短く不利になります。"
            "もう一度正規化します。")),
        Slip(lambda x: _unit(x.mean(1)), Text(
            "the prompts are averaged as they come, so one with a long vector outweighs the others. Normalise before "
            "the mean, too.",
            "正規化せずに平均しているため、長いベクトルのプロンプトが支配します。平均の前にも正規化します。")),
        Slip(lambda x: x.mean(1), Text(
            "nothing is normalised: normalise each prompt, average, normalise each class.",
            "正規化がありません。プロンプトを正規化し、平均し、クラスをもう一度正規化します。")),
        Slip(lambda x: _unit(_unit(x).mean(0)), Text(
            "this averages over the classes; average over the prompts, axis 1, so that one vector per class is left.",
            "クラスについて平均しています。軸 1 のプロンプトを平均し、クラスごとに 1 本残します。")),
        Slip(lambda x: _unit(x[:, 0]), Text(
            "only the first prompt of each class is used; the mean over all of them is steadier.",
            "各クラスの最初のプロンプトだけです。全プロンプトの平均のほうが安定します。")),
        Slip(lambda x: _unit(_unit(x, 1).mean(1)), Text(
            "the first normalisation runs over the prompts (axis 1, F.normalize's default). The width is the last "
            "axis: dim=-1.",
            "最初の正規化がプロンプト方向です（軸 1、F.normalize の既定値）。width は最後の軸です：dim=-1。")),
        Slip(lambda x: _unit(x).flatten(0, 1), Text(
            "this keeps one row per prompt; average the prompts of a class, so that one row per class is left.",
            "プロンプトごとの行が残っています。クラス内で平均し、クラスごとに 1 行にします。")),
        Slip(lambda x: _unit(_unit(x).amax(1)), Text(
            "this takes the largest number per coordinate; the direction between the prompts is their mean.",
            "座標ごとの最大値です。プロンプトの間の向きは平均で求めます。")),
    ],
    hints=[
        Text("Each prompt is a direction. Which direction lies in the middle of all prompts of a class?",
             "プロンプトは 1 つの向きです。あるクラスの全プロンプトの真ん中はどの向きでしょう。"),
        Text("Three steps: length 1 for every prompt, mean over axis 1, length 1 again. You have written normalise.",
             "3 段階です。各プロンプトを長さ 1 に、軸 1 で平均、もう一度長さ 1 に。normalise は作成済みです。"),
    ],
    gradient=("prompts",),
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------- quiz

Quiz(
    "04_clip/1",
    Text("You double the batch from 64 to 128. The first loss, before any training, rises from 4.16 to 4.85. Why?",
         "バッチを 64 から 128 に倍増すると、学習前の損失が 4.16 から 4.85 に上がりました。なぜですか。"),
    [
        (Text("The larger batch needs a smaller learning rate.", "大きいバッチには小さい学習率が必要だから。"), False,
         Text("No step has been made yet, so the learning rate has changed nothing.",
              "まだ 1 歩も学習していないので、学習率は何も変えていません。")),
        (Text("There are twice as many candidates: ln 128 = ln 64 + 0.69.",
              "候補が 2 倍だから：ln 128 = ln 64 + 0.69。"), True,
         Text("Guessing among B candidates costs ln B. Losses of different batch sizes cannot be compared.",
              "B 個から当てずっぽうで選ぶ損失は ln B です。バッチが違えば損失は比べられません。")),
        (Text("The features are not normalised.", "特徴が正規化されていないから。"), False,
         Text("Both runs would suffer from that. What differs between them is among how many a pair is sought.",
              "それなら両方に同じ影響が出ます。違うのは、何個の中から相手を探すかです。")),
    ],
)  # fmt: skip
Quiz(
    "04_clip/2",
    Text("Your zero-shot classifier knows 10 animals. It shall also know the zebra. What do you do?",
         "ゼロショット分類器が 10 種の動物を知っています。シマウマも加えるには何をしますか。"),
    [
        (Text("Train on labelled pictures of zebras.", "ラベル付きのシマウマ画像で学習する。"), False,
         Text("That is what zero-shot spares you: classes are texts, and the text tower is there already.",
              "それを省くのがゼロショットです。クラスはテキストで、テキストのタワーはもうあります。")),
        (Text("Encode prompts such as \"a photo of a zebra\" and append one row.",
              "\"a photo of a zebra\" などを符号化し、1 行を足す。"), True,
         Text("One more unit vector in the table of class weights; no weight of the model changes.",
              "クラスの表に単位ベクトルが 1 本増えるだけで、モデルの重みは変わりません。")),
        (Text("Replace the last layer by one with 11 outputs.", "最後の層を 11 出力のものに替える。"), False,
         Text("There is no such layer: the outputs are cosines with the texts you choose.",
              "そのような層はありません。出力は、あなたが選んだテキストとのコサインです。")),
    ],
)  # fmt: skip
Quiz(
    "04_clip/3",
    Text("A CLIP scores \"red left of blue\" and \"blue left of red\" almost alike. What explains it best?",
         "CLIP が \"red left of blue\" と \"blue left of red\" にほぼ同じ点を付けます。最も妥当な説明はどれですか。"),
    [
        (Text("The text tower cannot know the order of words.", "テキストのタワーは語順を知りえない。"), False,
         Text("It has positions and a causal mask; it could know. The question is who asks it to.",
              "位置も因果マスクもあり、知ることはできます。問題は、それを誰が求めるかです。")),
        (Text("The scale is too small.", "scale が小さすぎる。"), False,
         Text("A scale stretches a difference, but a ranking of two scores stays as it was.",
              "scale は差を引き伸ばしますが、2 つの点の順位は変わりません。")),
        (Text("A batch rarely holds the swapped text, so the loss rarely asks for order.",
              "バッチに入れ替えた文がめったにないので、損失が語順を求めない。"), True,
         Text("Naming the right things wins the batch. Hard negatives, swapped on purpose, make order pay.",
              "正しい物の名前だけで勝ててしまいます。わざと入れ替えた負例を混ぜると、語順が必要になります。")),
    ],
)  # fmt: skip
