"""Exercises of chapter 05, part one: the parts of a LLaMA block (see ch05_writing.py and ch05_others.py)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.models import language

CHAPTER = "05_language_models"

# -------------------------------------------------------------------------------------------- causal mask


def _triangle(queries: int, keys: int, shift: int = 0) -> Tensor:
    """True up to the query's own place, moved by ``shift``."""
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries + shift)


Exercise(
    slot=language.causal_mask,
    chapter=CHAPTER,
    cases=lambda: [(5, 5), (3, 7), (1, 4)],
    axes={"return": "query key"},
    slips=[
        Slip(lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(), Text(
            "right without a cache, but with one the queries are the LAST of the keys: the triangle must end in the "
            "lower right corner.",
            "cache なしでは正しいですが、cache があるとき query は key の「最後の」トークンです。"
            "三角形は右下の隅で終わります。")),
        Slip(lambda q, k: _triangle(q, k, 1), Text(
            "off by one: every token sees the next one, which is the answer it is asked for.",
            "1 つずれています。各トークンが次のトークン、つまり答えを見てしまいます。")),
        Slip(lambda q, k: _triangle(q, k, -1), Text(
            "a token must see itself too; now the first one sees nothing, and its softmax is NaN.",
            "自分自身も見えなければなりません。最初のトークンには何も見えず、softmax が NaN になります。")),
        Slip(lambda q, k: ~_triangle(q, k), Text(
            "the mask is upside down: True means that the query may look.",
            "mask が逆です。True は「見てよい」の意味です。")),
        Slip(lambda q, k: torch.ones(q, k, dtype=torch.bool).triu(k - q), Text(
            "this is the upper triangle: every token sees the future and not the past.",
            "上三角になっています。過去ではなく未来が見えています。")),
        Slip(lambda q, k: _triangle(k, k), Text(
            "this is a square for all keys; only the last `queries` of its rows are asked for.",
            "すべての key の正方形です。必要なのは最後の queries 行だけです。")),
        Slip(lambda q, k: torch.zeros(q, k).masked_fill(~_triangle(q, k), -torch.inf), Text(
            "these are numbers to add to the scores; the course's masks are True and False.",
            "スコアに足す数値になっています。この教材の mask は True / False です。")),
        Slip(lambda q, k: _triangle(q, k).float(), Text(
            "the places are right, but the mask must hold True and False: compare, or use dtype=torch.bool.",
            "位置は正しいですが、値は True / False にします。比較を使うか dtype=torch.bool とします。")),
    ],
    hints=[
        Text("Number the keys 0, 1, 2, …. Which numbers do the queries have when they are the last ones?",
             "key に 0, 1, 2, … と番号を付けます。query が最後のトークンなら、その番号はいくつですか。"),
        Text("Compare `torch.arange(keys)` as a row with `torch.arange(keys - queries, keys)` as a column.",
             "行としての `torch.arange(keys)` と、列としての `torch.arange(keys - queries, keys)` を比べます。"),
    ],
    picture=lambda output: output,
)  # fmt: skip

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


