"""Exercises of chapter 04, part two: the two losses."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.models import clip

CHAPTER = "04_clip"

# ---------------------------------------------------------------------------------------------- info_nce


def _pairs(batch: int, width: int, scale: float, size: float, *more: float) -> tuple:
    image, text = size * torch.randn(2, batch, width)
    return image, text, torch.tensor(scale), *map(torch.tensor, more)


def _partners(logits: Tensor) -> Tensor:
    return torch.arange(len(logits), device=logits.device)


def _both(logits: Tensor, **options) -> Tensor:
    partner = _partners(logits)
    return (F.cross_entropy(logits, partner, **options) + F.cross_entropy(logits.T, partner, **options)) / 2


def _by_hand(image, text, scale):
    """-log of a softmax that underflows for pairs that are badly wrong."""
    logits = scale * image @ text.T
    return -(logits.softmax(1).diag().log() + logits.softmax(0).diag().log()).mean() / 2


def _first_partner(image, text, scale):
    logits = scale * image @ text.T
    zeros = torch.zeros_like(_partners(logits))
    return (F.cross_entropy(logits, zeros) + F.cross_entropy(logits.T, zeros)) / 2


def _scaled_once(image, text, scale):
    cosines = image @ text.T
    partner = _partners(cosines)
    return (F.cross_entropy(scale * cosines, partner) + F.cross_entropy(cosines.T, partner)) / 2


def _unit(*features: Tensor) -> list[Tensor]:
    return [F.normalize(feature, dim=-1) for feature in features]


def _again(image, text, scale):
    image, text = _unit(image, text)
    return _both(scale * image @ text.T)


Exercise(
    slot=clip.info_nce,
    chapter=CHAPTER,
    cases=lambda: [_pairs(5, 7, 3.0, 0.6), _pairs(4, 9, 2.0, 0.5), _pairs(3, 8, 4.0, 9.0)],
    axes={"image": "batch width", "text": "batch width", "return": ""},
    slips=[
        Slip(lambda i, t, s: F.cross_entropy(s * i @ t.T, _partners(i)), Text(
            "only one direction: each image looks for its text, twice if you averaged. The texts must look for their "
            "images too, with logits.T.",
            "片方向だけです（画像がテキストを探すだけ）。logits.T を使い、テキストにも画像を探させます。")),
        Slip(lambda i, t, s: F.cross_entropy(s * t @ i.T, _partners(i)), Text(
            "only one direction: each text looks for its image. The images must look for their texts too.",
            "片方向だけです（テキストが画像を探すだけ）。画像にもテキストを探させます。")),
        Slip(lambda i, t, s: 2 * _both(s * i @ t.T), Text(
            "the two directions are added; CLIP takes their mean, so that an untrained model starts at ln(batch).",
            "2 方向を足しています。CLIP は平均を取ります。未学習の損失が ln(batch) から始まるのもそのためです。")),
        Slip(lambda i, t, s: _both(i @ t.T), Text(
            "the scale is missing. Cosines lie between −1 and 1, and a softmax over such small numbers stays flat.",
            "scale が掛かっていません。コサインは −1…1 なので softmax がほぼ平らなままです。")),
        Slip(lambda i, t, s: _both(i @ t.T / s), Text(
            "you divide by scale. It is one over the temperature already, so multiply.",
            "scale で割っています。scale は温度の逆数なので掛けてください。")),
        Slip(lambda i, t, s: _both(s.exp() * i @ t.T), Text(
            "the exponential is taken twice: scale is already exp(logit_scale).",
            "exp が二重です。scale はすでに exp(logit_scale) です。")),
        Slip(_scaled_once, Text(
            "only one direction is scaled: multiply the logits first, then use them and their transpose.",
            "片方向にしか scale が掛かっていません。logits に掛けてから、転置も使います。")),
        Slip(_first_partner, Text(
            "all labels are 0, so everybody is told to pick pair 0. Row i belongs to column i: torch.arange(batch).",
            "ラベルがすべて 0 です。i 行目の相手は i 列目です：torch.arange(batch)。")),
        Slip(lambda i, t, s: _both((s * i @ t.T).softmax(1)), Text(
            "cross_entropy takes the softmax itself; give it the logits, not probabilities.",
            "cross_entropy は内部で softmax を取ります。確率でなく logits を渡してください。")),
        Slip(lambda i, t, s: _both(s * i @ t.T, reduction="sum"), Text(
            "the losses are summed over the batch; take the mean, or a larger batch means larger steps.",
            "バッチの和になっています。平均にしないと、バッチの大きさで勾配が変わります。")),
        Slip(lambda i, t, s: -(s * i @ t.T).diag().mean(), Text(
            "this only pulls partners together. Without negatives all features may collapse to one point.",
            "正例を近づけるだけです。負例がないと、すべての特徴が 1 点に潰れます。")),
        Slip(lambda i, t, s: -_both(s * i @ t.T), Text(
            "the sign is wrong: this grows when the model improves, and training minimises.",
            "符号が逆です。良くなるほど大きくなりますが、学習は最小化です。")),
        Slip(_again, Text(
            "the features are normalised a second time. That is normalise's job; here they come ready.",
            "ここでまた正規化しています。それは normalise の役目で、特徴は正規化済みで渡されます。")),
        Slip(_by_hand, Text(
            "log(softmax) is −∞ when a pair is badly wrong, because its probability rounds to 0. F.cross_entropy "
            "computes both in one safe step.",
            "log(softmax) は大外れの組で確率が 0 に丸まり −∞ になります。F.cross_entropy なら安全です。")),
    ],
    hints=[
        Text("Fill a batch × batch table with scale · image · text. Where in row i is the right answer?",
             "scale · 画像 · テキストの batch × batch の表を作ります。i 行目の正解はどこにありますか。"),
        Text("Each row is a classification with `batch` classes: F.cross_entropy(logits, torch.arange(batch)). What do "
             "the columns say?",
             "各行は batch 個のクラスの分類です：F.cross_entropy(logits, torch.arange(batch))。列は何を表しますか。"),
        Text("`logits = scale * image @ text.T`; the mean of cross_entropy(logits, partner) and "
             "cross_entropy(logits.T, partner).",
             "`logits = scale * image @ text.T`。cross_entropy(logits, partner) と "
             "cross_entropy(logits.T, partner) の平均です。"),
    ],
    gradient=("image", "text", "scale"),
)  # fmt: skip

# ------------------------------------------------------------------------------------------- siglip_loss


def _sign(logits: Tensor) -> Tensor:
    return 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1


def _judged(logits: Tensor) -> Tensor:
    return -F.logsigmoid(_sign(logits) * logits).sum() / len(logits)


def _diagonal_only(image, text, scale, bias):
    return -F.logsigmoid((scale * image @ text.T + bias).diag()).mean()


def _zero_and_one(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    return -F.logsigmoid(torch.eye(len(logits), device=logits.device) * logits).sum() / len(logits)


def _log_of_sigmoid(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    return -torch.log(torch.sigmoid(_sign(logits) * logits)).sum() / len(logits)


def _sign_on_cosines(image, text, scale, bias):
    cosines = image @ text.T
    return -F.logsigmoid(scale * _sign(cosines) * cosines + bias).sum() / len(image)


def _siglip_again(image, text, scale, bias):
    image, text = _unit(image, text)
    return _judged(scale * image @ text.T + bias)


Exercise(
    slot=clip.siglip_loss,
    chapter=CHAPTER,
    cases=lambda: [_pairs(5, 7, 3.0, 0.6, -2.0), _pairs(4, 9, 2.0, 0.5, -1.5), _pairs(3, 8, 4.0, 9.0, -1.0)],
    axes={"image": "batch width", "text": "batch width", "return": ""},
    slips=[
        Slip(lambda i, t, s, b: _judged(s * i @ t.T + b) / len(i), Text(
            "this is the mean over all batch² meetings; SigLIP divides the sum by batch only.",
            "batch² 個すべての平均です。SigLIP は和を batch で割ります。")),
        Slip(lambda i, t, s, b: _judged(s * i @ t.T + b) * len(i), Text(
            "the sum is not divided by batch.", "和を batch で割っていません。")),
        Slip(lambda i, t, s, b: _judged(s * i @ t.T), Text(
            "the bias is missing. Almost every meeting is a \"no\", and the bias says so from the start.",
            "bias がありません。ほとんどの組は「いいえ」で、それを最初から表すのが bias です。")),
        Slip(lambda i, t, s, b: _judged(s * i @ t.T - b), Text(
            "the bias is subtracted; add it, it is negative itself.",
            "bias を引いています。bias 自体が負なので足してください。")),
        Slip(lambda i, t, s, b: _judged(s * (i @ t.T + b)), Text(
            "the bias is scaled too; scale multiplies only the cosines.",
            "bias にも scale が掛かっています。掛けるのはコサインだけです。")),
        Slip(lambda i, t, s, b: _judged(i @ t.T / s + b), Text(
            "you divide by scale; it is one over the temperature already, so multiply.",
            "scale で割っています。scale は温度の逆数なので掛けてください。")),
        Slip(lambda i, t, s, b: _judged(i @ t.T + b), Text(
            "the scale is missing: the cosines are multiplied with it.",
            "scale がありません。コサインに掛けてください。")),
        Slip(lambda i, t, s, b: _judged(s.exp() * i @ t.T + b), Text(
            "the exponential is taken twice: scale is already exp(logit_scale).",
            "exp が二重です。scale はすでに exp(logit_scale) です。")),
        Slip(lambda i, t, s, b: -F.logsigmoid(s * i @ t.T + b).sum() / len(i), Text(
            "every meeting counts as a match; strangers need the sign −1.",
            "すべての組を正例にしています。相手でない組の符号は −1 です。")),
        Slip(_zero_and_one, Text(
            "strangers have the sign 0, and σ(0) = ½ whatever the logit, so they teach nothing. Use −1.",
            "相手でない組の符号が 0 です。σ(0) = ½ のままで何も学びません。−1 にします。")),
        Slip(_sign_on_cosines, Text(
            "the sign turns only the cosine. It must turn the whole logit, bias included.",
            "符号がコサインだけに付いています。bias を含む logit 全体に付けます。")),
        Slip(_diagonal_only, Text(
            "only partners are judged; without the \"no\" answers all features may collapse to one point.",
            "正例しか見ていません。「いいえ」の組がないと特徴が 1 点に潰れます。")),
        Slip(lambda i, t, s, b: _both(s * i @ t.T + b), Text(
            "this is InfoNCE: a softmax over the batch, in which the bias cancels. SigLIP judges each meeting alone.",
            "これは InfoNCE です（softmax では bias が消えます）。SigLIP は組を 1 つずつ判定します。")),
        Slip(lambda i, t, s, b: -_judged(s * i @ t.T + b), Text(
            "the minus in front is missing: log σ is negative, and a loss must shrink as the model improves.",
            "先頭のマイナスがありません。log σ は負で、損失は良くなるほど小さくなるべきです。")),
        Slip(_siglip_again, Text(
            "the features are normalised a second time. That is normalise's job; here they come ready.",
            "ここでまた正規化しています。それは normalise の役目で、特徴は正規化済みで渡されます。")),
        Slip(_log_of_sigmoid, Text(
            "log(sigmoid) is −∞ for a meeting judged badly wrong, because σ rounds to 0. F.logsigmoid is safe.",
            "log(sigmoid) は大外れの組で σ が 0 に丸まり −∞ になります。F.logsigmoid なら安全です。")),
    ],
    hints=[
        Text("The table of logits is InfoNCE's plus a bias. But now each cell is its own yes-or-no question.",
             "logits の表は InfoNCE に bias を足したものです。ただし各マスが独立した「はい・いいえ」です。"),
        Text("sign = 2 · eye − 1 is +1 for partners and −1 for strangers; σ(sign · logit) is how right the answer is.",
             "sign = 2 · eye − 1 は相手なら +1、他は −1。σ(sign · logit) が正しさの確率です。"),
        Text("`-F.logsigmoid(sign * logits).sum() / batch`; give torch.eye the device of the logits.",
             "`-F.logsigmoid(sign * logits).sum() / batch`。torch.eye には logits の device を渡します。"),
    ],
    gradient=("image", "text", "scale", "bias"),
)  # fmt: skip
