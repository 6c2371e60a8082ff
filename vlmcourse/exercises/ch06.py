"""Exercises of chapter 06: five ways for words to meet an image."""

import torch
from torch import Tensor, nn

from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.models import fusion, language

CHAPTER = "06_fusion"

# -------------------------------------------------------------------------------------------- late fusion


def _late_case(batch: int, token: int, width: int, out: int) -> tuple:
    return torch.randn(batch, width), torch.randn(batch, token, width), nn.Linear(3 * width, out)


def _beside(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    return image[:, None].expand_as(text), text


def _late(order: str, image: Tensor, text: Tensor, mix) -> Tensor:
    """Parts in the given order: i(mage), t(ext), p(roduct), s(um), d(ifference)."""
    image, text = _beside(image, text)
    parts = {"i": image, "t": text, "p": image * text, "s": image + text, "d": text - image}
    return mix(torch.cat([parts[letter] for letter in order], dim=-1))


def _one_number(image: Tensor, text: Tensor, mix) -> Tensor:
    image, text = _beside(image, text)
    cosine = (image * text).sum(-1, keepdim=True).expand_as(text)
    return mix(torch.cat([text, image, cosine], dim=-1))


def _last_only(image: Tensor, text: Tensor, mix) -> Tensor:
    return _late("tip", image, text[:, -1:], mix).expand(-1, text.shape[1], -1)


Exercise(
    slot=fusion.late_fusion,
    chapter=CHAPTER,
    cases=lambda: [_late_case(2, 5, 4, 3), _late_case(3, 4, 7, 6)],
    axes={"image": "batch width", "text": "batch token width", "return": "batch token out"},
    slips=[
        Slip(lambda i, t, m: _late("itp", i, t, m), Text(
            "image and text changed places: the order is text, image, product.",
            "image と text の順が逆です。text、image、積の順に並べます。")),
        Slip(lambda i, t, m: _late("tis", i, t, m), Text(
            "the third part is a sum; a layer behind it could add by itself. Multiply: text · image.",
            "3 つ目が和になっています。和なら後ろの層でも作れます。積 text · image にします。")),
        Slip(lambda i, t, m: _late("tid", i, t, m), Text(
            "the third part is a difference; a layer behind it could subtract by itself. Multiply: text · image.",
            "3 つ目が差になっています。差なら後ろの層でも作れます。積 text · image にします。")),
        Slip(_one_number, Text(
            "the product was summed to one number, a dot product; keep it number by number.",
            "積を合計して内積にしています。要素ごとの積のまま残します。")),
        Slip(_last_only, Text(
            "only the last token meets the image; every token shall.",
            "最後のトークンだけが画像と出会っています。すべてのトークンで行います。")),
        Slip(lambda i, t, m: t + 0 * _late("tip", i, t, m)[..., :1], Text(
            "the text comes out as it was: return what mix makes of the three parts.",
            "text がそのまま返っています。3 つを並べて mix に通した結果を返します。")),
    ],
    hints=[
        Text("One image vector meets many tokens: give it a token axis first.",
             "1 つの画像ベクトルが多くのトークンと出会います。まず token の軸を加えます。"),
        Text("`image[:, None].expand_as(text)`, then torch.cat of three parts along the last axis, then mix.",
             "`image[:, None].expand_as(text)` とし、3 つを最後の軸で torch.cat して mix に通します。"),
    ],
    gradient=("image", "text"),
)  # fmt: skip

# ---------------------------------------------------------------------------------------- cross-attention


class _Look(nn.Module):
    """A small attention whose mistakes can all be told apart."""

    def __init__(self, width: int):
        super().__init__()
        self.mix, self.keys = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        return self.mix((queries @ self.keys(context).transpose(1, 2)).softmax(-1) @ context)


def _cross_case(batch: int, token: int, patch: int, width: int) -> tuple:
    norm = nn.LayerNorm(width)
    nn.init.normal_(norm.weight, 1.0, 0.5)
    nn.init.normal_(norm.bias)
    return torch.randn(batch, token, width), torch.randn(batch, patch, width), norm, _Look(width)


CROSS_SLIPS = [
    (lambda x, c, n, a: a(n(x), c), Text(
        "the residual stream is missing: add what was seen to the tokens, do not replace them.",
        "残差がありません。見た内容を tokens に足し、置き換えないでください。")),
    (lambda x, c, n, a: a(x, c), Text(
        "the stream is replaced and not normalised: tokens + attend(norm(tokens), context).",
        "流れを置き換え、正規化もしていません：tokens + attend(norm(tokens), context)。")),
    (lambda x, c, n, a: x + a(x, c), Text(
        "the norm is missing: attention reads a normalised copy of the tokens.",
        "正規化がありません。attention は tokens を正規化したコピーを読みます。")),
    (lambda x, c, n, a: n(x) + a(n(x), c), Text(
        "the normalised copy is added instead of the stream: tokens themselves go on.",
        "流れではなく正規化したコピーに足しています。tokens そのものに足します。")),
    (lambda x, c, n, a: n(x + a(x, c)), Text(
        "this is post-norm, as in BERT: it normalises the sum. Normalise what attention reads.",
        "これは BERT の post-norm です。attention が読む側を正規化します。")),
    (lambda x, c, n, a: x + a(n(x), n(c)), Text(
        "the image went through the norm of the words; its features have their own scale, leave them as they are.",
        "画像特徴が言葉用の norm を通っています。画像特徴はそのまま渡します。")),
    (lambda x, c, n, a: x + a(n(x), n(x)), Text(
        "the words look at themselves; keys and values come from the context.",
        "言葉が自分自身を見ています。key と value は context から取ります。")),
]  # fmt: skip


def _image_asks(x, c, n, a):
    return x + a(n(c), x).mean(1, keepdim=True)


Exercise(
    slot=fusion.cross_attend,
    chapter=CHAPTER,
    cases=lambda: [_cross_case(2, 5, 3, 4), _cross_case(3, 4, 6, 7)],
    axes={"tokens": "batch token width", "context": "batch patch width", "return": "batch token width"},
    slips=[
        *(Slip(wrong, says) for wrong, says in CROSS_SLIPS),
        Slip(_image_asks, Text(
            "the image asks and the words answer: queries come from the tokens, keys from the context.",
            "画像が問い、言葉が答えています。query は tokens、key は context から取ります。")),
    ],
    hints=[
        Text("It has the form of every step of the residual stream: tokens + something(norm(tokens)).",
             "残差の流れのいつもの形です：tokens + something(norm(tokens))。"),
        Text("`attend` takes two arguments: who asks, and who is looked at.",
             "`attend` の引数は 2 つ、問う側と見られる側です。"),
    ],
    gradient=("tokens", "context"),
)  # fmt: skip

# ---------------------------------------------------------------------------------- gated cross-attention


def _gated_cases() -> list[tuple]:
    shapes = ((2, 5, 3, 4), (3, 4, 6, 7), (2, 3, 5, 6))
    return [(*_cross_case(*shape), torch.tensor(gate)) for shape, gate in zip(shapes, (0.8, -1.3, 0.0), strict=True)]


def _gated(x, c, n, a, gate):
    return x + gate.tanh() * a(n(x), c)


Exercise(
    slot=fusion.gated_cross_attend,
    chapter=CHAPTER,
    cases=_gated_cases,
    axes={"tokens": "batch token width", "context": "batch patch width", "return": "batch token width"},
    slips=[
        Slip(lambda x, c, n, a, g: x + g * a(n(x), c), Text(
            "the tanh is missing: it keeps the gate between −1 and 1.",
            "tanh がありません。tanh が gate を −1 から 1 の間に保ちます。")),
        Slip(lambda x, c, n, a, g: x + g.sigmoid() * a(n(x), c), Text(
            "a sigmoid is half open at 0; the gate must begin closed: tanh(0) = 0.",
            "sigmoid は 0 で半開きです。gate は閉じて始めます：tanh(0) = 0。")),
        Slip(lambda x, c, n, a, g: g.tanh() * (x + a(n(x), c)), Text(
            "the gate closes the whole stream; it belongs to what was seen alone.",
            "gate が流れ全体を閉じています。見た内容だけに掛けます。")),
        Slip(lambda x, c, n, a, g: x + a(n(x), c), Text(
            "the gate is not used.", "gate が使われていません。")),
        Slip(lambda x, c, n, a, g: x + a(g.tanh() * n(x), c), Text(
            "the gate stands before the attention: it makes the question smaller, not the answer.",
            "gate が attention の前にあります。問いではなく答えに掛けます。")),
        Slip(lambda x, c, n, a, g: (1 - g.tanh()) * x + g.tanh() * a(n(x), c), Text(
            "this blends: an open gate shuts out the words. The stream is added in full.",
            "混ぜ合わせになっています。流れはそのまま全部足します。")),
        Slip(lambda x, c, n, a, g: x + (g * a(n(x), c)).tanh(), Text(
            "the tanh goes around all of it; only the gate gets one.",
            "全体に tanh を掛けています。tanh は gate だけに掛けます。")),
        Slip(lambda x, c, n, a, g: g.tanh() * a(n(x), c), Text(
            "the residual stream is missing: a closed gate must leave the tokens as they were.",
            "残差がありません。gate が閉じていれば tokens はそのまま残ります。")),
    ],
    hints=[
        Text("It is cross_attend with one number in front of what was seen.",
             "cross_attend で、見た内容の前に数を 1 つ掛けるだけです。"),
        Text("`gate.tanh()` multiplies `attend(...)`, and nothing else.",
             "`gate.tanh()` を掛けるのは `attend(...)` だけです。"),
    ],
    gradient=("tokens", "context", "gate"),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ inject


def _inject_case(counts: list[int], token: int, patch: int, width: int) -> tuple:
    """Texts with so many images each, standing anywhere, first image first."""
    places = torch.zeros(len(counts), token, dtype=torch.bool)
    for row, count in zip(places, counts, strict=True):
        row[torch.randperm(token)[: count * patch]] = True
    features = torch.randn(sum(counts), patch, width)
    return torch.randn(len(counts), token, width), features, places


def _by_row(x, f, p):
    """Feature k goes to the k-th placeholder of every text: image 0 everywhere."""
    number = (p.cumsum(1) - 1).clamp(min=0)
    return torch.where(p[..., None], f.flatten(0, 1)[number.clamp(max=f[..., 0].numel() - 1)], x)


def _by_place(x, f, p):
    """The feature whose number is the place in the text."""
    flat = f.flatten(0, 1)
    return torch.where(p[..., None], flat[torch.arange(p.shape[1]) % len(flat)], x)


def _columns_first(x, f, p):
    result = x.transpose(0, 1).clone()
    result[p.T] = f.flatten(0, 1)
    return result.transpose(0, 1)


def _scattered(x, features, p):
    result = x.clone()
    result[p] = features
    return result


def _summed(x, f, p):
    return x + _scattered(torch.zeros_like(x), f.flatten(0, 1), p)


Exercise(
    slot=fusion.inject,
    chapter=CHAPTER,
    cases=lambda: [_inject_case([2, 0, 2], 11, 3, 5), _inject_case([1, 2], 9, 4, 5)],
    axes={"embeddings": "batch token width", "features": "image patch width", "places": "batch token",
          "return": "batch token width"},
    slips=[
        Slip(_summed, Text(
            "the features are added to the placeholder's embedding; they replace it.",
            "特徴を placeholder の embedding に足しています。足さずに置き換えます。")),
        Slip(_by_row, Text(
            "every text begins again with image 0; go on through all images, text by text.",
            "どのテキストも画像 0 から始まっています。テキスト順に、全画像を通して続けます。")),
        Slip(_by_place, Text(
            "a feature's number is its place in the text; count the placeholders, not the tokens.",
            "トークンの位置で特徴を選んでいます。数えるのは placeholder です。")),
        Slip(_columns_first, Text(
            "the placeholders are filled column by column; go text by text.",
            "列ごとに埋めています。テキストごとに埋めます。")),
        Slip(lambda x, f, p: _scattered(x, f.transpose(0, 1).flatten(0, 1), p), Text(
            "the first patches of all images come first; an image's patches stay together.",
            "全画像の 1 番目の patch が先に並んでいます。画像ごとにまとめて並べます。")),
        Slip(lambda x, f, p: _scattered(x, f.flatten(0, 1).flip(0), p), Text(
            "the features stand in reverse order.", "特徴の順が逆です。")),
        Slip(lambda x, f, p: torch.where(p[..., None], f.mean((0, 1)), x), Text(
            "every placeholder got the same vector, the mean; each has its own patch.",
            "どの placeholder にも平均が入っています。patch を 1 つずつ入れます。")),
        Slip(lambda x, f, p: torch.where(p[..., None], torch.zeros_like(x), x), Text(
            "the placeholders are empty: the features never arrive.",
            "placeholder が空です。特徴が入っていません。")),
    ],
    hints=[
        Text("A boolean mask picks places in reading order: text by text, token by token.",
             "真偽の mask は読む順（テキストごと、トークンごと）に場所を選びます。"),
        Text("`embeddings.masked_scatter(places[..., None], features)`; or clone, and assign to result[places].",
             "`embeddings.masked_scatter(places[..., None], features)`、"
             "または clone して result[places] に代入します。"),
    ],
    gradient=("embeddings", "features"),
)  # fmt: skip

# -------------------------------------------------------------------------------------------- prefix mask


def _causal(prefix: Tensor, shift: int = 0) -> Tensor:
    token = prefix.shape[1]
    return torch.ones(token, token, dtype=torch.bool).tril(shift).expand(len(prefix), -1, -1)


def _prefixes(*rows: str) -> Tensor:
    return torch.tensor([[letter == "p" for letter in row] for row in rows])


Exercise(
    slot=language.prefix_mask,
    chapter=CHAPTER,
    cases=lambda: [(_prefixes("ppp..", "pp...", "....."),), (_prefixes(".pppp..", "ppppp.."),)],
    axes={"prefix": "batch token", "return": "batch token key"},
    slips=[
        Slip(lambda p: _causal(p).clone(), Text(
            "this is the causal mask alone; inside the prefix everything sees everything.",
            "ただの causal mask です。prefix の中では全員が互いに見えます。")),
        Slip(lambda p: _causal(p) | p[:, None, :], Text(
            "every token sees the whole prefix, even one that stands before it; only tokens of the prefix look ahead.",
            "prefix の前のトークンまで prefix 全体を見ています。先を見てよいのは prefix 内のトークンだけです。")),
        Slip(lambda p: _causal(p) | p[:, :, None], Text(
            "the prefix sees the answer too: it may look ahead only inside itself.",
            "prefix が答えまで見ています。先を見てよいのは prefix の中だけです。")),
        Slip(lambda p: _causal(p) & p[:, None, :], Text(
            "now nobody sees the answer so far; outside the prefix the causal rule goes on.",
            "これでは書いた答えが見えません。prefix の外では causal の規則が続きます。")),
        Slip(lambda p: p[:, :, None] & p[:, None, :], Text(
            "only the prefix sees anything; combine it with the causal mask.",
            "prefix しか見えていません。causal mask と組み合わせます。")),
        Slip(lambda p: torch.ones_like(_causal(p)), Text(
            "everybody sees everything, also the answer that is to be predicted.",
            "全員がすべてを見ています。予測すべき答えまで見えてしまいます。")),
        Slip(lambda p: _causal(p, 1) | (p[:, :, None] & p[:, None, :]), Text(
            "outside the prefix every token sees the next one, which is the answer it is asked for.",
            "prefix の外で次のトークン、つまり答えが見えています。")),
    ],
    hints=[
        Text("Two rules, and one of them is enough: the key came before, or both are in the prefix.",
             "規則は 2 つ、どちらかを満たせばよい：key が前にある、または両方が prefix の中。"),
        Text("`prefix[:, :, None] & prefix[:, None, :]` is True where both are in it; `|` joins it with causal_mask.",
             "`prefix[:, :, None] & prefix[:, None, :]` は両方が中のとき True。`|` で causal_mask と合わせます。"),
    ],
    picture=lambda output: output[0],
)  # fmt: skip
