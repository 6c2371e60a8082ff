"""Exercises of chapter 07, part two: what learns in stage 1 and from which words; and the quiz."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text, Unaffected
from vlmcourse.training import stages

CHAPTER = "07_projection_and_alignment"

# --------------------------------------------------------------------------------- who learns in a stage

NAMES = [
    "vision.embed.weight",
    "vision.projector.weight",  # CLIP's own last matrix, say: it belongs to the eye
    "projector.expand.weight",
    "projector.expand.bias",
    "language.embedding.weight",
    "language.blocks.0.projector.weight",
    "projector.contract.weight",
    "language.head.weight",
]
TRAINED = stages.trained_names.reference


def _starting(*stage_parts: tuple[str, ...]):
    """Names that begin with one of the parts of their stage."""
    return lambda names, stage: [name for name in names if name.startswith(stage_parts[stage - 1])]


ONE, TWO = ("projector.",), ("projector.", "language.")

Exercise(
    slot=stages.trained_names,
    chapter=CHAPTER,
    cases=lambda: [(NAMES, 1), (NAMES, 2), (NAMES[::-1], 2)],
    axes={"return": "name"},
    slips=[
        Slip(lambda n, s: [x for x in n if "projector" in x or (s == 2 and x.startswith("language."))], Text(
            "a name in which \"projector\" stands somewhere may belong to another part; the beginning decides.",
            "途中に projector を含む名前は別の部品かもしれません。先頭で判断します。")),
        Slip(_starting(TWO, TWO), Text(
            "the language model learns in stage 1 already; it must stay as it is until the projector speaks its "
            "language.",
            "stage 1 で言語モデルまで学習しています。projector が言葉を覚えるまで動かしません。")),
        Slip(_starting(ONE, ONE), Text(
            "stage 2 trains the projector alone; there the language model learns as well.",
            "stage 2 でも projector だけです。stage 2 では言語モデルも学習します。")),
        Slip(_starting(ONE, ("language.",)), Text(
            "the projector is frozen in stage 2; LLaVA goes on training it beside the language model.",
            "stage 2 で projector が止まっています。LLaVA は言語モデルと一緒に学習を続けます。")),
        Slip(_starting(ONE, ("projector.", "language.", "vision.")), Text(
            "stage 2 trains the eye too; in LLaVA it stays frozen in both stages.",
            "stage 2 で vision まで学習しています。LLaVA では両 stage とも凍結します。")),
        Slip(lambda n, s: [x for x in n if x not in TRAINED(n, s)], Text(
            "these are the frozen ones; return those that learn.",
            "凍結する側です。学習する名前を返します。")),
        Slip(lambda n, s: [x for x in TRAINED(n, s) if x.endswith("weight")], Text(
            "the biases are missing; they learn as well.", "bias が抜けています。bias も学習します。")),
        Slip(lambda n, s: TRAINED(n, 3 - s), Text(
            "the stages are exchanged: stage 1 is the one with the projector alone.",
            "stage が逆です。projector だけなのが stage 1 です。")),
        Slip(lambda n, s: sorted(TRAINED(n, s)), Text(
            "the names come back sorted; keep the order in which they came.",
            "並べ替わっています。渡された順のまま返します。")),
        Slip(lambda n, s: tuple(TRAINED(n, s)), Text(
            "return a list of names, not a tuple.", "tuple ではなく名前の list を返してください。")),
    ],
    hints=[
        Text("Which part does a name belong to? Look at its first word only.",
             "名前がどの部品のものか、最初の語だけで判断します。"),
        Text("`name.startswith(parts)` takes a tuple of beginnings: one for stage 1, two for stage 2.",
             "`name.startswith(parts)` には先頭の tuple を渡せます。stage 1 は 1 つ、stage 2 は 2 つです。"),
    ],
)  # fmt: skip

# ---------------------------------------------------------------------------------------- alignment loss


def _places(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1])


def _caption(ids: Tensor, given: Tensor, mask: Tensor, later: int = 0) -> Tensor:
    """True at the caption's tokens; ``later`` moves its beginning."""
    return mask & (_places(ids) >= given[:, None] + later)


def _each(logits: Tensor, ids: Tensor) -> Tensor:
    """Surprise at the token behind each place, (batch, token - 1)."""
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")


def _over(logits: Tensor, ids: Tensor, wanted: Tensor) -> Tensor:
    return _each(logits, ids)[wanted[:, 1:]].mean()


def _of_rows(x, i, g, m):
    wanted = _caption(i, g, m)[:, 1:]
    return ((_each(x, i) * wanted).sum(1) / wanted.sum(1)).mean()


