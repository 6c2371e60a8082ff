"""Exercises of chapter 03, part one: convolution and the residual block, and the quiz.

ch03_mbconv.py has the blocks of EfficientNet, ch03_reach.py asks how far networks see.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import cnn

exercise, quiz = chapter("03_cnn_vs_vit")

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


exercise(
    cnn.conv2d,
    cases=lambda: [
        (_stripes(2, 3, 9, 12), torch.randn(5, 3, 4, 2)),
        (torch.randn(2, 3, 10, 13), torch.randn(4, 3, 1, 2), 3, 1),
        (torch.randn(3, 6, 7, 8), torch.randn(12, 2, 3, 5), 2, 2, 3),
        (torch.randn(2, 4, 6, 7), torch.randn(8, 1, 3, 2), 1, 1, 4),
    ],
    slips=[
        Slip(lambda x, w, s=1, p=0, g=1: _convolve(x, w.flip(2, 3), s, p, g),
             "the filter is flipped. That is convolution in mathematics; networks slide the filter as it "
             "is."),
        Slip(lambda x, w, s=1, p=0, g=1: _convolve(x, w, 1, p, g),
             "the stride is ignored: the window must jump `stride` pixels from one place to the next."),
        Slip(lambda x, w, s=1, p=0, g=1: _convolve(x, w, s, 0, g),
             "the padding is ignored: `padding` rows and columns of zeros belong on each of the four sides."),
        Slip(_stride_as_dilation,
             "the stride has become a dilation: the third argument of F.unfold is dilation; write "
             "stride=stride."),
        Slip(lambda *a: _convolve(*a, order=(2, 3, 1)),
             "the filter is flattened with its channel last; F.unfold writes a window as (channel, row, "
             "column)."),
        Slip(lambda *a: _convolve(*a, order=(1, 3, 2)),
             "row and column of the filter are swapped; F.unfold writes a window as (channel, row, column)."),
        Slip(_dealt_out,
             "the channels are dealt out to the groups in turn; a group is a run of neighbouring channels."),
        Slip(_filters_dealt_out,
             "the results of the groups are interleaved; all filters of group 0 come first."),
        Slip(_repeated_edge, "the border is padded with copies of the edge; here it is padded with zeros."),
        Slip(_places_by_column,
             "the places are read column by column; F.unfold lists them row by row: reshape to (newheight, "
             "newwidth)."),
    ],
    hints=[
        "First without groups: F.unfold cuts out all windows, one per column. What must each filter become "
        "so that one `@` does all sums?",
        "`windows = F.unfold(images, (row, column), padding=padding, stride=stride)` has shape (batch, "
        "channel·row·column, place); `weight.flatten(1) @ windows` is then the answer but for its shape.",
        "With groups: windows.reshape(batch, groups, part·row·column, -1), weight.reshape(groups, filters "
        "// groups, -1), multiply, then reshape to (batch, filters, newheight, -1).",
    ],
    gradient=("images", "weight"),
    picture=lambda output: output[0, 0],
)

# ---------------------------------------------------------------------------------------- residual block


def _residual_case(batch: int, before: int, after: int, height: int, stride: int) -> tuple:
    body = nn.Conv2d(before, after, 3, stride, 1)
    shortcut = nn.Conv2d(before, after, 1, stride)
    return torch.randn(batch, before, height, height + 2), body, shortcut


exercise(
    cnn.residual_block,
    cases=lambda: [_residual_case(2, 4, 4, 5, 1), _residual_case(2, 3, 4, 6, 2)],
    slips=[
        Slip(lambda x, body, shortcut: body(x).relu(),
             "the shortcut is missing, so this is a plain layer: the block must add to what the shortcut "
             "brings."),
        Slip(lambda x, body, shortcut: (body(x) + x).relu(),
             "the images themselves are added; add shortcut(images), which has the body's channels and "
             "size."),
        Slip(lambda x, body, shortcut: body(x) + shortcut(x), "the ReLU after the sum is missing."),
        Slip(lambda x, body, shortcut: body(x).relu() + shortcut(x),
             "the ReLU comes before the sum, so the body can only ever add; it must also be able to take "
             "away."),
        Slip(lambda x, body, shortcut: body(x).relu() + shortcut(x).relu(),
             "each branch has its own ReLU; there is one, after the sum."),
        Slip(lambda x, body, shortcut: body(shortcut(x)).relu(),
             "body and shortcut run one after the other; they run side by side on the same images and are "
             "added."),
        Slip(lambda x, body, shortcut: (body(x) * shortcut(x)).relu(),
             "the branches are multiplied; add them."),
        Slip(lambda x, body, shortcut: (body(x.relu()) + shortcut(x)).relu(),
             "the images pass a ReLU before the body; the only ReLU here comes after the sum."),
    ],
    hints=[
        "Two branches read the same images. What joins them, and what comes last?",
        "body(images) plus shortcut(images), then .relu(). One line.",
    ],
    gradient=("images",),
)

# ------------------------------------------------------------------------------------------------- quiz

quiz(
    1,
    "A layer with 64 filters of 3×3 reads a map of 64 channels. What happens to its number of weights when "
    "the map becomes twice as high and twice as wide?",
    [
        ("It stays the same.", True,
         "The same filters slide over more places: 3 · 3 · 64 · 64 weights, whatever the map. The "
         "multiplications grow four times."),
        ("It grows four times.", False,
         "The multiplications do. The weights are shared by all places; that is the point of a convolution."),
        ("It doubles.", False,
         "No weight belongs to a row or a column. Nothing in 3 · 3 · 64 · 64 knows the size of the map."),
    ],
)

quiz(
    2,
    "A CNN ends in a mean over places and one linear layer. Two objects are farther apart than its "
    "receptive field. Can it learn whether they have the same colour?",
    [
        ("Yes, with enough data.", False,
         'Data cannot help: its score is a sum of one term per object. Such a sum cannot say "both equal".'),
        ("No, whatever the data: its score is a sum of one term per object.", True,
         "If red+red and blue+blue both pass the threshold, then red+blue does too: it lies halfway. The "
         "cure is reach before the mean, or layers after it."),
        ("Yes, if it has more channels.", False,
         "More channels make each term richer, but it is still one term per object."),
    ],
)

quiz(
    3,
    "You have 2,000 labelled pictures and no pretrained model, and the answer lies in small local "
    "textures. What do you try first?",
    [
        ("A small CNN.", True,
         "Locality and shared weights are true of this task, and they need not be learned from 2,000 "
         "pictures."),
        ("A large ViT, since ViTs are the state of the art.", False,
         "They are so after large pretraining. From nothing, a ViT must spend data on learning that "
         "neighbours belong together."),
        ("A ViT without positions.", False, "Then patches are a bag: even what lies next to what is lost."),
    ],
)
