"""Exercises of chapter 06: five ways for words to meet an image."""

import torch
from torch import Tensor, nn

from vlmcourse.exercises.base import chapter
from vlmcourse.models import fusion, language

exercise, quiz = chapter("06_fusion")


exercise(fusion.late_fusion, gradient=("image", "text"),
    cases=lambda: [
        (torch.randn(2, 4), torch.randn(2, 5, 4), nn.Linear(12, 3)),
        (torch.randn(3, 7), torch.randn(3, 4, 7), nn.Linear(21, 6)),
    ],
    slips=[
        ("[text, image", "[image, text", "image and text changed places: the order is text, image, product."),
        ("text * image", "text + image",
         "the third part is a sum; a layer behind it could add by itself. Multiply: text · image."),
        ("text * image", "text - image", "the third part is a difference; "
         "a layer behind it could subtract by itself. Multiply: text · image."),
        ("text * image", "(text * image).sum(dim=-1, keepdim=True).expand_as(text)",
         "the product was summed to one number, a dot product; keep it number by number."),
        ("dim=-1))", "dim=-1))[:, -1:].expand(-1, text.shape[1], -1)",
         "only the last token meets the image; every token shall."),
        ("return ", "return text\n    return ",
         "the text comes out as it was: return what mix makes of the three parts."),
    ],
    hints=["One image vector meets many tokens: give it a token axis first.",
           "`image[:, None].expand_as(text)`, then torch.cat of three parts along the last axis, then mix."],
)


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


exercise(fusion.cross_attend, gradient=("tokens", "context"),
    cases=lambda: [_cross_case(2, 5, 3, 4), _cross_case(3, 4, 6, 7)],
    slips=[
        ("tokens + attend", "attend",
         "the residual stream is missing: add what was seen to the tokens, do not replace them."),
        ("tokens + attend(norm(tokens)", "attend(tokens",
         "the stream is replaced and not normalised: tokens + attend(norm(tokens), context)."),
        ("norm(tokens)", "tokens", "the norm is missing: attention reads a normalised copy of the tokens."),
        ("tokens + attend", "norm(tokens) + attend",
         "the normalised copy is added instead of the stream: tokens themselves go on."),
        ("tokens + attend(norm(tokens), context)", "norm(tokens + attend(tokens, context))",
         "this is post-norm, as in BERT: it normalises the sum. Normalise what attention reads."),
        ("), context", "), norm(context)", "the image went through the norm of the words; "
         "its features have their own scale, leave them as they are."),
        ("), context", "), norm(tokens)",
         "the words look at themselves; keys and values come from the context."),
        ("attend(norm(tokens), context)", "attend(norm(context), tokens).mean(dim=1, keepdim=True)",
         "the image asks and the words answer: queries come from the tokens, keys from the context."),
    ],
    hints=["It has the form of every step of the residual stream: tokens + something(norm(tokens)).",
           "`attend` takes two arguments: who asks, and who is looked at."],
)

exercise(fusion.gated_cross_attend, gradient=("tokens", "context", "gate"),
    cases=lambda: [
        (*_cross_case(2, 5, 3, 4), torch.tensor(0.8)),
        (*_cross_case(3, 4, 6, 7), torch.tensor(-1.3)),
        (*_cross_case(2, 3, 5, 6), torch.tensor(0.0)),
    ],
    slips=[
        (".tanh()", "", "the tanh is missing: it keeps the gate between −1 and 1."),
        (".tanh()", ".sigmoid()", "a sigmoid is half open at 0; the gate must begin closed: tanh(0) = 0."),
        (("tokens + gate.tanh() * ", "gate.tanh() * (tokens + "), ("context)", "context))"),
         "the gate closes the whole stream; it belongs to what was seen alone."),
        ("gate.tanh() * ", "", "the gate is not used."),
        ("gate.tanh() * attend(", "attend(gate.tanh() * ",
         "the gate stands before the attention: it makes the question smaller, not the answer."),
        ("return tokens", "return (1 - gate.tanh()) * tokens",
         "this blends: an open gate shuts out the words. The stream is added in full."),
        (("gate.tanh() * ", "torch.tanh(gate * "), ("context)", "context))"),
         "the tanh goes around all of it; only the gate gets one."),
        ("tokens + gate", "gate",
         "the residual stream is missing: a closed gate must leave the tokens as they were."),
    ],
    hints=["It is cross_attend with one number in front of what was seen.",
           "`gate.tanh()` multiplies `attend(...)`, and nothing else."],
)


def _inject_case(counts: list[int], token: int, patch: int, width: int) -> tuple:
    """Texts with so many images each, standing anywhere, first image first."""
    places = torch.zeros(len(counts), token, dtype=torch.bool)
    for row, count in zip(places, counts, strict=True):
        row[torch.randperm(token)[: count * patch]] = True
    features = torch.randn(sum(counts), patch, width)
    return torch.randn(len(counts), token, width), features, places


