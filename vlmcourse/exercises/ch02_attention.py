"""Exercises of chapter 02, part two: heads, attention, the block, and attention through all layers."""

import torch
from torch import Tensor, nn

from vlmcourse.diagnostics import attention as maps
from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.models import attention

CHAPTER = "02_vit"

# ------------------------------------------------------------------------------------------------- heads

Exercise(
    slot=attention.split_heads,
    chapter=CHAPTER,
    cases=lambda: [(torch.randn(2, 5, 12), 3), (torch.randn(3, 7, 8), 2)],
    axes={"tokens": "batch token width", "return": "batch head token part"},
    slips=[
        Slip(lambda x, h: x.reshape(x.shape[0], h, x.shape[1], -1), Text(
            "reshape straight to (batch, head, token, part) mixes different tokens in one head. "
            "Cut the width first, then swap axes.",
            "いきなり (batch, head, token, part) に reshape すると別のトークンが混ざります。"
            "まず幅を分け、次に軸を入れ替えます。")),
        Slip(lambda x, h: x.reshape(*x.shape[:2], h, -1), Text(
            "the width is cut well, but the head axis must come before the token axis.",
            "幅の分割は正しいですが、head の軸を token の軸より前に出してください。")),
        Slip(lambda x, h: x.reshape(*x.shape[:2], -1, h).permute(0, 3, 1, 2), Text(
            "the parts are interleaved: head 0 must get the first width/heads numbers, not every heads-th number.",
            "要素が飛び飛びです。head 0 には先頭の width/heads 個を渡します。")),
    ],
    hints=[
        Text("Each token's vector is cut into consecutive parts. Which axis do you cut, and where must the new one go?",
             "各トークンのベクトルを連続した部分に切ります。どの軸を切り、新しい軸はどこへ行くべきでしょう。"),
        Text("reshape to (batch, token, heads, width // heads), then transpose(1, 2).",
             "(batch, token, heads, width // heads) に reshape し、transpose(1, 2) します。"),
    ],
    gradient=("tokens",),
)  # fmt: skip

Exercise(
    slot=attention.merge_heads,
    chapter=CHAPTER,
    cases=lambda: [(torch.randn(2, 3, 5, 4),), (torch.randn(3, 2, 7, 4),)],
    axes={"parts": "batch head token part", "return": "batch token width"},
    slips=[
        Slip(lambda x: x.reshape(x.shape[0], x.shape[2], -1), Text(
            "a reshape alone keeps the heads apart and mixes tokens; bring the head axis back beside part first.",
            "reshape だけではトークンが混ざります。先に head の軸を part の隣へ戻してください。")),
        Slip(lambda x: x.permute(0, 2, 3, 1).flatten(2), Text(
            "head and part are in the wrong order: all of head 0 comes first, then all of head 1.",
            "head と part の順序が逆です。head 0 の全要素、次に head 1 の全要素です。")),
        Slip(lambda x: x.mean(1), Text(
            "the heads are averaged, which loses most of what they found; put them side by side.",
            "head を平均すると情報が失われます。横に並べてください。")),
    ],
    hints=[
        Text("It is split_heads backwards: undo the last step first.",
             "split_heads の逆です。最後の操作から順に戻します。"),
        Text("transpose(1, 2), then reshape to (batch, token, head · part).",
             "transpose(1, 2) のあと (batch, token, head · part) に reshape します。"),
    ],
    gradient=("parts",),
)  # fmt: skip

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


