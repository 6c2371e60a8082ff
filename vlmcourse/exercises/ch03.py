"""Exercises of chapter 03: convolution, the blocks of ResNet and EfficientNet, and how far networks see."""

import torch
from torch import Tensor, nn

from vlmcourse.diagnostics import reach
from vlmcourse.exercises.base import chapter
from vlmcourse.models import cnn, efficientnet

exercise, quiz = chapter("03_cnn_vs_vit")


def _stripes(batch: int, channel: int, height: int, width: int) -> Tensor:
    """A bright bar that slants over a darker, noisy ground."""
    row, column = torch.arange(height)[:, None], torch.arange(width)
    bar = ((row + column) % 7 < 3).float()
    return bar + 0.3 * torch.rand(batch, channel, height, width)


exercise(cnn.conv2d, gradient=("images", "weight"), without=("aten::convolution",),
    picture=lambda output: output[0, 0],
    cases=lambda: [
        (_stripes(2, 3, 9, 12), torch.randn(5, 3, 4, 2)),
        (torch.randn(2, 3, 10, 13), torch.randn(4, 3, 1, 2), 3, 1),
        (torch.randn(3, 6, 7, 8), torch.randn(12, 2, 3, 5), 2, 2, 3),
        (torch.randn(2, 4, 6, 7), torch.randn(8, 1, 3, 2), 1, 1, 4),
    ],
    slips=[
        ("weight.reshape", "weight.flip(2, 3).reshape",
         "the filter is flipped. That is convolution in mathematics; networks slide the filter as it is."),
        ("groups=1):", "groups=1):\n    stride = 1",
         "the stride is ignored: the window must jump `stride` pixels from one place to the next."),
        ("groups=1):", "groups=1):\n    padding = 0",
         "the padding is ignored: `padding` rows and columns of zeros belong on each of the four sides."),
        (("stride=stride", "dilation=stride"), ("- row) // stride + 1", "- stride * (row - 1))"),
         "the stride has become a dilation: the third argument of F.unfold is dilation; "
         "write stride=stride."),
        ("weight.reshape", "weight.permute(0, 2, 3, 1).reshape",
         "the filter is flattened with its channel last; "
         "F.unfold writes a window as (channel, row, column)."),
        ("weight.reshape", "weight.transpose(2, 3).reshape",
         "row and column of the filter are swapped; F.unfold writes a window as (channel, row, column)."),
        ("groups=1):",
         "groups=1):\n    images = images.unflatten(1, (-1, groups)).transpose(1, 2).flatten(1, 2)",
         "the channels are dealt out to the groups in turn; a group is a run of neighbouring channels."),
        ("matches.reshape", "matches.transpose(1, 2).reshape",
         "the results of the groups are interleaved; all filters of group 0 come first."),
        ("groups=1):", 'groups=1):\n    images, padding = F.pad(images, 4 * (padding,), mode="replicate"), 0',
         "the border is padded with copies of the edge; here it is padded with zeros."),
        ("(height + 2 * padding - row) // stride + 1, -1)",
         "-1, (height + 2 * padding - row) // stride + 1).transpose(2, 3)",
         "the places are read column by column; F.unfold lists them row by row: "
         "reshape to (newheight, newwidth)."),
    ],
    hints=["First without groups: F.unfold cuts out all windows, one per column. "
           "What must each filter become so that one `@` does all sums?",
           "`windows = F.unfold(images, (row, column), padding=padding, stride=stride)` has shape (batch, "
           "channel·row·column, place); `weight.flatten(1) @ windows` is then the answer but for its shape.",
           "With groups: windows.reshape(batch, groups, part·row·column, -1), weight.reshape(groups, "
           "filters // groups, -1), multiply, then reshape to (batch, filters, newheight, -1)."],
)


def _residual_case(batch: int, before: int, after: int, height: int, stride: int) -> tuple:
    body = nn.Conv2d(before, after, 3, stride, 1)
    shortcut = nn.Conv2d(before, after, 1, stride)
    return torch.randn(batch, before, height, height + 2), body, shortcut


exercise(cnn.residual_block, gradient=("images",),
    cases=lambda: [_residual_case(2, 4, 4, 5, 1), _residual_case(2, 3, 4, 6, 2)],
    slips=[
        (" + shortcut(images)", "", "the shortcut is missing, so this is a plain layer: "
         "the block must add to what the shortcut brings."),
        ("shortcut(images)", "images",
         "the images themselves are added; add shortcut(images), which has the body's channels and size."),
        (".relu()", "", "the ReLU after the sum is missing."),
        ("(body(images) + shortcut(images)).relu()", "body(images).relu() + shortcut(images)",
         "the ReLU comes before the sum, so the body can only ever add; it must also be able to take away."),
        ("(body(images) + shortcut(images)).relu()", "body(images).relu() + shortcut(images).relu()",
         "each branch has its own ReLU; there is one, after the sum."),
        ("body(images) + shortcut(images)", "body(shortcut(images))",
         "body and shortcut run one after the other; "
         "they run side by side on the same images and are added."),
        (" + ", " * ", "the branches are multiplied; add them."),
        ("body(images)", "body(images.relu())",
         "the images pass a ReLU before the body; the only ReLU here comes after the sum."),
    ],
    hints=["Two branches read the same images. What joins them, and what comes last?",
           "body(images) plus shortcut(images), then .relu(). One line."],
)

