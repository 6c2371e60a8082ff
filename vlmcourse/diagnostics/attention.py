"""Attention maps of a model, and what they add up to over the layers (notebook 02)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.models.attention import record_attention
from vlmcourse.slots import slot


@slot
def rollout(weights: Float[Tensor, "layer head query key"]) -> Float[Tensor, "query key"]:
    """Follow attention through all layers: how much of each input token ends up in each output token.

    Per layer: average the heads, mix in the residual stream as half an identity matrix, so rows still sum
    to 1. Then multiply the layers, the first one rightmost.

    Source: Abnar and Zuidema 2020, arXiv:2005.00928, section 3.
    """
    mixed = 0.5 * weights.mean(dim=1) + 0.5 * torch.eye(
        weights.shape[-1], device=weights.device, dtype=weights.dtype
    )
    total = mixed[0]
    for layer in mixed[1:]:
        total = layer @ total
    return total


@torch.no_grad()
def attention_maps(model: nn.Module, images: Tensor) -> Float[Tensor, "batch layer head query key"]:
    """Run ``model`` on ``images`` and return what every head of every layer looked at, on the CPU."""
    with record_attention(model) as record:
        model(images)
    return torch.stack(record, dim=1).float().cpu()
