"""Exercises of chapter 06: five ways for words to meet an image."""

import torch
from torch import Tensor, nn

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import fusion, language

exercise, _ = chapter("06_fusion")

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


exercise(
    fusion.late_fusion,
    cases=lambda: [_late_case(2, 5, 4, 3), _late_case(3, 4, 7, 6)],
    slips=[
        Slip(lambda i, t, m: _late("itp", i, t, m),
             "image and text changed places: the order is text, image, product."),
        Slip(lambda i, t, m: _late("tis", i, t, m),
             "the third part is a sum; a layer behind it could add by itself. Multiply: text · image."),
        Slip(lambda i, t, m: _late("tid", i, t, m),
             "the third part is a difference; a layer behind it could subtract by itself. Multiply: text · "
             "image."),
        Slip(_one_number, "the product was summed to one number, a dot product; keep it number by number."),
        Slip(_last_only, "only the last token meets the image; every token shall."),
        Slip(lambda i, t, m: t + 0 * _late("tip", i, t, m)[..., :1],
             "the text comes out as it was: return what mix makes of the three parts."),
    ],
    hints=[
        "One image vector meets many tokens: give it a token axis first.",
        "`image[:, None].expand_as(text)`, then torch.cat of three parts along the last axis, then mix.",
    ],
    gradient=("image", "text"),
)

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
    (lambda x, c, n, a: a(n(x), c), "the residual stream is missing: add what was seen to the tokens, do "
                                    "not replace them."),
    (lambda x, c, n, a: a(x, c), "the stream is replaced and not normalised: tokens + attend(norm(tokens), "
                                 "context)."),
    (lambda x, c, n, a: x + a(x, c), "the norm is missing: attention reads a normalised copy of the tokens."),
    (lambda x, c, n, a: n(x) + a(n(x), c), "the normalised copy is added instead of the stream: tokens "
                                           "themselves go on."),
    (lambda x, c, n, a: n(x + a(x, c)), "this is post-norm, as in BERT: it normalises the sum. Normalise "
                                        "what attention reads."),
    (lambda x, c, n, a: x + a(n(x), n(c)), "the image went through the norm of the words; its features "
                                           "have their own scale, leave them as they are."),
    (lambda x, c, n, a: x + a(n(x), n(x)), "the words look at themselves; keys and values come from the "
                                           "context."),
]  # fmt: skip


def _image_asks(x, c, n, a):
    return x + a(n(c), x).mean(1, keepdim=True)


exercise(
    fusion.cross_attend,
    cases=lambda: [_cross_case(2, 5, 3, 4), _cross_case(3, 4, 6, 7)],
    slips=[
        *(Slip(wrong, says) for wrong, says in CROSS_SLIPS),
        Slip(_image_asks,
             "the image asks and the words answer: queries come from the tokens, keys from the context."),
    ],
    hints=[
        "It has the form of every step of the residual stream: tokens + something(norm(tokens)).",
        "`attend` takes two arguments: who asks, and who is looked at.",
    ],
    gradient=("tokens", "context"),
)

# ---------------------------------------------------------------------------------- gated cross-attention


def _gated_cases() -> list[tuple]:
    shapes = ((2, 5, 3, 4), (3, 4, 6, 7), (2, 3, 5, 6))
    return [(*_cross_case(*shape), torch.tensor(gate)) for shape, gate in zip(shapes, (0.8, -1.3, 0.0), strict=True)]


def _gated(x, c, n, a, gate):
    return x + gate.tanh() * a(n(x), c)


