"""Exercises of chapter 05, part one: the parts of a LLaMA block (see ch05_writing.py and ch05_others.py)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import language

exercise, _ = chapter("05_language_models")

# -------------------------------------------------------------------------------------------- causal mask


def _triangle(queries: int, keys: int, shift: int = 0) -> Tensor:
    """True up to the query's own place, moved by ``shift``."""
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries + shift)


exercise(
    language.causal_mask,
    cases=lambda: [(5, 5), (3, 7), (1, 4)],
    slips=[
        Slip(lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(),
             "right without a cache, but with one the queries are the LAST of the keys: the triangle must "
             "end in the lower right corner."),
        Slip(lambda q, k: _triangle(q, k, 1),
             "off by one: every token sees the next one, which is the answer it is asked for."),
        Slip(lambda q, k: _triangle(q, k, -1),
             "a token must see itself too; now the first one sees nothing, and its softmax is NaN."),
        Slip(lambda q, k: ~_triangle(q, k), "the mask is upside down: True means that the query may look."),
        Slip(lambda q, k: torch.ones(q, k, dtype=torch.bool).triu(k - q),
             "this is the upper triangle: every token sees the future and not the past."),
        Slip(lambda q, k: _triangle(k, k),
             "this is a square for all keys; only the last `queries` of its rows are asked for."),
        Slip(lambda q, k: torch.zeros(q, k).masked_fill(~_triangle(q, k), -torch.inf),
             "these are numbers to add to the scores; the course's masks are True and False."),
        Slip(lambda q, k: _triangle(q, k).float(),
             "the places are right, but the mask must hold True and False: compare, or use "
             "dtype=torch.bool."),
    ],
    hints=[
        "Number the keys 0, 1, 2, …. Which numbers do the queries have when they are the last ones?",
        "Compare `torch.arange(keys)` as a row with `torch.arange(keys - queries, keys)` as a column.",
    ],
    picture=lambda output: output,
)

# ----------------------------------------------------------------------------------------------- RMSNorm


def _rms(tokens, scale, epsilon, *, outside=0.0, dim=-1, total=False, root=True, wide=True, back=True):
    x = tokens.float() if wide else tokens
    squares = x.square().sum(dim, keepdim=True) if total else x.square().mean(dim, keepdim=True)
    length = (squares + epsilon).sqrt() if root else squares + epsilon
    result = scale * (x / (length + outside))
    return result.to(tokens.dtype) if back else result


def _with_mean(tokens, scale, epsilon):
    return _rms(tokens - tokens.mean(-1, keepdim=True), scale, epsilon)


def _norm_cases() -> list[tuple]:
    """Ordinary numbers; small ones, where epsilon counts; large ones in fp16, whose squares do not fit."""
    signs = torch.randint(0, 2, (2, 3, 4)) * 2 - 1
    return [
        (3 * torch.randn(2, 3, 5) + 1, 1 + torch.randn(5), 1e-5),
        (0.1 * torch.randn(3, 4, 7), 1 + torch.randn(7), 1e-2),
        (512 * signs.half(), torch.tensor([1, 2, -1, 0.5]).half(), 1e-5),
    ]


exercise(
    language.rms_norm,
    cases=_norm_cases,
    axes={"tokens": "batch token width", "return": "batch token width"},
    slips=[
        Slip(_with_mean, "the mean is subtracted, as in layer norm; RMSNorm only divides by the length."),
        Slip(lambda x, s, e: _rms(x, s, 0.0, outside=e),
             "epsilon stands outside the root: add it to the mean of the squares, then take the root."),
        Slip(lambda x, s, e: _rms(x, s, 0.0), "epsilon is missing: a vector of zeros would be divided by 0."),
        Slip(lambda x, s, e: _rms(x, s, e, total=True),
             "the squares are summed; take their mean, or the result shrinks as the width grows."),
        Slip(lambda x, s, e: _rms(x, s, e, root=False),
             "the root is missing: divide by the root of the mean square."),
        Slip(lambda x, s, e: _rms(x, torch.ones_like(s), e),
             "the learned scale is missing: multiply by it at the end."),
        Slip(lambda x, s, e: _rms(x, 1 + s, e),
             "1 + scale is Gemma's way; LLaMA multiplies by scale itself."),
        Slip(lambda x, s, e: _rms(x, s, e, dim=1),
             "the mean runs over the tokens; each token is normalised alone, over its width: dim=-1."),
        Slip(lambda x, s, e: _rms(x, s, e, dim=(0, 1, 2)),
             "one mean for everything; each token has its own length: mean(dim=-1, keepdim=True)."),
        Slip(lambda x, s, e: _rms(x, s, e, wide=False),
             "in half precision the squares overflow: 512² does not fit into fp16. Convert with .float() "
             "first."),
        Slip(lambda x, s, e: _rms(x, s.float(), e, back=False),
             "the values are right, but half-precision input must give half-precision output: "
             ".to(tokens.dtype)."),
    ],
    hints=[
        "The name is the recipe, read backwards: square, mean, root; then divide.",
        "`x = tokens.float()`, `x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)`, times "
        "scale; then back to the dtype of tokens.",
    ],
    gradient=("tokens", "scale"),
)