Exercise(
    slot=attention.scaled_dot_product,
    chapter=CHAPTER,
    cases=_attention_cases,
    axes={"query": "batch head query part", "key": "batch head key part", "value": "batch head key part",
          "mask": "batch head query key", "bias": "batch head query key",
          "return": ("batch head query part", "batch head query key")},
    slips=[
        Slip(lambda *a: _attend(*a, scale=1.0), Text(
            "the scores are not divided by √part, so with wide heads the softmax saturates and learning stalls.",
            "スコアを √part で割っていません。幅が広いと softmax が飽和し、学習が止まります。")),
        Slip(lambda *a: _attend(*a, scale=1 / a[0].shape[-1]), Text(
            "the scores are divided by part; divide by its square root.",
            "スコアを part で割っています。平方根で割ってください。")),
        Slip(lambda *a: _attend(*a, scale=(a[0].shape[-1] * a[0].shape[1]) ** -0.5), Text(
            "the scores are divided by √width of all heads together; each head divides by its own width, part.",
            "全 head の幅の平方根で割っています。各 head 自身の幅 part を使います。")),
        Slip(lambda *a: _attend(*a, axis=-2), Text(
            "the softmax runs over the queries: each column sums to 1. Every query's row must sum to 1: dim=-1.",
            "softmax が query の方向です（列の和が 1）。各 query の行の和が 1 になるよう dim=-1 にします。")),
        Slip(lambda q, k, v, m=None, b=None: _attend(q, k, v, None, b), Text(
            "the mask is ignored: a query still looks at keys where mask is False.",
            "mask が無視されています。False の key も見えてしまいます。")),
        Slip(lambda *a: _attend(*a, flip=True), Text(
            "the mask is upside down: True means that the query may look.",
            "mask が逆です。True は「見てよい」の意味です。")),
        Slip(lambda *a: _attend(*a, fill=0.0), Text(
            "masked scores are set to 0, but exp(0) is 1, so masked keys still get weight. Set them to -inf.",
            "mask したスコアを 0 にしていますが exp(0) は 1 なので重みが残ります。-inf にしてください。")),
        Slip(_masked_after_softmax, Text(
            "the mask is applied after the softmax, so the rows no longer sum to 1. Mask the scores before.",
            "softmax の後に mask しているため行の和が 1 になりません。スコアの段階で mask してください。")),
        Slip(_causal, Text(
            "a causal mask is left in: image tokens may look at later ones. Only the mask argument forbids anything.",
            "因果マスクが残っています。画像のトークンは後のトークンも見られます。禁止するのは引数 mask だけです。")),
        Slip(lambda q, k, v, m=None: (_attend(q, k, v, m)[0], None), Text(
            "the weights are None; torch's own scaled_dot_product_attention does not give them. Compute them yourself.",
            "重みが None です。torch の scaled_dot_product_attention は重みを返しません。自分で計算してください。")),
        Slip(lambda *a: _attend(*a)[::-1], Text(
            "output and weights are swapped: return (output, weights).",
            "出力と重みの順が逆です。(output, weights) を返してください。")),
        Slip(lambda *a: _attend(*a)[0], Text(
            "the weights are missing: return both, (output, weights), so that we can look at them.",
            "重みがありません。(output, weights) の両方を返してください。")),
    ],
    hints=[
        Text("Four steps: scores, mask, softmax, mix. What shape must the scores have for `weights @ value` to work?",
             "スコア、mask、softmax、混合の 4 段階です。`weights @ value` が動くスコアの形は何でしょう。"),
        Text("scores = query @ key.transpose(-2, -1) / √part has shape (batch, head, query, key).",
             "scores = query @ key.transpose(-2, -1) / √part の形は (batch, head, query, key) です。"),
        Text("`scores.masked_fill(~mask, -torch.inf)` before `softmax(dim=-1)`; mask and bias may be None.",
             "`softmax(dim=-1)` の前に `scores.masked_fill(~mask, -torch.inf)`。mask, bias は None もあり得ます。"),
    ],
    gradient=("query", "key", "value"),
    picture=lambda output: output[1][0, 0],
)  # fmt: skip

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


