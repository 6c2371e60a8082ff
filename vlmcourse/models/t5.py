"""T5: one stack reads a text, another writes the answer and looks across at what was read (notebook 05).

Positions enter nowhere but in attention, as a learned number per head and bin that is added to the scores.
Scores are not divided by √part; the initial weights are smaller instead.
"""

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Attention, Cache, PreNormBlock, Tokens, pre_norm_block, run_blocks
from vlmcourse.models.generation import write
from vlmcourse.models.language import IGNORED, Ids, Inputs, Real, RMSNorm
from vlmcourse.models.look import Look, Mask, bidirectional, causal
from vlmcourse.slots import slot

CachePair = tuple[Cache, Cache]  # of a decoder block's self-attention and of its cross-attention
Context = Float[Tensor, "batch key width"]  # what the encoder read


@slot
def relative_buckets(
    distance: Int[Tensor, "query key"], buckets: int, farthest: int, both_ways: bool
) -> Int[Tensor, "query key"]:
    """Number the bin that each distance falls into.

    The nearer half of the bins hold one distance each: 0, 1, 2 and so on. The other half widen with the
    logarithm of the distance; the last one takes everything from ``farthest`` on.

    Args:
        distance: key position - query position.
        both_ways: True: the first half of the bins is for keys at or before the query, the second for keys
            after it. False: all bins are for keys at or before the query, and later ones count as distance 0.

    Source: Raffel et al. 2019, arXiv:1910.10683, section 2.1; the exact bins as in the authors' code.
    """
    first = torch.zeros_like(distance)
    if both_ways:
        buckets //= 2
        first = (distance > 0) * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    # 0 at exact, 1 at farthest
    octaves = (distance.clamp(min=exact) / exact).log() / math.log(farthest / exact)
    rough = exact + (octaves * (buckets - exact)).long()
    return first + torch.where(distance < exact, distance, rough.clamp(max=buckets - 1))


@dataclass(frozen=True)
class T5Config:
    """What a T5 looks like; T5-small is ``T5Config(32128, 512, 6, 6, 8, 64, 2048)``."""

    vocabulary: int
    width: int = 128
    encoder_depth: int = 2
    decoder_depth: int = 2
    heads: int = 4
    part: int = 32  # width of one head; need not be width / heads
    hidden: int = 512  # width inside the MLP
    gated: bool = False  # False: ReLU, as in T5; True: gated GELU, as in T5 1.1 and Flan-T5
    buckets: int = 32
    farthest: int = 128
    epsilon: float = 1e-6
    tied: bool = True  # whether the head is the embedding matrix; not in T5 1.1 and Flan-T5
    start: int = 0  # the id that stands before the first written token; also pads


class RelativeBias(nn.Module):
    """What each head adds to the scores, for every distance; one table per stack, used by all its blocks."""

    def __init__(self, config: T5Config, both_ways: bool):
        super().__init__()
        self.table = nn.Embedding(config.buckets, config.heads)
        self.unit = 1.0  # of the table's numbers, see T5.paced
        self.bins = config.buckets, config.farthest, both_ways

    def forward(
        self, queries: Int[Tensor, "batch query"], keys: Int[Tensor, "batch key"]
    ) -> Float[Tensor, "batch head query key"]:
        """Both are positions, of those that look and of what they look at."""
        distance = keys[:, None] - queries[:, :, None]
        bins = relative_buckets(distance.flatten(0, 1), *self.bins).view_as(distance)
        return self.unit * self.table(bins).permute(0, 3, 1, 2)