Exercise(
    slot=language.rms_norm,
    chapter=CHAPTER,
    cases=_norm_cases,
    axes={"tokens": "batch token width", "scale": "width", "return": "batch token width"},
    slips=[
        Slip(_with_mean, Text(
            "the mean is subtracted, as in layer norm; RMSNorm only divides by the length.",
            "layer norm のように平均を引いています。RMSNorm は長さで割るだけです。")),
        Slip(lambda x, s, e: _rms(x, s, 0.0, outside=e), Text(
            "epsilon stands outside the root: add it to the mean of the squares, then take the root.",
            "epsilon が平方根の外にあります。二乗平均に足してから平方根を取ります。")),
        Slip(lambda x, s, e: _rms(x, s, 0.0), Text(
            "epsilon is missing: a vector of zeros would be divided by 0.",
            "epsilon がありません。ゼロベクトルで 0 除算になります。")),
        Slip(lambda x, s, e: _rms(x, s, e, total=True), Text(
            "the squares are summed; take their mean, or the result shrinks as the width grows.",
            "二乗の和になっています。平均にしないと、幅が増えるほど結果が小さくなります。")),
        Slip(lambda x, s, e: _rms(x, s, e, root=False), Text(
            "the root is missing: divide by the root of the mean square.",
            "平方根がありません。二乗平均の平方根で割ります。")),
        Slip(lambda x, s, e: _rms(x, torch.ones_like(s), e), Text(
            "the learned scale is missing: multiply by it at the end.",
            "学習される scale がありません。最後に掛けてください。")),
        Slip(lambda x, s, e: _rms(x, 1 + s, e), Text(
            "1 + scale is Gemma's way; LLaMA multiplies by scale itself.",
            "1 + scale は Gemma の方式です。LLaMA は scale をそのまま掛けます。")),
        Slip(lambda x, s, e: _rms(x, s, e, dim=1), Text(
            "the mean runs over the tokens; each token is normalised alone, over its width: dim=-1.",
            "平均がトークン方向です。各トークンを単独で、幅の方向（dim=-1）に正規化します。")),
        Slip(lambda x, s, e: _rms(x, s, e, dim=(0, 1, 2)), Text(
            "one mean for everything; each token has its own length: mean(dim=-1, keepdim=True).",
            "全体で 1 つの平均です。長さはトークンごとに取ります：mean(dim=-1, keepdim=True)。")),
        Slip(lambda x, s, e: _rms(x, s, e, wide=False), Text(
            "in half precision the squares overflow: 512² does not fit into fp16. Convert with .float() first.",
            "半精度では二乗があふれます（512² は fp16 に入りません）。先に .float() で変換します。")),
        Slip(lambda x, s, e: _rms(x, s.float(), e, back=False), Text(
            "the values are right, but half-precision input must give half-precision output: .to(tokens.dtype).",
            "値は正しいですが、半精度の入力には半精度で返します：.to(tokens.dtype)。")),
    ],
    hints=[
        Text("The name is the recipe, read backwards: square, mean, root; then divide.",
             "名前を逆に読むと手順です：二乗（S）、平均（M）、平方根（R）。そして割ります。"),
        Text("`x = tokens.float()`, `x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)`, times scale; "
             "then back to the dtype of tokens.",
             "`x = tokens.float()`、`x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)` に scale を掛け、"
             "tokens の dtype に戻します。"),
    ],
    gradient=("tokens", "scale"),
)  # fmt: skip

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