Exercise(
    slot=attention.pre_norm_block,
    chapter=CHAPTER,
    cases=lambda: [_block_case(2, 5, 6), _block_case(3, 4, 7)],
    axes={"tokens": "batch token width", "return": "batch token width"},
    slips=[
        Slip(lambda x, n1, a, n2, m: m(n2(a(n1(x)))), Text(
            "the residual stream is missing: attention and MLP must add to their input, not replace it.",
            "残差がありません。attention と MLP は入力を置き換えず、足してください。")),
        Slip(lambda x, n1, a, n2, m: n2(n1(x + a(x)) + m(n1(x + a(x)))), Text(
            "this is post-norm, as in BERT: it normalises the sum. Pre-norm normalises what attention and MLP read.",
            "これは BERT の post-norm です。pre-norm では attention と MLP が読む側を正規化します。")),
        Slip(_parallel, Text(
            "the MLP reads the tokens from before attention; it must read the sum.",
            "MLP が attention の前のトークンを読んでいます。足した後を読ませてください。")),
        Slip(_one_stream, Text(
            "the second step adds to the normalised copy; the residual stream itself is never normalised.",
            "2 段目が正規化後のコピーに足しています。残差の流れ自体は正規化しません。")),
        Slip(lambda x, n1, a, n2, m: (x + a(x)) + m(x + a(x)), Text(
            "the norms are missing: attention and MLP read normalised copies.",
            "正規化がありません。attention と MLP は正規化したコピーを読みます。")),
        Slip(lambda x, n1, a, n2, m: (x + a(n1(x))) + m(x + a(n1(x))), Text(
            "the MLP reads the bare stream; it needs its own normalised copy: mlp(norm_before_mlp(tokens)).",
            "MLP が正規化されていない流れを読んでいます。mlp(norm_before_mlp(tokens)) としてください。")),
        Slip(lambda x, n1, a, n2, m: n2(n1(x) + a(n1(x))) + m(n2(n1(x) + a(n1(x)))), Text(
            "the normalised copy is added instead of the stream: add to tokens, not to norm(tokens).",
            "流れではなく正規化したコピーに足しています。norm(tokens) ではなく tokens に足します。")),
        Slip(lambda x, n1, a, n2, m: x + m(n2(x + a(n1(x)))), Text(
            "the MLP's result is added to the first tokens, so what attention found is lost from the stream.",
            "MLP の結果を最初の tokens に足しているため、attention の結果が失われます。")),
        Slip(lambda x, n1, a, n2, m: (x + m(n2(x))) + a(n1(x + m(n2(x)))), Text(
            "MLP and attention are in the wrong order: attention comes first.",
            "MLP と attention の順序が逆です。attention が先です。")),
        Slip(lambda x, n1, a, n2, m: x + a(n1(x)), Text(
            "the second half is missing: after attention comes the MLP with its own norm.",
            "後半がありません。attention の次に、専用の norm を持つ MLP が来ます。")),
        Slip(lambda x, n1, a, n2, m: (x + a(n1(x))) + m(n1(x + a(n1(x)))), Text(
            "the first norm is used twice; the MLP has its own, norm_before_mlp.",
            "1 つ目の norm を 2 回使っています。MLP には norm_before_mlp を使います。")),
    ],
    hints=[
        Text("Two lines of the same form: tokens = tokens + something(norm(tokens)).",
             "同じ形の 2 行です：tokens = tokens + something(norm(tokens))。"),
        Text("First attend(norm_before_attention(tokens)), then mlp(norm_before_mlp(tokens)) on the updated tokens.",
             "まず attend(norm_before_attention(tokens))、次に更新後の tokens に mlp(norm_before_mlp(tokens))。"),
    ],
    gradient=("tokens",),
)  # fmt: skip

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


Exercise(
    slot=maps.rollout,
    chapter=CHAPTER,
    cases=lambda: [
        ((2 * torch.randn(3, 2, 5, 5)).softmax(-1),),
        ((2 * torch.randn(4, 3, 7, 7)).softmax(-1),),
    ],
    axes={"weights": "layer head query key", "return": "query key"},
    slips=[
        Slip(lambda w: _product(_layers(w, residual=0.0)), Text(
            "the residual stream is missing: half of what a token is passes straight on, so mix in 0.5 · identity.",
            "残差の流れがありません。トークンの半分は素通りするので 0.5 · 単位行列を混ぜます。")),
        Slip(lambda w: _product(_layers(w), backwards=True), Text(
            "the layers are multiplied in the wrong order: the first layer acts first, so it stands rightmost.",
            "層を掛ける順序が逆です。最初の層が先に働くので、一番右に来ます。")),
        Slip(_unnormalised, Text(
            "rows sum to 2 per layer: after adding the identity, halve, so that rows stay distributions.",
            "層ごとに行の和が 2 になります。単位行列を足したら半分にして、分布のままにします。")),
        Slip(lambda w: _product(_layers(w, heads=lambda x: x.amax(1))), Text(
            "this takes the largest head; rollout averages the heads.",
            "最大の head を取っています。rollout では head を平均します。")),
        Slip(lambda w: 0.5 * _product(_layers(w, residual=0.0)) + 0.5 * torch.eye(w.shape[-1], dtype=w.dtype), Text(
            "the identity is mixed in once at the end; every layer has its own residual connection.",
            "単位行列を最後に 1 回だけ混ぜています。残差は層ごとにあります。")),
        Slip(lambda w: _layers(w).mean(0), Text(
            "the layers are averaged; follow the flow by multiplying them.",
            "層を平均しています。流れを追うには行列を掛けます。")),
        Slip(lambda w: w.mean((0, 1)), Text(
            "this is the mean over layers and heads; it does not follow what flows from layer to layer.",
            "層と head の平均です。層から層への流れを追っていません。")),
    ],
    hints=[
        Text("One matrix per layer says where its output comes from. What does one layer after another mean for "
             "matrices?",
             "層ごとの行列は出力の由来を表します。層を順に通すことは、行列では何に当たりますか。"),
        Text("Per layer: 0.5 · (mean over heads) + 0.5 · identity. Then total = layer @ total, first layer first.",
             "層ごとに 0.5 ·（head の平均）+ 0.5 · 単位行列。最初の層から total = layer @ total。"),
    ],
)  # fmt: skip