exercise(efficientnet.squeeze_excite, gradient=("features",),
    cases=lambda: [
        (2 * torch.randn(2, 6, 5, 4) + torch.randn(6, 1, 1), nn.Linear(6, 3), nn.Linear(3, 6)),
        (2 * torch.randn(3, 8, 4, 7) + torch.randn(8, 1, 1), nn.Linear(8, 2), nn.Linear(2, 8)),
    ],
    slips=[
        (".sigmoid()", "",
         "the sigmoid is missing, so a channel can be turned up without limit, or upside down."),
        ("sigmoid()", "softmax(dim=1)",
         "the softmax makes the channels compete for one whole; each has its own gate: sigmoid."),
        ("silu", "relu", "this is the ReLU of the first paper; EfficientNet uses SiLU here."),
        ("nn.functional.silu(reduce(means))", "reduce(means)",
         "the SiLU between reduce and expand is missing, so both together are only one matrix."),
        ("mean((2, 3))", "amax((2, 3))",
         "the channels are squeezed to their largest value; take the mean over the map."),
        ("mean((2, 3))", "sum((2, 3))",
         "the channels are squeezed to their sum, which grows with the map; take the mean."),
        ("mean((2, 3))", "mean((0, 2, 3)).expand(features.shape[:2])",
         "the mean runs over the batch too, so one image changes the gates of another."),
        (" * ", " + ",
         "the gate is added; multiply with it: near 0 it closes a channel, near 1 it lets it through."),
        ("features * gate[:, :, None, None]", "gate",
         "this returns the gates; return the features, multiplied by them."),
    ],
    hints=["Squeeze, then excite: one number per channel in, one factor per channel out, then multiply.",
           "means = features.mean((2, 3)); "
           "gate = expand(F.silu(reduce(means))).sigmoid(), shape (batch, channel).",
           "gate[:, :, None, None] has the two axes that let it multiply a map."],
)


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


exercise(efficientnet.mbconv, gradient=("features",),
    cases=lambda: [
        _mbconv_case(2, 4, 4, 5, 1, True),
        _mbconv_case(2, 4, 4, 3, 1, False),
        _mbconv_case(3, 4, 5, 6, 2, False),
    ],
    slips=[
        ("features + changed if skip else changed", "changed",
         "the input is never added; when `skip` is true the block adds to its input."),
        ("if skip", "if changed.shape == features.shape",
         "the input is added whenever the shapes allow it; `skip` decides, not the shape."),
        ("features + changed if skip else changed", "(features + changed if skip else changed).relu()",
         "there is a ReLU at the end, as in a ResNet; "
         "here the narrow map stays linear, or it would lose too much."),
        ("excite(depthwise(", "depthwise(excite(", "the channels are weighed before they are filtered; "
         "squeeze and excite comes after the depthwise filters."),
        ("project(excite(", "excite(project(", "squeeze and excite works on the narrow map; "
         "it comes before the projection, where the map is wide."),
        ("excite(depthwise(expand(features)))", "depthwise(expand(features))",
         "squeeze and excite is missing between the depthwise filters and the projection."),
        ("depthwise(expand(features))", "expand(features)",
         "the depthwise filters are missing, so no place ever sees its neighbours."),
        (" + ", " * ", "the input is multiplied; add it."),
    ],
    hints=["Four steps in the order of the arguments, then perhaps a sum.",
           "changed = project(excite(depthwise(expand(features)))); "
           "add features if skip, and nothing after that."],
)

exercise(reach.receptive_field,
    cases=lambda: [
        (torch.tensor([3, 5, 3]), torch.tensor([2, 1, 1])),
        (torch.tensor([7, 3, 3, 1, 3]), torch.tensor([2, 2, 1, 3, 1])),
    ],
    slips=[
        ("(kernels - 1) * step", "kernels - 1",
         "the strides are ignored: after a stride of 2, one step in the map is two pixels in the image."),
        ("* step", "* strides.cumprod(0)", "a layer's own stride is counted; "
         "it spreads out the places that later layers read, not its own windows."),
        ("1 + ((kernels - 1) * step)", "(kernels * step)", "every layer adds its whole kernel; "
         "one place of each window was seen before, so it adds kernel − 1."),
        ("1 + ((", "((", "the 1 is missing: before the first layer, a place sees one pixel, itself."),
        ("1 + ((kernels - 1) * step).cumsum(0)", "kernels.cumprod(0)", "the kernels are multiplied; "
         "windows overlap, so fields grow by sums: 3 and then 3 see 5 pixels, not 9."),
        ("cumprod", "cumsum",
         "the strides are added up; they multiply: a stride of 2 after a stride of 3 means 6 pixels."),
        ("strides.cumprod(0)", "strides",
         "only the stride of the layer just before counts here; all strides before it multiply."),
        ("cumsum(0)", "cumsum(0)[-1]",
         "this is the field of the last layer alone; return one number per layer."),
    ],
    hints=["Walk through the layers with two numbers: "
           "how many pixels one step is worth, and the field so far.",
           "Start with step = 1 and field = 1. Each layer: "
           "field += (kernel − 1) · step, then step *= stride.",
           "A loop and torch.stack will do; without a loop, step is strides.cumprod(0) shifted by one."],
)