class MLP(nn.Module):
    """ReLU between two linear layers, or, if gated, GELU of one projection times another."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.expand = nn.Linear(config.width, config.hidden, bias=False)
        self.gate = nn.Linear(config.width, config.hidden, bias=False) if config.gated else None
        self.contract = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, tokens: Tokens) -> Tokens:
        if self.gate is None:
            return self.contract(F.relu(self.expand(tokens)))
        return self.contract(F.gelu(self.gate(tokens), approximate="tanh") * self.expand(tokens))


class T5Block(PreNormBlock):
    """Self-attention, in a decoder cross-attention, and MLP; each reads an RMS-normalised copy."""

    def __init__(self, config: T5Config, crosses: bool):
        super().__init__()
        options = {"part": config.part, "bias": False, "scaled": False}
        self.norm_before_attention = RMSNorm(config.width, config.epsilon)
        self.attention = Attention(config.width, config.heads, **options)
        if crosses:
            self.norm_before_cross = RMSNorm(config.width, config.epsilon)
            self.cross = Attention(config.width, config.heads, context_width=config.width, **options)
        self.norm_before_mlp = RMSNorm(config.width, config.epsilon)
        self.mlp = MLP(config)

    def forward(
        self,
        tokens: Tokens,
        mask: Mask | None = None,
        *,
        bias: Float[Tensor, "... #token key"],
        cache: CachePair | None = None,
        context: Float[Tensor, "batch read width"] | None = None,
        context_mask: Bool[Tensor, "... read"] | None = None,
    ) -> Tokens:
        """One step of the residual stream; a decoder's block looks at itself, then at the ``context``."""
        if context is None:
            return super().forward(tokens, mask, bias=bias)
        own, across = cache or (None, None)
        tokens = tokens + self.attention(self.norm_before_attention(tokens), mask, bias=bias, cache=own)
        attend = functools.partial(self.cross, mask=context_mask, context=context, cache=across)
        return pre_norm_block(tokens, self.norm_before_cross, attend, self.norm_before_mlp, self.mlp)