exercise(fusion.inject, gradient=("embeddings", "features"),
    cases=lambda: [
        _inject_case([2, 0, 2], 11, 3, 5),
        _inject_case([1, 2], 9, 4, 7),
        tuple(part.half() if n == 0 else part for n, part in enumerate(_inject_case([1, 2], 9, 4, 5))),
    ],  # the last in half precision, with features in float32
    slips=[
        ("embeddings.masked", "embeddings + torch.zeros_like(embeddings).masked",
         "the features are added to the placeholder's embedding; they replace it."),
        (("embeddings.masked_scatter(places[..., None]", "torch.stack([row.masked_scatter(place[:, None]"),
         ("dtype)", "dtype)) for row, place in zip(embeddings, places)]"),
         "every text begins again with image 0; go on through all images, text by text."),
        (("return embeddings.masked_scatter", "flat = features.flatten(0, 1)\n    return torch.where"),
         ("features.to(embeddings.dtype)", "flat[torch.arange(places.shape[1]) % len(flat)], embeddings"),
         "a feature's number is its place in the text; count the placeholders, not the tokens."),
        (("embeddings.masked_scatter(places[", "embeddings.transpose(0, 1).masked_scatter(places.T["),
         ("dtype))", "dtype)).transpose(0, 1)"),
         "the placeholders are filled column by column; go text by text."),
        ("features.to", "features.transpose(0, 1).to",
         "the first patches of all images come first; an image's patches stay together."),
        ("features.to", "features.flatten(0, 1).flip(0).to", "the features stand in reverse order."),
        ("features.to", "features.mean(dim=(0, 1)).expand_as(embeddings).to",
         "every placeholder got the same vector, the mean; each has its own patch."),
        ("features.to", "(0 * features).to", "the placeholders are empty: the features never arrive."),
    ],
    hints=["A boolean mask picks places in reading order: text by text, token by token.",
           "`embeddings.masked_scatter(places[..., None], features)`; "
           "or clone, and assign to result[places]."],
)


def _prefixes(*rows: str) -> Tensor:
    return torch.tensor([[letter == "p" for letter in row] for row in rows])


exercise(language.prefix_mask, picture=lambda output: output[0],
    cases=lambda: [(_prefixes("ppp..", "pp...", "....."),), (_prefixes(".pppp..", "ppppp.."),)],
    slips=[
        ("prefix[:, :, None] & ", "False & ",
         "this is the causal mask alone; inside the prefix everything sees everything."),
        ("prefix[:, :, None] & ", "", "every token sees the whole prefix, even one that stands before it; "
         "only tokens of the prefix look ahead."),
        (" & prefix[:, None, :]", "",
         "the prefix sees the answer too: it may look ahead only inside itself."),
        ("| (prefix[:, :, None] & ", "& (",
         "now nobody sees the answer so far; outside the prefix the causal rule goes on."),
        ("causal | ", "", "only the prefix sees anything; combine it with the causal mask."),
        ("causal | ", "True | ", "everybody sees everything, also the answer that is to be predicted."),
        ("causal | ", "causal | causal.roll(-1, dims=0) | ",
         "outside the prefix every token sees the next one, which is the answer it is asked for."),
    ],
    hints=["Two rules, and one of them is enough: the key came before, or both are in the prefix.",
           "`prefix[:, :, None] & prefix[:, None, :]` is True where both are in it; "
           "`|` joins it with causal_mask."],
)

quiz(1, "You make the gates of Flamingo's layers sigmoid(g) and start at g = 0, "
        "in front of a trained language model. What happens at the first step?", [
    ("Nothing changes: the gate is closed.", False,
     "sigmoid(0) is one half. tanh(0) is 0, and that is why Flamingo uses tanh."),
    ("Half of an untrained layer's output is added to every token.", True,
     "The language model reads noise that it never saw in training, and writes worse."),
    ("The gate gets no gradient, so it never opens.", False,
     "It gets one. A gate at 0 does too: the derivative of tanh at 0 is 1, and what it multiplies is not 0."),
])
quiz(2, "An assistant shall discuss 20 photos of 576 patches at once. "
        "Which family keeps the context of its language model free?", [
    ("Token injection: placeholders are single tokens.", False,
     "In the text <image> is one word, but it becomes one place per feature: 20 · 576 = 11,520 places."),
    ("Injection with a prefix mask: image tokens see each other.", False,
     "A mask says who may look at whom; every image token still takes its place."),
    ("Cross-attention: the images stay outside and are looked at.", True,
     "The price: extra layers, whose parameters must be trained from nothing."),
])
quiz(3, "In a prefix-LM, by mistake, the answer belongs to the prefix as well. What do you see?", [
    ("The loss is what it was: the labels have not changed.", False,
     "The labels are the same, but now each stands in what is read to predict it."),
    ("The loss falls almost to 0, and written answers are useless.", True,
     "Every token sees the one it has to predict. When the model writes, there is nothing to copy."),
    ("The loss falls a little, and so do mistakes: the answer sees more context.", False,
     "What it sees more of is itself, and that is not there yet when the model writes."),
])