exercise(reach.attention_distance,
    cases=lambda: [
        ((2 * torch.randn(3, 2, 13, 13)).softmax(-1), (3, 4), 8),
        ((3 * torch.randn(5, 2, 4, 11, 11)).softmax(-1), (2, 5), 3),  # with a batch in front
    ],
    slips=[
        ("patch_size * ", "", "this is the distance in patches; multiply by patch_size for pixels."),
        (" / patches.sum(-1, keepdim=True)", "",
         "what went to the class token counts as distance 0; scale the rest of each row to sum to 1 again."),
        ("norm(dim=-1)", "norm(1, dim=-1)",
         "this walks along rows and columns; take the straight line: √(Δrow² + Δcolumn²)."),
        ("patch_size * (place[:, None] - place).norm(dim=-1)",
         "(patch_size * (place[:, None] - place).norm(dim=-1)) ** 2",
         "this averages squared distances; take the root before you average."),
        ("rows, columns = grid", "columns, rows = grid",
         "rows and columns of the grid are swapped: patch n stands in row n // columns, column n % columns."),
        ("[row, column]", "[row * columns + column, 0 * row]", "this is the distance in the list of tokens; "
         "a row's last patch and the next row's first are far apart in the image."),
        ("1:, 1:", ":-1, :-1", "the last token is left out; the class token is token 0."),
        ("(patches / patches.sum(-1, keepdim=True) * distance).sum(-1)",
         "distance[torch.arange(len(place)), patches.argmax(-1)]",
         "this is the distance to the key that gets most; weigh the distances to all keys."),
        ("weights[..., 1:, 1:]", "torch.ones_like(weights[..., 1:, 1:])",
         "the weights are not used: every head would get the same number."),
        ("mean(-1)", "mean((-1, -2))", "the heads are averaged away; return one number per layer and head."),
    ],
    hints=["Two tables of the same shape (patch, patch): how far, and how much. "
           "Multiply, sum over keys, mean over queries.",
           "place: (patch, 2) with row and column; "
           "patch_size * (place[:, None] - place).norm(dim=-1) is the table of distances.",
           "patches = weights[..., 1:, 1:]; divide by patches.sum(-1, keepdim=True) before you multiply."],
)

quiz(1, "A layer with 64 filters of 3×3 reads a map of 64 channels. "
        "What happens to its number of weights when the map becomes twice as high and twice as wide?", [
    ("It stays the same.", True,
     "The same filters slide over more places: 3 · 3 · 64 · 64 weights, whatever the map. "
     "The multiplications grow four times."),
    ("It grows four times.", False,
     "The multiplications do. The weights are shared by all places; that is the point of a convolution."),
    ("It doubles.", False,
     "No weight belongs to a row or a column. Nothing in 3 · 3 · 64 · 64 knows the size of the map."),
])
quiz(2, "A CNN ends in a mean over places and one linear layer. Two objects are farther apart than its "
        "receptive field. Can it learn whether they have the same colour?", [
    ("Yes, with enough data.", False,
     'Data cannot help: its score is a sum of one term per object. Such a sum cannot say "both equal".'),
    ("No, whatever the data: its score is a sum of one term per object.", True,
     "If red+red and blue+blue both pass the threshold, then red+blue does too: it lies halfway. "
     "The cure is reach before the mean, or layers after it."),
    ("Yes, if it has more channels.", False,
     "More channels make each term richer, but it is still one term per object."),
])
quiz(3, "You have 2,000 labelled pictures and no pretrained model, "
        "and the answer lies in small local textures. What do you try first?", [
    ("A small CNN.", True,
     "Locality and shared weights are true of this task, and they need not be learned from 2,000 pictures."),
    ("A large ViT, since ViTs are the state of the art.", False,
     "They are so after large pretraining. "
     "From nothing, a ViT must spend data on learning that neighbours belong together."),
    ("A small ViT, trained for more steps than the CNN.", False,
     "It must first find out that neighbours belong together, and more steps on 2,000 pictures "
     "also teach it those pictures by heart."),
])