class T5(nn.Module):
    """Encoder and decoder: a text to read, and ids written so far -> scores for the next token.

    Source: Raffel et al. 2019, arXiv:1910.10683, section 2.1. Equal to transformers' class, see tests/parity.
    """

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.encoder_bias, self.decoder_bias = RelativeBias(config, True), RelativeBias(config, False)
        self.encoder = nn.ModuleList(T5Block(config, crosses=False) for _ in range(config.encoder_depth))
        self.decoder = nn.ModuleList(T5Block(config, crosses=True) for _ in range(config.decoder_depth))
        self.encoder_norm = RMSNorm(config.width, config.epsilon)
        self.decoder_norm = RMSNorm(config.width, config.epsilon)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.initialise()
        if config.tied:
            self.head.weight = self.embedding.weight

    @torch.no_grad()
    def initialise(self) -> None:
        """Outputs of layers start at unit size; queries √part smaller, for scores are not divided by it."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for attention in self._attentions():
            attention.queries.mul_(attention.part**-0.5)
        for bias in (self.encoder_bias, self.decoder_bias):
            nn.init.normal_(bias.table.weight, std=self.config.width**-0.5)

    def _attentions(self) -> list[Attention]:
        return [module for module in self.modules() if isinstance(module, Attention)]

    @contextmanager
    def paced(self) -> Iterator[None]:
        """The same scores from other weights, for the time Muon or AdamW trains it.

        Their steps are as long for small weights as for large ones. Queries, √part smaller than elsewhere,
        would be moved √part times too far: here they are as large, and scores are divided by √part. A bias
        must reach several units before a head looks at a word's neighbour alone, thousands of steps away at
        a rate of 0.002, and until then a question is read as a bag of words: here tables count in units of
        20. T5 itself was trained by Adafactor, whose steps can be in proportion to the weights (Shazeer and
        Stern 2018, arXiv:1804.04235).
        """
        already = self.encoder_bias.unit != 1.0
        self._pace(scaled=True, unit=20.0)
        try:
            yield
        finally:
            if not already:
                self._pace(scaled=False, unit=1.0)

    @torch.no_grad()
    def _pace(self, scaled: bool, unit: float) -> None:
        for bias in (self.encoder_bias, self.decoder_bias):
            bias.table.weight.mul_(bias.unit / unit)
            bias.unit = unit
        for attention in self._attentions():
            if attention.scaled != scaled:
                attention.queries.mul_(attention.part ** (0.5 if scaled else -0.5))
                attention.scaled = scaled

    def embed(self, ids: Ids) -> Tokens:
        return self.embedding(ids)

    def encode(self, text: Inputs, mask: Real = None, look: Look | None = None) -> Context:
        """What the encoder makes of a text.

        Args:
            text: ids, or vectors in their place, for instance an image's before a question's.
            mask: True for real tokens, False for padding.
            look: in place of the mask, see models/look.py.
        """
        look = look or bidirectional(text.shape[1], mask, text.device)
        tokens = text if text.is_floating_point() else self.embed(text)
        options = {"mask": look.mask, "bias": self.encoder_bias(look.positions, look.positions)}
        return self.encoder_norm(run_blocks(self.encoder, tokens, **options))

    def decode(
        self, written: Ids, context: Context, mask: Real = None, caches: list[CachePair] | None = None
    ) -> Float[Tensor, "batch token vocabulary"]:
        """Scores for the next token, at each position of what is written.

        Args:
            written: begins with the start token; with caches, only what is not in them yet.
            context: from encode.
            mask: of the context; True for real tokens.
            caches: one pair per decoder block, empty at first.
        """
        past = caches[0][0].length if caches else 0
        look, seen = (
            causal(written.shape[1], past, device=written.device),
            None if mask is None else mask[:, None, None],
        )
        return self.head(self.hidden(written, context, look, seen, caches))

    def hidden(
        self,
        written: Inputs,
        context: Context,
        look: Look,
        context_mask: Bool[Tensor, "... key"] | None = None,
        caches: list[CachePair] | None = None,
    ) -> Tokens:
        """What the head reads: one vector per token; arguments as in decode, the masks said by looks.

        Args:
            look: who of what is written sees whom, and where it stands, which counts from 0 in a cache.
            context_mask: True where a token may look at the context.
        """
        tokens = written if written.is_floating_point() else self.embed(written)
        past = caches[0][0].length if caches else 0
        keys = torch.arange(past + tokens.shape[1], device=tokens.device)[None] if past else look.positions
        options = {"mask": look.mask, "bias": self.decoder_bias(look.positions, keys)}
        options |= {"context": context, "context_mask": context_mask}
        tokens = self.decoder_norm(run_blocks(self.decoder, tokens, caches, **options))
        # the embeddings are of unit size, a head's rows are not
        return tokens * self.config.width**-0.5 if self.config.tied else tokens

    def forward(
        self, ids: Int[Tensor, "batch key"], labels: Ids, mask: Real = None
    ) -> Float[Tensor, "batch token vocabulary"]:
        """Scores of every label, given the text read and the labels before it.

        Args:
            labels: the answer; -100 behind its end. The loss is their F.cross_entropy, without a shift.
            mask: True for real tokens of ids, False for padding.
        """
        begun = F.pad(labels[:, :-1], (1, 0), value=self.config.start)
        begun = begun.masked_fill(begun == IGNORED, self.config.start)
        return self.decode(begun, self.encode(ids, mask), mask)

    @torch.inference_mode()
    def generate(
        self, ids: Int[Tensor, "batch key"], *, mask: Real = None, steps: int, eos: int | None = 1
    ) -> Int[Tensor, "batch written"]:
        """Up to ``steps`` times the best next token, behind a start token, which also follows an eos."""
        context, caches = self.encode(ids, mask), [(Cache(), Cache()) for _ in self.decoder]
        start = ids.new_full((len(ids), 1), self.config.start)

        def read(unread: Tensor, _: None) -> Tensor:
            return self.decode(unread, context, mask, caches)[:, -1]

        best = functools.partial(torch.argmax, dim=-1, keepdim=True)
        written = write(read, start, None, steps, best, eos, self.config.start)
        return torch.cat([start, *written], dim=1)
