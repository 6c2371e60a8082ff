"""Attention: the one operation that every transformer of this course is built from (notebook 02).

    split_heads          one wide vector per token -> several narrow ones, one per head
    scaled_dot_product   every query mixes the values, weighted by how well their keys match
    merge_heads          back to one wide vector per token
    Attention            the module: projections around those three
    pre_norm_block       attention and MLP, each added to the residual stream
    record_attention     look at the weights of a model while it runs; costs nothing when not in use

Shapes use one vocabulary throughout: batch, token, width, head, query, key; width = head · (width of one head).
"""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.slots import slot

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # OpenAI's CLIP; differs from gelu by up to 0.02
}


@slot
def split_heads(tokens: Float[Tensor, "batch token width"], heads: int) -> Float[Tensor, "batch head token part"]:
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
def merge_heads(parts: Float[Tensor, "batch head token part"]) -> Float[Tensor, "batch token width"]:
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
    mask: Bool[Tensor, "... query key"] | None = None,
) -> tuple[Float[Tensor, "batch head query part"], Float[Tensor, "batch head query key"]]:
    """Mix the values for every query, weighted by softmax(query · key / √part).

    Args:
        mask: True where a query may look at a key, broadcast against (batch, head, query, key); every query must be
            allowed at least one key. None lets everything look at everything.

    Returns:
        (output, weights): the mixed values, and the weights, which are ≥ 0 and sum to 1 over the key axis.

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)  # scaling the smaller matrix is cheaper
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1)
    return weights @ value, weights


@slot
def pre_norm_block(
    tokens: Float[Tensor, "batch token width"],
    norm_before_attention: Callable[[Tensor], Tensor],
    attend: Callable[[Tensor], Tensor],
    norm_before_mlp: Callable[[Tensor], Tensor],
    mlp: Callable[[Tensor], Tensor],
) -> Float[Tensor, "batch token width"]:
    """One transformer block: attention, then MLP; each reads a normalised copy and adds to the residual stream.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, equations 2 and 3; the order norm-first after
        Xiong et al. 2020, arXiv:2002.04745.
    """
    tokens = tokens + attend(norm_before_attention(tokens))
    return tokens + mlp(norm_before_mlp(tokens))


class Attention(nn.Module):
    """Multi-head self-attention: project to query, key and value, attend in every head, project back.

    Args:
        width: width of the tokens; a multiple of heads.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be divided among {heads} heads")
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)  # query, key and value in one matrix product
        self.project_out = nn.Linear(width, width)
        self.record: list[Tensor] | None = None  # see record_attention

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "... token key"] | None = None,
        context: Float[Tensor, "batch key width"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """Let ``tokens`` look at ``context``, or at themselves if there is none."""
        if context is None:
            # query, key and value lie side by side, so one cut into 3 · heads serves all three
            query, key, value = split_heads(self.project_in(tokens), 3 * self.heads).chunk(3, dim=1)
        else:
            width, weight, bias = tokens.shape[-1], self.project_in.weight, self.project_in.bias
            query = split_heads(F.linear(tokens, weight[:width], bias[:width]), self.heads)
            both = F.linear(context, weight[width:], bias[width:])
            key, value = split_heads(both, 2 * self.heads).chunk(2, dim=1)
        mixed, weights = scaled_dot_product(query, key, value, mask)
        if self.record is not None:
            self.record.append(weights.detach())
        return self.project_out(merge_heads(mixed))


class Block(nn.Module):
    """A pre-norm transformer block; see pre_norm_block.

    Args:
        width: width of the tokens.
        heads: number of attention heads.
        hidden: width inside the MLP, usually 4 · width.
        activation: "gelu" (ViT) or "quick_gelu" (OpenAI's CLIP).
        epsilon: of the layer norms; 1e-12 in transformers' ViT, 1e-6 in timm, 1e-5 in CLIP.
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: str = "gelu", epsilon: float = 1e-6):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"no activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        self.norm_before_attention = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads)
        self.norm_before_mlp = nn.LayerNorm(width, eps=epsilon)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.activation = activation

    def mlp(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        return self.contract(ACTIVATIONS[self.activation](self.expand(tokens)))

    def forward(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        return pre_norm_block(tokens, self.norm_before_attention, self.attention, self.norm_before_mlp, self.mlp)

    def first_token(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch 1 width"]:
        """``forward(tokens)[:, :1]``: token 0 looks at all tokens, but only its own row is computed."""
        context = self.norm_before_attention(tokens)

        def attend(first: Tensor) -> Tensor:
            return self.attention(first, context=context)

        return pre_norm_block(tokens[:, :1], self.norm_before_attention, attend, self.norm_before_mlp, self.mlp)


@contextlib.contextmanager
def record_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the attention weights of every layer that runs inside the ``with``.

    Yields:
        a list that fills with one (batch, head, query, key) tensor per Attention module and call, first layer first.

    Raises:
        ValueError: if the model holds no Attention module, or is being recorded already.
    """
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    if not layers:
        raise ValueError(f"{type(model).__name__} holds no Attention module, so there is nothing to record")
    if any(layer.record is not None for layer in layers):
        raise ValueError("this model's attention is being recorded already; leave the other record_attention first")
    record: list[Tensor] = []
    for layer in layers:
        layer.record = record
    try:
        yield record
    finally:
        for layer in layers:
            layer.record = None
