"""Exercises of chapter 02, part two: heads, attention, the block, and attention through all layers."""

import torch
from torch import Tensor, nn

from vlmcourse.diagnostics import attention as maps
from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import attention

exercise, _ = chapter("02_vit")

# ------------------------------------------------------------------------------------------------- heads

exercise(
    attention.split_heads,
    cases=lambda: [(torch.randn(2, 5, 12), 3), (torch.randn(3, 7, 8), 2)],
    slips=[
        Slip(lambda x, h: x.reshape(x.shape[0], h, x.shape[1], -1),
             "reshape straight to (batch, head, token, part) mixes different tokens in one head. Cut the "
             "width first, then swap axes."),
        Slip(lambda x, h: x.reshape(*x.shape[:2], h, -1),
             "the width is cut well, but the head axis must come before the token axis."),
        Slip(lambda x, h: x.reshape(*x.shape[:2], -1, h).permute(0, 3, 1, 2),
             "the parts are interleaved: head 0 must get the first width/heads numbers, not every heads-th "
             "number."),
    ],
    hints=[
        "Each token's vector is cut into consecutive parts. Which axis do you cut, and where must the new "
        "one go?",
        "reshape to (batch, token, heads, width // heads), then transpose(1, 2).",
    ],
    gradient=("tokens",),
)

exercise(
    attention.merge_heads,
    cases=lambda: [(torch.randn(2, 3, 5, 4),), (torch.randn(3, 2, 7, 4),)],
    slips=[
        Slip(lambda x: x.reshape(x.shape[0], x.shape[2], -1),
             "a reshape alone keeps the heads apart and mixes tokens; bring the head axis back beside part "
             "first."),
        Slip(lambda x: x.permute(0, 2, 3, 1).flatten(2),
             "head and part are in the wrong order: all of head 0 comes first, then all of head 1."),
        Slip(lambda x: x.mean(1),
             "the heads are averaged, which loses most of what they found; put them side by side."),
    ],
    hints=[
        "It is split_heads backwards: undo the last step first.",
        "transpose(1, 2), then reshape to (batch, token, head · part).",
    ],
    gradient=("parts",),
)

# -------------------------------------------------------------------------------------------- attention


def _attend(query, key, value, mask=None, bias=None, *, scale=None, axis=-1, fill=-torch.inf, flip=False):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-2, -1) * scale
    scores = scores if bias is None else scores + bias
    if mask is not None:
        scores = scores.masked_fill(mask if flip else ~mask, fill)
    weights = scores.softmax(axis)
    return weights @ value, weights


def _masked_after_softmax(query, key, value, mask=None, bias=None):
    _, weights = _attend(query, key, value, None, bias)
    weights = weights if mask is None else weights * mask
    return weights @ value, weights


def _causal(query, key, value, mask=None, bias=None):
    causal = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    return _attend(query, key, value, causal if mask is None else causal & mask, bias)


def _attention_cases() -> list[tuple]:
    mask = torch.rand(2, 1, 5, 7) < 0.6
    mask[..., 0] = True
    mask[0, 0, 1, 1:] = False
    return [
        (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), None),
        (4 * torch.randn(2, 3, 5, 6), torch.randn(2, 3, 7, 6), torch.randn(2, 3, 7, 6), mask),
        (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), None, torch.randn(2, 3, 5, 7)),
    ]


exercise(
    attention.scaled_dot_product,
    cases=_attention_cases,
    axes={"mask": "batch head query key", "bias": "batch head query key"},
    slips=[
        Slip(lambda *a: _attend(*a, scale=1.0),
             "the scores are not divided by √part, so with wide heads the softmax saturates and learning "
             "stalls."),
        Slip(lambda *a: _attend(*a, scale=1 / a[0].shape[-1]),
             "the scores are divided by part; divide by its square root."),
        Slip(lambda *a: _attend(*a, scale=(a[0].shape[-1] * a[0].shape[1]) ** -0.5),
             "the scores are divided by √width of all heads together; each head divides by its own width, "
             "part."),
        Slip(lambda *a: _attend(*a, axis=-2),
             "the softmax runs over the queries: each column sums to 1. Every query's row must sum to 1: "
             "dim=-1."),
        Slip(lambda q, k, v, m=None, b=None: _attend(q, k, v, None, b),
             "the mask is ignored: a query still looks at keys where mask is False."),
        Slip(lambda *a: _attend(*a, flip=True),
             "the mask is upside down: True means that the query may look."),
        Slip(lambda *a: _attend(*a, fill=0.0),
             "masked scores are set to 0, but exp(0) is 1, so masked keys still get weight. Set them to "
             "-inf."),
        Slip(_masked_after_softmax,
             "the mask is applied after the softmax, so the rows no longer sum to 1. Mask the scores "
             "before."),
        Slip(_causal,
             "a causal mask is left in: image tokens may look at later ones. Only the mask argument "
             "forbids anything."),
        Slip(lambda q, k, v, m=None: (_attend(q, k, v, m)[0], None),
             "the weights are None; torch's own scaled_dot_product_attention does not give them. Compute "
             "them yourself."),
        Slip(lambda *a: _attend(*a)[::-1], "output and weights are swapped: return (output, weights)."),
        Slip(lambda *a: _attend(*a)[0],
             "the weights are missing: return both, (output, weights), so that we can look at them."),
    ],
    hints=[
        "Four steps: scores, mask, softmax, mix. What shape must the scores have for `weights @ value` to "
        "work?",
        "scores = query @ key.transpose(-2, -1) / √part has shape (batch, head, query, key).",
        "`scores.masked_fill(~mask, -torch.inf)` before `softmax(dim=-1)`; mask and bias may be None.",
    ],
    gradient=("query", "key", "value"),
    picture=lambda output: output[1][0, 0],
)

