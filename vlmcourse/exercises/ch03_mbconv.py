"""Exercises of chapter 03, part two: squeeze and excite, and the MBConv block of EfficientNet."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import efficientnet

exercise, _ = chapter("03_cnn_vs_vit")

# ------------------------------------------------------------------------------------ squeeze and excite


def _excite(features, reduce, expand, *, squeeze=lambda f: f.mean((2, 3)), middle=F.silu, gate=torch.sigmoid,
            join=torch.mul):  # fmt: skip
    return join(features, gate(expand(middle(reduce(squeeze(features)))))[:, :, None, None])


def _gate_alone(features, reduce, expand):
    return expand(F.silu(reduce(features.mean((2, 3))))).sigmoid()


def _excite_case(batch: int, channel: int, fewer: int, height: int, width: int) -> tuple:
    features = 2 * torch.randn(batch, channel, height, width) + torch.randn(channel, 1, 1)
    return features, nn.Linear(channel, fewer), nn.Linear(fewer, channel)


exercise(
    efficientnet.squeeze_excite,
    cases=lambda: [_excite_case(2, 6, 3, 5, 4), _excite_case(3, 8, 2, 4, 7)],
    slips=[
        Slip(lambda *a: _excite(*a, gate=lambda x: x),
             "the sigmoid is missing, so a channel can be turned up without limit, or upside down."),
        Slip(lambda *a: _excite(*a, gate=lambda x: x.softmax(1)),
             "the softmax makes the channels compete for one whole; each has its own gate: sigmoid."),
        Slip(lambda *a: _excite(*a, middle=F.relu),
             "this is the ReLU of the first paper; EfficientNet uses SiLU here."),
        Slip(lambda *a: _excite(*a, middle=lambda x: x),
             "the SiLU between reduce and expand is missing, so both together are only one matrix."),
        Slip(lambda *a: _excite(*a, squeeze=lambda f: f.amax((2, 3))),
             "the channels are squeezed to their largest value; take the mean over the map."),
        Slip(lambda *a: _excite(*a, squeeze=lambda f: f.sum((2, 3))),
             "the channels are squeezed to their sum, which grows with the map; take the mean."),
        Slip(lambda *a: _excite(*a, squeeze=lambda f: f.mean((0, 2, 3)).expand(f.shape[:2])),
             "the mean runs over the batch too, so one image changes the gates of another."),
        Slip(lambda *a: _excite(*a, join=torch.add),
             "the gate is added; multiply with it: near 0 it closes a channel, near 1 it lets it through."),
        Slip(_gate_alone, "this returns the gates; return the features, multiplied by them."),
    ],
    hints=[
        "Squeeze, then excite: one number per channel in, one factor per channel out, then multiply.",
        "means = features.mean((2, 3)); gate = expand(F.silu(reduce(means))).sigmoid(), shape (batch, "
        "channel).",
        "gate[:, :, None, None] has the two axes that let it multiply a map.",
    ],
    gradient=("features",),
)

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


exercise(
    efficientnet.mbconv,
    cases=lambda: [
        _mbconv_case(2, 4, 4, 5, 1, True),
        _mbconv_case(2, 4, 4, 3, 1, False),
        _mbconv_case(3, 4, 5, 6, 2, False),
    ],
    slips=[
        Slip(lambda x, e, d, s, p, skip: p(s(d(e(x)))),
             "the input is never added; when `skip` is true the block adds to its input."),
        Slip(_always, "the input is added whenever the shapes allow it; `skip` decides, not the shape."),
        Slip(lambda x, e, d, s, p, skip: (p(s(d(e(x)))) + (x if skip else 0)).relu(),
             "there is a ReLU at the end, as in a ResNet; here the narrow map stays linear, or it would "
             "lose too much."),
        Slip(lambda x, e, d, s, p, skip: p(d(s(e(x)))) + (x if skip else 0),
             "the channels are weighed before they are filtered; squeeze and excite comes after the "
             "depthwise filters."),
        Slip(lambda x, e, d, s, p, skip: s(p(d(e(x)))) + (x if skip else 0),
             "squeeze and excite works on the narrow map; it comes before the projection, where the map is "
             "wide."),
        Slip(lambda x, e, d, s, p, skip: p(d(e(x))) + (x if skip else 0),
             "squeeze and excite is missing between the depthwise filters and the projection."),
        Slip(lambda x, e, d, s, p, skip: p(s(e(x))) + (x if skip else 0),
             "the depthwise filters are missing, so no place ever sees its neighbours."),
        Slip(lambda x, e, d, s, p, skip: p(s(d(e(x)))) * (x if skip else 1),
             "the input is multiplied; add it."),
    ],
    hints=[
        "Four steps in the order of the arguments, then perhaps a sum.",
        "changed = project(excite(depthwise(expand(features)))); add features if skip, and nothing after "
        "that.",
    ],
    gradient=("features",),
)
