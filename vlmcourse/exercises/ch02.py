"""Exercises of chapter 02: from pixels to tokens, attention, the block, and attention through all layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.diagnostics import attention as maps
from vlmcourse.exercises.base import chapter
from vlmcourse.models import attention, vit

exercise, quiz = chapter("02_vit")


def _gradients(batch: int, height: int, width: int) -> Tensor:
    """Red grows downwards, green to the right, with a little noise: one sees which patch went where."""
    down, right = torch.meshgrid(torch.linspace(0, 0.9, height), torch.linspace(0, 0.9, width), indexing="ij")
    image = torch.stack([down, right, torch.zeros(height, width)])
    return image + 0.1 * torch.rand(batch, 3, height, width)


def _tokens_as_picture(tokens: Tensor) -> Tensor:
    """The 4×4 patches of the first image side by side, with gaps."""
    return torch.cat([F.pad(token.reshape(4, 4, 3), (0, 0, 0, 1), value=1.0) for token in tokens[0]], dim=1)


exercise(vit.patchify, gradient=("images",), picture=_tokens_as_picture,
    cases=lambda: [
        (_gradients(2, 8, 20), 4),  # pixel = 48, patch = 10
        (torch.randn(4, 3, 10, 25), 5),
        (torch.rand(3, 1, 6, 2), 2),
    ],
    slips=[
        ("0, 2, 4, 3, 5, 1", "0, 4, 2, 3, 5, 1",
         "patches come out column by column; row-major order puts the grid row first."),
        ("0, 2, 4, 3, 5, 1", "0, 2, 4, 1, 3, 5", "inside a patch the channel comes first; "
         "here it comes last: (row in patch, column in patch, channel)."),
        ("0, 2, 4, 3, 5, 1", "0, 2, 4, 5, 3, 1", "the pixels inside a patch are transposed: "
         "the row in the patch comes before the column in the patch."),
        (("rows, size, columns, size)", "size, rows, size, columns)"),
         ("0, 2, 4, 3, 5, 1", "0, 3, 5, 2, 4, 1"),
         "height is split into (size, rows), so a patch collects pixels from all over the image; "
         "it must be (rows, size): the grid index changes slowest."),
        (("rows, size, columns, size)", "size, rows, size, columns)"),
         ("rows * columns, size * size * channel", "size * size, -1"),
         "size is the side of a patch in pixels; here the picture is cut into size × size patches."),
        ("squares.permute(0, 2, 4, 3, 5, 1)", "images",
         'a reshape alone reads across the whole image line by line, so a "patch" is a strip of one channel. '
         "Split height and width first, then bring the two grid axes together."),
    ],
    hints=["Nothing is computed here: "
           "split axes with reshape, reorder them with permute, merge them with reshape.",
           "Split: (batch, channel, rows, size, columns, size). "
           "Which two of these six axes make up `patch`, and which three make up `pixel`?",
           "`images.reshape(b, c, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)`, "
           "then one more reshape."],
)

exercise(vit.add_class_and_positions, gradient=("patches", "class_token", "positions"),
    cases=lambda: [
        (torch.randn(2, 6, 5), torch.randn(5), torch.randn(7, 5)),
        (torch.randn(4, 9, 3), torch.randn(3), torch.randn(10, 3)),
    ],
    slips=[
        ("[front, patches]", "[patches, front]",
         "the class token stands at the end; it must stand in front, as token 0."),
        (" + positions", "", "the positions are not added, so the model could not tell where a patch was."),
        ("patches], dim=1) + positions", "patches + positions[1:]], dim=1)",
         "the class token needs its position too: positions[0] is its own."),
        ("patches], dim=1) + positions", "patches + positions[:-1]], dim=1)",
         "the positions are off by one: positions[0] belongs to the class token, positions[1] to patch 0."),
        (" + positions", " + positions.roll(1, 0)",
         "the last position went to the class token; positions[0] is its own, positions[1] is patch 0's."),
    ],
    hints=["Every image gets the same class token: give it a batch axis, put it in front, then add.",
           "`class_token.expand(batch, 1, -1)` repeats it without copying; `torch.cat(..., dim=1)` joins "
           "along tokens; adding (token, width) to (batch, token, width) broadcasts."],
)

exercise(vit.interpolate_positions, gradient=("positions",),
    cases=lambda: [(torch.randn(1 + 3 * 4, 5), (3, 4), (6, 7)), (torch.randn(1 + 5 * 2, 3), (5, 2), (4, 6)),
                   (torch.randn(1 + 6 * 4, 3), (6, 4), (3, 2), True)],
    slips=[
        ("antialias=antialias", "antialias=False",
         "antialias is ignored; models from timm set it: pass it on to F.interpolate."),
        (("positions[1:]", "positions[:-1]"), ("positions[:1]", "positions[-1:]"),
         "the last row is taken for the class token's; its position is row 0."),
        ("positions[:1], ", "", "the class token's position is lost; row 0 stays in front, unchanged."),
        (".reshape(1, rows, columns, -1).permute(0, 3, 1, 2)", ".reshape(1, -1, rows, columns)",
         "reshape to (1, width, rows, columns) mixes positions and channels; "
         "reshape to (1, rows, columns, width), then permute(0, 3, 1, 2)."),
        ("resized.flatten(2)[0].T", "resized.reshape(-1, positions.shape[1])",
         "on the way back the width must become the last axis: "
         "flatten the grid and transpose before you join."),
        ("antialias=False", "antialias=True",
         "positions are always smoothed here; smooth only when asked: hand `antialias` to F.interpolate."),
        (("rows, columns, -1", "1, rows * columns, -1"),
         ('new_grid, mode="bicubic"', '(1, new_grid[0] * new_grid[1]), mode="bilinear"'),
         "the positions are stretched as one long line; lay them out on their rows × columns grid first."),
        ("rows, columns = old_grid", "columns, rows = old_grid",
         "rows and columns of the old grid are swapped; a grid is (rows, columns)."),
        ("bicubic", "bilinear",
         'this is bilinear; published ViTs resize positions bicubically (mode="bicubic").'),
        ('"bicubic", align_corners=False', '"nearest"',
         'this copies the nearest position; use mode="bicubic" for a smooth map.'),
        ("align_corners=False", "align_corners=True",
         "align_corners=True pins the corner patches to the corners; "
         "use align_corners=False, as the libraries do."),
    ],
    hints=["Positions are a small picture with `width` channels. "
           "Take the class token off, resize, put it back.",
           "F.interpolate wants (1, width, rows, columns): reshape, then permute(0, 3, 1, 2). "
           'Use mode="bicubic", align_corners=False.',
           "Back again: `resized.flatten(2)[0].T` is (new patch, width); "
           "torch.cat with positions[:1] in front."],
)

exercise(attention.split_heads, gradient=("tokens",),
    cases=lambda: [(torch.randn(2, 5, 12), 3), (torch.randn(3, 7, 10), 2)],
    slips=[
        ("(batch, token, heads, width // heads).transpose(1, 2)", "(batch, heads, token, width // heads)",
         "reshape straight to (batch, head, token, part) mixes different tokens in one head. "
         "Cut the width first, then swap axes."),
        (".transpose(1, 2)", "", "the width is cut well, but the head axis must come before the token axis."),
        ("heads, width // heads).transpose(1, 2)", "width // heads, heads).permute(0, 3, 1, 2)",
         "the parts are interleaved: "
         "head 0 must get the first width/heads numbers, not every heads-th number."),
    ],
    hints=["Each token's vector is cut into consecutive parts. "
           "Which axis do you cut, and where must the new one go?",
           "reshape to (batch, token, heads, width // heads), then transpose(1, 2)."],
)

exercise(attention.merge_heads, gradient=("parts",),
    cases=lambda: [(torch.randn(2, 3, 5, 4),), (torch.randn(3, 2, 7, 5),)],
    slips=[
        (".transpose(1, 2)", "", "a reshape alone keeps the heads apart and mixes tokens; "
         "bring the head axis back beside part first."),
        ("transpose(1, 2)", "permute(0, 2, 3, 1)",
         "head and part are in the wrong order: all of head 0 comes first, then all of head 1."),
        ("parts.transpose(1, 2).reshape(batch, token, head * part)", "parts.sum(dim=1)",
         "the heads are added, which mixes what they found; put them side by side."),
        ("parts.transpose(1, 2).reshape(batch, token, head * part)", "parts.mean(dim=1)",
         "the heads are averaged, which loses most of what they found; put them side by side."),
    ],
    hints=["It is split_heads backwards: undo the last step first.",
           "transpose(1, 2), then reshape to (batch, token, head · part)."],
)


def _attention_cases() -> list[tuple]:
    mask = torch.rand(2, 1, 5, 7) < 0.6
    mask[..., 0] = True
    mask[0, 0, 1, 1:] = False
    return [
        (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), None),
        (4 * torch.randn(2, 3, 5, 6), torch.randn(2, 3, 7, 6), torch.randn(2, 3, 7, 6), mask),
        (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), None,
         torch.randn(2, 3, 5, 7)),
        (100 * torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), mask,
         50 * torch.randn(2, 3, 5, 7)),
    ]


exercise(attention.scaled_dot_product, gradient=("query", "key", "value"),
    picture=lambda output: output[1][0, 0],
    axes={"mask": "batch head query key", "bias": "batch head query key"},
    cases=_attention_cases,
    slips=[
        (" / math.sqrt(query.shape[-1])", "", "the scores are not divided by √part, "
         "so with wide heads the softmax saturates and learning stalls."),
        ("math.sqrt(query.shape[-1])", "query.shape[-1]",
         "the scores are divided by part; divide by its square root."),
        ("query.shape[-1]", "query.shape[1] * query.shape[-1]",
         "the scores are divided by √width of all heads together; each head divides by its own width, part."),
        ("softmax(dim=-1)", "softmax(dim=-2)", "the softmax runs over the queries: each column sums to 1. "
         "Every query's row must sum to 1: dim=-1."),
        ("+ bias", "+ bias / math.sqrt(query.shape[-1])",
         "the bias is divided by √part too; only the scores are, so add it after the division."),
        ("mask is not None", "False",
         "the mask is ignored: a query still looks at keys where mask is False."),
        ("~mask", "mask", "the mask is upside down: True means that the query may look."),
        ("-torch.inf", "0.0",
         "masked scores are set to 0, but exp(0) is 1, so masked keys still get weight. Set them to -inf."),
        (("mask is not None", "False"),
         ("    return", "    weights = weights if mask is None else weights * mask\n    return"),
         "the mask is applied after the softmax, so the rows no longer sum to 1. Mask the scores before."),
        ("bias=None):\n",
         "bias=None):\n    causal = torch.ones(query.shape[-2], key.shape[-2], "
         "dtype=torch.bool).tril()\n    mask = causal if mask is None else causal & mask\n",
         "a causal mask is left in: image tokens may look at later ones. "
         "Only the mask argument forbids anything."),
        ("@ value, weights", "@ value, None", "the weights are None; "
         "torch's own scaled_dot_product_attention does not give them. Compute them yourself."),
        ("weights @ value, weights", "weights, weights @ value",
         "output and weights are swapped: return (output, weights)."),
        ("@ value, weights", "@ value",
         "the weights are missing: return both, (output, weights), so that we can look at them."),
    ],
    hints=["Four steps: scores, mask, softmax, mix. "
           "What shape must the scores have for `weights @ value` to work?",
           "scores = query @ key.transpose(-2, -1) / √part has shape (batch, head, query, key).",
           "`scores.masked_fill(~mask, -torch.inf)` before `softmax(dim=-1)`; mask and bias may be None."],
)


class _Scale(nn.Module):
    """A stand-in for attention or MLP whose result tells which input it saw."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.tanh(self.linear(tokens)) + tokens.mean(1, keepdim=True)


