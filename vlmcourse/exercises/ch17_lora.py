"""Exercises of chapter 17, part two: LoRA, its merge and its size; and the quiz."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text
from vlmcourse.models import lora

CHAPTER = "17_real_models"

# ------------------------------------------------------------------------------------------ LoRA forward


def _layer_case(batch: int, token: int, width: int, out: int, rank: int, scale: float, bias: bool = True) -> tuple:
    tokens, layer = torch.randn(batch, token, width), nn.Linear(width, out, bias=bias)
    return tokens, layer, torch.randn(rank, width), torch.randn(out, rank), scale


def _detour(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    return F.linear(F.linear(x, down), up)


Exercise(
    slot=lora.lora_forward,
    chapter=CHAPTER,
    cases=lambda: [_layer_case(2, 4, 5, 7, 3, 2.5), _layer_case(3, 5, 6, 4, 2, 0.5, bias=False)],
    axes={"tokens": "batch token width", "down": "rank width", "up": "out rank", "return": "batch token out"},
    slips=[
        Slip(lambda x, f, d, u, s: f(x) + _detour(x, d, u), Text(
            "the scale is missing: it keeps the size of the change when the rank changes.",
            "scale がありません。rank が変わっても変化の大きさを保つためのものです。")),
        Slip(lambda x, f, d, u, s: s * (f(x) + _detour(x, d, u)), Text(
            "the frozen layer is scaled too; the scale belongs to the detour alone.",
            "凍結した層まで scale を掛けています。掛けるのは迂回路だけです。")),
        Slip(lambda x, f, d, u, s: s * _detour(x, d, u), Text(
            "the frozen layer is missing: LoRA adds to it and does not replace it.",
            "凍結した層がありません。LoRA は置き換えではなく足し算です。")),
        Slip(lambda x, f, d, u, s: f(x) + s / len(d) * _detour(x, d, u), Text(
            "divided by the rank once more; `scale` is alpha / rank already.",
            "rank でもう一度割っています。`scale` はすでに alpha / rank です。")),
        Slip(lambda x, f, d, u, s: f(x) + s * F.linear(F.relu(F.linear(x, d)), u), Text(
            "a nonlinearity stands in the detour; that is an adapter, and it could not be merged into the weight.",
            "迂回路に非線形関数があります。それは adapter で、重みに統合できません。")),
        Slip(lambda x, f, d, u, s: f(x) - s * _detour(x, d, u), Text(
            "the detour is subtracted; add it.", "迂回路を引いています。足してください。")),
        Slip(lambda x, f, d, u, s: F.linear(x, f.weight) + s * _detour(x, d, u), Text(
            "the frozen layer's bias is lost; call the layer itself.",
            "凍結した層の bias が失われています。層そのものを呼び出します。")),
    ],
    hints=[
        Text("Two ways lead from the tokens to the output; add what comes out of both.",
             "トークンから出力へ 2 つの道があります。両方の結果を足します。"),
        Text("`F.linear(tokens, down)` is (…, rank); `F.linear(…, up)` leads on to (…, out).",
             "`F.linear(tokens, down)` は (…, rank)、`F.linear(…, up)` で (…, out) になります。"),
    ],
    gradient=("tokens", "down", "up"),
)  # fmt: skip

# -------------------------------------------------------------------------------------------- LoRA merge


def _merge_case(width: int, out: int, rank: int, scale: float) -> tuple:
    return torch.randn(out, width), torch.randn(rank, width), torch.randn(out, rank), scale


def _in_place(w, d, u, s):
    w += s * u @ d
    return w


Exercise(
    slot=lora.lora_merge,
    chapter=CHAPTER,
    cases=lambda: [_merge_case(5, 7, 3, 2.5), _merge_case(6, 4, 2, 0.5)],
    axes={"weight": "out width", "down": "rank width", "up": "out rank", "return": "out width"},
    slips=[
        Slip(lambda w, d, u, s: w + u @ d, Text(
            "the scale is missing, so the merged layer says something else than the two together.",
            "scale がありません。統合した層の答えが元と変わってしまいます。")),
        Slip(lambda w, d, u, s: w - s * u @ d, Text(
            "this takes the change out again (unmerge); add it.", "これは変化を取り除いています。足してください。")),
        Slip(lambda w, d, u, s: s * u @ d, Text(
            "the frozen weight is gone; this is the change alone.", "元の重みがなく、変化だけになっています。")),
        Slip(lambda w, d, u, s: s * (w + u @ d), Text(
            "the frozen weight is scaled too; the scale belongs to the change alone.",
            "元の重みまで scale を掛けています。掛けるのは変化だけです。")),
        Slip(lambda w, d, u, s: w + s * s * u @ d, Text(
            "the scale counts twice; once is enough.", "scale が 2 回掛かっています。1 回で十分です。")),
        Slip(lambda w, d, u, s: w.T + s * d.T @ u.T, Text(
            "this is the transpose: a linear layer's weight is (out, width).",
            "転置になっています。線形層の重みは (out, width) です。")),
        Slip(_in_place, Text(
            "the given weight is changed in place; return a new one, the frozen layer stays as it is.",
            "渡された重みを書き換えています。新しい重みを返します。")),
    ],
    hints=[
        Text("W x + s · B (A x) = (W + s · B A) x. Which of the two matrices is A?",
             "W x + s · B (A x) = (W + s · B A) x。A はどちらの行列ですか。"),
        Text("`up @ down` has the shape of the weight.", "`up @ down` が重みと同じ形になります。"),
    ],
)  # fmt: skip

# ------------------------------------------------------------------------------------------ LoRA numbers

Exercise(
    slot=lora.lora_numbers,
    chapter=CHAPTER,
    cases=lambda: [([(960, 576), (576, 576)], 8), ([(7, 5), (5, 7), (3, 11)], 2), ([(12, 5)], 3)],
    axes={"return": ""},
    slips=[
        Slip(lambda layers, rank: sum(rank * out * width for out, width in layers), Text(
            "rank · out · width is more than the layer itself has; the two matrices are (rank, width) and (out, rank).",
            "rank · out · width では元の層より多くなります。2 つの行列は (rank, width) と (out, rank) です。")),
        Slip(lambda layers, rank: sum(out * width for out, width in layers), Text(
            "these are the numbers of the frozen layers.", "これは凍結した層の数です。")),
        Slip(lambda layers, rank: sum(rank * width for _, width in layers), Text(
            "only `down` is counted; `up` learns too.", "`down` しか数えていません。`up` も学習します。")),
        Slip(lambda layers, rank: sum(rank * out for out, _ in layers), Text(
            "only `up` is counted; `down` learns too.", "`up` しか数えていません。`down` も学習します。")),
        Slip(lambda layers, rank: sum(2 * rank * width for _, width in layers), Text(
            "`up` has `out` rows, which may be more or fewer than the width.",
            "`up` の行数は out で、width とは限りません。")),
        Slip(lambda layers, rank: sum(out * width + rank * (out + width) for out, width in layers), Text(
            "the frozen weights are counted too; they do not learn.", "凍結した重みまで数えています。")),
        Slip(lambda layers, rank: rank * sum(layers[0]), Text(
            "only the first layer is counted.", "最初の層しか数えていません。")),
        Slip(lambda layers, rank: [rank * (out + width) for out, width in layers], Text(
            "this is a list, one number per layer; add them up.", "層ごとのリストになっています。合計します。")),
    ],
    hints=[
        Text("Draw the two matrices of one layer. How many numbers has each?",
             "1 つの層の 2 つの行列を描いてみます。それぞれ数はいくつですか。"),
        Text("rank · width for `down`, out · rank for `up`; the sum over all layers.",
             "`down` は rank · width、`up` は out · rank。全層で合計します。"),
    ],
)  # fmt: skip

# -------------------------------------------------------------------------------------------------- quiz

Quiz(
    name="17_real_models/1",
    question=Text(
        "You load a published model with `strict=False`, and the loss stays near 7.5. What do you look at first?",
        "公開モデルを `strict=False` で読み込んだところ、loss が 7.5 付近から下がりません。まず何を確かめますか。"),
    choices=[
        (Text("The learning rate.", "学習率。"), False,
         Text("It can be wrong as well, but it would not explain a start at random guessing.",
              "学習率も誤りえますが、でたらめな状態から始まる理由にはなりません。")),
        (Text("Which keys matched nothing.", "どのキーがどこにも対応しなかったか。"), True,
         Text("Right: with strict=False every unmatched weight stays random, and nothing is said about it.",
              "正解。strict=False では対応しない重みが乱数のまま残り、警告もありません。")),
        (Text("Whether the images are in the right order.", "画像の順序が正しいか。"), False,
         Text("That would hurt the answers about images, not the language itself.",
              "画像についての答えが悪くなるだけで、言語能力は保たれるはずです。")),
    ],
)  # fmt: skip

Quiz(
    name="17_real_models/2",
    question=Text(
        "Why does `up` start at zero, and `down` not?",
        "なぜ `up` はゼロから始め、`down` はそうしないのですか。"),
    choices=[
        (Text("So that the first answers are the frozen model's, and the first gradient is not zero.",
              "最初の答えは元のモデルのままで、しかも最初の勾配がゼロにならないため。"), True,
         Text("Right: the product is zero, so nothing changes yet; but up's gradient holds down(x), which is not zero.",
              "正解。積はゼロなので何も変わりませんが、up の勾配には down(x) が入り、ゼロではありません。")),
        (Text("To save memory.", "メモリを節約するため。"), False,
         Text("Zeros need as much memory as other numbers.", "ゼロも他の数と同じだけメモリを使います。")),
        (Text("It makes no difference; both could start at zero.", "違いはない。両方ゼロでもよい。"), False,
         Text("Then both gradients are zero, since each contains the other matrix: nothing would ever learn.",
              "すると両方の勾配がゼロになり（互いに相手の行列を含むため）、何も学習しません。")),
    ],
)  # fmt: skip

Quiz(
    name="17_real_models/3",
    question=Text(
        "After tuning, the model names colours rightly. What shows that it looks at the image?",
        "調整後、モデルは色を正しく答えます。画像を見ていることを示すのはどれですか。"),
    choices=[
        (Text("A low training loss.", "学習 loss が低いこと。"), False,
         Text("A blind model's loss falls too: it learns the form of the answers and which words are frequent.",
              "目をふさいだモデルの loss も下がります。答えの形と頻出語を学ぶからです。")),
        (Text("Fluent sentences about the picture.", "絵について流暢な文を書くこと。"), False,
         Text("SmolLM2 wrote fluently before it had an eye.", "SmolLM2 は目を持つ前から流暢でした。")),
        (Text("With another image in its place, the same questions are answered wrongly.",
              "別の画像に替えると、同じ質問に間違えること。"), True,
         Text("Right: only the image differs between the two runs, so only the image can explain the difference.",
              "正解。違うのは画像だけなので、差を説明できるのも画像だけです。")),
    ],
)  # fmt: skip