Exercise(
    slot=language.rope,
    chapter=CHAPTER,
    cases=lambda: [
        (torch.randn(2, 3, 5, 8), 3 * torch.rand(2, 5, 4)),
        (torch.randn(4, 3, 7, 10), 3 * torch.rand(4, 7, 5)),
    ],
    axes={"parts": "batch head token part", "angles": "batch token half", "return": "batch head token part"},
    slips=[
        Slip(lambda x, a: _turn(x, a, interleaved=True), Text(
            "the pairs are neighbours (0, 1), (2, 3), as in the paper; LLaMA's weights in transformers pair i with "
            "i + part/2.",
            "隣どうし (0, 1), (2, 3) の組は論文の方式です。transformers の LLaMA は i と i + part/2 を組にします。")),
        Slip(lambda x, a: _turn(x, a, sign=-1.0), Text(
            "it turns the wrong way round: (a, b) becomes (a cos − b sin, a sin + b cos).",
            "回転の向きが逆です：(a, b) は (a cos − b sin, a sin + b cos) になります。")),
        Slip(_no_minus, Text(
            "the minus is missing: without it this is no rotation, and lengths change.",
            "マイナスがありません。これでは回転にならず、長さが変わります。")),
        Slip(lambda x, a: _turn(x, torch.pi / 2 - a), Text(
            "sine and cosine changed places.", "sin と cos が入れ替わっています。")),
        Slip(_half_turned, Text(
            "only the first numbers of the pairs are turned; the second ones need a sin + b cos.",
            "組の前半だけが回転しています。後半も a sin + b cos にします。")),
        Slip(lambda x, a: _turn(x, a).roll(x.shape[-1] // 2, -1), Text(
            "the halves come back in the wrong order: first a cos − b sin, then a sin + b cos.",
            "前半と後半の順が逆です。先に a cos − b sin、次に a sin + b cos です。")),
        Slip(lambda x, a: x + torch.cat([a.sin(), a.cos()], -1)[:, None], Text(
            "sine and cosine are added, as in the first transformer; RoPE turns: it multiplies.",
            "最初の Transformer のように sin と cos を足しています。RoPE は回転、つまり掛け算です。")),
        Slip(lambda x, a: _turn(x, a[:, :1]), Text(
            "every token is turned by the angles of token 0; each has its own: angles[:, None] adds the head axis.",
            "全トークンがトークン 0 の角度で回っています。角度はトークンごとです。"
            "angles[:, None] で head の軸を加えます。")),
    ],
    hints=[
        Text("Pair i is a point in the plane: (parts[..., i], parts[..., i + part/2]). Turn it by angles[..., i].",
             "i 番目の組は平面上の点 (parts[..., i], parts[..., i + part/2]) です。angles[..., i] だけ回します。"),
        Text("`a, b = parts.chunk(2, -1)` and `angles[:, None]` fit together. torch.cat the two results along -1.",
             "`a, b = parts.chunk(2, -1)` と `angles[:, None]` は形が合います。"
             "2 つの結果を -1 方向に torch.cat します。"),
    ],
    gradient=("parts",),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ SwiGLU


def _mlp_case(batch: int, token: int, width: int, hidden: int) -> tuple:
    gate, up, down = nn.Linear(width, hidden), nn.Linear(width, hidden), nn.Linear(hidden, width)
    return torch.randn(batch, token, width), gate, up, down


Exercise(
    slot=language.swiglu,
    chapter=CHAPTER,
    cases=lambda: [_mlp_case(2, 5, 4, 9), _mlp_case(3, 4, 7, 5)],
    axes={"tokens": "batch token width", "return": "batch token width"},
    slips=[
        Slip(lambda x, g, u, d: d(g(x) * F.silu(u(x))), Text(
            "the silu stands on the wrong branch: it belongs to the gate.",
            "silu の位置が逆です。gate の側に付けます。")),
        Slip(lambda x, g, u, d: d(g(x).sigmoid() * u(x)), Text(
            "the gate is a bare sigmoid, which is the plain GLU; silu(x) is x · sigmoid(x).",
            "gate が sigmoid だけの GLU です。silu(x) は x · sigmoid(x) です。")),
        Slip(lambda x, g, u, d: d(F.gelu(g(x)) * u(x)), Text(
            "this is GeGLU, with a gelu; the Swi in SwiGLU stands for swish, today called silu.",
            "gelu を使う GeGLU です。SwiGLU の Swi は swish、今の名前で silu です。")),
        Slip(lambda x, g, u, d: d(g(x) * u(x)), Text(
            "the silu is missing: without it the gate never closes.",
            "silu がありません。これでは gate が閉じません。")),
        Slip(lambda x, g, u, d: d(F.silu(g(x)) + u(x)), Text(
            "gate and up are added; a gate multiplies.", "gate と up を足しています。gate は掛け算です。")),
        Slip(lambda x, g, u, d: d(F.silu(g(x) * u(x))), Text(
            "the silu is taken of the product; only the gate goes through it.",
            "積に silu を掛けています。silu を通すのは gate だけです。")),
        Slip(lambda x, g, u, d: d(F.silu(g(x))), Text(
            "this is an ordinary MLP: `up` is not used.", "普通の MLP です。`up` が使われていません。")),
        Slip(lambda x, g, u, d: x + d(F.silu(g(x)) * u(x)), Text(
            "the input is added here; the block around it does that already.",
            "入力を足しています。それは外側の block の仕事です。")),
    ],
    hints=[
        Text("Two layers read the same tokens. One of them decides how much of the other passes.",
             "2 つの層が同じトークンを読みます。片方が、もう片方をどれだけ通すかを決めます。"),
        Text("`F.silu(gate(tokens))` times `up(tokens)`, then one layer back to the width.",
             "`F.silu(gate(tokens))` と `up(tokens)` の積を、最後の層で元の幅に戻します。"),
    ],
    gradient=("tokens",),
)  # fmt: skip
