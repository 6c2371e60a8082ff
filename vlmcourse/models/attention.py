"""Attention: the one operation that every transformer of this course is built from (notebooks 02 and 05).

    Attention          split_heads, scaled_dot_product and merge_heads between projections; all models use it
    Block              attention and MLP, each added to the residual stream: pre_norm_block
    run_blocks         one block after another
    record_attention   look at the weights of a model while it runs; costs nothing when not in use

In shapes, part is the width of one head, and group counts key and value heads.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.look import Mask
from vlmcourse.models.recompute import recomputed
from vlmcourse.slots import slot

Layer = Callable[[Tensor], Tensor]
Tokens = Float[Tensor, "batch token width"]

ACTIVATIONS: dict[str, Layer] = {
    "gelu": F.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # OpenAI's CLIP; differs from gelu by up to 0.02
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),  # GPT-2
    "relu": F.relu,  # T5
    "silu": F.silu,  # LLaMA
}


@slot
def split_heads(tokens: Tokens, heads: int) -> Float[Tensor, "batch head token part"]:
    """Cut every token's vector into ``heads`` consecutive parts and bring the head axis forward.

    Raises:
        ValueError: if heads does not divide the width.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """
    batch, token, width = tokens.shape
    if width % heads:
        raise ValueError(f"width {width} cannot be divided among {heads} heads")
    return tokens.reshape(batch, token, heads, width // heads).transpose(1, 2)


@slot
def merge_heads(parts: Float[Tensor, "batch head token part"]) -> Tokens:
    """Undo split_heads: put the parts of each token side by side again, head 0 first.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """
    batch, head, token, part = parts.shape
    return parts.transpose(1, 2).reshape(batch, token, head * part)


@slot
def scaled_dot_product(
    query: Float[Tensor, "batch head query part"],
    key: Float[Tensor, "batch head key part"],
    value: Float[Tensor, "batch head key part"],
    mask: Bool[Tensor, "... #query key"] | None = None,
    bias: Float[Tensor, "... #query key"] | None = None,
) -> tuple[Float[Tensor, "batch head query part"], Float[Tensor, "batch head query key"]]:
    """Mix the values for every query, weighted by softmax(query · key / √part + bias).

    Args:
        mask: True where a query may look at a key, broadcast against (batch, head, query, key); every query
            must be allowed at least one key. None lets everything look at everything.
        bias: numbers added to the scaled scores, broadcast likewise; T5 tells positions apart this way.

    Returns:
        (output, weights): the mixed values, and the weights, which are ≥ 0 and sum to 1 over the key axis.

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """
    # scaling the smaller matrix is cheaper
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill_(~mask, -torch.inf)  # in place: nobody else holds these scores
    weights = scores.softmax(dim=-1)
    return weights @ value, weights


@slot
def pre_norm_block(
    tokens: Tokens, norm_before_attention: Layer, attend: Layer, norm_before_mlp: Layer, mlp: Layer
) -> Tokens:
    """Attention, then MLP; each reads a normalised copy and adds to the residual stream.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, equations 2 and 3; the order norm-first after
        Xiong et al. 2020, arXiv:2002.04745.
    """
    tokens = tokens + attend(norm_before_attention(tokens))
    return tokens + mlp(norm_before_mlp(tokens))


@slot
def share_heads(
    parts: Float[Tensor, "batch group token part"], heads: int
) -> Float[Tensor, "batch head token part"]:
    """Hand each key or value head to heads/group neighbouring query heads: 0, 0, 1, 1 and so on.

    Raises:
        ValueError: if the groups do not divide the heads.

    Source: grouped-query attention, Ainslie et al. 2023, arXiv:2305.13245, section 2.2.
    """
    groups = parts.shape[1]
    if heads % groups:
        raise ValueError(f"{heads} query heads cannot share {groups} key heads evenly")
    return parts.repeat_interleave(heads // groups, dim=1)


@slot
def extend_cache(
    old: tuple[Float[Tensor, "batch group past part"], Float[Tensor, "batch group past part"]] | None,
    key: Float[Tensor, "batch group token part"],
    value: Float[Tensor, "batch group token part"],
) -> tuple[Float[Tensor, "batch group key part"], Float[Tensor, "batch group key part"]]:
    """Put keys and values of the new tokens behind the ``old`` ones, if there are any; key = past + token."""
    if old is None:
        return key, value
    return torch.cat([old[0], key], dim=2), torch.cat([old[1], value], dim=2)


@dataclass
class Cache:
    """What one Attention module keeps while a text is generated."""

    past: tuple[Tensor, Tensor] | None = None  # keys and values, each (batch, group, token, part)

    @property
    def length(self) -> Any:  # a number; while a replay is recorded, a tensor
        return 0 if self.past is None else self.past[0].shape[2]

    def select(self, rows: list[int]) -> None:
        """Go on with these texts, in this order; one may come several times."""
        if self.past is not None:
            self.past = tuple(part[rows] for part in self.past)


class Attention(nn.Module):
    """Multi-head attention: project to query, key and value, attend in every head, project back.

    Args:
        groups: number of key and value heads, which the query heads share; as many as heads when not given.
        part: width of one head; width / heads when not given.
        bias: whether the projections have biases.
        scaled: whether scores are divided by √part; T5 does not.
        context_width: of the tokens looked at, for cross-attention; tokens look at themselves when not given.

    Raises:
        ValueError: if width cannot be divided among the heads, or the heads among the groups.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        groups: int | None = None,
        part: int | None = None,
        bias: bool = True,
        scaled: bool = True,
        context_width: int | None = None,
    ):
        super().__init__()
        groups = groups or heads
        if part is None and width % heads:
            raise ValueError(f"width {width} cannot be divided among {heads} heads")
        if heads % groups:
            raise ValueError(f"{heads} query heads cannot share {groups} key heads evenly")
        self.heads, self.groups, self.part, self.scaled = heads, groups, part or width // heads, scaled
        self.crosses = context_width is not None
        query, pair = heads * self.part, 2 * groups * self.part
        # query, key and value in one matrix product, unless the latter two come from elsewhere
        self.project_in = nn.Linear(width, query if self.crosses else query + pair, bias=bias)
        if self.crosses:
            self.project_context = nn.Linear(context_width, pair, bias=bias)
        self.project_out = nn.Linear(query, width, bias=bias)
        self.record: list[Tensor] | None = None  # see record_attention

    @property
    def queries(self) -> Float[Tensor, "query width"]:
        """The weights that make queries, a view."""
        return self.project_in.weight[: self.heads * self.part]

    def forward(
        self,
        tokens: Tokens,
        mask: Mask | None = None,
        context: Float[Tensor, "batch read context"] | None = None,
        *,
        bias: Float[Tensor, "... #token key"] | None = None,
        rotate: Layer | None = None,
        cache: Cache | None = None,
    ) -> Tokens:
        """Let ``tokens`` look at ``context``, or at themselves if there is none.

        Args:
            mask, bias: see scaled_dot_product; a query that may see nothing gets zeros.
            rotate: turns queries and keys according to their positions (RoPE).
            cache: keys and values of earlier calls, which the tokens see too; extended by this call. A
                cross-attention computes those of its context once.
        """
        query, key, value = self.project(tokens, context, rotate, cache)
        if not self.scaled:
            query = query * math.sqrt(self.part)  # undoes the division in scaled_dot_product
        if cache is not None:
            if not (self.crosses and cache.past):
                cache.past = extend_cache(cache.past, key, value)
            key, value = cache.past
        # torch's own kernel stands in if no slot has been replaced
        fused = all(slot.active is slot.reference for slot in (scaled_dot_product, share_heads))
        fused = fused and bias is None
        if not fused or self.record is not None:
            mixed, weights = self.attend(query, key, value, mask, bias)
        if fused:  # while somebody records too, so that looking at a model does not change what it says
            shared = self.groups != self.heads
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=shared)
        if self.record is not None:
            self.record.append(weights.detach())
        return self.project_out(merge_heads(mixed))

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None
    ) -> tuple[Float[Tensor, "batch head token part"], Float[Tensor, "batch head token key"]]:
        """The mixed values and the weights by the course's own functions, slot by slot.

        A query that may see nothing, as in a row of padding alone, gets zeros, in output and gradient: it
        looks everywhere, so that its softmax is a number, and what it found is dropped.
        """
        single = self.groups != self.heads and query.shape[2] == 1 and bias is None
        if single:  # one token: the heads of a group ask like so many tokens, and no key is copied for them
            query = query.reshape(len(query), self.groups, -1, self.part)
        elif self.groups != self.heads:
            key, value = share_heads(key, self.heads), share_heads(value, self.heads)
        extra = () if bias is None else (bias,)
        blind = None if mask is None else ~mask.any(-1, keepdim=True)
        mask = None if mask is None else mask | blind
        mixed, weights = scaled_dot_product(query, key, value, mask, *extra)
        if blind is not None:
            mixed = mixed.masked_fill(blind, 0)
            weights = weights if self.record is None else weights.masked_fill(blind, 0)
        if single:
            mixed, weights = (parts.reshape(len(parts), self.heads, 1, -1) for parts in (mixed, weights))
        return mixed, weights

    def project(
        self, tokens: Tensor, context: Tensor | None, rotate: Layer | None, cache: Cache | None
    ) -> tuple[Tensor, ...]:
        """Queries (batch, head, token, part), keys and values (batch, group, key, part)."""
        heads, groups = self.heads, self.groups
        if self.crosses:
            query = split_heads(self.project_in(tokens), heads)
            if cache is not None and cache.past:
                return query, *cache.past
            return query, *split_heads(self.project_context(context), 2 * groups).chunk(2, dim=1)
        if context is None:
            # query, key and value lie side by side, so one cut serves all three, and one turn the first two
            parts = split_heads(self.project_in(tokens), heads + 2 * groups)
            if rotate is None:
                return parts.split_with_sizes([heads, groups, groups], dim=1)
            turned, value = parts.split_with_sizes([heads + groups, groups], dim=1)
            return *rotate(turned).split_with_sizes([heads, groups], dim=1), value
        cut, weight, bias = heads * self.part, self.project_in.weight, self.project_in.bias
        query = F.linear(tokens, weight[:cut], None if bias is None else bias[:cut])
        pair = F.linear(context, weight[cut:], None if bias is None else bias[cut:])
        return split_heads(query, heads), *split_heads(pair, 2 * groups).chunk(2, dim=1)