# -------------------------------------------------------------------------------------------------- RoPE


def _turn(parts, angles, *, sign=1.0, interleaved=False):
    cosine, sine = angles[:, None].cos(), sign * angles[:, None].sin()
    if interleaved:
        a, b = parts[..., ::2], parts[..., 1::2]
        return torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)
    a, b = parts.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)


def _no_minus(parts, angles):
    double = angles.repeat(1, 1, 2)[:, None]
    return parts * double.cos() + parts.roll(parts.shape[-1] // 2, -1) * double.sin()


def _half_turned(parts, angles):
    half = parts.shape[-1] // 2
    return torch.cat([_turn(parts, angles)[..., :half], parts[..., half:]], -1)


exercise(
    language.rope,
    cases=lambda: [
        (torch.randn(2, 3, 5, 8), 3 * torch.rand(2, 5, 4)),
        (torch.randn(4, 3, 7, 10), 3 * torch.rand(4, 7, 5)),
    ],
    slips=[
        Slip(lambda x, a: _turn(x, a, interleaved=True),
             "the pairs are neighbours (0, 1), (2, 3), as in the paper; LLaMA's weights in transformers "
             "pair i with i + part/2."),
        Slip(lambda x, a: _turn(x, a, sign=-1.0),
             "it turns the wrong way round: (a, b) becomes (a cos − b sin, a sin + b cos)."),
        Slip(_no_minus, "the minus is missing: without it this is no rotation, and lengths change."),
        Slip(lambda x, a: _turn(x, torch.pi / 2 - a), "sine and cosine changed places."),
        Slip(_half_turned,
             "only the first numbers of the pairs are turned; the second ones need a sin + b cos."),
        Slip(lambda x, a: _turn(x, a).roll(x.shape[-1] // 2, -1),
             "the halves come back in the wrong order: first a cos − b sin, then a sin + b cos."),
        Slip(lambda x, a: x + torch.cat([a.sin(), a.cos()], -1)[:, None],
             "sine and cosine are added, as in the first transformer; RoPE turns: it multiplies."),
        Slip(lambda x, a: _turn(x, a[:, :1]),
             "every token is turned by the angles of token 0; each has its own: angles[:, None] adds the "
             "head axis."),
    ],
    hints=[
        "Pair i is a point in the plane: (parts[..., i], parts[..., i + part/2]). Turn it by angles[..., "
        "i].",
        "`a, b = parts.chunk(2, -1)` and `angles[:, None]` fit together. torch.cat the two results along "
        "-1.",
    ],
    gradient=("parts",),
)

# ------------------------------------------------------------------------------------------------ SwiGLU


def _mlp_case(batch: int, token: int, width: int, hidden: int) -> tuple:
    gate, up, down = nn.Linear(width, hidden), nn.Linear(width, hidden), nn.Linear(hidden, width)
    return torch.randn(batch, token, width), gate, up, down


exercise(
    language.swiglu,
    cases=lambda: [_mlp_case(2, 5, 4, 9), _mlp_case(3, 4, 7, 5)],
    axes={"tokens": "batch token width", "return": "batch token width"},
    slips=[
        Slip(lambda x, g, u, d: d(g(x) * F.silu(u(x))),
             "the silu stands on the wrong branch: it belongs to the gate."),
        Slip(lambda x, g, u, d: d(g(x).sigmoid() * u(x)),
             "the gate is a bare sigmoid, which is the plain GLU; silu(x) is x · sigmoid(x)."),
        Slip(lambda x, g, u, d: d(F.gelu(g(x)) * u(x)),
             "this is GeGLU, with a gelu; the Swi in SwiGLU stands for swish, today called silu."),
        Slip(lambda x, g, u, d: d(g(x) * u(x)), "the silu is missing: without it the gate never closes."),
        Slip(lambda x, g, u, d: d(F.silu(g(x)) + u(x)), "gate and up are added; a gate multiplies."),
        Slip(lambda x, g, u, d: d(F.silu(g(x) * u(x))),
             "the silu is taken of the product; only the gate goes through it."),
        Slip(lambda x, g, u, d: d(F.silu(g(x))), "this is an ordinary MLP: `up` is not used."),
        Slip(lambda x, g, u, d: x + d(F.silu(g(x)) * u(x)),
             "the input is added here; the block around it does that already."),
    ],
    hints=[
        "Two layers read the same tokens. One of them decides how much of the other passes.",
        "`F.silu(gate(tokens))` times `up(tokens)`, then one layer back to the width.",
    ],
    gradient=("tokens",),
)