# ------------------------------------------------------------------------------------------------ block


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


def _one_stream(x, n1, a, n2, m):
    """The second half adds to the normalised copy."""
    x = x + a(n1(x))
    y = n2(x)
    return y + m(y)


def _parallel(x, n1, a, n2, m):
    return x + a(n1(x)) + m(n2(x))


exercise(
    attention.pre_norm_block,
    cases=lambda: [_block_case(2, 5, 6), _block_case(3, 4, 7)],
    slips=[
        Slip(lambda x, n1, a, n2, m: m(n2(a(n1(x)))),
             "the residual stream is missing: attention and MLP must add to their input, not replace it."),
        Slip(lambda x, n1, a, n2, m: n2(n1(x + a(x)) + m(n1(x + a(x)))),
             "this is post-norm, as in BERT: it normalises the sum. Pre-norm normalises what attention and "
             "MLP read."),
        Slip(_parallel, "the MLP reads the tokens from before attention; it must read the sum."),
        Slip(_one_stream,
             "the second step adds to the normalised copy; the residual stream itself is never normalised."),
        Slip(lambda x, n1, a, n2, m: (x + a(x)) + m(x + a(x)),
             "the norms are missing: attention and MLP read normalised copies."),
        Slip(lambda x, n1, a, n2, m: (x + a(n1(x))) + m(x + a(n1(x))),
             "the MLP reads the bare stream; it needs its own normalised copy: "
             "mlp(norm_before_mlp(tokens))."),
        Slip(lambda x, n1, a, n2, m: n2(n1(x) + a(n1(x))) + m(n2(n1(x) + a(n1(x)))),
             "the normalised copy is added instead of the stream: add to tokens, not to norm(tokens)."),
        Slip(lambda x, n1, a, n2, m: x + m(n2(x + a(n1(x)))),
             "the MLP's result is added to the first tokens, so what attention found is lost from the "
             "stream."),
        Slip(lambda x, n1, a, n2, m: (x + m(n2(x))) + a(n1(x + m(n2(x)))),
             "MLP and attention are in the wrong order: attention comes first."),
        Slip(lambda x, n1, a, n2, m: x + a(n1(x)),
             "the second half is missing: after attention comes the MLP with its own norm."),
        Slip(lambda x, n1, a, n2, m: (x + a(n1(x))) + m(n1(x + a(n1(x)))),
             "the first norm is used twice; the MLP has its own, norm_before_mlp."),
    ],
    hints=[
        "Two lines of the same form: tokens = tokens + something(norm(tokens)).",
        "First attend(norm_before_attention(tokens)), then mlp(norm_before_mlp(tokens)) on the updated "
        "tokens.",
    ],
    gradient=("tokens",),
)

# ---------------------------------------------------------------------------------------------- rollout


def _layers(weights: Tensor, heads=lambda w: w.mean(1), residual: float = 0.5) -> Tensor:
    return (1 - residual) * heads(weights) + residual * torch.eye(weights.shape[-1], dtype=weights.dtype)


def _product(layers: Tensor, backwards: bool = False) -> Tensor:
    total = layers[0]
    for layer in layers[1:]:
        total = total @ layer if backwards else layer @ total
    return total


def _unnormalised(weights: Tensor) -> Tensor:
    return _product(weights.mean(1) + torch.eye(weights.shape[-1], dtype=weights.dtype))


exercise(
    maps.rollout,
    cases=lambda: [
        ((2 * torch.randn(3, 2, 5, 5)).softmax(-1),),
        ((2 * torch.randn(4, 3, 7, 7)).softmax(-1),),
    ],
    slips=[
        Slip(lambda w: _product(_layers(w, residual=0.0)),
             "the residual stream is missing: half of what a token is passes straight on, so mix in 0.5 · "
             "identity."),
        Slip(lambda w: _product(_layers(w), backwards=True),
             "the layers are multiplied in the wrong order: the first layer acts first, so it stands "
             "rightmost."),
        Slip(_unnormalised,
             "rows sum to 2 per layer: after adding the identity, halve, so that rows stay distributions."),
        Slip(lambda w: _product(_layers(w, heads=lambda x: x.amax(1))),
             "this takes the largest head; rollout averages the heads."),
        Slip(lambda w: 0.5 * _product(_layers(w, residual=0.0)) + 0.5 * torch.eye(w.shape[-1], dtype=w.dtype),
             "the identity is mixed in once at the end; every layer has its own residual connection."),
        Slip(lambda w: _layers(w).mean(0), "the layers are averaged; follow the flow by multiplying them."),
        Slip(lambda w: w.mean((0, 1)),
             "this is the mean over layers and heads; it does not follow what flows from layer to layer."),
    ],
    hints=[
        "One matrix per layer says where its output comes from. What does one layer after another mean for "
        "matrices?",
        "Per layer: 0.5 · (mean over heads) + 0.5 · identity. Then total = layer @ total, first layer "
        "first.",
    ],
)