exercise(
    fusion.gated_cross_attend,
    cases=_gated_cases,
    slips=[
        Slip(lambda x, c, n, a, g: x + g * a(n(x), c),
             "the tanh is missing: it keeps the gate between −1 and 1."),
        Slip(lambda x, c, n, a, g: x + g.sigmoid() * a(n(x), c),
             "a sigmoid is half open at 0; the gate must begin closed: tanh(0) = 0."),
        Slip(lambda x, c, n, a, g: g.tanh() * (x + a(n(x), c)),
             "the gate closes the whole stream; it belongs to what was seen alone."),
        Slip(lambda x, c, n, a, g: x + a(n(x), c), "the gate is not used."),
        Slip(lambda x, c, n, a, g: x + a(g.tanh() * n(x), c),
             "the gate stands before the attention: it makes the question smaller, not the answer."),
        Slip(lambda x, c, n, a, g: (1 - g.tanh()) * x + g.tanh() * a(n(x), c),
             "this blends: an open gate shuts out the words. The stream is added in full."),
        Slip(lambda x, c, n, a, g: x + (g * a(n(x), c)).tanh(),
             "the tanh goes around all of it; only the gate gets one."),
        Slip(lambda x, c, n, a, g: g.tanh() * a(n(x), c),
             "the residual stream is missing: a closed gate must leave the tokens as they were."),
    ],
    hints=[
        "It is cross_attend with one number in front of what was seen.",
        "`gate.tanh()` multiplies `attend(...)`, and nothing else.",
    ],
    gradient=("tokens", "context", "gate"),
)

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


exercise(
    fusion.inject,
    cases=lambda: [_inject_case([2, 0, 2], 11, 3, 5), _inject_case([1, 2], 9, 4, 5)],
    slips=[
        Slip(_summed, "the features are added to the placeholder's embedding; they replace it."),
        Slip(_by_row, "every text begins again with image 0; go on through all images, text by text."),
        Slip(_by_place,
             "a feature's number is its place in the text; count the placeholders, not the tokens."),
        Slip(_columns_first, "the placeholders are filled column by column; go text by text."),
        Slip(lambda x, f, p: _scattered(x, f.transpose(0, 1).flatten(0, 1), p),
             "the first patches of all images come first; an image's patches stay together."),
        Slip(lambda x, f, p: _scattered(x, f.flatten(0, 1).flip(0), p),
             "the features stand in reverse order."),
        Slip(lambda x, f, p: torch.where(p[..., None], f.mean((0, 1)), x),
             "every placeholder got the same vector, the mean; each has its own patch."),
        Slip(lambda x, f, p: torch.where(p[..., None], torch.zeros_like(x), x),
             "the placeholders are empty: the features never arrive."),
    ],
    hints=[
        "A boolean mask picks places in reading order: text by text, token by token.",
        "`embeddings.masked_scatter(places[..., None], features)`; or clone, and assign to result[places].",
    ],
    gradient=("embeddings", "features"),
)

# -------------------------------------------------------------------------------------------- prefix mask


def _causal(prefix: Tensor, shift: int = 0) -> Tensor:
    token = prefix.shape[1]
    return torch.ones(token, token, dtype=torch.bool).tril(shift).expand(len(prefix), -1, -1)


def _prefixes(*rows: str) -> Tensor:
    return torch.tensor([[letter == "p" for letter in row] for row in rows])


exercise(
    language.prefix_mask,
    cases=lambda: [(_prefixes("ppp..", "pp...", "....."),), (_prefixes(".pppp..", "ppppp.."),)],
    slips=[
        Slip(lambda p: _causal(p).clone(),
             "this is the causal mask alone; inside the prefix everything sees everything."),
        Slip(lambda p: _causal(p) | p[:, None, :],
             "every token sees the whole prefix, even one that stands before it; only tokens of the prefix "
             "look ahead."),
        Slip(lambda p: _causal(p) | p[:, :, None],
             "the prefix sees the answer too: it may look ahead only inside itself."),
        Slip(lambda p: _causal(p) & p[:, None, :],
             "now nobody sees the answer so far; outside the prefix the causal rule goes on."),
        Slip(lambda p: p[:, :, None] & p[:, None, :],
             "only the prefix sees anything; combine it with the causal mask."),
        Slip(lambda p: torch.ones_like(_causal(p)),
             "everybody sees everything, also the answer that is to be predicted."),
        Slip(lambda p: _causal(p, 1) | (p[:, :, None] & p[:, None, :]),
             "outside the prefix every token sees the next one, which is the answer it is asked for."),
    ],
    hints=[
        "Two rules, and one of them is enough: the key came before, or both are in the prefix.",
        "`prefix[:, :, None] & prefix[:, None, :]` is True where both are in it; `|` joins it with "
        "causal_mask.",
    ],
    picture=lambda output: output[0],
)