def _own_token(x, i, g, m):
    wanted = _caption(i, g, m)
    return F.cross_entropy(x[wanted], i[wanted])


def _backwards(x, i, g, m):
    wanted = _caption(i, g, m)[:, :-1]
    return F.cross_entropy(x[:, 1:][wanted], i[:, :-1][wanted])


def _asks_where_it_stands(x, i, g, m):
    """The mask of the reading place in place of the predicted one."""
    return _each(x, i)[_caption(i, g, m)[:, :-1]].mean()


def _loss_case(given: list[int], lengths: list[int], vocabulary: int) -> tuple:
    batch, token = len(given), max(lengths) + 1
    ids = torch.randint(1, vocabulary, (batch, token))
    mask = _places(ids) < torch.tensor(lengths)[:, None]
    return 2 * torch.randn(batch, token, vocabulary), ids * mask, torch.tensor(given), mask


def _other_prompt(case: tuple) -> tuple:
    logits, ids, given, mask = case
    before = _places(ids) < given[:, None]
    return logits, torch.where(before, (ids + 1) % logits.shape[-1], ids), given, mask


Exercise(
    slot=stages.alignment_loss,
    chapter=CHAPTER,
    cases=lambda: [_loss_case([3, 5], [7, 6], 4), _loss_case([2, 4, 1], [6, 9, 3], 7)],
    axes={"logits": "batch token vocabulary", "ids": "batch token", "given": "batch", "mask": "batch token",
          "return": ""},
    slips=[
        Slip(_own_token, Text(
            "each token is scored with the scores at its own place, which has read it already; use those one place "
            "before.",
            "そのトークン自身を読んだ位置の score を使っています。1 つ前の位置の score を使います。")),
        Slip(_backwards, Text(
            "the shift goes the wrong way: the scores must come from before the token, not from behind it.",
            "ずらす向きが逆です。トークンの後ではなく前の位置の score を使います。")),
        Slip(lambda x, i, g, m: _over(x, i, m), Text(
            "image and prompt are learned too; they are given, so only the caption counts.",
            "画像とプロンプトまで学習しています。与えられたものなので、caption だけを数えます。")),
        Slip(lambda x, i, g, m: _over(x, i, _places(i) >= g[:, None]), Text(
            "padding is learned too; keep only places where mask is True.",
            "padding まで学習しています。mask が True の位置だけを残します。")),
        Slip(lambda x, i, g, m: _over(x, i, m & (_places(i) < g[:, None])), Text(
            "this is upside down: prompt and image are learned, the caption is not.",
            "逆です。プロンプトと画像だけを学習しています。")),
        Slip(lambda x, i, g, m: _over(x, i, _caption(i, g, m, 1)), Text(
            "the caption's first token is missing; the model would never learn how to begin.",
            "caption の最初のトークンが抜けています。書き出しを学習できません。")),
        Slip(lambda x, i, g, m: _over(x, i, _caption(i, g, m, -1)), Text(
            "one token too many: the last one of the prompt is given, too.",
            "1 つ多いです。プロンプトの最後のトークンも与えられたものです。")),
        Slip(_asks_where_it_stands, Text(
            "the mask was not shifted with the tokens: it must say which token is predicted, not where the model "
            "stands.",
            "mask がトークンと一緒にずれていません。mask は予測されるトークンの側に合わせます。")),
        Slip(lambda x, i, g, m: _over(x, i, _caption(i, g, m) & F.pad(m[:, 1:], (0, 1))), Text(
            "the caption's last token, its end, is missing; the model would never learn to stop.",
            "caption の最後（終わりの印）が抜けています。止まることを学習できません。")),
        Slip(_of_rows, Text(
            "this is a mean of means, in which a word of a short caption counts more; take one mean over all tokens.",
            "平均の平均なので、短い caption の語が重くなります。全トークンで 1 つの平均を取ります。")),
        Slip(lambda x, i, g, m: (_each(x, i) * _caption(i, g, m)[:, 1:]).sum(), Text(
            "this is the sum; take the mean, or the step grows with the length of captions.",
            "和になっています。平均にしないと caption の長さで歩幅が変わります。")),
        Slip(lambda x, i, g, m: (_each(x, i) * _caption(i, g, m)[:, 1:]).mean(), Text(
            "the sum is divided by all places, also those that do not count.",
            "数えない位置も含めた個数で割っています。")),
        Slip(lambda x, i, g, m: _over(x.softmax(-1), i, _caption(i, g, m)), Text(
            "cross_entropy takes the softmax itself; give it the scores, not probabilities.",
            "cross_entropy は内部で softmax を取ります。確率でなく score を渡します。")),
    ],
    hints=[
        Text("First mark the caption's tokens: from `given` on, and not padding. Then ask: which scores predict them?",
             "まず caption のトークンに印を付けます（`given` 以降で padding でない）。"
             "それを予測する score はどれですか。"),
        Text("`logits[:, :-1]` predict `ids[:, 1:]`; the marks must be cut like the ids.",
             "`logits[:, :-1]` が `ids[:, 1:]` を予測します。印も ids と同じように切ります。"),
        Text("`F.cross_entropy(logits[:, :-1][caption], ids[:, 1:][caption])` with caption (batch, token − 1).",
             "caption の形を (batch, token − 1) にして "
             "`F.cross_entropy(logits[:, :-1][caption], ids[:, 1:][caption])` とします。"),
    ],
    gradient=("logits",),
    unaffected=[
        Unaffected(
            Text("the loss depends on which tokens image and prompt are; they are read, not predicted.",
                 "画像やプロンプトのトークンで損失が変わります。読むだけで、予測はしません。"),
            _other_prompt,
        ),
    ],
)  # fmt: skip

