"""Exercises of chapter 03, part one: convolution and the residual block, and the quiz.

ch03_mbconv.py has the blocks of EfficientNet, ch03_reach.py asks how far networks see.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Quiz, Slip, Text
from vlmcourse.models import cnn

CHAPTER = "03_cnn_vs_vit"

# ------------------------------------------------------------------------------------------- convolution


def _convolve(images, weight, stride=1, padding=0, groups=1, *, order=None, dilation=1):
    """The reference, with the rows of its window matrix in another order or taken from farther apart."""
    batch, _, height, _ = images.shape
    filters, part, row, column = weight.shape
    reach = dilation * (row - 1) + 1
    windows = F.unfold(images, (row, column), dilation, padding, stride).reshape(batch, groups, part * row * column, -1)
    matrix = (weight if order is None else weight.permute(0, *order)).reshape(groups, filters // groups, -1)
    return (matrix @ windows).reshape(batch, filters, (height + 2 * padding - reach) // stride + 1, -1)


def _stride_as_dilation(images, weight, stride=1, padding=0, groups=1):
    return _convolve(images, weight, 1, padding, groups, dilation=stride)


def _dealt_out(images, weight, stride=1, padding=0, groups=1):
    """Group g takes every groups-th channel."""
    order = torch.arange(images.shape[1], device=images.device).reshape(-1, groups).T.flatten()
    return _convolve(images[:, order], weight, stride, padding, groups)


def _filters_dealt_out(images, weight, stride=1, padding=0, groups=1):
    """The results of the groups are written down in turn."""
    out = _convolve(images, weight, stride, padding, groups)
    return out.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def _repeated_edge(images, weight, stride=1, padding=0, groups=1):
    return _convolve(F.pad(images, 4 * (padding,), mode="replicate"), weight, stride, 0, groups)


def _places_by_column(images, weight, stride=1, padding=0, groups=1):
    out = _convolve(images, weight, stride, padding, groups)
    return out.reshape(*out.shape[:2], out.shape[3], out.shape[2]).transpose(2, 3)


def _stripes(batch: int, channel: int, height: int, width: int) -> Tensor:
    """A bright bar that slants over a darker, noisy ground."""
    row, column = torch.arange(height)[:, None], torch.arange(width)
    bar = ((row + column) % 7 < 3).float()
    return bar + 0.3 * torch.rand(batch, channel, height, width)


Exercise(
    slot=cnn.conv2d,
    chapter=CHAPTER,
    cases=lambda: [
        (_stripes(2, 3, 9, 12), torch.randn(5, 3, 4, 2)),
        (torch.randn(2, 3, 10, 13), torch.randn(4, 3, 1, 2), 3, 1),
        (torch.randn(3, 6, 7, 8), torch.randn(12, 2, 3, 5), 2, 2, 3),
        (torch.randn(2, 4, 6, 7), torch.randn(8, 1, 3, 2), 1, 1, 4),
    ],
    axes={"images": "batch channel height width", "weight": "filter part row column",
          "return": "batch filter newheight newwidth"},
    slips=[
        Slip(lambda x, w, s=1, p=0, g=1: _convolve(x, w.flip(2, 3), s, p, g), Text(
            "the filter is flipped. That is convolution in mathematics; networks slide the filter as it is.",
            "フィルタが反転しています。数学の畳み込みはそうですが、ネットワークではそのまま滑らせます。")),
        Slip(lambda x, w, s=1, p=0, g=1: _convolve(x, w, 1, p, g), Text(
            "the stride is ignored: the window must jump `stride` pixels from one place to the next.",
            "stride が無視されています。窓は stride 画素ずつ進みます。")),
        Slip(lambda x, w, s=1, p=0, g=1: _convolve(x, w, s, 0, g), Text(
            "the padding is ignored: `padding` rows and columns of zeros belong on each of the four sides.",
            "padding が無視されています。四辺それぞれに padding 行（列）のゼロを足します。")),
        Slip(_stride_as_dilation, Text(
            "the stride has become a dilation: the third argument of F.unfold is dilation; write stride=stride.",
            "stride が dilation になっています。F.unfold の 3 番目の引数は dilation です。"
            "stride=stride と名前で渡してください。")),
        Slip(lambda *a: _convolve(*a, order=(2, 3, 1)), Text(
            "the filter is flattened with its channel last; F.unfold writes a window as (channel, row, column).",
            "フィルタをチャネルを最後にして平らにしています。F.unfold の窓は (channel, row, column) の順です。")),
        Slip(lambda *a: _convolve(*a, order=(1, 3, 2)), Text(
            "row and column of the filter are swapped; F.unfold writes a window as (channel, row, column).",
            "フィルタの行と列が逆です。F.unfold の窓は (channel, row, column) の順です。")),
        Slip(_dealt_out, Text(
            "the channels are dealt out to the groups in turn; a group is a run of neighbouring channels.",
            "チャネルを 1 つずつ順にグループへ配っています。グループは連続したチャネルの並びです。")),
        Slip(_filters_dealt_out, Text(
            "the results of the groups are interleaved; all filters of group 0 come first.",
            "グループの結果が交互に並んでいます。先にグループ 0 の全フィルタが来ます。")),
        Slip(_repeated_edge, Text(
            "the border is padded with copies of the edge; here it is padded with zeros.",
            "縁の画素を複製して詰めています。ここではゼロで詰めます。")),
        Slip(_places_by_column, Text(
            "the places are read column by column; F.unfold lists them row by row: reshape to (newheight, newwidth).",
            "場所を列順に読んでいます。F.unfold は行順に並べるので (newheight, newwidth) に reshape します。")),
    ],
    hints=[
        Text("First without groups: F.unfold cuts out all windows, one per column. What must each filter become so "
             "that one `@` does all sums?",
             "まず groups なしで考えます。F.unfold は全ての窓を列として切り出します。"
             "`@` 1 回で済ませるには、フィルタをどんな形にしますか。"),
        Text("`windows = F.unfold(images, (row, column), padding=padding, stride=stride)` has shape (batch, "
             "channel·row·column, place); `weight.flatten(1) @ windows` is then the answer but for its shape.",
             "`F.unfold(images, (row, column), padding=padding, stride=stride)` の形は "
             "(batch, channel·row·column, place)。あとは `weight.flatten(1) @ windows` と形だけです。"),
        Text("With groups: windows.reshape(batch, groups, part·row·column, -1), weight.reshape(groups, "
             "filters // groups, -1), multiply, then reshape to (batch, filters, newheight, -1).",
             "groups があるとき: windows.reshape(batch, groups, part·row·column, -1) と "
             "weight.reshape(groups, filters // groups, -1) を掛け、"
             "(batch, filters, newheight, -1) に reshape します。"),
    ],
    gradient=("images", "weight"),
    picture=lambda output: output[0, 0],
)  # fmt: skip

# ---------------------------------------------------------------------------------------- residual block


def _residual_case(batch: int, before: int, after: int, height: int, stride: int) -> tuple:
    body = nn.Conv2d(before, after, 3, stride, 1)
    shortcut = nn.Conv2d(before, after, 1, stride)
    return torch.randn(batch, before, height, height + 2), body, shortcut


Exercise(
    slot=cnn.residual_block,
    chapter=CHAPTER,
    cases=lambda: [_residual_case(2, 4, 4, 5, 1), _residual_case(2, 3, 4, 6, 2)],
    axes={"images": "batch channel height width", "return": "batch newchannel newheight newwidth"},
    slips=[
        Slip(lambda x, body, shortcut: body(x).relu(), Text(
            "the shortcut is missing, so this is a plain layer: the block must add to what the shortcut brings.",
            "ショートカットがありません。これでは普通の層です。ショートカットの出力に足してください。")),
        Slip(lambda x, body, shortcut: (body(x) + x).relu(), Text(
            "the images themselves are added; add shortcut(images), which has the body's channels and size.",
            "画像そのものを足しています。body と同じ形になる shortcut(images) を足してください。")),
        Slip(lambda x, body, shortcut: body(x) + shortcut(x), Text(
            "the ReLU after the sum is missing.",
            "和の後の ReLU がありません。")),
        Slip(lambda x, body, shortcut: body(x).relu() + shortcut(x), Text(
            "the ReLU comes before the sum, so the body can only ever add; it must also be able to take away.",
            "ReLU が和の前にあるため、body は足すことしかできません。引けるように和の後に置きます。")),
        Slip(lambda x, body, shortcut: body(x).relu() + shortcut(x).relu(), Text(
            "each branch has its own ReLU; there is one, after the sum.",
            "枝ごとに ReLU があります。和の後に 1 つだけです。")),
        Slip(lambda x, body, shortcut: body(shortcut(x)).relu(), Text(
            "body and shortcut run one after the other; they run side by side on the same images and are added.",
            "body と shortcut を直列にしています。同じ画像に並列に働かせ、足し合わせます。")),
        Slip(lambda x, body, shortcut: (body(x) * shortcut(x)).relu(), Text(
            "the branches are multiplied; add them.",
            "枝を掛けています。足してください。")),
        Slip(lambda x, body, shortcut: (body(x.relu()) + shortcut(x)).relu(), Text(
            "the images pass a ReLU before the body; the only ReLU here comes after the sum.",
            "body の前に ReLU があります。ここでの ReLU は和の後だけです。")),
    ],
    hints=[
        Text("Two branches read the same images. What joins them, and what comes last?",
             "2 つの枝が同じ画像を読みます。どうやって合わせ、最後に何をしますか。"),
        Text("body(images) plus shortcut(images), then .relu(). One line.",
             "body(images) と shortcut(images) を足し、.relu() を掛けます。1 行です。"),
    ],
    gradient=("images",),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------- quiz

Quiz(
    "03_cnn_vs_vit/1",
    Text("A layer with 64 filters of 3×3 reads a map of 64 channels. What happens to its number of weights when the "
         "map becomes twice as high and twice as wide?",
         "64 チャネルのマップを 3×3 のフィルタ 64 枚が読みます。"
         "マップの高さと幅を 2 倍にすると、重みの数はどうなりますか。"),
    [
        (Text("It stays the same.", "変わらない。"), True,
         Text("The same filters slide over more places: 3 · 3 · 64 · 64 weights, whatever the map. The multiplications "
              "grow four times.",
              "同じフィルタがより多くの場所を滑るだけです。重みは常に 3·3·64·64、掛け算は 4 倍になります。")),
        (Text("It grows four times.", "4 倍になる。"), False,
         Text("The multiplications do. The weights are shared by all places; that is the point of a convolution.",
              "4 倍になるのは掛け算です。重みは全ての場所で共有されます。")),
        (Text("It doubles.", "2 倍になる。"), False,
         Text("No weight belongs to a row or a column. Nothing in 3 · 3 · 64 · 64 knows the size of the map.",
              "行や列に属する重みはありません。3·3·64·64 はマップの大きさを知りません。")),
    ],
)  # fmt: skip

Quiz(
    "03_cnn_vs_vit/2",
    Text("A CNN ends in a mean over places and one linear layer. Two objects are farther apart than its receptive "
         "field. Can it learn whether they have the same colour?",
         "最後が場所の平均と線形層 1 つの CNN があります。2 つの物体は受容野より離れています。"
         "同じ色かどうかを学べるでしょうか。"),
    [
        (Text("Yes, with enough data.", "データが十分ならできる。"), False,
         Text("Data cannot help: its score is a sum of one term per object. Such a sum cannot say \"both equal\".",
              "データでは解決しません。スコアは物体ごとの項の和で、和では「両方が等しい」を表せません。")),
        (Text("No, whatever the data: its score is a sum of one term per object.",
              "データがどれだけあってもできない。スコアが物体ごとの項の和だから。"), True,
         Text("If red+red and blue+blue both pass the threshold, then red+blue does too: it lies halfway. The cure is "
              "reach before the mean, or layers after it.",
              "赤+赤と青+青が閾値を越えるなら、中間にある赤+青も越えます。"
              "平均の前に視野を広げるか、平均の後に層を足せば治ります。")),
        (Text("Yes, if it has more channels.", "チャネルを増やせばできる。"), False,
         Text("More channels make each term richer, but it is still one term per object.",
              "項が豊かになるだけで、物体ごとの項の和であることは変わりません。")),
    ],
)  # fmt: skip

Quiz(
    "03_cnn_vs_vit/3",
    Text("You have 2,000 labelled pictures and no pretrained model, and the answer lies in small local textures. What "
         "do you try first?",
         "ラベル付き画像が 2,000 枚、事前学習モデルなし、答えは小さな局所的な模様にあります。まず何を試しますか。"),
    [
        (Text("A small CNN.", "小さな CNN。"), True,
         Text("Locality and shared weights are true of this task, and they need not be learned from 2,000 pictures.",
              "局所性と重みの共有がこの課題に合っており、2,000 枚から学ぶ必要がありません。")),
        (Text("A large ViT, since ViTs are the state of the art.", "最先端なので大きな ViT。"), False,
         Text("They are so after large pretraining. From nothing, a ViT must spend data on learning that neighbours "
              "belong together.",
              "それは大規模な事前学習の後の話です。ゼロからでは、隣どうしの関係を学ぶだけでデータを使います。")),
        (Text("A ViT without positions.", "位置なしの ViT。"), False,
         Text("Then patches are a bag: even what lies next to what is lost.",
              "パッチがただの袋になり、何が隣り合うかさえ失われます。")),
    ],
)  # fmt: skip