def _norm(width: int) -> nn.LayerNorm:
    norm = nn.LayerNorm(width)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias, 0.0, 0.3)
    return norm


def _block_case(batch: int, token: int, width: int) -> tuple:
    tokens = 2 * torch.randn(batch, token, width) + 1
    return tokens, _norm(width), _Scale(width), _norm(width), _Scale(width)


exercise(attention.pre_norm_block, gradient=("tokens",),
    cases=lambda: [_block_case(2, 5, 6), _block_case(3, 4, 7)],
    slips=[
        (("tokens + attend", "attend"), ("tokens + mlp", "mlp"),
         "the residual stream is missing: attention and MLP must add to their input, not replace it."),
        (("tokens + attend(norm_before_attention(tokens))", "norm_before_attention(tokens + attend(tokens))"),
         ("tokens + mlp(norm_before_mlp(tokens))", "norm_before_mlp(tokens + mlp(tokens))"),
         "this is post-norm, as in BERT: it normalises the sum. "
         "Pre-norm normalises what attention and MLP read."),
        (("    tokens = tokens", "    attended = tokens"), ("return tokens", "return attended"),
         "the MLP reads the tokens from before attention; it must read the sum."),
        ("return tokens + mlp(norm_before_mlp(tokens))",
         "tokens = norm_before_mlp(tokens)\n    return tokens + mlp(tokens)",
         "the second step adds to the normalised copy; the residual stream itself is never normalised."),
        (("norm_before_attention(tokens)", "tokens"), ("norm_before_mlp(tokens)", "tokens"),
         "the norms are missing: attention and MLP read normalised copies."),
        ("norm_before_mlp(tokens)", "tokens",
         "the MLP reads the bare stream; it needs its own normalised copy: mlp(norm_before_mlp(tokens))."),
        (("tokens + attend", "norm_before_attention(tokens) + attend"),
         ("tokens + mlp", "norm_before_mlp(tokens) + mlp"),
         "the normalised copy is added instead of the stream: add to tokens, not to norm(tokens)."),
        (("    tokens = tokens", "    attended = tokens"),
         ("norm_before_mlp(tokens)", "norm_before_mlp(attended)"),
         "the MLP's result is added to the first tokens, so what attention found is lost from the stream."),
        (("+ mlp(norm_before_mlp(tokens))", "+ attend(norm_before_attention(tokens))"),
         ("    tokens = tokens + attend(norm_before_attention(tokens))",
          "    tokens = tokens + mlp(norm_before_mlp(tokens))"),
         "MLP and attention are in the wrong order: attention comes first."),
        (" + mlp(norm_before_mlp(tokens))", "",
         "the second half is missing: after attention comes the MLP with its own norm."),
        ("norm_before_mlp(tokens)", "norm_before_attention(tokens)",
         "the first norm is used twice; the MLP has its own, norm_before_mlp."),
    ],
    hints=["Two lines of the same form: tokens = tokens + something(norm(tokens)).",
           "First attend(norm_before_attention(tokens)), "
           "then mlp(norm_before_mlp(tokens)) on the updated tokens."],
)

