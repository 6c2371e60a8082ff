"""Language models that write: what they share, and LLaMA, small enough to read (notebook 05).

    LanguageModel     ids, or vectors in their place -> scores for the next token, at every position
    Llama             one of them, made of rms_norm, rope and swiglu; GPT is in models/gpt.py
    next_token_loss   how surprised the model is by the token that really follows

In shapes, part is the width of one head, and half is part / 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Attention, Cache, Layer, PreNormBlock, Tokens, initialise, run_blocks
from vlmcourse.models.look import Look, causal, causal_mask, prefix_mask  # noqa: F401  slots of this name
from vlmcourse.slots import slot

CONTEXT = 2048  # tokens of a text at most: RoPE itself has no limit, but transformers and memory have one
IGNORED = -100  # a label that counts for nothing; the number is cross_entropy's

Ids = Int[Tensor, "batch token"]
Marks = Bool[Tensor, "batch token"]  # a yes or no for each token
Inputs = Ids | Tokens  # ids, or vectors in their place, for instance embed(ids) with image features between
Real = Bool[Tensor, "batch key"] | None  # False for padding; None if there is none; key = cached + new tokens


@slot
def rms_norm(
    tokens: Float[Tensor, "... width"], scale: Float[Tensor, "width"], epsilon: float
) -> Float[Tensor, "... width"]:
    """Divide every vector by the root of the mean of its squares, then multiply by a learned scale.

    Computed in fp32 whatever the input, because squares of half-precision numbers overflow; returned in the
    input's dtype. No mean is subtracted and no bias is added, unlike layer norm; epsilon stands in the root.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467, equation 4.
    """
    wide = tokens.float()
    lengths = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + epsilon)
    return (scale * (wide * lengths)).to(tokens.dtype)


def rope_angles(
    positions: Int[Tensor, "... token"], part: int, base: float
) -> Float[Tensor, "... token half"]:
    """By how much rope turns each pair of numbers, in radians: position · base^(-2i / part) for pair i.

    Pair 0 turns by one radian per token, later pairs ever more slowly.

    Raises:
        ValueError: if a part is odd, so that one number has no partner.

    Source: Su et al. 2021, arXiv:2104.09864, equation 15 and section 3.3.
    """
    if part % 2:
        raise ValueError(f"rope turns pairs of numbers; {part} cannot be paired")
    speeds = 1 / base ** (torch.arange(0, part, 2, device=positions.device) / part)
    return positions[..., None] * speeds


@slot
def rope(
    parts: Float[Tensor, "batch head token part"], angles: Float[Tensor, "#batch token half"]
) -> Float[Tensor, "batch head token part"]:
    """Turn each pair of numbers of a query or key, like the hand of a clock, by the angle of its token.

    Pair i consists of numbers i and i + part/2: (a, b) becomes (a cos - b sin, a sin + b cos). The product of
    a turned query and a turned key then depends only on how far apart the two tokens stand. Angles are in
    radians, the same for every head; their batch may be 1.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2; the pairing of halves as in transformers' LLaMA.
    """
    angles = angles[:, None]  # room for the heads
    cosine, sine = angles.cos(), angles.sin()
    first, second = parts.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1).to(parts.dtype)


def turning(angles: Float[Tensor, "#batch token half"]) -> Layer:
    """How attention turns queries and keys by these angles, see rope and Attention.forward."""
    if rope.active is not rope.reference:
        return lambda parts: rope(parts, angles)
    # the same with sines and cosines of all blocks computed once; each (batch, 1, token, part)
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    cosine, sine = torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1)
    half = sine.shape[-1] // 2
    return lambda parts: (parts * cosine + parts.roll(half, -1) * sine).to(parts.dtype)


@slot
def swiglu(
    tokens: Float[Tensor, "... width"], gate: Layer, up: Layer, down: Layer
) -> Float[Tensor, "... width"]:
    """A gated MLP of three linear layers: down(silu(gate(tokens)) · up(tokens)), silu(x) = x · sigmoid(x).

    Source: Shazeer 2020, arXiv:2002.05202, equation 6.
    """
    return down(F.silu(gate(tokens)) * up(tokens))


def following(labels: Ids) -> Ids:
    """What each position has to predict: the label one place further on, and nothing at the last place."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def next_token_loss(
    logits: Float[Tensor, "batch token vocabulary"], labels: Ids, mask: Marks | None = None
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, between the scores at each position and the token that follows it.

    Args:
        labels: the ids the model read; the shift by one happens here. Where it is -100, nothing is expected.
        mask: True for real tokens; padding is not counted as something to predict.
    """
    if mask is not None:
        labels = labels.masked_fill(~mask, IGNORED)
    return F.cross_entropy(logits.flatten(0, 1), following(labels).flatten(), ignore_index=IGNORED)


class RMSNorm(nn.Module):
    """See rms_norm."""

    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, tokens: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        if rms_norm.active is rms_norm.reference:  # torch's own is the same in one operation
            return F.rms_norm(tokens, self.scale.shape, self.scale, self.epsilon)
        return rms_norm(tokens, self.scale, self.epsilon)


class LanguageModel(nn.Module):
    """What GPT and Llama share: tokens in, blocks one after another, scores for the next token out.

    A subclass makes the four parts below, and says in ``place`` how tokens learn where they stand.
    """

    embedding: nn.Embedding
    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Linear

    def place(self, tokens: Tokens, positions: Int[Tensor, "... token"]) -> tuple[Tokens, Layer | None]:
        """The tokens as the first block reads them, and how attention turns queries and keys, if it does."""
        raise NotImplementedError

    def embed(self, ids: Ids) -> Tokens:
        return self.embedding(ids)

    def begin(self, ids: Ids, images: Tensor | None = None) -> tuple["LanguageModel", Tokens]:
        """What writing starts from: see VLM.begin."""
        if images is not None:
            raise ValueError(f"{type(self).__name__} is a language model; it reads no images")
        return self, self.embed(ids)

    def hidden(
        self,
        ids: Inputs | None = None,
        look: Look | None = None,
        caches: list[Cache] | None = None,
        after: Callable[[int, Tensor], Tensor] | None = None,
        *,
        before: Callable[[int, Tensor], Tensor] | None = None,
        embeddings: Tokens | None = None,
        mask: Real = None,
    ) -> Tokens:
        """One normalised vector per token, from which the head reads the next one.

        Args:
            look: who may see whom and where each token stands, see models/look.py; causal when not given.
            caches: one Cache per block, empty at first; the tokens given are those that are not in it yet.
            after, before: see run_blocks. This is where words may look at an image (models/fusion.py).
            embeddings: vectors by this name, in place of ids.
            mask: True for real tokens; short for ``look=causal(..., real=mask)``.

        Raises:
            ValueError: if both or neither of ids and embeddings are given, or both mask and look; or if mask
                or look do not fit the tokens.
        """
        if (ids is None) == (embeddings is None):
            raise ValueError("a language model reads either ids or embeddings; give exactly one of the two")
        tokens = embeddings if ids is None else ids
        tokens = tokens if tokens.is_floating_point() else self.embed(tokens)
        count, past = tokens.shape[1], caches[0].length if caches else 0
        if look is not None and mask is not None:
            raise ValueError("a look says by itself which tokens are real; give no mask with it")
        look = look or causal(count, past, mask, tokens.device)
        look.check(count, past)
        tokens, rotate = self.place(tokens, look.positions)
        options = dict(mask=look.mask, rotate=rotate)
        return self.norm(run_blocks(self.blocks, tokens, caches, after, before, **options))

    def forward(self, *args: Any, **options: Any) -> Float[Tensor, "batch token vocabulary"]:
        """Scores (logits) of every token to come next, at each position; arguments as in hidden."""
        return self.head(self.hidden(*args, **options))


def next_scores(
    model: Any, unread: Inputs, mask: Real = None, caches: list[Cache] | None = None
) -> Float[Tensor, "batch vocabulary"]:
    """Scores of what follows the last token; ``model`` reads like a LanguageModel, see VLM.begin."""
    return model.head(model.hidden(unread, mask=mask, caches=caches)[:, -1])


@dataclass(frozen=True)
class LlamaConfig:
    """What a LLaMA looks like; SmolLM2-135M: ``LlamaConfig(49152, 576, 30, 9, 3, 1536, 1e5, tied=True)``.

    Raises:
        ValueError: if a head has an odd width.
    """

    vocabulary: int
    width: int = 128
    depth: int = 4
    heads: int = 4
    groups: int = 2  # key and value heads
    hidden: int | None = None  # width inside the MLP; 8/3 · width when not given
    base: float = 10_000.0  # of rope_angles
    epsilon: float = 1e-5
    tied: bool = False  # whether the head is the embedding matrix

    def __post_init__(self):
        if (part := self.width // self.heads) % 2:
            raise ValueError(f"rope turns pairs of numbers; one of a head's {part} has no partner")


class LlamaBlock(PreNormBlock):
    """Attention, then SwiGLU; RMSNorm before each. No biases."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        width, hidden = config.width, config.hidden or 8 * config.width // 3
        self.norm_before_attention = RMSNorm(width, config.epsilon)
        self.attention = Attention(width, config.heads, groups=config.groups, bias=False)
        self.norm_before_mlp = RMSNorm(width, config.epsilon)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def mlp(self, tokens: Tokens) -> Tokens:
        return swiglu(tokens, self.gate, self.up, self.down)


class Llama(LanguageModel):
    """Decoder-only transformer with RMSNorm, RoPE, SwiGLU and grouped-query attention.

    Source: Touvron et al. 2023, arXiv:2302.13971, section 2.2; grouped queries since Llama 2,
    arXiv:2307.09288. Equal to transformers' LlamaForCausalLM, see tests/parity.
    """

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width, config.epsilon)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        initialise(self)
        if config.tied:
            self.head.weight = self.embedding.weight

    def angles(self, positions: Int[Tensor, "#batch token"]) -> Float[Tensor, "#batch token half"]:
        """By how much the pairs of queries and keys are turned; see rope_angles."""
        return rope_angles(positions, self.config.width // self.config.heads, self.config.base)

    def place(self, tokens: Tokens, positions: Int[Tensor, "... token"]) -> tuple[Tokens, Layer]:
        return tokens, turning(self.angles(positions))
