"""Exercises of chapter 03, part two: squeeze and excite, and the MBConv block of EfficientNet."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.models import efficientnet

CHAPTER = "03_cnn_vs_vit"

# ------------------------------------------------------------------------------------ squeeze and excite


def _excite(features, reduce, expand, *, squeeze=lambda f: f.mean((2, 3)), middle=F.silu, gate=torch.sigmoid,
            join=torch.mul):  # fmt: skip
    return join(features, gate(expand(middle(reduce(squeeze(features)))))[:, :, None, None])


def _gate_alone(features, reduce, expand):
    return expand(F.silu(reduce(features.mean((2, 3))))).sigmoid()


def _excite_case(batch: int, channel: int, fewer: int, height: int, width: int) -> tuple:
    features = 2 * torch.randn(batch, channel, height, width) + torch.randn(channel, 1, 1)
    return features, nn.Linear(channel, fewer), nn.Linear(fewer, channel)


Exercise(
    slot=efficientnet.squeeze_excite,
    chapter=CHAPTER,
    cases=lambda: [_excite_case(2, 6, 3, 5, 4), _excite_case(3, 8, 2, 4, 7)],
    axes={"features": "batch channel height width", "return": "batch channel height width"},
    slips=[
        Slip(lambda *a: _excite(*a, gate=lambda x: x), Text(
            "the sigmoid is missing, so a channel can be turned up without limit, or upside down.",
            "sigmoid がありません。チャネルが際限なく強まったり、符号が反転したりします。")),
        Slip(lambda *a: _excite(*a, gate=lambda x: x.softmax(1)), Text(
            "the softmax makes the channels compete for one whole; each has its own gate: sigmoid.",
            "softmax ではチャネルが 1 を奪い合います。チャネルごとに独立なゲート sigmoid を使います。")),
        Slip(lambda *a: _excite(*a, middle=F.relu), Text(
            "this is the ReLU of the first paper; EfficientNet uses SiLU here.",
            "元論文の ReLU になっています。EfficientNet はここで SiLU を使います。")),
        Slip(lambda *a: _excite(*a, middle=lambda x: x), Text(
            "the SiLU between reduce and expand is missing, so both together are only one matrix.",
            "reduce と expand の間の SiLU がありません。これでは 2 つで 1 つの行列です。")),
        Slip(lambda *a: _excite(*a, squeeze=lambda f: f.amax((2, 3))), Text(
            "the channels are squeezed to their largest value; take the mean over the map.",
            "チャネルの最大値を取っています。マップ全体の平均を取ってください。")),
        Slip(lambda *a: _excite(*a, squeeze=lambda f: f.sum((2, 3))), Text(
            "the channels are squeezed to their sum, which grows with the map; take the mean.",
            "チャネルの和を取っています。マップの大きさに左右されるので平均を取ります。")),
        Slip(lambda *a: _excite(*a, squeeze=lambda f: f.mean((0, 2, 3)).expand(f.shape[:2])), Text(
            "the mean runs over the batch too, so one image changes the gates of another.",
            "平均がバッチにも及んでいます。ある画像が別の画像のゲートを変えてしまいます。")),
        Slip(lambda *a: _excite(*a, join=torch.add), Text(
            "the gate is added; multiply with it: near 0 it closes a channel, near 1 it lets it through.",
            "ゲートを足しています。掛けてください。0 に近ければ閉じ、1 に近ければ通します。")),
        Slip(_gate_alone, Text(
            "this returns the gates; return the features, multiplied by them.",
            "ゲートを返しています。features に掛けたものを返してください。")),
    ],
    hints=[
        Text("Squeeze, then excite: one number per channel in, one factor per channel out, then multiply.",
             "まず squeeze、次に excite。チャネルごとに 1 つの数が入り、1 つの係数が出ます。最後に掛けます。"),
        Text("means = features.mean((2, 3)); gate = expand(F.silu(reduce(means))).sigmoid(), shape (batch, channel).",
             "means = features.mean((2, 3))、gate = expand(F.silu(reduce(means))).sigmoid()。形は (batch, channel)。"),
        Text("gate[:, :, None, None] has the two axes that let it multiply a map.",
             "gate[:, :, None, None] とすればマップに掛けられます。"),
    ],
    gradient=("features",),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ mbconv


class _Gate(nn.Module):
    """A stand-in for squeeze and excite that takes any number of channels."""

    def forward(self, features: Tensor) -> Tensor:
        own = torch.arange(features.shape[1], device=features.device)[:, None, None]
        return features * (features.mean((2, 3), keepdim=True) + own)


def _mbconv_case(batch: int, before: int, after: int, height: int, stride: int, skip: bool) -> tuple:
    middle = 3 * before
    expand = nn.Sequential(nn.Conv2d(before, middle, 1), nn.SiLU())
    depthwise = nn.Sequential(nn.Conv2d(middle, middle, 3, stride, 1, groups=middle), nn.SiLU())
    features = torch.randn(batch, before, height, height + 2)
    return features, expand, depthwise, _Gate(), nn.Conv2d(middle, after, 1), skip


def _always(x, expand, depthwise, excite, project, skip):
    changed = project(excite(depthwise(expand(x))))
    return changed + x if changed.shape == x.shape else changed


Exercise(
    slot=efficientnet.mbconv,
    chapter=CHAPTER,
    cases=lambda: [
        _mbconv_case(2, 4, 4, 5, 1, True),
        _mbconv_case(2, 4, 4, 3, 1, False),
        _mbconv_case(3, 4, 5, 6, 2, False),
    ],
    axes={"features": "batch channel height width", "return": "batch newchannel newheight newwidth"},
    slips=[
        Slip(lambda x, e, d, s, p, skip: p(s(d(e(x)))), Text(
            "the input is never added; when `skip` is true the block adds to its input.",
            "入力が足されていません。skip が真のときは入力に足します。")),
        Slip(_always, Text(
            "the input is added whenever the shapes allow it; `skip` decides, not the shape.",
            "形が合えば必ず入力を足しています。決めるのは形ではなく skip です。")),
        Slip(lambda x, e, d, s, p, skip: (p(s(d(e(x)))) + (x if skip else 0)).relu(), Text(
            "there is a ReLU at the end, as in a ResNet; here the narrow map stays linear, or it would lose too much.",
            "最後に ResNet のような ReLU があります。ここでは狭いマップを線形のままにします。")),
        Slip(lambda x, e, d, s, p, skip: p(d(s(e(x)))) + (x if skip else 0), Text(
            "the channels are weighed before they are filtered; squeeze and excite comes after the depthwise filters.",
            "フィルタの前に重み付けしています。squeeze-excite は depthwise の後です。")),
        Slip(lambda x, e, d, s, p, skip: s(p(d(e(x)))) + (x if skip else 0), Text(
            "squeeze and excite works on the narrow map; it comes before the projection, where the map is wide.",
            "狭いマップに squeeze-excite を掛けています。projection の前の広いマップに掛けます。")),
        Slip(lambda x, e, d, s, p, skip: p(d(e(x))) + (x if skip else 0), Text(
            "squeeze and excite is missing between the depthwise filters and the projection.",
            "depthwise と projection の間の squeeze-excite がありません。")),
        Slip(lambda x, e, d, s, p, skip: p(s(e(x))) + (x if skip else 0), Text(
            "the depthwise filters are missing, so no place ever sees its neighbours.",
            "depthwise フィルタがありません。これではどの場所も隣を見られません。")),
        Slip(lambda x, e, d, s, p, skip: p(s(d(e(x)))) * (x if skip else 1), Text(
            "the input is multiplied; add it.",
            "入力を掛けています。足してください。")),
    ],
    hints=[
        Text("Four steps in the order of the arguments, then perhaps a sum.",
             "引数の順に 4 段階、そのあと（場合により）足し算です。"),
        Text("changed = project(excite(depthwise(expand(features)))); add features if skip, and nothing after that.",
             "changed = project(excite(depthwise(expand(features))))。skip なら features を足します。"),
    ],
    gradient=("features",),
)  # fmt: skip