exercise(maps.rollout,
    cases=lambda: [
        ((2 * torch.randn(3, 2, 5, 5)).softmax(-1),),
        ((2 * torch.randn(4, 3, 7, 7)).softmax(-1),),
    ],
    slips=[
        ("    total = mixed[0]", "    mixed = weights.mean(dim=1)\n    total = mixed[0]",
         "the residual stream is missing: "
         "half of what a token is passes straight on, so mix in 0.5 · identity."),
        ("layer @ total", "total @ layer",
         "the layers are multiplied in the wrong order: the first layer acts first, so it stands rightmost."),
        ("    total = mixed[0]", "    mixed = 2 * mixed\n    total = mixed[0]",
         "rows sum to 2 per layer: after adding the identity, halve, so that rows stay distributions."),
        ("weights.mean", "weights.amax", "this takes the largest head; rollout averages the heads."),
        ("layer @ total", "layer * total",
         "the layers are multiplied number by number; what flows on is their matrix product: @."),
        ("    total = mixed[0]",
         "    mixed = weights.mean(dim=1) / 2 + torch.eye(weights.shape[-1])\n    total = mixed[0]",
         "the identity is not halved, so rows sum to 1.5 per layer; half of each makes 1."),
        (("    total = mixed[0]", "    mixed = weights.mean(dim=1)\n    total = mixed[0]"),
         ("return total", "return 0.5 * total + 0.5 * torch.eye(len(total))"),
         "the identity is mixed in once at the end; every layer has its own residual connection."),
        ("return total", "return mixed.mean(dim=0)",
         "the layers are averaged; follow the flow by multiplying them."),
        ("return total", "return weights.mean(dim=(0, 1))",
         "this is the mean over layers and heads; it does not follow what flows from layer to layer."),
    ],
    hints=["One matrix per layer says where its output comes from. "
           "What does one layer after another mean for matrices?",
           "Per layer: 0.5 · (mean over heads) + 0.5 · identity. "
           "Then total = layer @ total, first layer first."],
)

quiz(1, "A ViT reads 448 × 448 pixels in patches of 14. How many tokens leave it, with the class token?", [
    ("1,025", True, "448 / 14 = 32, and 32 · 32 + 1 = 1,025. LLaVA would hand on the 1,024 patches."),
    ("1,024", False, "Those are the patches. The class token makes one more."),
    ("33", False, "That counts one row of patches and the class token; the grid has 32 rows."),
])
quiz(2, "You hand only the class token to a language model. Which question suffers most?", [
    ("Is this a photo of a cat?", False, "One summary vector is good at what the whole image is about."),
    ("What stands in the lower left corner?", True,
     "You saw it: a summary drops what it was not trained for; the patches know what is where."),
    ("Is it day or night?", False, "A global property is just what a summary keeps."),
])
quiz(3, "Two ViTs give equal answers but different attention maps. What follows?", [
    ("One of them is wrong.", False, "Different routes can carry the same information."),
    ("The maps alone do not explain the answer.", True,
     "They show where information may flow; test it by changing the input."),
    ("Rollout would make the maps equal.", False,
     "Rollout combines layers; it does not remove differences between models."),
])