# ------------------------------------------------------------------------------------------------- quiz

Quiz(
    "07_projection_and_alignment/1",
    Text("In stage 1 the language model is frozen. How can the projector in front of it learn?",
         "stage 1 では言語モデルは凍結されています。その手前の projector はどうやって学習できますか。"),
    [
        (Text("It cannot; its loss has to be computed on image features.",
              "できない。損失は画像特徴で計算する。"), False,
         Text("The loss is that of the words, and it reaches the projector.",
              "損失は語のもので、それが projector まで届きます。")),
        (Text("Frozen weights get no gradient, but the gradient passes through them.",
              "凍結した重みは勾配を受け取らないが、勾配はそこを通り抜ける。"), True,
         Text("Activations are differentiated all the way down; only the weights' own gradients are left out. "
              "torch.no_grad() around the language model would cut the way.",
              "activation の勾配は最後まで計算されます。省かれるのは重み自身の勾配だけです。"
              "言語モデルを torch.no_grad() で包むと道が切れます。")),
        (Text("The language model learns a little, and the projector follows.",
              "言語モデルが少し学習し、projector がそれに従う。"), False,
         Text("Not one of its weights changes; the notebook checks it.",
              "重みは 1 つも変わりません。ノートブックで確かめました。")),
    ],
)  # fmt: skip
Quiz(
    "07_projection_and_alignment/2",
    Text("You shift and stretch the image features so that their mean and covariance equal those of the word vectors. "
         "What does the language model say about the pictures?",
         "画像特徴の平均と共分散を、単語ベクトルのものにぴったり合わせました。言語モデルは画像について何を言いますか。"),
    [
        (Text("It describes them: the two distributions are one now.",
              "画像を説明する。2 つの分布は 1 つになった。"), False,
         Text("The clouds lie on top of each other, but nobody said which point of one belongs to which of the other.",
              "雲は重なりましたが、どの点がどの点に当たるかは誰も教えていません。")),
        (Text("It writes no words at all.", "言葉を書かない。"), False,
         Text("It writes as fluently as before; that is the danger.", "流暢に書き続けます。そこが危険です。")),
        (Text("Fluent captions that have nothing to do with them.", "流暢だが、画像と関係のない説明。"), True,
         Text("Equal statistics are not equal meaning. Pairs of images and texts are what aligns.",
              "統計が等しくても意味は等しくありません。対応づけるのは画像と文の組です。")),
    ],
)  # fmt: skip
Quiz(
    "07_projection_and_alignment/3",
    Text("A colleague's VLM gives fluent answers that do not change with the picture. The loss in training was fine. "
         "What do you check first?",
         "同僚の VLM は流暢に答えますが、画像を替えても答えが変わりません。訓練時の損失は正常でした。"
         "最初に何を確かめますか。"),
    [
        (Text("Whether the projector's weights were loaded, with strict=True.",
              "projector の重みが読み込まれたか（strict=True で）。"), True,
         Text("strict=False skips a key that does not match, and leaves the projector as it was drawn.",
              "strict=False は合わない key を飛ばし、projector を乱数のまま残します。")),
        (Text("Whether the language model is large enough.", "言語モデルが十分大きいか。"), False,
         Text("Its size does not make it deaf to its input.", "大きさのせいで入力を無視することはありません。")),
        (Text("Whether the answers are sampled at a high temperature.", "高い temperature で生成していないか。"), False,
         Text("That makes answers vary, even for one picture.", "それなら同じ画像でも答えが変わります。")),
    ],
)  # fmt: skip