class PreNormBlock(nn.Module):
    """See pre_norm_block. A subclass makes the two norms, ``attention``, and ``mlp``."""

    def forward(self, tokens: Tokens, mask: Mask | None = None, **options: Any) -> Tokens:
        """One step of the residual stream; options, such as rotate and cache, go to the attention."""
        attend = functools.partial(self.attention, mask=mask, **options)
        return pre_norm_block(tokens, self.norm_before_attention, attend, self.norm_before_mlp, self.mlp)

    def one_token(
        self, token: Float[Tensor, "batch 1 width"], tokens: Tokens, mask: Mask | None = None
    ) -> Float[Tensor, "batch 1 width"]:
        """``forward(tokens)`` at one ``token`` of each row: it looks at all that the mask allows."""
        context = self.norm_before_attention(tokens)
        attend = functools.partial(self.attention, mask=mask, context=context)
        return pre_norm_block(token, self.norm_before_attention, attend, self.norm_before_mlp, self.mlp)


class Block(PreNormBlock):
    """The block of ViT, CLIP and GPT: layer norm, and an MLP of two linear layers.

    Args:
        hidden: width inside the MLP; None is 4 · width.
        activation: "gelu" (ViT), "quick_gelu" (OpenAI's CLIP) or "gelu_new" (GPT-2).
        epsilon: of the layer norms; 1e-12 in transformers' ViT, 1e-6 in timm, 1e-5 in CLIP and GPT-2.
    """

    def __init__(
        self, width: int, heads: int, hidden: int | None, activation: str = "gelu", epsilon: float = 1e-6
    ):
        super().__init__()
        hidden = hidden or 4 * width
        if activation not in ACTIVATIONS:
            raise ValueError(f"no activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        self.norm_before_attention = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads)
        self.norm_before_mlp = nn.LayerNorm(width, eps=epsilon)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.activation = activation

    def mlp(self, tokens: Tokens) -> Tokens:
        return self.contract(ACTIVATIONS[self.activation](self.expand(tokens)))


def run_blocks(
    blocks: nn.ModuleList,
    tokens: Tokens,
    caches: list | None = None,
    after: Callable[[int, Tensor], Tensor] | None = None,
    before: Callable[[int, Tensor], Tensor] | None = None,
    **options: Any,
) -> Tokens:
    """The residual stream behind the last of the blocks: each reads what the one before it wrote.

    Args:
        caches: one for each block, its ``cache``.
        after: called behind every block with its number and its tokens; what it returns goes on to the next.
        before: likewise, in front of every block.
        options: what every block needs beside the tokens, such as a mask.
    """
    for number, block in enumerate(blocks):
        own = {"cache": caches[number]} if caches else {}
        tokens = before(number, tokens) if before else tokens
        again = getattr(block, "recompute", False) and torch.is_grad_enabled() and not caches
        tokens = (recomputed(block) if again else block)(tokens, **own, **options)
        tokens = after(number, tokens) if after else tokens
    return tokens


def initialise(model: nn.Module, spread: float = 0.02) -> None:
    """Normal weights, zero biases. Source: Radford et al. 2019 (GPT-2) and transformers' LLaMA."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=spread)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


@contextlib.contextmanager
def record_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the attention weights of every layer that runs inside the ``with``.

    Yields:
        a list that fills with one (batch, head, query, key) tensor per module and call, first layer first.

    Raises:
        ValueError: if the model holds no Attention module, or is being recorded already.
    """
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    if not layers:
        raise ValueError(f"{type(model).__name__} holds no Attention module, so there is nothing to record")
    if any(layer.record is not None for layer in layers):
        raise ValueError("this attention is being recorded already; leave the other record_attention first")
    record: list[Tensor] = []
    for layer in layers:
        layer.record = record
    try:
        yield record
    finally:
        for layer in layers:
            layer.record = None
